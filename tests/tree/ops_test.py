"""Tests of `jtm_tf.tree.ops`: against the same arithmetic in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.tree import initial
from jtm_tf.tree import ops
from jtm_tf.tree import tree as tree_lib


@pytest.mark.parametrize("branching", [2, 3, 8])
def test_as_in_numpy(branching):
    tree = initial.random(70, branching=branching)
    leaves = tf.constant(tree.pi)  # PAD first
    for level in range(tree.max_level + 1):
        np.testing.assert_array_equal(
            ops.lift(leaves, level, tree), tree.ancestors(level)
        )
        if level == tree.max_level:
            break
        nodes = tree.occupied(level)[None]
        below = tree_lib.children(nodes, branching)  # [1, K, b]
        found = ops.children(tf.constant(nodes), branching)
        np.testing.assert_array_equal(found, below.reshape(1, -1))
        family, place = ops.families(found, branching)
        np.testing.assert_array_equal(
            family, np.repeat(below[0], branching, axis=0)[None]
        )
        np.testing.assert_array_equal(
            tf.gather(family, place, batch_dims=2), found
        )
