"""The page to try a model, in a notebook: `Recommender.explore`."""

import html
import importlib
import pathlib
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from collections.abc import Sequence

from export import serving
from export.artefact import origin
from export.artefact import publishing
from export.artefact import saved_model
from jtm_tf import files
from jtm_tf.runs import trained


class Explored:
    """A served model and its page; notebooks show it.

    Attributes:
        url: of the page, on this machine.
    """

    def __init__(
        self,
        server: serving.Server,
        folder: tempfile.TemporaryDirectory,
        height: int,
    ):
        self._server, self._height = server, height
        self.url = f"http://{serving.Config().host}:{server.rest_port}/"
        # A server's threads would outlive the notebook's variable.
        self._ended = weakref.finalize(self, _end, server, folder)

    def stop(self) -> None:
        """Ends the server and deletes the export; twice is harmless."""
        self._ended()

    def __repr__(self) -> str:
        if not self._ended.alive:
            return "Explored(stopped)"
        return f"Explored({self.url!r}); .stop() ends it"

    def _ipython_display_(self) -> None:
        # Neither is there outside of a notebook. A notebook of Colab runs
        # elsewhere, and only its own frame finds the way to a port there.
        display = importlib.import_module("IPython.display")
        if "google.colab" in sys.modules:
            output = importlib.import_module("google.colab.output")
            output.serve_kernel_port_as_iframe(
                self._server.rest_port, height=self._height
            )
            return
        address = html.escape(self.url)
        display.display(
            display.HTML(
                f'<iframe src="{address}" title="Try the model" '
                f'style="width: 100%; height: {self._height}px; border: 0">'
                f'</iframe><p><a href="{address}">{address}</a></p>'
            )
        )


def explore(
    run: trained.TrainedRun,
    *,
    samples: Mapping[str, Sequence[int | str]] | None = None,
    height: int = 900,
) -> Explored:
    """Exports a model to a temporary folder and serves it with its page.

    Args:
        run: the model, its tree and its data.
        samples: histories to start from, raw ids by a name of yours.
        height: of the frame in a notebook, in pixels.
    """
    folder = tempfile.TemporaryDirectory(prefix="explored-")
    top = pathlib.Path(folder.name)
    most = min(saved_model.SearchConfig.num_results, run.data.num_items)
    config = saved_model.SearchConfig(
        num_results=most,
        beam_width=2 * most,
        max_history=max(
            saved_model.SearchConfig.max_history, run.model.max_history
        ),
    )
    publishing.publish(
        origin.Origin(run, config, warming=False), top / "model", 1
    )
    named = [
        {"name": name, "history": list(history)}
        for name, history in (samples or {}).items()
    ]
    files.write_json(top / "samples.json", named)
    server = serving.Server(
        top / "model", serving.Config(samples=str(top / "samples.json"))
    )
    return Explored(server.start(), folder, height)


def _end(server, folder):
    """Stops a server, then deletes what it served."""

    def end():
        server.stop()
        folder.cleanup()

    if threading.current_thread() is threading.main_thread():
        end()
    else:
        # The collector may run on a thread that stopping waits for.
        threading.Thread(target=end).start()
