"""Keras layers of the preference model M (paper Sec. 2.3 and its released
network): node embeddings, the hierarchical user representation, the scorer.

A score is MLP([user windows; node]). Its first layer is kept factored,
W [user; node] = W_u user + W_n node: the user's part is computed once for a
level and only the node's part, E wide, for every candidate.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from jtm_tf import tree_ops
from jtm_tf.types import PAD

# Slope of the leaky rectifier below zero: the PReLU of the released network
# at its initial value. One pass over memory where a learned slope takes three.
SLOPE = 0.25

# Candidates a user from which on the user's part is folded into the kernel.
_WIDE = 64

# The released network's pooling windows, oldest behaviours first.
WINDOWS = (20, 20, 10, 10, 2, 2, 2, 1, 1, 1)


@tf.custom_gradient
def _rectified(x):
    """Returns leaky_relu(x), with a gradient that needs the output only.

    The input then has no other reader, so that TensorFlow fuses the rectifier
    into the matrix product before it, in training too.
    """
    y = tf.nn.leaky_relu(x, SLOPE)

    def gradient(dy):  # y has the sign of x
        return tf.raw_ops.LeakyReluGrad(gradients=dy, features=y, alpha=SLOPE)

    return y, gradient


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

    def __init__(
        self, num_codes: int, dim: int, stddev: float = 0.1, **kwargs
    ):
        super().__init__(**kwargs)
        self.num_codes, self.dim, self.stddev = num_codes, dim, stddev

    def build(self, input_shape=None):
        self.table = self.add_weight(
            shape=(self.num_codes, self.dim),
            initializer=keras.initializers.RandomNormal(stddev=self.stddev),
            name="table",
        )

    def call(self, nodes):
        """Maps [...] nodes to [..., E]."""
        return tf.gather(self.table.value, nodes)

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
        windows: lengths of the time windows, oldest first; they sum to T.
    """

    def __init__(self, windows: Sequence[int] = WINDOWS, **kwargs):
        super().__init__(**kwargs)
        self.windows = tuple(windows)

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
            One [B, windows * E] tensor for each of `levels`.
        """
        batch, windows = tf.shape(leaves)[0], len(self.windows)
        window_of = [w for w, n in enumerate(self.windows) for _ in range(n)]
        places = tf.where(leaves != PAD)  # [R, 2] the R behaviours there are
        window = tf.gather(tf.constant(window_of, tf.int64), places[:, 1])
        segment = tf.cast(places[:, 0], tf.int32) * windows + tf.cast(
            window, tf.int32
        )  # [R] ascending
        distinct, position = tf.unique(tf.gather_nd(leaves, places))
        pooled = []
        for level in levels:
            nodes = tree_ops.ancestor(
                distinct,
                from_level=tree.max_level,
                to_level=level,
                branching=tree.branching,
            )
            means = tf.sparse.segment_mean(
                embedding(nodes),
                position,
                segment,
                num_segments=batch * windows,
            )
            pooled.append(tf.reshape(means, [batch, windows * embedding.dim]))
        return pooled

    def get_config(self):
        return {**super().get_config(), "windows": self.windows}


@keras.saving.register_keras_serializable("jtm_tf")
class NodeScorer(keras.layers.Layer):
    """Scores nodes for users: a leaky-rectified MLP, first layer factored.

    Args:
        user_dim: width of a user representation.
        node_dim: embedding size E.
        hidden: widths of the hidden layers.
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

    def call(self, users, nodes):
        """Maps users [B, user_dim] and embedded nodes [B, W, E] to [B, W]."""
        batch, width = tf.shape(nodes)[0], tf.shape(nodes)[1]
        user_part = tf.matmul(users, self.user_kernel) + self.biases[0]
        if (nodes.shape[1] or 0) >= _WIDE:
            x = self._folded_first(user_part, nodes)
        else:
            x = self._added_first(user_part, nodes)
        x = tf.reshape(x, [-1, self.hidden[0]])  # [B * W, hidden]
        for kernel, bias in zip(self.kernels, self.biases[1:]):
            x = tf.nn.bias_add(tf.matmul(_rectified(x), kernel), bias)
        return tf.reshape(x, [batch, width])

    def _added_first(self, user_part, nodes):
        """Returns W_u user + W_n node, [B, W, hidden], as it is written."""
        node_part = tf.matmul(
            tf.reshape(nodes, [-1, self.node_dim]), self.node_kernel
        )
        shape = [tf.shape(nodes)[0], tf.shape(nodes)[1], self.hidden[0]]
        return tf.reshape(node_part, shape) + user_part[:, None]

    def _folded_first(self, user_part, nodes):
        """Returns the same as one product of [node; 1] and a user's kernel.

        It saves a pass over the widest activations, 15 % of a beam search,
        and pays where each user has many candidates.
        """
        kernel = tf.repeat(self.node_kernel[None], tf.shape(nodes)[0], 0)
        kernel = tf.concat([kernel, user_part[:, None]], 1)
        ones = tf.pad(nodes, [[0, 0], [0, 0], [0, 1]], constant_values=1.0)
        return tf.matmul(ones, kernel)

    def get_config(self):
        return {
            **super().get_config(),
            "user_dim": self.user_dim,
            "node_dim": self.node_dim,
            "hidden": self.hidden,
        }
