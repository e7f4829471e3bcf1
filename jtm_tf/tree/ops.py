"""The tree's arithmetic on heap codes as TensorFlow ops; see `tree.tree`."""

import tensorflow as tf

from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD


def ancestor(
    nodes: tf.Tensor, *, from_level: int, to_level: int, branching: int
) -> tf.Tensor:
    """Returns b_{to_level}(n) of nodes on `from_level`, as `tree.ancestor`."""
    offset = nodes - tree_lib.first_code(from_level, branching)
    lifted = offset // branching ** (from_level - to_level)
    lifted += tree_lib.first_code(to_level, branching)
    return tf.where(nodes == PAD, PAD, lifted)


def children(nodes: tf.Tensor, branching: int) -> tf.Tensor:
    """Returns the children of real nodes, [B, K] -> [B, K * b]."""
    first = branching * (nodes - 1) + 2
    codes = first[..., None] + tf.range(branching)
    return tf.reshape(codes, [-1, nodes.shape[1] * branching])
