"""A page to try a model with: its files, and what they need to know.

GET /                  the page
GET /page/NAME         its style and modules, of this package and no others
GET /page/about.json   the model's name and histories to start from

The page asks what every client may ask, by the same REST calls; a policy of
its own keeps it from asking anybody else. It may be shown in a frame: there is
nothing on it that a click could harm.
"""

import hashlib
import json
import pathlib
from typing import Any

import tornado.web

from export.serving.config import Config

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
_MOST_SAMPLES = 20


def routes(name: str, config: Config) -> list[tuple[str, Any, dict[str, Any]]]:
    """Returns what Tornado needs to serve the page; nothing without one.

    Args:
        name: of the model.
        config: of the server.

    Raises:
        ValueError: the samples cannot be read.
    """
    if not config.page:
        return []
    about = {"model": name, "samples": read_samples(config.samples)}
    files = {
        f"/page/{path.name}": (path.read_bytes(), _TYPES[path.suffix])
        for path in _FOLDER.iterdir()
        if path.suffix in _TYPES
    }
    files["/"] = files.pop("/page/index.html")
    files["/page/about.json"] = json.dumps(about).encode(), "application/json"
    return [(r"(/|/page/[a-z_]+\.[a-z]+)", _File, {"files": files})]


def read_samples(path: str | None) -> list[dict[str, Any]]:
    """Returns the histories of a file, by name.

    Raises:
        ValueError: there is no such file, or it is not as it should be.
    """
    if path is None:
        return []
    expected = (
        f"expected a JSON list of at most {_MOST_SAMPLES} histories, "
        '[{"name": "Ann", "history": [17, 4]}, ..]'
    )
    try:
        samples = json.loads(pathlib.Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}; {expected}.") from (
            error
        )
    if not isinstance(samples, list) or len(samples) > _MOST_SAMPLES:
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


class _File(tornado.web.RequestHandler):
    """One of the page's files."""

    def initialize(self, files):
        self._files = files

    def set_default_headers(self):
        self.clear_header("Server")
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-cache")

    def compute_etag(self):
        body = b"".join(self._write_buffer)
        return f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    def get(self, path):
        if path not in self._files:
            self.set_status(404)
            self.set_header("Content-Type", "application/json")
            self.finish(json.dumps({"error": "Not found."}))
            return
        body, kind = self._files[path]
        self.set_header("Content-Type", kind)
        self.finish(body)

    def write_error(self, status_code, **kwargs):
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"error": self._reason}))
