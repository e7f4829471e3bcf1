"""A model for a tree whose items have come and gone, with all it learned.

The tree keeps its shape, so every node keeps its vector. Nodes that had no
item were never trained; those that have one now start from relatives.
"""

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from jtm_tf.data import splits
from jtm_tf.models import log_prob
from jtm_tf.models import tree_model
from jtm_tf.tree import edge_weights
from jtm_tf.tree import learning as tree_learning
from jtm_tf.tree import placement
from jtm_tf.tree import tree as tree_lib

# Leaves whose mean is a start. A sibling alone would hand on how popular it
# is: new items then push others out of the results.
_NEIGHBOURS = 4
# How samples of new items are weighed.
WEIGHED = tree_learning.TreeLearningConfig(
    histories_per_user=None,
    batch_samples=2**12,
    # The leaves that are free were never trained.
    score_leaves=False,
)


def known_of(kept: np.ndarray, count: int) -> np.ndarray:
    """Returns what a model calls each item, [K + A + 1]; new ones are PAD.

    Args:
        kept: [K + 1] int, the model's number of each item that stays.
        count: A, the new items.
    """
    return np.append(kept, np.zeros(count, kept.dtype))


def edge_weights_of(
    model: tree_model.TreeModel,
    kept: np.ndarray,
    examples: splits.Examples,
    count: int,
) -> edge_weights.EdgeWeights:
    """Returns what samples of new items say of the nodes for them.

    Args:
        model: trained, with its tree.
        kept: [K + 1] int, the model's number of each item that stays.
        examples: samples whose targets are new; items are 1..K, then the new
            ones, which the model passes over in histories.
        count: A, the new items.
    """
    known = known_of(kept, count)
    tree, _ = placement.remove(
        model.tree, np.setdiff1d(np.arange(1, model.num_items + 1), kept)
    )
    weighed = log_prob.LogProb(model)
    return edge_weights.EdgeWeights(
        placement.add(tree, count),  # only its shape is used
        examples.target_items(),
        lambda samples: examples.histories(
            samples, model.max_history, known=known
        ),
        weighed,
        describe=weighed.describe,
        batch_samples=WEIGHED.batch_samples,
        batch_nodes=WEIGHED.batch_nodes,
        score_leaves=WEIGHED.score_leaves,
    )


def alike(
    model: tree_model.TreeModel, other: tree_model.TreeModel
) -> Iterator[tuple[keras.Variable, keras.Variable]]:
    """Yields the variables of two networks that are of the same shape.

    Those of the layers that neither items nor profile values decide. Where the
    first sees visits and the other does not, it has a kernel of its own for
    them, which is passed over.
    """
    for name in ("user_representation", "scorer"):
        known = {x.name: x for x in getattr(other, name).variables}
        for variable in getattr(model, name).variables:
            if variable.name in known:
                yield variable, known[variable.name]


def see_visits(
    model: tree_model.TreeModel, other: tree_model.TreeModel
) -> None:
    """Lets a model that sees visits score as one does that sees none.

    Args:
        model: the first; its kernels for visits become zero.
        other: the second.
    """
    known = {x.name for x in other.scorer.variables}
    for variable in model.scorer.variables:
        if variable.name not in known:
            variable.assign(tf.zeros_like(variable))


def deepened(model: tree_model.TreeModel, levels: int) -> tree_model.TreeModel:
    """Returns a model on a tree of more levels, which seats more items.

    An item goes to the first leaf below its old one and takes the vector with
    it; what was its leaf keeps that too.

    Args:
        model: trained, with its tree.
        levels: how many more.
    """
    old, b = model.tree, model.branching
    pi = tree_lib.descendants(old.pi, levels=levels, branching=b)[..., 0]
    tree = dataclasses.replace(old, pi=pi, max_level=old.max_level + levels)
    deeper = type(model).from_config(
        model.get_config() | {"max_level": tree.max_level, "readout": None}
    )
    for mine, theirs in alike(deeper, model):
        mine.assign(theirs)
    for mine, theirs in zip(deeper.profile.tables, model.profile.tables):
        mine.assign(theirs)
    deeper.set_tree(tree)
    deeper.embedding.assign(lengthened(model.embedding.numpy(), old, levels))
    return deeper


