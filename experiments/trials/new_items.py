"""Places items that a model never saw, and counts how many are found."""

import dataclasses

import numpy as np
from absl import logging

from experiments.trials import held_out_items
from jtm_tf import categories
from jtm_tf import files
from jtm_tf import ragged
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import joint
from jtm_tf.learning import settings
from jtm_tf.models import growing
from jtm_tf.models import saving
from jtm_tf.models import tree_model
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import metrics
from jtm_tf.search import model_search
from jtm_tf.tree import placement
from jtm_tf.tree import tree as tree_lib


@dataclasses.dataclass(frozen=True)
class Trial:
    """What is tried.

    Attributes:
        data_dir: the prepared data.
        share: of the items, to hold out.
        few: samples of a new item where there are few.
        joint_iterations: rounds of Algorithm 1.
        num_results: M of the metrics.
        beam_width: k, nodes kept on each level.
    """

    data_dir: str
    share: float = 0.1
    few: int = 3
    joint_iterations: int = 3
    num_results: int = 200
    beam_width: int = 400


def trained(
    trial: Trial,
    data: interactions.Interactions,
    folder: files.Path,
    seed: int,
) -> tree_model.TreeModel:
    """Returns JTM's best model on the data; trains it unless it is there."""
    config = settings.JointConfig(
        seed=seed, joint_iterations=trial.joint_iterations
    )
    joint.run(
        config, data, folder, settings.RunOptions(data_dir=trial.data_dir)
    )
    return saving.load(run_folder.RunFolder(folder).model)


def measure(
    trial: Trial,
    held: held_out_items.HeldOutItems,
    model: tree_model.TreeModel,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Returns the recalls of each way to place the held-out items.

    Args:
        trial: what is tried.
        held: the items.
        model: trained without them.
        seed: of what is drawn.
    """
    kept = np.arange(model.num_items + 1)
    users = held.test_users(model.max_history)
    new = np.arange(model.num_items + len(held.items) + 1) > model.num_items
    found = {}
    for name, tree in placed(trial, held, model, seed).items():
        grown = growing.regrown(model, kept, tree)
        found[name] = recalls(trial, grown, users, new)
        logging.info("%s: %s", name, found[name])
    return found


def placed(
    trial: Trial,
    held: held_out_items.HeldOutItems,
    model: tree_model.TreeModel,
    seed: int,
) -> dict[str, tree_lib.Tree]:
    """Returns the trees with the held-out items, by the way of placing."""
    tree, count = model.tree, len(held.items)
    kept, kin = np.arange(model.num_items + 1), _kin(held)
    every, some = (
        growing.edge_weights_of(model, kept, held.examples(most, seed), count)
        for most in (None, trial.few)
    )
    few = f"at most {trial.few} histories"
    return {
        "random leaf": at_random(tree, count, seed),
        "category": placement.add(tree, count, kin=kin),
        "histories": placement.add(tree, count, weigh=every),
        "histories and category": placement.add(
            tree, count, kin=kin, weigh=every
        ),
        few: placement.add(tree, count, weigh=some),
        f"{few} and category": placement.add(tree, count, kin=kin, weigh=some),
    }


def _kin(held):
    """Returns whom the held-out items are like; None without categories."""
    paths = held.data.categories()
    if paths is None:
        return None
    return categories.nearest_kin(held.rest.categories(), paths[held.items - 1])


def at_random(tree: tree_lib.Tree, count: int, seed: int) -> tree_lib.Tree:
    """Returns the tree with new items on free leaves drawn from `seed`."""
    free = np.flatnonzero(tree.leaf_items() == 0) + tree.first_leaf
    leaves = np.random.default_rng(seed).choice(free, count, replace=False)
    return tree_lib.Tree(
        np.append(tree.pi, leaves), tree.max_level, tree.branching
    )


def recalls(
    trial: Trial,
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    new: np.ndarray,
) -> dict[str, float]:
    """Returns recall of test users' new items, of the others and of all.

    Args:
        trial: M and k.
        model: with its tree.
        users: what they turned to is in the model's numbers.
        new: [N + 1] bool, which items are new.
    """
    items = model_search.recommend_users(
        model,
        users,
        num_results=trial.num_results,
        beam_width=trial.beam_width,
    )
    truth, owner = users.truth.values, users.truth.owner
    found = {}
    for name, chosen in (
        ("new", new[truth]),
        ("old", ~new[truth]),
        ("all", np.ones(len(truth), bool)),
    ):
        counts = np.bincount(owner[chosen], minlength=len(users))
        rows = counts > 0  # users who have something to be found
        wanted = ragged.Ragged.of_counts(truth[chosen], counts[rows])
        got = metrics.metrics(items[rows], wanted, trial.num_results)
        found[name] = round(float(got["recall"]), 5)
    return found
