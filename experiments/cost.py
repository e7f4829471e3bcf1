"""Draws accuracy against cost: what each method finds, in how much time.

    python -m experiments.cost --runs=RUNS/beauty --seed=0 --num_results=200 \\
        --out=experiments/results/cost/beauty

Writes OUT.json and OUT.svg: Recall@M of the test users over milliseconds a
user. Trees are searched with beams of M/2, M, 2M and 4M, by the read-out where
the run has one, and exactly; models are laid out as they are served. DNN and
Item-CF look at all items; YouTube product-DNN computes the users' vectors and
asks faiss, exactly and by inverted lists, and hnswlib. All run in turns in one
process, with --threads threads each, so the ratios hold where the times do not.
--runs has METHOD-SEED as experiments.table1 makes them; what is not there or
unfinished is left out and noted. Needs the extra `cost`.
"""

import logging as python_logging
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from absl import flags
from absl import logging

from experiments.pictures import plots
from experiments.search_cost import nearest
from experiments.search_cost import points
from experiments.search_cost import timing
from jtm_tf import files
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.runs import folder as run_folder

_RUNS = flags.DEFINE_string(
    "runs", None, "RUNS_DIR/DATA of experiments.table1.", required=True
)
_OUT = flags.DEFINE_string(
    "out", None, "Where to write, without .json and .svg.", required=True
)
_SEED = flags.DEFINE_integer("seed", 0, "The runs' seed.", lower_bound=0)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The prepared data, if it has moved since training."
)
_NUM_RESULTS = flags.DEFINE_integer(
    "num_results", 200, "M, the items returned to a user.", lower_bound=1
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 32, "Users a search.", lower_bound=1
)
_THREADS = flags.DEFINE_integer(
    "threads",
    1,
    "Of each method; Item-CF never has more than one.",
    lower_bound=1,
)
_TIMED_BATCHES = flags.DEFINE_integer(
    "timed_batches",
    4,
    "Batches of test users that are timed; all are judged.",
    lower_bound=1,
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 7, "Times that each search is timed, in turns.", lower_bound=1
)


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    # It tells of every build of itself that it tries.
    python_logging.getLogger("faiss").setLevel(python_logging.WARNING)
    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    tf.config.threading.set_inter_op_parallelism_threads(_THREADS.value)
    folders, missing = _finished(pathlib.Path(_RUNS.value), _SEED.value)
    if not folders:
        raise ValueError(
            f"{_RUNS.value} has no finished run METHOD-{_SEED.value}; train "
            "with experiments.table1, or give another --seed."
        )
    data = interactions.load(
        _DATA_DIR.value or folders[0].read_config()["data_dir"]
    )
    if _NUM_RESULTS.value > data.num_items:
        raise ValueError(
            f"--num_results must be <= {data.num_items}, the items there "
            f"are; got {_NUM_RESULTS.value}."
        )
    lines = _lines(folders, data, missing)
    for name, why in missing.items():
        logging.warning("%s is left out: %s.", name, why)
    measured = points.measure(
        lines,
        num_results=_NUM_RESULTS.value,
        batch_size=_BATCH_SIZE.value,
        timed_batches=_TIMED_BATCHES.value,
        rounds=_ROUNDS.value,
    )
    report = {
        "data_fingerprint": data.manifest["fingerprint"],
        "seed": _SEED.value,
        "num_results": _NUM_RESULTS.value,
        "num_items": data.num_items,
        "test_users": len(lines[0].users),
        "batch_size": _BATCH_SIZE.value,
        "threads": _THREADS.value,
        "timed_batches": _TIMED_BATCHES.value,
        "rounds": _ROUNDS.value,
        "code": run_folder.code_version(),
        "machine": timing.machine() | nearest.versions(),
        "missing": missing,
        "lines": measured,
    }
    _write(report, _OUT.value)


def _lines(
    folders: Sequence[run_folder.RunFolder],
    data: interactions.Interactions,
    missing: dict[str, str],
) -> list[points.Line]:
    """Returns the lines of all runs; adds to `missing` what has none."""
    found: list[points.Line] = []
    for folder in folders:
        logging.info("%s", folder.path)
        lines, absent = points.lines(
            folder,
            data,
            num_results=_NUM_RESULTS.value,
            threads=_THREADS.value,
        )
        found += lines
        missing |= absent
    return found


def _write(report: dict[str, Any], out: str) -> None:
    """Writes the figures and their picture, and says where."""
    files.write_json(f"{out}.json", report)
    figure = plots.cost_curves(
        report["lines"],
        cut=report["num_results"],
        batch_size=report["batch_size"],
        threads=report["threads"],
    )
    plots.save(figure, f"{out}.svg")
    print(f"{out}.json\n{out}.svg")


def _finished(
    runs: pathlib.Path, seed: int
) -> tuple[list[run_folder.RunFolder], dict[str, str]]:
    """Returns the finished runs, and why the other methods are missing."""
    folders, missing = [], {}
    for method in points.METHODS:
        folder = run_folder.RunFolder(runs / f"{method}-{seed}")
        if "test" in folder.read_metrics():
            folders.append(folder)
        else:
            there = folder.path.is_dir()
            missing[method] = "unfinished" if there else "not trained"
    return folders, missing


if __name__ == "__main__":
    main()
