"""A page to try a model with: its files, and what they need to know.

GET /                  the page
GET /page/NAME         its style and modules, of this package and no others
GET /page/about.json   the model's name and histories to start from

The page asks what every client may ask, by the same REST calls; a policy of
its own keeps it from asking anybody else. It may be shown in a frame: there is
nothing on it that a click could harm.
"""

import json
import pathlib
from typing import Any

from export.serving import errors
from export.serving import rest_handler

_FOLDER = pathlib.Path(__file__).parent / "page_files"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'"
)
MOST_SAMPLES = 20


def routes(
    server: Any, name: str, samples: list[dict[str, Any]]
) -> list[tuple[str, Any, dict[str, Any]]]:
    """Returns what Tornado needs to serve the page; nothing without one.

    Args:
        server: the `rest_api.RestServer`.
        name: of the model.
        samples: what `read_samples` returns.
    """
    if not server.engine.config.page:
        return []
    about = {"model": name, "samples": samples}
    files = {
        f"/page/{path.name}": (path.read_bytes(), _TYPES[path.suffix])
        for path in _FOLDER.iterdir()
        if path.suffix in _TYPES
    }
    files["/"] = files.pop("/page/index.html")
    files["/page/about.json"] = json.dumps(about).encode(), "application/json"
    options = {"server": server, "files": files}
    return [(r"(/|/page/[a-z_]+\.[a-z]+)", _File, options)]


def read_samples(path: str | None) -> list[dict[str, Any]]:
    """Returns the histories of a file, by name.

    Raises:
        ValueError: there is no such file, or it is not as it should be.
    """
    if path is None:
        return []
    expected = (
        f"expected a JSON list of at most {MOST_SAMPLES} histories, "
        '[{"name": "Ann", "history": [17, 4]}, ..]'
    )
    try:
        samples = json.loads(pathlib.Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}; {expected}.") from (
            error
        )
    if not isinstance(samples, list) or len(samples) > MOST_SAMPLES:
        raise ValueError(f"{path}: {expected}; got {str(samples)[:100]}.")
    for sample in samples:
        if (
            not isinstance(sample, dict)
            or set(sample) != {"name", "history"}
            or not isinstance(sample["name"], str)
            or not isinstance(sample["history"], list)
            or {type(x) for x in sample["history"]} - {int, str}
        ):
            raise ValueError(f"{path}: {expected}; got {str(sample)[:100]}.")
    return samples


class _File(rest_handler.Handler):
    """One of the page's files."""

    def initialize(self, server, files):
        super().initialize(server)
        self._files = files

    def set_default_headers(self):
        super().set_default_headers()
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-cache")

    async def get(self, path):
        if path in self._files:
            await self.send(200, *self._files[path])
            return
        await self.send_error_body(
            errors.ServingError(errors.Code.NOT_FOUND, "Not found.")
        )
