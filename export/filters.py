"""Filters inside the walk: which nodes have an item that may be returned.

A node of level l covers a range of leaves. How many of them are allowed is
counted by binary search among sorted (category, leaf) pairs, one a category
that an item belongs to: memory grows with the items, not with categories
times nodes. The excluded are counted in the same way and taken off.
"""

import numpy as np
import tensorflow as tf

from export import vocabulary
from jtm_tf import tree as tree_lib
from jtm_tf.types import LiveFn


class ItemFilter(tf.Module):
    """Allows categories and excludes items, row by row.

    Args:
        tree: the index.
        categories: of the items.

    In the shapes below X are the excluded items, C the categories asked for
    and D the depth of category paths.
    """

    def __init__(
        self,
        tree: tree_lib.Tree,
        categories: vocabulary.CategoryVocabulary,
    ):
        super().__init__()
        self._max_level, self._branching = tree.max_level, tree.branching
        self._num_leaves = np.int64(tree.num_leaves)
        self._categories = categories
        places = np.maximum(tree.pi.astype(np.int64) - tree.first_leaf, 0)
        containing = categories.above[categories.of_item[1:]]  # [N, D]
        pairs = containing * self._num_leaves + places[1:, None]
        pairs = np.sort(pairs[containing > 0])
        self._pairs = tf.Variable(pairs, trainable=False)
        self._places = tf.Variable(places, trainable=False)
        self._of_item = tf.Variable(categories.of_item, trainable=False)
        self._above = tf.Variable(categories.above, trainable=False)

    def live_fn(self, exclude: tf.Tensor, allow: tf.Tensor) -> LiveFn:
        """Returns which nodes have an item below that may be returned.

        Args:
            exclude: [B, X] int32 items never to return; PAD means none.
            allow: [B, C] names of categories, "" for none. An item is allowed
                if a prefix of its path is among them; where all are "", or C
                is 0, every item is.
        """
        wanted = self._wanted(allow)
        excluded = self._excluded(exclude, wanted)

        def live(nodes, level):
            width = self._branching ** (self._max_level - level)
            first = tree_lib.first_code(level, self._branching)
            starts = tf.cast(nodes - first, tf.int64) * width
            ends = tf.concat([starts, starts + width], 1)  # [B, 2 W]
            count = self._count_allowed(ends, wanted)
            count -= tf.searchsorted(excluded, ends, out_type=tf.int64)
            before, after = tf.split(count, 2, axis=1)
            return after > before

        return live

    def _wanted(self, allow):
        """Maps [B, C] names to [B, 1 + C] categories that do not overlap."""
        given = tf.reduce_any(allow != "", 1, keepdims=True)
        everything = tf.cast(~given, tf.int64) * self._categories.ROOT
        asked = tf.concat([everything, self._categories.numbers(allow)], 1)
        # A category that lies within another, or repeats, counts once.
        above = tf.cast(tf.gather(self._above, asked), tf.int64)  # [B, 1+C, D]
        within = tf.reduce_any(above[:, :, None] == asked[:, None, :, None], 3)
        within &= (asked != 0)[:, None]
        order = tf.range(tf.shape(asked)[1])
        earlier = order[None, :] < order[:, None]
        other = (asked[:, :, None] != asked[:, None]) | earlier
        covered = tf.reduce_any(within & other, 2)
        return tf.where(covered, tf.zeros_like(asked), asked)

    def _excluded(self, exclude, wanted):
        """Returns the leaves of excluded, else allowed items, [B, 1 + X].

        They ascend and do not repeat; `num_leaves` fills up.
        """
        containing = tf.gather(self._above, tf.gather(self._of_item, exclude))
        containing = tf.cast(containing, tf.int64)[..., None]  # [B, X, D, 1]
        same = (containing == wanted[:, None, None]) & (containing != 0)
        allowed = tf.reduce_any(same, [2, 3])
        leaves = tf.where(
            allowed, tf.gather(self._places, exclude), self._num_leaves
        )
        leaves = tf.sort(
            tf.pad(leaves, [[0, 0], [1, 0]], constant_values=-1), axis=1
        )
        repeats = leaves[:, 1:] == leaves[:, :-1]
        leaves = tf.where(repeats, self._num_leaves, leaves[:, 1:])
        leaves = tf.sort(leaves, axis=1)
        # One more, since nothing can be searched for among no leaves.
        return tf.pad(
            leaves, [[0, 0], [0, 1]], constant_values=self._num_leaves
        )

    def _count_allowed(self, ends, wanted):
        """Returns the allowed leaves left of each of `ends`, [B, E] int64.

        But for a constant of the row: pairs of other categories are counted
        too, as many for each end.
        """
        found = tf.searchsorted(
            self._pairs,
            tf.reshape(
                wanted[:, :, None] * self._num_leaves + ends[:, None], [-1]
            ),
            out_type=tf.int64,
        )
        shape = tf.stack(
            [tf.shape(ends)[0], tf.shape(wanted)[1], tf.shape(ends)[1]]
        )
        return tf.reduce_sum(tf.reshape(found, shape), 1)
