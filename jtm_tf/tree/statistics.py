"""What a tree looks like from afar: sums over the items below its nodes.

What sits together under the nodes of a level (purity), how much of it
(sums), and who left (moved). Pure NumPy; a level costs at most one sort of
the items, so ten million items take seconds.
"""

import numpy as np

from jtm_tf.categories import UNKNOWN
from jtm_tf.tree import tree as tree_lib


def sums(
    tree: tree_lib.Tree, level: int, values: np.ndarray | None = None
) -> np.ndarray:
    """Returns what the items below each node of a level add up to.

    Args:
        tree: the index.
        level: 0 for the root.
        values: [N + 1] numbers, row PAD unused; 1 each if not given.

    Returns:
        [b**level] from left to right: int64 counts, or float64 sums.
    """
    places = _places(tree, level)
    weights = None if values is None else values[1:]
    return np.bincount(places, weights, minlength=tree.branching**level)


def majority(
    tree: tree_lib.Tree, groups: np.ndarray, level: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the largest group below each node of a level.

    Args:
        tree: the index.
        groups: [N + 1] int, from 1; items of `UNKNOWN`, PAD among them, take
            no part.
        level: 0 for the root.

    Returns:
        ([n] int nodes with an item of known group, ascending; [n] int the
        largest group of each, the smaller number of two alike; [n] int how
        many items of it there are).
    """
    known = np.flatnonzero(groups[1:] != UNKNOWN)
    if not len(known):
        return (np.zeros(0, np.int64),) * 3
    width = int(groups.max()) + 1
    places = _places(tree, level)[known].astype(np.int64)
    pairs = np.sort(places * width + groups[1:][known])
    begins = np.flatnonzero(np.diff(pairs, prepend=-1))
    counts = np.diff(begins, append=len(pairs))
    places, group = np.divmod(pairs[begins], width)
    firsts = np.flatnonzero(np.diff(places, prepend=-1))
    most = np.maximum.reduceat(counts, firsts)
    runs = np.diff(firsts, append=len(counts))
    winners = np.flatnonzero(counts == np.repeat(most, runs))
    winners = winners[np.flatnonzero(np.diff(places[winners], prepend=-1))]
    nodes = places[winners] + tree_lib.first_code(level, tree.branching)
    return nodes, group[winners], most


def purity(tree: tree_lib.Tree, groups: np.ndarray) -> np.ndarray:
    """Returns how far the nodes of each level hold one group only.

    Args:
        tree: the index.
        groups: [N + 1] int, as `majority` takes them.

    Returns:
        [max_level + 1] float64, from the root: the share of the items of
        known group that are of the largest group under their node; NaN where
        no group is known. A leaf is pure.
    """
    known = np.count_nonzero(groups[1:] != UNKNOWN)
    if not known:
        return np.full(tree.max_level + 1, np.nan)
    levels = range(tree.max_level)
    most = [majority(tree, groups, level)[2].sum() for level in levels]
    return np.array([*most, known]) / known


def moved(before: tree_lib.Tree, after: tree_lib.Tree) -> np.ndarray:
    """Returns how many items changed their node, by level from the root.

    Args:
        before: a tree.
        after: another of the same items and shape.

    Returns:
        [max_level + 1] int64. Who moves on a level moves on all below.

    Raises:
        ValueError: the trees differ in shape.
    """
    shapes = [(t.num_items, t.max_level, t.branching) for t in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "Trees to compare need the same (items, levels, branching); got "
            f"{shapes[0]} and {shapes[1]}."
        )
    return np.array(
        [
            np.count_nonzero(before.ancestors(level) != after.ancestors(level))
            for level in range(before.max_level + 1)
        ]
    )


def _places(tree, level):
    """Returns each item's place among the nodes of a level, [N]."""
    first = tree_lib.first_code(level, tree.branching)
    return tree.ancestors(level)[1:] - first
