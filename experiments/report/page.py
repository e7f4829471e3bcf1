"""A report as one HTML file: style, scripts and data inside, no network."""

import html
import importlib.resources
import json
import pathlib
import re
from typing import Any

from experiments.report import charts
from jtm_tf import files

_PARTS = importlib.resources.files("experiments.report")


def render(report: dict[str, Any]) -> str:
    """Returns the page.

    Args:
        report: what `contents.gather` returns.
    """
    # A "<" in a name must not end the script element.
    data = json.dumps(report, separators=(",", ":"), allow_nan=False)
    values = {
        "title": html.escape(report["title"]),
        "report": data.replace("<", "\\u003c"),
    }

    def part(found):
        name = found[1]
        return values[name] if name in values else _read(name)

    return re.sub(r"\{\{([\w.]+)\}\}", part, _read("page.html"))


def write(report: dict[str, Any], path: files.Path) -> None:
    """Writes the page, whole or not at all."""
    with files.replacing(path) as temporary:
        temporary.write_text(render(report), encoding="utf-8")


def pictures_beside(path: files.Path) -> dict[str, pathlib.Path]:
    """Returns the names of a page's pictures, by what they may show."""
    path = pathlib.Path(path)
    return {
        name: path.with_name(f"{path.stem}-{name}.png")
        for name in ("tree", *charts.NAMES)
    }


def _read(name):
    """Returns a file that lies beside this one."""
    return _PARTS.joinpath(name).read_text(encoding="utf-8")
