"""Seats for new items in a tree that stays: Algorithm 2 on its free leaves.

From the root down, `gap` levels at a time, each new item goes where the sum
over the levels of what its samples say, log p(b_j(pi(c))|u), and of where its
kin sit is largest; the seats of a node are the free leaves below it. Items of
the tree never move. Pure NumPy.
"""

import dataclasses

import numpy as np

from jtm_tf import categories
from jtm_tf.tree import assignment
from jtm_tf.tree import edge_weights
from jtm_tf.tree import learning
from jtm_tf.tree import tree as tree_lib

# How an item found its leaf: by its samples (and its kin, if it has any), by
# its kin alone, or by neither: where there is most room.
RULES = ("histories", "category", "room")


def remove(
    tree: tree_lib.Tree, items: np.ndarray
) -> tuple[tree_lib.Tree, np.ndarray]:
    """Returns the tree without some items, and the old number of the others.

    Args:
        tree: the index.
        items: [R] int items to remove.

    Returns:
        A tree of items 1..N - R, each on its old leaf and in the old order,
        and [N - R + 1] int, their old numbers; PAD stays PAD.

    Raises:
        ValueError: none would be left.
    """
    kept = np.ones(len(tree.pi), bool)
    kept[items] = False
    old = np.flatnonzero(kept)
    if len(old) < 2:
        raise ValueError(
            f"All {tree.num_items} items would go; an index needs at least "
            "one. Take it out of service instead."
        )
    return dataclasses.replace(tree, pi=tree.pi[old]), old


def add(
    tree: tree_lib.Tree,
    count: int,
    *,
    kin: categories.Kin | None = None,
    weigh: edge_weights.Weights | None = None,
    kin_strength: float = 5.0,
    gap: int = 7,
) -> tree_lib.Tree:
    """Returns the tree with new items on leaves that were free.

    Args:
        tree: the index; its items stay on their leaves.
        count: A, the new items, N + 1..N + A of the new tree.
        kin: whom each is like; without, only samples count.
        weigh: L_c^{s,e} of items counted from 0 in the new tree; without,
            only kin count.
        kin_strength: samples that an item's kin are worth.
        gap: d of Algorithm 2.

    Raises:
        ValueError: there are fewer free leaves than new items.
    """
    free = _free_leaves(tree, count)
    if not count:
        return tree
    nodes = np.ones(count, np.int64)  # line 1: all under the root
    for level, step in learning.steps(tree.max_level, gap):  # line 2
        nodes = _decide(
            tree, nodes, level, step, free, kin, weigh, kin_strength
        )
    # The constructor makes sure that no two items share a leaf.
    return dataclasses.replace(tree, pi=np.concatenate([tree.pi, nodes]))


def _decide(tree, nodes, level, gap, free, kin, weigh, kin_strength):
    """Moves every new item from level l - d to level l (lines 3 to 7).

    Args:
        nodes: [A] the node of level l - d of each new item.

    Returns:
        The node of level l of each, [A].
    """
    b = tree.branching
    width = b**gap
    order = np.argsort(nodes, kind="stable")  # sub-problems are runs of rows
    above = nodes[order]
    parents = above - tree_lib.first_code(level - gap, b)
    weights = np.zeros((len(nodes), width), np.float32)
    if weigh is not None:
        weights += weigh(tree.num_items + order, above, level, gap)  # line 4
    if kin is not None:
        pull = _pull(tree, kin, kin.group[order], above, level, gap)
        weights += kin_strength * pull
    # The tree's own items stay where they are: a node seats as many newcomers
    # as leaves below it are free.
    seats = free.reshape(b ** (level - gap), width, -1).sum(axis=2)
    choice = assignment.greedy_rebalanced(
        weights,
        seats[np.unique(parents)],
        np.full(len(nodes), assignment.NOWHERE),  # nobody sat anywhere
        problem=parents,
    )
    chosen = np.empty_like(nodes)
    chosen[order] = parents * width + choice  # line 5
    return chosen + tree_lib.first_code(level, b)


def rules(
    count: int,
    *,
    kin: categories.Kin | None = None,
    weigh: edge_weights.Weights | None = None,
) -> list[str]:
    """Returns which of `RULES` seats each new item, [A]; see `add`."""
    sampled = np.zeros(count, bool)
    if weigh is not None:
        sampled = weigh.counts[len(weigh.counts) - count :] > 0
    alike = (
        np.zeros(count, bool)
        if kin is None
        else kin.group != categories.UNKNOWN
    )
    return [RULES[0 if s else 1 if k else 2] for s, k in zip(sampled, alike)]


def _free_leaves(tree, count):
    """Returns which leaves may be taken, [num_leaves] bool."""
    free = tree.leaf_items() == 0
    if free.sum() < count:
        raise ValueError(
            f"The tree is full: {count} new items, and {free.sum()} of its "
            f"{tree.num_leaves} leaves are free. Remove items, or rebuild: "
            "prepare data that have the new items and train again."
        )
    # Rather below nodes that the model was trained on, if they have room.
    families = free.reshape(-1, tree.branching if tree.max_level else 1)
    trained = free & np.repeat(~families.all(axis=1), families.shape[1])
    return trained if trained.sum() >= count else free


def _pull(tree, kin, group, nodes, level, gap):
    """Returns the log of how many kin sit below descendants, [A, b**d].

    The sum over the levels of the path, as of samples: half a kin more than
    there are, so that a node without any is worth little, not nothing.
    """
    first = tree_lib.first_code(level - gap, tree.branching)
    deepest = tree.max_level - (level - gap)
    # Groups times leaves are more than 32 bits count.
    places = tree.pi.astype(np.int64) - tree.first_leaf
    seats = np.sort(
        np.concatenate(
            [
                row * tree.num_leaves + places[items]
                for row, items in enumerate(kin.members)
            ]
        )
    )
    del places
    # Items of one group below one node ask the same.
    asked, inverse = np.unique(
        np.stack([group, nodes - first], 1), axis=0, return_inverse=True
    )
    pull = np.zeros((len(asked), 1))
    for depth in range(1, gap + 1):
        leaves = tree.branching ** (deepest - depth)
        starts = asked[:, 1:] * tree.branching**deepest + leaves * np.arange(
            tree.branching**depth + 1
        )
        below = np.searchsorted(seats, asked[:, :1] * tree.num_leaves + starts)
        pull = np.repeat(pull, tree.branching, axis=1)
        pull += np.log(np.diff(below, axis=1) + 0.5)
    pull[asked[:, 0] == categories.UNKNOWN] = 0
    return pull.astype(np.float32)[inverse.reshape(-1)]
