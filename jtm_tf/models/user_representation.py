"""A user becomes vectors (paper Sec. 2.3): the history, lifted to a level,
pooled or in sequence; and beside it the profile.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from jtm_tf.models import choices
from jtm_tf.models import numerics
from jtm_tf.tree import ops as tree_ops
from jtm_tf.types import PAD


@keras.saving.register_keras_serializable("jtm_tf")
class UserRepresentation(numerics.Layer):
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
        known, segment = self.behaviours(leaves)
        distinct, position = tf.unique(known)
        pooled = []
        for vectors in _lifted(distinct, embedding, tree, levels):
            means = tf.sparse.segment_mean(
                vectors,
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
            The leaves of the R behaviours, [R], and user * count + window of
            each, [R] ascending.
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
        return tf.gather_nd(newest, places), segment

    def described(self, means, leaves):
        """Maps means of windows, [L * B * count, E], to [L * B, count * E]."""
        width = means.shape[1]
        if self.whole:
            known = tf.reduce_sum(tf.cast(leaves != PAD, tf.float32), 1)
            scale = tf.ones([tf.shape(leaves)[0], self.count - 1])
            scale = tf.concat([scale, tf.sqrt(known)[:, None]], 1)
            scale = tf.reshape(scale, [-1, 1])
            means = tf.reshape(means, [-1, tf.shape(scale)[0], width]) * scale
        return tf.reshape(means, [-1, self.count * width])

    def get_config(self):
        return {
            **super().get_config(),
            "windows": self.windows,
            "whole": self.whole,
        }


@keras.saving.register_keras_serializable("jtm_tf")
class UserSequence(numerics.Layer):
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
        return [
            tf.gather(vectors, position) * known
            for vectors in _lifted(distinct, embedding, tree, levels)
        ]


def _lifted(leaves, embedding, tree, levels):
    """Returns the vectors of leaves' ancestors, [R, E] of each level."""
    nodes = {level: tree_ops.lift(leaves, level, tree) for level in levels}
    return embedding.of_levels(nodes).values()


@keras.saving.register_keras_serializable("jtm_tf")
class Profile(numerics.Layer):
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