def lengthened(
    table: np.ndarray, tree: tree_lib.Tree, levels: int
) -> np.ndarray:
    """Returns rows for the nodes of a tree that gets more levels.

    Args:
        table: [num_codes, E], of the tree.
        tree: before.
        levels: how many more; see `deepened`.

    Returns:
        [more codes, E]; nodes without an item below have rows of 0. Of no
        more levels it is the table itself.
    """
    if not levels:
        return table
    b = tree.branching
    deepest = tree_lib.num_codes(tree.max_level + levels, b)
    longer = np.zeros([deepest, table.shape[1]], table.dtype)
    longer[: len(table)] = table
    nodes = tree.pi[1:]
    for _ in range(levels):
        below = tree_lib.children(nodes, b)[..., 0]
        longer[below] = longer[nodes]
        nodes = below
    return longer


def regrown(
    model: tree_model.TreeModel, kept: np.ndarray, tree: tree_lib.Tree
) -> tree_model.TreeModel:
    """Returns a model like another one, on a tree of other items.

    Args:
        model: trained, with its tree.
        kept: [K + 1] int, the model's number of each item that stays.
        tree: of the same shape; items 1..K are those that stay, each on its
            leaf.

    Raises:
        ValueError: an item that stays has moved.
    """
    old = model.tree
    if np.any(tree.pi[: len(kept)] != old.pi[kept]):
        raise ValueError("Items that stay must keep their leaves.")
    grown = type(model).from_config(
        model.get_config() | {"num_items": tree.num_items}
    )
    for mine, trained in zip(grown.variables, model.variables, strict=True):
        if mine is not grown.pi:
            mine.assign(trained)
    grown.set_tree(tree)
    table = model.embedding.numpy()
    table = started(table, old, tree, tree.pi[len(kept) :])
    grown.embedding.assign(table)
    return grown


def started(
    table: np.ndarray,
    old: tree_lib.Tree,
    new: tree_lib.Tree,
    leaves: np.ndarray,
) -> np.ndarray:
    """Returns node vectors in which nodes of new items have a start.

    A new item's leaf takes the mean of the leaves that were trained below its
    nearest ancestor with a few of them; not of its own, if an item left it.
    Above, from the root down, a node that had no item takes the mean of its
    siblings that had some, or where none had the vector of its parent.

    Args:
        table: [num_codes, E], trained for `old`.
        old: the tree as it was.
        new: the tree as it is to be.
        leaves: [A] int, the leaves of the new items.

    Returns:
        [num_codes, E], a copy.
    """
    table, b = table.copy(), new.branching
    trained = old.occupied_codes()
    fresh = np.flatnonzero(new.occupied_codes() & ~trained)
    levels = tree_lib.level_of(fresh, b)
    for level in range(1, new.max_level):
        nodes = fresh[levels == level]
        above = tree_lib.parent(nodes, b)
        family = tree_lib.children(above, b)  # [n, b]
        mean, count = _mean(table, family, trained)
        table[nodes] = np.where(count > 0, mean, table[above])

    trained[leaves] = False
    enough = min(_NEIGHBOURS, np.count_nonzero(trained[new.first_leaf :]))
    for levels_up in range(1, new.max_level + 1):
        above, place = np.unique(
            tree_lib.ancestor(
                leaves,
                from_level=new.max_level,
                to_level=new.max_level - levels_up,
                branching=b,
            ),
            return_inverse=True,
        )
        near = tree_lib.descendants(above, levels=levels_up, branching=b)
        mean, count = _mean(table, near, trained)
        done = (count >= enough)[place, 0]
        table[leaves[done]] = mean[place[done]]
        leaves = leaves[~done]
    return table


def _mean(table, nodes, chosen):
    """Returns the mean vector of the chosen of [n, w] nodes; their number."""
    helps = chosen[nodes]
    count = helps.sum(axis=1)[:, None]
    total = np.einsum("nw,nwe->ne", helps, table[nodes])
    return total / np.maximum(count, 1), count
