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
from jtm_tf import categories
from jtm_tf import files
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import joint
from jtm_tf.learning import settings
from jtm_tf.models import growing
from jtm_tf.models import saving
from jtm_tf.models import tree_model
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import judging
from jtm_tf.search import metrics
from jtm_tf.tree import placement
from jtm_tf.tree import tree as tree_lib

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
    "share", 0.1, "Of the items, to hold out.", lower_bound=0, upper_bound=1
)
_FEW = flags.DEFINE_integer(
    "few", 3, "Samples of a new item where there are few.", lower_bound=1
)
_JOINT_ITERATIONS = flags.DEFINE_integer(
    "joint_iterations", 3, "Rounds of Algorithm 1.", lower_bound=1
)
_NUM_RESULTS = flags.DEFINE_integer(
    "num_results", 200, "M of the metrics.", lower_bound=1
)
_BEAM_WIDTH = flags.DEFINE_integer(
    "beam_width", 400, "Nodes kept on each level.", lower_bound=1
)
_RETRAIN = flags.DEFINE_bool(
    "retrain", True, "Whether to train with the held-out items, too."
)


def trained(
    data: interactions.Interactions, folder: pathlib.Path, seed: int
) -> tree_model.TreeModel:
    """Returns JTM's best model on the data; trains it unless it is there."""
    config = settings.JointConfig(
        seed=seed, joint_iterations=_JOINT_ITERATIONS.value
    )
    joint.run(config, data, folder, joint.RunOptions(data_dir=_DATA_DIR.value))
    return saving.load(run_folder.RunFolder(folder).model)


def recalls(
    model: tree_model.TreeModel, users: splits.HeldOutUsers, new: np.ndarray
) -> dict[str, float]:
    """Returns recall of test users' new items, of the others and of all.

    Args:
        model: with its tree.
        users: what they turned to is in the model's numbers.
        new: [N + 1] bool, which items are new.
    """
    items = judging.recommend_users(
        model,
        users,
        num_results=_NUM_RESULTS.value,
        beam_width=_BEAM_WIDTH.value,
    )
    owner = np.repeat(np.arange(len(users)), np.diff(users.truth_offsets))
    found = {}
    for name, chosen in (
        ("new", new[users.truth]),
        ("old", ~new[users.truth]),
        ("all", np.ones(len(users.truth), bool)),
    ):
        counts = np.bincount(owner[chosen], minlength=len(users))
        rows = counts > 0  # users who have something to be found
        offsets = np.concatenate([[0], np.cumsum(counts[rows])])
        got = metrics.metrics(
            items[rows], users.truth[chosen], offsets, _NUM_RESULTS.value
        )
        found[name] = round(float(got["recall"]), 5)
    return found


def at_random(tree: tree_lib.Tree, count: int, seed: int) -> tree_lib.Tree:
    """Returns the tree with new items on free leaves drawn from `seed`."""
    free = np.flatnonzero(tree.leaf_items() == 0) + tree.first_leaf
    leaves = np.random.default_rng(seed).choice(free, count, replace=False)
    return tree_lib.Tree(
        np.append(tree.pi, leaves), tree.max_level, tree.branching
    )


def measure(
    held: held_out_items.HeldOutItems,
    model: tree_model.TreeModel,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Returns the recalls of each way to place the held-out items."""
    count = len(held.items)
    kept = np.arange(model.num_items + 1)
    users = held.test_users(model.max_history)
    new = np.arange(model.num_items + count + 1) > model.num_items
    paths = held.data.categories()
    kin = None
    if paths is not None:
        kin = categories.nearest_kin(
            held.rest.categories(), paths[held.items - 1]
        )
    weigh = {
        most: growing.edge_weights_of(
            model, kept, held.examples(most, seed), count
        )
        for most in (None, _FEW.value)
    }
    few = f"at most {_FEW.value} histories"
    trees = {
        "random leaf": at_random(model.tree, count, seed),
        "category": placement.add(model.tree, count, kin=kin),
        "histories": placement.add(model.tree, count, weigh=weigh[None]),
        "histories and category": placement.add(
            model.tree, count, kin=kin, weigh=weigh[None]
        ),
        few: placement.add(model.tree, count, weigh=weigh[_FEW.value]),
        f"{few} and category": placement.add(
            model.tree, count, kin=kin, weigh=weigh[_FEW.value]
        ),
    }
    found = {}
    for name, tree in trees.items():
        found[name] = recalls(growing.regrown(model, kept, tree), users, new)
        logging.info("%s: %s", name, found[name])
    return found


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    tf.config.experimental.enable_op_determinism()
    data = interactions.load(_DATA_DIR.value)
    runs = pathlib.Path(_RUNS_DIR.value)
    report: dict[str, Any] = {
        "data_fingerprint": data.manifest["fingerprint"],
        "dataset": pathlib.Path(_DATA_DIR.value).resolve().name,
        "share": _SHARE.value,
        "joint_iterations": _JOINT_ITERATIONS.value,
        "num_results": _NUM_RESULTS.value,
        "beam_width": _BEAM_WIDTH.value,
        "code": run_folder.code_version(),
        "seeds": {},
    }
    for seed in program.integers("seeds", _SEEDS.value, allow_zero=True):
        held = held_out_items.hold_out(data, share=_SHARE.value, seed=seed)
        model = trained(held.rest, runs / f"rest-{seed}", seed)
        found = measure(held, model, seed)
        if _RETRAIN.value:
            model = trained(data, runs / f"all-{seed}", seed)
            new = np.isin(np.arange(data.num_items + 1), held.items)
            users = splits.held_out_users(data, "test", model.max_history)
            found["trained with them"] = recalls(model, users, new)
        report["seeds"][str(seed)] = {
            "items": data.num_items,
            "new_items": len(held.items),
            "recall": found,
        }
        files.write_json(_OUT.value, report)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
