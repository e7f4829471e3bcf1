"""Scorers: Keras layers that map a user and candidate nodes to preferences.

The scorer is exchangeable, as is the paper's point: an inner product allows
fast search by itself, an MLP or attention (`models.attention`) needs a tree.
All of them give the logits that the beam search ranks and the tree learner
sums.

The first layer is kept factored, W [user; node] = W_u user + W_n node: the
user's part is computed once for a level and only the node's part, E wide, for
every candidate.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from jtm_tf.models import numerics

# Slope of the leaky rectifier below zero: the PReLU of the released network
# at its initial value. One pass over memory where a learned slope takes three.
SLOPE = 0.25

# Candidates a user from which on what belongs to the user is folded into the
# kernel of the candidates.
WIDE = 64

# What a product must come to before it tells more than chance: those of
# `tree.factors` estimate how likely a user is to take an item, up to that.
_CHANCE = 1e-3
# Of products below zero.
_BELOW = 0.01
# A gain of 1 is that many chances: Adam moves all weights by steps of one
# size, and vectors of entries about 0.1 want a gain about 1.
_GAIN = 0.1 / _CHANCE


@tf.custom_gradient
def rectified(x):
    """Returns leaky_relu(x), with a gradient that needs the output only.

    The input then has no other reader, so that TensorFlow fuses the rectifier
    into the matrix product before it, in training too.
    """
    y = tf.nn.leaky_relu(x, SLOPE)

    def gradient(dy):  # y has the sign of x
        return tf.raw_ops.LeakyReluGrad(gradients=dy, features=y, alpha=SLOPE)

    return y, gradient


def likely(products):
    """Returns the logarithm of 1 + products, which are of chances.

    The products of a factorisation estimate how likely a user takes an item,
    so that their logarithm, not they, is a logit. Those of an inner node are
    the mean of its items', as likelihoods are; so one link fits all levels.
    Below zero, where all is chance, there is only a slope to learn along.
    """
    return tf.math.log1p(tf.nn.relu(products)) + _BELOW * tf.minimum(
        products, 0.0
    )


@keras.saving.register_keras_serializable("jtm_tf")
class NodeScorer(numerics.Layer):
    """Scores nodes for users: a leaky-rectified MLP, first layer factored.

    Beside user and node the MLP sees the inner product of the node with each
    of the user's windows: an MLP hardly learns a product of two embeddings
    (Rendle et al., 2020), and it says at once how alike they are. It costs a
    search nothing: sum_w (u_w . n) k_w is n (sum_w u_w k_w'), another kernel
    of the node for each user.

    Args:
        user_dim: width of a user's description.
        node_dim: embedding size E.
        hidden: widths of the hidden layers.
        pair_dim: width of the features of a (user, node) pair, 0 for none.
        products: windows, E wide each, that a user's description begins with
            and whose products with the node the MLP sees; 0 for none.
        direct: whether the weighted sum of those products also adds to the
            score, as `likely`: what a factorisation knows is then there from
            the first step, and the MLP corrects it.
    """

    def __init__(
        self,
        user_dim: int,
        node_dim: int,
        hidden: Sequence[int] = (128, 64, 32),
        pair_dim: int = 0,
        products: int = 0,
        direct: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.user_dim, self.node_dim = user_dim, node_dim
        self.hidden, self.pair_dim = tuple(hidden), pair_dim
        self.products, self.direct = products, direct

    def build(self, input_shape=None):
        # Glorot's bounds for the whole first layer, not for its two parts.
        fan = self.user_dim + self.node_dim + self.hidden[0]
        bound = (6.0 / fan) ** 0.5
        uniform = keras.initializers.RandomUniform(-bound, bound)

        self.user_kernel = self.add_weight(
            shape=(self.user_dim, self.hidden[0]),
            initializer=uniform,
            name="user_kernel",
        )
        self.node_kernel = self.add_weight(
            shape=(self.node_dim, self.hidden[0]),
            initializer=uniform.clone(),
            name="node_kernel",
        )
        if self.products:
            self.product_kernel = self.add_weight(
                shape=(self.products, self.hidden[0]),
                initializer="glorot_uniform",
                name="product_kernel",
            )
        if self.direct:
            self.gains = self.add_weight(
                shape=(self.products,), initializer="zeros", name="gains"
            )
        if self.pair_dim:
            # Counts are larger than fresh embeddings and would drown them.
            self.pair_kernel = self.add_weight(
                shape=(self.pair_dim, self.hidden[0]),
                initializer="zeros",
                name="pair_kernel",
            )
        widths = (*self.hidden, 1)
        self.biases, self.kernels = [], []
        for i, width in enumerate(widths):
            self.biases.append(
                self.add_weight(
                    shape=(width,), initializer="zeros", name=f"bias_{i}"
                )
            )
        for i, shape in enumerate(zip(widths, widths[1:]), 1):
            self.kernels.append(
                self.add_weight(
                    shape=shape,
                    initializer="glorot_uniform",
                    name=f"kernel_{i}",
                )
            )

    def call(self, users, nodes, pairs=None):
        """Scores the candidates of each user.

        Args:
            users: [B, user_dim].
            nodes: [B, W, E] embedded candidates.
            pairs: [B, W, pair_dim] features of user and node together; None
                for zeros.

        Returns:
            [B, W] logits.
        """
        return self.score(self.of_users(users), nodes, pairs)

    def of_users(self, users):
        """Returns what of the scores belongs to users alone.

        Computed once it serves any number of calls of `score`.

        Args:
            users: [B, user_dim].

        Returns:
            W_u user, [B, hidden], the windows, [B, products, E], and, where
            products are `direct`, the vector whose product with a node adds
            to its score, [B, E].
        """
        first = tf.matmul(users, self.user_kernel) + self.biases[0]
        width = self.products * self.node_dim
        if width < self.user_dim:
            users = users[:, :width]
        windows = tf.reshape(users, [-1, self.products, self.node_dim])
        if not self.direct:
            return first, windows
        weighted = windows * (_GAIN * self.gains)[:, None]
        return first, windows, tf.reduce_sum(weighted, 1)

    def score(self, of_users, nodes, pairs=None):
        """Scores as `call` does, of what `of_users` returned."""
        if (nodes.shape[1] or 0) >= WIDE:
            return self.scores(nodes, self.folded(of_users), pairs)
        first, windows, *directly = of_users
        logits = self._pairwise(first, windows, nodes, pairs)
        for vector in directly:
            logits += likely(tf.linalg.matvec(nodes, vector))
        return logits

    def start_from_products(self, scale: float) -> None:
        """Begins with `scale` times the last window's product alone.

        Args:
            scale: makes of a product the share of users who take the item.
        """
        gains = np.zeros(self.products, np.float32)
        gains[-1] = scale / (_GAIN * _CHANCE)
        self.gains.assign(gains)
        # The MLP has nothing to say yet; its first layers do not wait.
        self.kernels[-1].assign(np.zeros(self.kernels[-1].shape, np.float32))

    def _pairwise(self, first, windows, nodes, pairs):
        """Returns what the MLP makes of few candidates, [B, W]."""
        # W [user; node] = W_u user + W_n node. The user's part, by far the
        # wider one, is the same for all candidates: once a user, not W times.
        parts, kernels = [nodes], [self.node_kernel]
        if pairs is not None:
            parts.append(pairs)
            kernels.append(self.pair_kernel)
        if self.products:
            parts.append(tf.matmul(nodes, windows, transpose_b=True))
            kernels.append(self.product_kernel)
        x = tf.concat(parts, 2)
        x = tf.matmul(tf.reshape(x, [-1, x.shape[2]]), tf.concat(kernels, 0))
        shape = [tf.shape(nodes)[0], tf.shape(nodes)[1], self.hidden[0]]
        x = tf.reshape(x, shape) + first[:, None]
        return self._output(x, nodes)

    def folded(self, of_users):
        """Returns each user's kernel of [node; 1], [B, E + 1, hidden].

        As one product with it the first layer saves a pass over the widest
        activations, 15 % of a beam search; it pays where each user has many
        candidates.

        Args:
            of_users: what `of_users` returned.

        Returns:
            A tuple of the kernel and, where products are `direct`, the
            vector whose product with a node adds to its score, [B, E].
        """
        first, windows, *directly = of_users
        shape = [tf.shape(first)[0], self.node_dim, self.hidden[0]]
        if self.products:
            # sum_w (u_w . n) k_w = n (sum_w u_w k_w'): the products with the
            # windows are a kernel of the node too, the user's own.
            windows = tf.transpose(windows, [0, 2, 1])
            own = tf.matmul(
                tf.reshape(windows, [-1, self.products]), self.product_kernel
            )
            kernel = self.node_kernel + tf.reshape(own, shape)
        else:
            kernel = tf.broadcast_to(self.node_kernel, shape)
        return tf.concat([kernel, first[:, None]], 1), *directly

    def scores(self, nodes, folded, pairs=None):
        """Scores candidates by kernels from `folded`.

        Args:
            nodes: [B, W, E] embedded candidates.
            folded: what `folded` returns.
            pairs: as `call` takes them.

        Returns:
            [B, W] logits.
        """
        kernels, *directly = folded
        # The user's part and the bias are the kernel's last row: what a node
        # has there is 1.
        first = tf.pad(nodes, [[0, 0], [0, 0], [0, 1]], constant_values=1.0)
        if pairs is not None:
            first = tf.concat([first, pairs], 2)
            shape = [tf.shape(kernels)[0], *self.pair_kernel.shape]
            pair_kernel = tf.broadcast_to(self.pair_kernel, shape)
            kernels = tf.concat([kernels, pair_kernel], 1)
        logits = self._output(tf.matmul(first, kernels), nodes)
        for vector in directly:
            logits += likely(tf.linalg.matvec(nodes, vector))
        return logits

    def _output(self, x, nodes):
        """Maps the first layer of nodes, [B, W, hidden], to [B, W]."""
        x = tf.reshape(x, [-1, self.hidden[0]])
        for kernel, bias in zip(self.kernels, self.biases[1:]):
            x = tf.nn.bias_add(tf.matmul(rectified(x), kernel), bias)
        width = nodes.shape[1]
        return tf.reshape(x, [-1, width] if width else tf.shape(nodes)[:2])

    def get_config(self):
        return {
            **super().get_config(),
            "user_dim": self.user_dim,
            "node_dim": self.node_dim,
            "hidden": self.hidden,
            "pair_dim": self.pair_dim,
            "products": self.products,
            "direct": self.direct,
        }


@keras.saving.register_keras_serializable("jtm_tf")
class ProductScorer(numerics.Layer):
    """Scores by inner product, as YouTube product-DNN does.

    A tower maps the user to a vector of the nodes' own space, so that exact
    or approximate nearest-neighbour search finds the best nodes.

    Args:
        user_dim: width of a user's description.
        node_dim: embedding size E.
        hidden: widths of the tower's hidden layers.
    """

    def __init__(
        self,
        user_dim: int,
        node_dim: int,
        hidden: Sequence[int] = (128, 64, 32),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.user_dim, self.node_dim = user_dim, node_dim
        self.hidden = tuple(hidden)

    def build(self, input_shape=None):
        widths = (self.user_dim, *self.hidden, self.node_dim)
        self.kernels = [
            self.add_weight(
                shape=shape, initializer="glorot_uniform", name=f"kernel_{i}"
            )
            for i, shape in enumerate(zip(widths, widths[1:]))
        ]
        self.biases = [
            self.add_weight(
                shape=(width,), initializer="zeros", name=f"bias_{i}"
            )
            for i, width in enumerate(widths[1:])
        ]

    def vector(self, users):
        """Maps [B, user_dim] to the users' vectors, [B, E]."""
        x = tf.matmul(users, self.kernels[0]) + self.biases[0]
        for kernel, bias in zip(self.kernels[1:], self.biases[1:]):
            x = tf.matmul(rectified(x), kernel) + bias
        return x

    def of_users(self, users):
        """Returns `vector`, as `NodeScorer.of_users` does its own."""
        return self.vector(users)

    def score(self, of_users, nodes, pairs=None):
        """Scores [B, W, E] nodes by [B, E] vectors; takes no `pairs`."""
        return tf.linalg.matvec(nodes, of_users)

    def call(self, users, nodes, pairs=None):
        """Maps [B, user_dim] and [B, W, E] to [B, W]; takes no `pairs`."""
        return self.score(self.of_users(users), nodes)

    def get_config(self):
        return {
            **super().get_config(),
            "user_dim": self.user_dim,
            "node_dim": self.node_dim,
            "hidden": self.hidden,
        }
