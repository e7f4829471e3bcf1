"""Shows what a run learned: an HTML report, and the same as pictures.

    python -m experiments.inspect --run_dir=RUN --out=report.html

The tree, coloured by category; how pure its nodes are, who moved, what each
tree tells of users without a model, on which level the beam loses targets; one
user's search, and why an item was not recommended (--user, --item). The report
is one file and needs no network. A part that the run has not the data for is
left out, and the report says why.
The vectors of the upper nodes go to RUN/tensorboard, for the projector of
`tensorboard --logdir=RUN`. Prints JSON last.
"""

import importlib
import json
import pathlib
import types

import tensorflow as tf
from absl import flags

from experiments.report import contents
from experiments.report import page
from experiments.report import projector
from experiments.report import source as source_lib
from jtm_tf.command_line import program
from jtm_tf.runs import folder as run_folder

_DEFAULT = contents.Request()

_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "The --out_dir of experiments.train.", required=True
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The prepared data, if it has moved since training."
)
_OUT = flags.DEFINE_string(
    "out", None, "The HTML file to write; RUN/report.html if not given."
)
_USER = flags.DEFINE_string(
    "user",
    None,
    "Raw id of the user whose search is shown; one of the validation users "
    "if not given.",
)
_ITEM = flags.DEFINE_string(
    "item",
    None,
    "Raw id of an item: why the user gets it, or why not. If not given, one "
    "that the user had later and the search lost.",
)
_BESIDE = flags.DEFINE_list(
    "beside",
    [],
    "Other runs on the same data whose trees are set beside, NAME=RUN each, "
    "clustering=RUNS/tdm_cluster-0 for one.",
)
_PICTURES = flags.DEFINE_bool(
    "pictures", True, "Also write PNG files beside the report."
)
_PROJECTOR = flags.DEFINE_bool(
    "projector", True, "Also write the nodes' vectors for TensorBoard."
)
_NUM_USERS = flags.DEFINE_integer(
    "num_users",
    _DEFAULT.num_users,
    "Validation users, at most, to measure levels on.",
    lower_bound=1,
)


def _pictures() -> types.ModuleType:
    """Returns what draws PNG files; a page needs no such library."""
    try:
        return importlib.import_module("experiments.report.pictures")
    except ModuleNotFoundError as error:
        raise ValueError(
            "Pictures need matplotlib: install jtm_tf[demo], or pass "
            "--nopictures."
        ) from error


@program.entry
def main() -> None:
    folder = run_folder.RunFolder(pathlib.Path(_RUN_DIR.value))
    out = pathlib.Path(_OUT.value or folder.report)
    if out.suffix != ".html":
        raise ValueError(f"--out must end in .html; got {out.name!r}.")
    draw = _pictures().write if _PICTURES.value else None
    source = source_lib.open_run(folder.path, _DATA_DIR.value)
    report = contents.gather(
        source,
        contents.Request(
            user=_USER.value, item=_ITEM.value, num_users=_NUM_USERS.value
        ),
        contents.trees_beside(
            source, program.pairs("beside", _BESIDE.value), _DATA_DIR.value
        ),
    )
    page.write(report, out)
    drawn = [] if draw is None else draw(report, out)
    for path in page.pictures_beside(out).values():
        if path not in drawn:  # of an earlier report
            path.unlink(missing_ok=True)
    projected = 0
    if _PROJECTOR.value and source.searched:
        try:
            projected = projector.write(source, folder.tensorboard)
        except OSError as error:
            report["notes"].append(f"No projector of nodes: {error}")
    print(
        json.dumps(
            {
                "report": str(out),
                "bytes": out.stat().st_size,
                "pictures": [str(path) for path in drawn],
                "projected_nodes": projected,
                "notes": report["notes"],
            }
        )
    )


if __name__ == "__main__":
    tf.get_logger().setLevel("WARNING")
    main()
