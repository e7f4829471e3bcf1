"""The tree and the curves of a report as PNG files."""

import itertools
import pathlib
from typing import Any

import matplotlib.colors
import matplotlib.figure
import matplotlib.patches
import matplotlib.ticker
import numpy as np

from experiments.pictures import plots
from experiments.report import page
from jtm_tf import categories

# Okabe and Ito's colours, told apart by all eyes, in the page's order.
_COLORS = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
)
_OTHER = "#999999"
_LINES = (
    ("#0072b2", "o"),
    ("#d55e00", "s"),
    ("#009e73", "^"),
    ("#cc79a7", "D"),
    ("#8a6500", "v"),
    ("#56b4e9", "P"),
)
_LEVELS = 9  # Of a tree; deeper cells are thinner than a label is high.
_LABEL_HEIGHT = 0.019  # Of the figure.


def write(report: dict[str, Any], path: pathlib.Path) -> list[pathlib.Path]:
    """Draws everything there is in a report.

    Args:
        report: what `contents.gather` returns.
        path: of the page; the pictures have its name and more.

    Returns:
        The files.
    """
    figures = {}
    if report["trees"] and report["categories"]:
        figures["tree"] = trees(report)
    figures |= {chart["id"]: curves(chart) for chart in report["charts"]}
    places = page.pictures_beside(path)
    for name, figure in figures.items():
        plots.save(figure, places[name])
    return [places[name] for name in figures]


def trees(report: dict[str, Any]) -> matplotlib.figure.Figure:
    """Draws the trees as icicles from left to right, side by side."""
    shown = report["trees"]
    figure = matplotlib.figure.Figure(
        figsize=(7 * len(shown), 7), layout="constrained"
    )
    colors = _colors(shown)
    for axes, tree in zip(
        figure.subplots(1, len(shown), squeeze=False)[0], shown
    ):
        _icicle(axes, report, tree, colors)
    handles = [
        matplotlib.patches.Patch(
            color=color, label=_short(report["labels"][group], 32)
        )
        for group, color in colors.items()
    ]
    handles.append(
        matplotlib.patches.Patch(color=_OTHER, label="other or unknown")
    )
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=3,
        frameon=False,
        title="largest coarse category; fainter where mixed",
    )
    figure.suptitle(report["title"])
    return figure


def curves(chart: dict[str, Any]) -> matplotlib.figure.Figure:
    """Draws one chart of `charts`."""
    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for line, (color, marker) in zip(chart["lines"], itertools.cycle(_LINES)):
        style = {"color": color, "marker": marker, "markersize": 4}
        if line["dashed"]:
            style = {"color": _OTHER, "linestyle": "--"}
        axes.plot(line["x"], line["y"], label=_short(line["name"], 32), **style)
    axes.set_title(f"{chart['title']}, {chart['y']}")
    axes.set_xlabel(chart["x"])
    if chart["x"] == "level":
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _colors(shown):
    """Returns the colours that the page begins with, by category."""
    totals: dict[int, int] = {}
    last = shown[-1]["levels"][-1]
    for group, items in zip(last["group"], last["items"]):
        if group:
            totals[group] = totals.get(group, 0) + items
    largest = sorted(totals, key=totals.__getitem__, reverse=True)
    return dict(zip(largest, _COLORS))


def _icicle(axes, report, tree, colors):
    """Draws one tree, a bar of stacked nodes for each level."""
    for level, cells in enumerate(tree["levels"][:_LEVELS]):
        items = np.array(cells["items"])
        heights = items / items.sum()
        tops = np.cumsum(heights) - heights
        shades = np.array(cells["share"]) / 100
        fills = [
            _blended(colors.get(group, _OTHER), shade)
            for group, shade in zip(cells["group"], shades)
        ]
        axes.bar(
            level,
            heights,
            bottom=tops,
            width=1,
            color=fills,
            edgecolor="white",
            linewidth=0.6,
        )
        for top, height, label, fill in zip(
            tops, heights, cells["label"], fills
        ):
            if height > _LABEL_HEIGHT and label:
                text = categories.parts(report["labels"][label])[-1]
                axes.text(
                    level - 0.46,
                    top + height / 2,
                    _short(text),
                    va="center",
                    fontsize=6.5,
                    clip_on=True,
                    color="black" if _is_bright(fill) else "white",
                )
    axes.set_title(tree["name"])
    axes.set_xlabel("level")
    axes.set_xticks(range(len(tree["levels"][:_LEVELS])))
    axes.set_xlim(-0.5, len(tree["levels"][:_LEVELS]) - 0.5)
    axes.set_ylim(1, 0)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _blended(color, share):
    """Returns a colour towards white, as the page does."""
    part = 0.2 + 0.8 * share
    return tuple(1 - part * (1 - x) for x in matplotlib.colors.to_rgb(color))


def _is_bright(color):
    """Tells whether black can be read on a colour, as the page does."""
    return np.dot(color, (0.299, 0.587, 0.114)) > 0.4


def _short(text, length=13):
    """Returns a text that fits a column, a dollar as a dollar."""
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return text.replace("$", r"\$")
