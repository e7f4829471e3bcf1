"""The initial projection pi_0: items in category order, or at random.

The paper starts from the category tree of TDM (Sec. 2.3). Both starts spread
the items evenly over the leaves, so that every halving is balanced and trees
of equal size occupy the same leaves.
"""

from collections.abc import Sequence

import numpy as np

from jtm_tf import categories as categories_lib
from jtm_tf.tree import tree as tree_lib


def by_category(
    categories: Sequence[str | None] | np.ndarray,
    *,
    branching: int = 2,
    seed: int = 0,
) -> tree_lib.Tree:
    """Returns a tree whose neighbours share a category.

    Items are sorted by category path, part by part; items of one path come in
    an order drawn from `seed`, and items without a path come last.

    Args:
        categories: [N] paths such as "Food|Snacks|Chips" of items 1..N; None
            or "" where it is unknown.
        branching: b.
        seed: orders items of equal path.
    """
    paths = sorted(
        set(categories),
        key=lambda path: (not path, categories_lib.parts(path)),
    )
    rank_of = {path: rank for rank, path in enumerate(paths)}
    rank = np.fromiter((rank_of[p] for p in categories), np.int64)
    ties = np.random.default_rng(seed).permutation(len(rank))
    order = np.lexsort((ties, rank))
    return tree_lib.Tree.from_order(order + 1, branching=branching)


def random(
    num_items: int, *, branching: int = 2, seed: int | tuple[int, ...] = 0
) -> tree_lib.Tree:
    """Returns a tree with items 1..N in an order drawn from `seed`."""
    order = np.random.default_rng(seed).permutation(num_items)
    return tree_lib.Tree.from_order(order + 1, branching=branching)


def flat(num_items: int) -> tree_lib.Tree:
    """Returns a root with items 1..N as its children, in their order.

    Nothing is pruned in it: a model on this tree scores every item, as the
    paper's DNN does.
    """
    items = np.arange(1, num_items + 1)
    return tree_lib.Tree.from_order(items, branching=max(2, num_items))
