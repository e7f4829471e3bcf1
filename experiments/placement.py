"""Measures how well new items are placed in a tree that stays.

    python -m experiments.placement --data_dir=DATA --runs_dir=RUNS \\
        --out=experiments/results/placement.json

Holds a share of the items out of training, trains JTM on the rest, and then
adds them as export.update_items would: on a random free leaf, by category, by
histories, by both. Beside it the same method trained with the items. What is
asked is how many of the held-out items that test users turn to are found; and
of all other items, to see what the newcomers cost them. Runs in RUNS are
continued, or reused if finished. Prints JSON last.
"""

import json
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags
from absl import logging

from experiments.trials import held_out_items
from experiments.trials import new_items
from jtm_tf import files
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.runs import folder as run_folder

_DEFAULT = new_items.Trial

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "What experiments.prepare wrote.", required=True
)
_RUNS_DIR = flags.DEFINE_string(
    "runs_dir", None, "Where the trained models are kept.", required=True
)
_OUT = flags.DEFINE_string("out", None, "JSON to write.", required=True)
_SEEDS = flags.DEFINE_list(
    "seeds", ["0"], "Of training and of what is held out."
)
_SHARE = flags.DEFINE_float(
    "share",
    _DEFAULT.share,
    "Of the items, to hold out.",
    lower_bound=0,
    upper_bound=1,
)
_FEW = flags.DEFINE_integer(
    "few",
    _DEFAULT.few,
    "Samples of a new item where there are few.",
    lower_bound=1,
)
_JOINT_ITERATIONS = flags.DEFINE_integer(
    "joint_iterations",
    _DEFAULT.joint_iterations,
    "Rounds of Algorithm 1.",
    lower_bound=1,
)
_NUM_RESULTS = flags.DEFINE_integer(
    "num_results", _DEFAULT.num_results, "M of the metrics.", lower_bound=1
)
_BEAM_WIDTH = flags.DEFINE_integer(
    "beam_width",
    _DEFAULT.beam_width,
    "Nodes kept on each level.",
    lower_bound=1,
)
_RETRAIN = flags.DEFINE_bool(
    "retrain", True, "Whether to train with the held-out items, too."
)


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    tf.config.experimental.enable_op_determinism()
    data = interactions.load(_DATA_DIR.value)
    trial = new_items.Trial(
        data_dir=_DATA_DIR.value,
        share=_SHARE.value,
        few=_FEW.value,
        joint_iterations=_JOINT_ITERATIONS.value,
        num_results=_NUM_RESULTS.value,
        beam_width=_BEAM_WIDTH.value,
    )
    report: dict[str, Any] = {
        "data_fingerprint": data.manifest["fingerprint"],
        "dataset": pathlib.Path(trial.data_dir).resolve().name,
        "share": trial.share,
        "joint_iterations": trial.joint_iterations,
        "num_results": trial.num_results,
        "beam_width": trial.beam_width,
        "code": run_folder.code_version(),
        "seeds": {},
    }
    for seed in program.integers("seeds", _SEEDS.value, allow_zero=True):
        report["seeds"][str(seed)] = _try(trial, data, seed)
        files.write_json(_OUT.value, report)
    print(json.dumps(report))


def _try(
    trial: new_items.Trial, data: interactions.Interactions, seed: int
) -> dict[str, Any]:
    """Returns the figures of one seed."""
    runs = pathlib.Path(_RUNS_DIR.value)
    held = held_out_items.hold_out(data, share=trial.share, seed=seed)
    model = new_items.trained(trial, held.rest, runs / f"rest-{seed}", seed)
    found = new_items.measure(trial, held, model, seed)
    if _RETRAIN.value:
        model = new_items.trained(trial, data, runs / f"all-{seed}", seed)
        new = np.isin(np.arange(data.num_items + 1), held.items)
        users = splits.held_out_users(data, "test", model.max_history)
        found["trained with them"] = new_items.recalls(trial, model, users, new)
    return {
        "items": data.num_items,
        "new_items": len(held.items),
        "recall": found,
    }


if __name__ == "__main__":
    main()
