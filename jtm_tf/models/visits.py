"""What a history says of a node itself: how often it went through it."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from jtm_tf.models import choices
from jtm_tf.models import numerics
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

# Below the range of any node, PAD itself included.
_NOWHERE = -(2**31)


@keras.saving.register_keras_serializable("jtm_tf")
class Visits(numerics.Layer):
    """Counts how often a history went through a node, window by window.

    An MLP on embeddings cannot tell whether two vectors are equal; this can:
    the features of node n are, for every window, log(1 + visits) and whether
    there was one, and for the whole history log(1 + visits) and their share.
    A visit is a behaviour anywhere below the node.

    Args:
        windows: lengths of the time windows, oldest first; they sum to T.
    """

    def __init__(self, windows: Sequence[int] = choices.WINDOWS, **kwargs):
        super().__init__(**kwargs)
        self.windows = tuple(windows)
        self.features = 2 * len(self.windows) + 2

    def build(self, input_shape=None):
        self.built = True

    def of_users(self, leaves):
        """Returns what counts of any nodes are taken from, once for all.

        The leaves below a node are a range of codes. So a history is sorted,
        and what lies in a range is a difference of two running counts.

        Args:
            leaves: [B, T] the histories' leaves, left-padded with PAD.

        Returns:
            [B, T] int32 leaves, ascending; [B, T + 1, windows + 1] float32,
            of the first of them how many lie in each window, and in all; and
            [B] float32, the lengths of the histories.
        """
        window_of = [w for w, n in enumerate(self.windows) for _ in range(n)]
        # What is older than all windows counts in the whole history only.
        window_of = [-1] * (leaves.shape[1] - len(window_of)) + window_of
        member = tf.one_hot(window_of, len(self.windows))
        member = tf.pad(member, [[0, 0], [0, 1]], constant_values=1.0)
        known = leaves != PAD
        leaves = tf.where(known, leaves, _NOWHERE)
        order = tf.argsort(leaves)
        counts = tf.cumsum(tf.gather(member, order), axis=1)
        return (
            tf.gather(leaves, order, batch_dims=1),
            tf.pad(counts, [[0, 0], [1, 0], [0, 0]]),
            tf.reduce_sum(tf.cast(known, tf.float32), 1),
        )

    def call(self, of_users, nodes, *, level: int, tree):
        """Returns the features of users and nodes.

        Args:
            of_users: what `of_users` returned.
            nodes: [B, W] nodes of a level, or [1, W], the same for all.
            level: theirs.
            tree: anything with `max_level` and `branching`.

        Returns:
            [B, W, features].
        """
        leaves, running, length = of_users
        below = tree.branching ** (tree.max_level - level)
        first = nodes - tree_lib.first_code(level, tree.branching)
        first *= below
        first += tree_lib.first_code(tree.max_level, tree.branching)
        ends = tf.concat([first, first + below], 1)
        ends = tf.broadcast_to(ends, [tf.shape(leaves)[0], tf.shape(ends)[1]])
        # tf.searchsorted, but for its reshaping, which fails on no nodes.
        at = tf.raw_ops.LowerBound(sorted_inputs=leaves, values=ends)
        before, after = tf.split(tf.gather(running, at, batch_dims=1), 2, 1)
        counts, total = tf.split(after - before, [len(self.windows), 1], axis=2)
        return tf.concat(
            [
                tf.math.log1p(counts),
                tf.minimum(counts, 1.0),
                tf.math.log1p(total),
                total / tf.maximum(length, 1.0)[:, None, None],
            ],
            axis=-1,
        )

    def get_config(self):
        return {**super().get_config(), "windows": self.windows}
