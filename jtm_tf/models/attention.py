"""DIN's attention as a scorer: behaviours weighed by the scored node.

"Any advanced model" may search the tree (paper Sec. 1); this one, of the
released network, has no vector for a user at all: each node sees its own.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from jtm_tf.models import scorers


@keras.saving.register_keras_serializable("jtm_tf")
class AttentionScorer(scorers.NodeScorer):
    """Weighs each behaviour by its relevance to the scored node (DIN).

    The unit of the released network: a = MLP([h, h * n, n]) with one hidden
    layer and no softmax, for behaviour h and node n; the weighted behaviours
    are pooled window by window and enter the MLP where the plain means did.

    Args:
        windows: lengths of the history's time windows; they sum to T.
        node_dim: embedding size E.
        hidden: widths of the MLP's hidden layers.
        pair_dim: width of the features of a pair, 0 for none.
        profile_dim: width of the user's further features, 0 for none.
        unit: width of the attention unit's hidden layer.
    """

    def __init__(
        self,
        windows: Sequence[int],
        node_dim: int,
        hidden: Sequence[int] = (128, 64, 32),
        pair_dim: int = 0,
        profile_dim: int = 0,
        unit: int = 36,
        **kwargs,
    ):
        pooled = len(windows) * node_dim
        super().__init__(
            pooled + profile_dim, node_dim, hidden, pair_dim, 0, **kwargs
        )
        self.windows, self.unit = tuple(windows), unit
        self.profile_dim = profile_dim

    def build(self, input_shape=None):
        super().build()
        bound = (6.0 / (3 * self.node_dim + self.unit)) ** 0.5
        self.unit_kernels = [
            self.add_weight(
                shape=(self.node_dim, self.unit),
                initializer=keras.initializers.RandomUniform(-bound, bound),
                name=f"unit_{part}",
            )
            for part in ("behaviour", "product", "node")
        ]
        self.unit_bias = self.add_weight(
            shape=(self.unit,), initializer="zeros", name="unit_bias"
        )
        self.unit_output = self.add_weight(
            shape=(self.unit, 1), initializer="glorot_uniform", name="unit_out"
        )

    def call(self, users, nodes, pairs=None):
        """Scores the candidates of each user.

        Args:
            users: a pair: [B, T, E] behaviours, zero where padded, and
                [B, profile_dim].
            nodes: [B, W, E] embedded candidates.
            pairs: [B, W, pair_dim] features of user and node together; None
                for zeros.

        Returns:
            [B, W] logits.
        """
        return self.score(self.of_users(users), nodes, pairs)

    def of_users(self, users):
        """Returns users as they are: each node sees its own."""
        return users

    def score(self, of_users, nodes, pairs=None):
        """Scores as `call` does."""
        behaviours, profile = of_users
        pooled = self._pooled(behaviours, nodes)  # [B, W, windows * E]
        size = pooled.shape[-1]
        parts = [pooled, nodes]
        kernel = [self.user_kernel[:size], self.node_kernel]
        if pairs is not None:
            parts.append(pairs)
            kernel.append(self.pair_kernel)
        x = tf.matmul(tf.concat(parts, 2), tf.concat(kernel, 0))
        user_part = self.biases[0]
        if self.profile_dim:  # oneDNN aborts on a product over nothing
            user_part += tf.matmul(profile, self.user_kernel[size:])[:, None]
        x += user_part
        return self._output(x, nodes)

    def _pooled(self, behaviours, nodes):
        """Returns the windows' means of weighted behaviours, [B, W, ..]."""
        weights = self._attention(behaviours, nodes)
        known = tf.cast(tf.reduce_any(behaviours != 0, -1), tf.float32)
        pooled, first = [], 0
        for length in self.windows:
            part = slice(first, first + length)
            total = tf.matmul(weights[:, :, part], behaviours[:, part])
            count = tf.reduce_sum(known[:, part], 1)[:, None, None]
            pooled.append(total / tf.maximum(count, 1.0))
            first += length
        return tf.concat(pooled, 2)

    def _attention(self, behaviours, nodes):
        """Returns the weight of every behaviour for every node, [B, W, T]."""
        own, product, node = self.unit_kernels
        if (nodes.shape[1] or 0) >= scorers.WIDE:
            x = self._folded_products(behaviours, nodes, product)
        else:
            products = nodes[:, :, None] * behaviours[:, None]
            x = tf.tensordot(products, product, 1)  # [B, W, T, unit]
        x += tf.matmul(behaviours, own)[:, None] + self.unit_bias
        x += tf.matmul(nodes, node)[:, :, None]
        return tf.tensordot(scorers.rectified(x), self.unit_output[:, 0], 1)

    def _folded_products(self, behaviours, nodes, kernel):
        """Returns (h * n) W, [B, W, T, unit], as n (diag(h) W).

        One product a user without a tensor of [B, W, T, E]; it pays where
        each user has many candidates.
        """
        batch, length = tf.shape(behaviours)[0], behaviours.shape[1]
        kernels = behaviours[..., None] * kernel  # [B, T, E, unit]
        kernels = tf.transpose(kernels, [0, 2, 1, 3])
        shape = [batch, self.node_dim, length * self.unit]
        x = tf.matmul(nodes, tf.reshape(kernels, shape))
        return tf.reshape(x, [batch, tf.shape(nodes)[1], length, self.unit])

    def get_config(self):
        config = super().get_config()
        del config["user_dim"], config["products"]
        return {
            **config,
            "windows": self.windows,
            "profile_dim": self.profile_dim,
            "unit": self.unit,
        }
