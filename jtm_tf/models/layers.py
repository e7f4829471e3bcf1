"""Keras layers that describe nodes and users (paper Sec. 2.3): embeddings,
histories pooled or in sequence, visits of a history to a node, profiles.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from jtm_tf.models import choices
from jtm_tf.tree import ops as tree_ops
from jtm_tf.types import PAD

# Of a table while it is read from a file.
_BLOCK_ROWS = 1 << 20


@keras.saving.register_keras_serializable("jtm_tf")
class NodeEmbedding(keras.layers.Layer):
    """One vector for every node of the tree, looked up by heap code.

    The table is read and updated by rows only (`ResourceGather`), so that a
    training step never touches memory in proportion to the corpus.

    Args:
        num_codes: rows, `Tree.num_codes`.
        dim: embedding size E.
        stddev: spread of the initial vectors.
    """

    def __init__(self, num_codes: int, dim: int, stddev: float = 0.1, **kwargs):
        super().__init__(**kwargs)
        self.num_codes, self.dim, self.stddev = num_codes, dim, stddev

    def build(self, input_shape=None):
        normal = keras.initializers.RandomNormal(stddev=self.stddev)

        def draw(shape, dtype):
            # In a graph each operation works in the memory of the one before:
            # two tables, where three stood side by side.
            drawn = tf.function(lambda: normal(shape, dtype))
            return drawn.get_concrete_function()()

        self.table = self.add_weight(
            shape=(self.num_codes, self.dim), initializer=draw, name="table"
        )

    def call(self, nodes, level=None):
        """Maps [...] nodes, of any `level`, to [..., E]."""
        del level
        return tf.gather(self.table.value, nodes)

    def load_own_variables(self, store):
        """Reads the table by blocks of rows; Keras would hold it thrice."""
        self._check_load_own_variables(store)
        saved = store["0"]
        if saved.shape != self.table.shape:
            raise ValueError(
                f"Expected a table of shape {tuple(self.table.shape)}; got "
                f"{tuple(saved.shape)}."
            )
        for start in range(0, self.num_codes, _BLOCK_ROWS):
            rows = np.arange(start, min(start + _BLOCK_ROWS, self.num_codes))
            block = tf.IndexedSlices(saved[rows[0] : rows[-1] + 1], rows)
            self.table.value.scatter_update(block)  # on every replica

    def numpy(self):
        """Returns the table, [num_codes, E]."""
        return self.table.value.numpy()

    def get_config(self):
        return {
            **super().get_config(),
            "num_codes": self.num_codes,
            "dim": self.dim,
            "stddev": self.stddev,
        }


@keras.saving.register_keras_serializable("jtm_tf")
class UserRepresentation(keras.layers.Layer):
    """Pools a history, lifted to the scored level, in time windows (Sec. 2.3).

    The input for level l is c^l = {b_l(pi(c_1)), ..., b_l(pi(c_m))}; each
    window is the mean of the embeddings of its behaviours, zero if it has
    none. Only behaviours that exist are looked up: padding costs nothing.

    Args:
        windows: lengths of the time windows, oldest first, of the newest
            behaviours.
        whole: whether one more window, the last, holds the whole history: the
            sum of its n behaviours over n ** 0.5, so that a user of whom more
            is known is described more firmly.
    """

    def __init__(
        self,
        windows: Sequence[int] = choices.WINDOWS,
        whole: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.windows, self.whole = tuple(windows), whole
        self.count = len(self.windows) + whole

    def build(self, input_shape=None):
        self.built = True

    def call(self, leaves, *, embedding, tree, levels):
        """Describes users on several levels at once.

        Args:
            leaves: [B, T] the histories' leaves, left-padded with PAD.
            embedding: the `NodeEmbedding` of the scored nodes.
            tree: anything with `max_level` and `branching`.
            levels: the levels wanted, Python integers.

        Returns:
            One [B, count * E] tensor for each of `levels`.
        """
        distinct, position, segment = self.behaviours(leaves)
        pooled = []
        for level in levels:
            nodes = tree_ops.lift(distinct, level, tree)
            means = tf.sparse.segment_mean(
                embedding(nodes, level=level),
                position,
                segment,
                num_segments=tf.shape(leaves)[0] * self.count,
            )
            pooled.append(self.described(means, leaves))
        return pooled

    def behaviours(self, leaves):
        """Lists the behaviours of histories, padding left out.

        Args:
            leaves: [B, T], left-padded with PAD.

        Returns:
            The D distinct leaves, [D], which of them each of the R behaviours
            is, [R], and user * count + window of each, [R] ascending.
        """
        windows = self.windows
        newest = leaves[:, -sum(windows) :]
        if self.whole:  # once in its window, and once in the last
            windows = (*windows, leaves.shape[1])
            newest = tf.concat([newest, leaves], 1)
        window_of = [w for w, n in enumerate(windows) for _ in range(n)]
        places = tf.where(newest != PAD)  # [R, 2]
        window = tf.gather(tf.constant(window_of, tf.int64), places[:, 1])
        segment = tf.cast(places[:, 0] * self.count + window, tf.int32)
        distinct, position = tf.unique(tf.gather_nd(newest, places))
        return distinct, position, segment

    def described(self, means, leaves):
        """Maps the means of windows, [B * count, E], to [B, count * E]."""
        batch, width = tf.shape(leaves)[0], means.shape[1]
        if self.whole:
            known = tf.reduce_sum(tf.cast(leaves != PAD, tf.float32), 1)
            scale = tf.ones([batch, self.count - 1])
            scale = tf.concat([scale, tf.sqrt(known)[:, None]], 1)
            means *= tf.reshape(scale, [-1, 1])
        return tf.reshape(means, [batch, self.count * width])

    def get_config(self):
        return {
            **super().get_config(),
            "windows": self.windows,
            "whole": self.whole,
        }


@keras.saving.register_keras_serializable("jtm_tf")
class UserSequence(keras.layers.Layer):
    """Embeds a history behaviour by behaviour, for scorers with attention."""

    def build(self, input_shape=None):
        self.built = True

    def call(self, leaves, *, embedding, tree, levels):
        """Describes users on several levels at once.

        Args:
            leaves: [B, T] the histories' leaves, left-padded with PAD.
            embedding: the `NodeEmbedding` of the scored nodes.
            tree: anything with `max_level` and `branching`.
            levels: the levels wanted, Python integers.

        Returns:
            One [B, T, E] tensor for each of `levels`, zero where padded.
        """
        distinct, position = tf.unique(tf.reshape(leaves, [-1]))
        position = tf.reshape(position, tf.shape(leaves))
        known = tf.cast(leaves != PAD, tf.float32)[..., None]
        sequences = []
        for level in levels:
            nodes = tree_ops.lift(distinct, level, tree)
            vectors = embedding(nodes, level=level)
            sequences.append(tf.gather(vectors, position) * known)
        return sequences


@keras.saving.register_keras_serializable("jtm_tf")
class Visits(keras.layers.Layer):
    """Counts how often a history went through a node, window by window.

    An MLP on embeddings cannot tell whether two vectors are equal; this can:
    the features of node n are, for every window, log(1 + visits) and whether
    there was one, and for the whole history log(1 + visits) and their share.
    With histories lifted to the node's level a visit is a behaviour anywhere
    below it; with histories of leaves, inner nodes are never visited.

    Args:
        windows: lengths of the time windows, oldest first; they sum to T.
    """

    def __init__(self, windows: Sequence[int] = choices.WINDOWS, **kwargs):
        super().__init__(**kwargs)
        self.windows = tuple(windows)
        self.features = 2 * len(self.windows) + 2

    def build(self, input_shape=None):
        self.built = True

    def call(self, behaviours, nodes):
        """Maps [B, T] and [B, W] nodes of one level to [B, W, features]."""
        window_of = [w for w, n in enumerate(self.windows) for _ in range(n)]
        # What is older than all windows counts in the whole history only.
        older = behaviours.shape[1] - len(window_of)
        window_of = [-1] * older + window_of
        member = tf.one_hot(window_of, len(self.windows))  # [T, windows]
        shape = [tf.shape(nodes)[0], tf.shape(nodes)[1], len(self.windows)]
        same = tf.cast(behaviours[:, None] == nodes[..., None], tf.float32)
        counts = tf.matmul(tf.reshape(same, [-1, len(window_of)]), member)
        counts = tf.reshape(counts, shape)
        total = tf.reduce_sum(same, -1, keepdims=True)
        known = tf.cast(behaviours != PAD, tf.float32)
        length = tf.reduce_sum(known, -1)[:, None, None]
        return tf.concat(
            [
                tf.math.log1p(counts),
                tf.minimum(counts, 1.0),
                tf.math.log1p(total),
                total / tf.maximum(length, 1.0),
            ],
            axis=-1,
        )

    def get_config(self):
        return {**super().get_config(), "windows": self.windows}


@keras.saving.register_keras_serializable("jtm_tf")
class Profile(keras.layers.Layer):
    """Embeds what is known of a user beside the history; nothing by default.

    Args:
        sizes: codes of each feature, 0 (unknown) included.
        width: embedding size of a feature.
    """

    def __init__(self, sizes: Sequence[int] = (), width: int = 8, **kwargs):
        super().__init__(**kwargs)
        self.sizes, self.width = tuple(sizes), width
        self.dim = len(self.sizes) * width

    def build(self, input_shape=None):
        self.tables = [
            self.add_weight(
                shape=(size, self.width),
                initializer=keras.initializers.RandomNormal(stddev=0.1),
                name=f"table_{i}",
            )
            for i, size in enumerate(self.sizes)
        ]

    def call(self, codes):
        """Maps [B, features] to [B, features * width]."""
        parts = [
            tf.gather(table.value, codes[:, i])
            for i, table in enumerate(self.tables)
        ]
        if not parts:
            return tf.zeros([tf.shape(codes)[0], 0])
        return tf.concat(parts, 1)

    def get_config(self):
        return {
            **super().get_config(),
            "sizes": self.sizes,
            "width": self.width,
        }
