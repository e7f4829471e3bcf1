"""Runs notebooks from top to bottom and keeps their outputs.

    python -m experiments.notebooks --notebooks=notebooks/quickstart.ipynb

Each runs in an empty folder and replaces its outputs only if no cell fails.
What goes to stderr, progress bars and notes, is not kept. With --nokeep it is
run and nothing is written.
"""

import pathlib
import tempfile
from typing import Any

import nbclient
import nbformat
import tqdm
from absl import flags

from jtm_tf import files
from jtm_tf.command_line import program

_NOTEBOOKS = flags.DEFINE_list(
    "notebooks", None, "The .ipynb files to run.", required=True
)
_KEEP = flags.DEFINE_bool("keep", True, "Write the outputs into the files.")
_SECONDS = flags.DEFINE_integer(
    "seconds", 1800, "A limit on one cell.", lower_bound=1
)


def execute(
    path: pathlib.Path, folder: pathlib.Path, *, seconds: int
) -> nbformat.NotebookNode:
    """Returns a notebook with the outputs of a run.

    Args:
        path: of the notebook.
        folder: where it runs.
        seconds: a limit on one cell.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    metadata = notebook.metadata.copy()
    nbclient.NotebookClient(
        notebook,
        timeout=seconds,
        startup_timeout=seconds,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    notebook.metadata = metadata  # not that of the Python it ran with
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                _without(output, f"{folder.resolve()}/")
                for output in cell.outputs
                if output.get("name") != "stderr"
            ]
    return notebook


def _without(output: nbformat.NotebookNode, path: str) -> Any:
    """Returns an output that does not name the folder it came from."""
    if "text" in output:
        output.text = output.text.replace(path, "")
    return output


@program.entry
def main() -> None:
    for name in tqdm.tqdm(_NOTEBOOKS.value, unit="notebook", disable=None):
        path = pathlib.Path(name)
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = execute(
                    path, pathlib.Path(folder), seconds=_SECONDS.value
                )
            except nbclient.exceptions.CellExecutionError as error:
                raise ValueError(f"{path} failed: {error}") from error
        if _KEEP.value:
            with files.replacing(path) as temporary:
                nbformat.write(done, temporary)
        print(f"{path}: {len(done.cells)} cells")


if __name__ == "__main__":
    main()
