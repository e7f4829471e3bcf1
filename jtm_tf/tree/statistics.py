"""What a tree looks like from afar: sums over the items below its nodes.

What sits together under the nodes of a level (purity), how much of it
(sums), who left (moved), and what a tree is worth before any model is trained
on it. By Eq. 2 a perfect model loses, on each level, H(node | user) = H(node)
- I(user; node): a tree lowers the loss by gathering what is popular, which
lowers the entropy and helps no search, or by gathering what the same users
take, which raises the information. So the two are told apart (`entropy`,
`information`; `measures` has both). Pure NumPy; a level costs at most one sort
of the items or samples, so ten million items take seconds.
"""

import numpy as np

from jtm_tf.categories import UNKNOWN
from jtm_tf.tree import tree as tree_lib

# What `measures` returns.
MEASURES = ("entropy", "information", "busiest")


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


def entropy(tree: tree_lib.Tree, counts: np.ndarray) -> np.ndarray:
    """Returns H(node) of each level: what a level costs who knows no user.

    Args:
        tree: the index.
        counts: [N + 1] samples of each item, row PAD unused.

    Returns:
        [max_level + 1] float64 nats, from the root, which has 0.
    """
    return np.array([_entropy(below) for below in _all_sums(tree, counts)])


def busiest(
    tree: tree_lib.Tree, counts: np.ndarray, nodes: int = 20
) -> np.ndarray:
    """Returns the share of the samples in the `nodes` busiest of a level.

    Args:
        tree: the index.
        counts: [N + 1] samples of each item, row PAD unused.
        nodes: how many; all of them on levels of fewer.

    Returns:
        [max_level + 1] float64, from the root, which has 1.
    """
    shares = []
    for below in _all_sums(tree, counts):
        met = below[below > 0]  # to select among millions of ties is slow
        most = np.partition(met, -min(nodes, len(met)))[-nodes:]
        shares.append(most.sum() / below.sum())
    return np.array(shares)


def information(
    tree: tree_lib.Tree,
    users: np.ndarray,
    items: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Returns I(user; node) of each level: what it tells to know the user.

    H(user) + H(node) - H(user, node), of the samples as they are. Of few
    samples a user much of it is chance: compare with the same of items that
    were shuffled among the samples, and trees with each other only where
    equally many leaves are in use.

    Args:
        tree: the index.
        users: [S] int, whose sample it is.
        items: [S] int, its item, from 1.
        weights: [S] how much it counts, such as a probability; 1 each if not
            given.

    Returns:
        [max_level + 1] float64 nats, from the root, which has 0.
    """
    if weights is None:
        weights = np.ones(len(items))
    leaves = tree.pi[items].astype(np.int64) - tree.first_leaf
    # By user, then by leaf: the samples of a user below a node, whatever its
    # level, stand side by side.
    order = np.lexsort((leaves, users))
    leaves, weights = leaves[order], weights[order]
    new_user = np.diff(users[order], prepend=-1) != 0
    of_users = _entropy(np.add.reduceat(weights, np.flatnonzero(new_user)))
    told = []
    for level in range(tree.max_level + 1):
        places = leaves // tree.branching ** (tree.max_level - level)
        new_pair = new_user | (np.diff(places, prepend=-1) != 0)
        pairs = np.add.reduceat(weights, np.flatnonzero(new_pair))
        nodes = np.bincount(places, weights)
        told.append(of_users + _entropy(nodes) - _entropy(pairs))
    return np.maximum(told, 0.0)


def measures(
    tree: tree_lib.Tree, users: np.ndarray, items: np.ndarray
) -> dict[str, list[float]]:
    """Returns what tells trees apart before a model is trained on one.

    Args:
        tree: the index.
        users: [S] int, whose sample it is.
        items: [S] int, its item, from 1.

    Returns:
        `entropy`, `information` and `busiest` of these samples, to six
        digits, each a list over the levels from 1.
    """
    counts = np.bincount(items, minlength=tree.num_items + 1)
    found = (
        entropy(tree, counts),
        information(tree, users, items),
        busiest(tree, counts),
    )
    return {
        name: [round(float(value), 6) for value in values[1:]]
        for name, values in zip(MEASURES, found)
    }


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


def _entropy(counts):
    """Returns the entropy of counts, in nats."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def _all_sums(tree, values):
    """Returns `sums` of every level, from the root."""
    found = [sums(tree, tree.max_level, values)]
    while len(found[-1]) > 1:
        found.append(found[-1].reshape(-1, tree.branching).sum(axis=1))
    return found[::-1]


def _places(tree, level):
    """Returns each item's place among the nodes of a level, [N]."""
    first = tree_lib.first_code(level, tree.branching)
    return tree.ancestors(level)[1:] - first
