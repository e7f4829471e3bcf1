"""The tree's arithmetic on heap codes as TensorFlow ops; see `tree.tree`."""

import numpy as np
import tensorflow as tf

from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD


def lift(leaves, level: int, tree):
    """Returns b_level(n), the ancestor of each leaf, as `tree.ancestor`.

    Args:
        leaves: [...] int32 leaves, or PAD.
        level: a level of the tree.
        tree: anything with `max_level` and `branching`.

    Returns:
        [...] int32 nodes of `level`; PAD maps to PAD.
    """
    offset = leaves - tree_lib.first_code(tree.max_level, tree.branching)
    lifted = offset // tree.branching ** (tree.max_level - level)
    lifted += tree_lib.first_code(level, tree.branching)
    return tf.where(leaves == PAD, PAD, lifted)


def children(nodes: tf.Tensor, branching: int) -> tf.Tensor:
    """Returns the children of real nodes, [B, K] -> [B, K * b]."""
    first = branching * nodes - (branching - 2)
    codes = first[..., None] + np.arange(branching, dtype=np.int32)
    return tf.reshape(codes, [-1, nodes.shape[1] * branching])


def families(nodes: tf.Tensor, branching: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the siblings of real nodes, themselves among them.

    Args:
        nodes: [...] int32, below the root.
        branching: b.

    Returns:
        [..., b] int32, each node's family from left to right, and [...] int32,
        its own place in it.
    """
    place = (nodes - 2) % branching
    return (nodes - place)[..., None] + tf.range(branching), place
