"""Filters inside the walk: which nodes have an item that may be returned.

A node of level l covers a range of leaves. Allowed leaves are looked up among
sorted (category, leaf) pairs, one a category that an item belongs to: memory
grows with the items, not with categories times nodes. One binary search finds
where the ranges of two siblings meet; the left one has more than x leaves of a
category if the pair x + 1 places before still lies in it, the right one if the
pair x places on does. x are the leaves that are excluded.
"""

import numpy as np
import tensorflow as tf

from export.artefact import vocabulary
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import LiveFn

# Greater than every pair.
_NO_PAIR = np.iinfo(np.int64).max


class ItemFilter(tf.Module):
    """Allows categories and excludes items, row by row.

    Args:
        tree: the index.
        categories: of the items.
        pi: a variable that holds the tree's.

    In the shapes below X are the excluded items, C the categories asked for
    and D the depth of category paths.
    """

    def __init__(
        self,
        tree: tree_lib.Tree,
        categories: vocabulary.CategoryVocabulary,
        pi: tf.Variable,
    ):
        super().__init__()
        self._max_level, self._branching = tree.max_level, tree.branching
        # Nodes come in whole families, but for the leaves of a mere list.
        self._family = tree.branching if tree.max_level > 1 else 1
        self._num_leaves = np.int64(tree.num_leaves)
        self._categories = categories
        places = tree.pi[1:] - tree.first_leaf
        containing = categories.above[categories.of_item[1:]]  # [N, D]
        pairs = containing * self._num_leaves + places[:, None]
        pairs = np.sort(pairs[containing > 0])
        pairs = np.concatenate([[-1], pairs, [_NO_PAIR]])
        self._pairs = tf.Variable(pairs, trainable=False)
        self._pi, self._first_leaf = pi, tree.first_leaf
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
            eldest = tf.cast(nodes[:, :: self._family] - first, tf.int64)
            places = np.arange(self._family + 1)[:, None]
            ends = (eldest[:, None] + places) * width  # [B, b + 1, F]
            allowed = self._any_allowed(ends, wanted, excluded)
            return tf.reshape(tf.transpose(allowed, [0, 2, 1]), tf.shape(nodes))

        return live

    def _wanted(self, allow):
        """Maps [B, C] names to categories that do not overlap.

        As many columns as some row needs: each costs a search
        at every node.
        """
        given = tf.reduce_any(allow != "", 1, keepdims=True)
        everything = tf.cast(~given, tf.int64) * self._categories.ROOT
        missing = tf.maximum(1 - tf.shape(allow)[1], 0)
        asked = tf.pad(self._categories.numbers(allow), [[0, 0], [0, missing]])
        asked = tf.concat([asked[:, :1] + everything, asked[:, 1:]], 1)
        # A category that lies within another, or repeats, counts once.
        above = tf.cast(tf.gather(self._above, asked), tf.int64)  # [B, C, D]
        within = tf.reduce_any(above[:, :, None] == asked[:, None, :, None], 3)
        within &= (asked != 0)[:, None]
        order = tf.range(tf.shape(asked)[1])
        earlier = order[None, :] < order[:, None]
        other = (asked[:, :, None] != asked[:, None]) | earlier
        covered = tf.reduce_any(within & other, 2)
        wanted = tf.where(covered, tf.zeros_like(asked), asked)
        wanted = tf.sort(wanted, axis=1, direction="DESCENDING")
        return tf.boolean_mask(wanted, tf.reduce_any(wanted != 0, 0), axis=1)

    def _excluded(self, exclude, wanted):
        """Returns the pairs of excluded, else allowed items, [B, 1 + X].

        They ascend and do not repeat; `_NO_PAIR` fills up.
        """
        containing = tf.gather(self._above, tf.gather(self._of_item, exclude))
        containing = tf.cast(containing, tf.int64)  # [B, X, D]
        same = containing[..., None] == wanted[:, None, None]
        same = tf.reduce_any(same, 3) & (containing != 0)
        category = tf.reduce_max(tf.where(same, containing, 0), 2)
        places = tf.gather(self._pi, exclude) - self._first_leaf
        places = tf.cast(places, tf.int64)
        pairs = category * self._num_leaves + places
        pairs = tf.sort(tf.where(category != 0, pairs, _NO_PAIR), axis=1)
        # One more, since nothing can be searched for among no pairs.
        pairs = tf.pad(pairs, [[0, 0], [0, 1]], constant_values=_NO_PAIR)
        repeats = pairs[:, 1:] == pairs[:, :-1]
        repeats = tf.pad(repeats, [[0, 0], [1, 0]], constant_values=False)
        return tf.sort(tf.where(repeats, _NO_PAIR, pairs), axis=1)

    def _any_allowed(self, ends, wanted, excluded):
        """Tells which ranges of leaves have an allowed one.

        Args:
            ends: [B, b + 1, F] int64, where the ranges of F families end.
            wanted: [B, C] categories.
            excluded: [B, 1 + X] pairs.

        Returns:
            [B, b, F] bool.
        """
        wanted = wanted[:, None, :, None] * self._num_leaves
        ends = wanted + ends[:, :, None]  # [B, b + 1, C, F]
        shape = tf.shape(ends)
        flat = tf.reshape(ends, [shape[0], -1])
        before = tf.reshape(tf.searchsorted(excluded, flat), shape)
        gone = before[:, 1:] - before[:, :-1]  # [B, b, C, F]
        pairs = self._pairs.read_value()  # see `FrozenEmbedding`
        if self._family == 1:
            inner = ends[:, :1]
        else:
            inner = ends[:, 1:-1]
        found = tf.searchsorted(pairs, tf.reshape(inner, [-1]))
        found = tf.reshape(found, tf.shape(inner))
        searched = inner.shape[1]
        nearest = tf.gather(pairs, found + gone[:, -searched:])
        allowed = nearest < ends[:, -searched:]
        if self._family > 1:
            nearest = tf.gather(pairs, found[:, :1] - 1 - gone[:, :1])
            eldest = nearest >= ends[:, :1]
            allowed = tf.concat([eldest, allowed], 1)
        return tf.reduce_any(allowed, 2)
