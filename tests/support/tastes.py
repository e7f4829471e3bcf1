"""Users of known preferences, without any data: what a tree tells of them."""

import numpy as np

from jtm_tf.tree import statistics as tree_statistics
from jtm_tf.tree import tree as tree_lib


def preferences(rng, num_users, max_level, zipf):
    """Returns p(item | user), [U, N], and a tree that knows 3 levels of it.

    Users like the nodes of a binary tree of N = 2**max_level items at random,
    level by level down to the seventh; popularity falls as rank**-zipf.
    """
    num_items = 2**max_level
    logits = np.zeros((num_users, num_items))
    for level in range(1, 8):
        taste = rng.normal(0, 0.8, (num_users, 2**level))
        logits += np.repeat(taste, num_items // 2**level, axis=1)
    logits -= zipf * np.log(rng.permutation(num_items) + 1)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    known = np.arange(num_items) // (num_items // 8)
    order = np.lexsort((rng.permutation(num_items), known)) + 1
    return p / p.sum(axis=1, keepdims=True), tree_lib.Tree.from_order(order)


def told(tree, p):
    """Returns I(user; node), summed over levels, for uniform users."""
    users, items = np.divmod(np.arange(p.size), p.shape[1])
    return tree_statistics.information(tree, users, items + 1, p.ravel()).sum()
