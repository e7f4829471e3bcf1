"""What a history says of a node itself: how often it went through it."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from jtm_tf.models import choices
from jtm_tf.models import numerics
from jtm_tf.types import PAD


@keras.saving.register_keras_serializable("jtm_tf")
class Visits(numerics.Layer):
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
