"""The read-out: inner products that walk a tree in the network's place.

The network's first layer is linear in a node's vector and in its products
with the user's windows, and so, nearly, are the logits of the nodes that one
search compares. Their linear regression on each level l,

    r_l(n) = n . (a_l + sum_w c_lw u_w) + d_l likely(n . g) + p_l . pairs,

with the user's windows u_w and direct vector g (`scorers.NodeScorer`), takes
two products of E numbers a node, a hundredth of the network's operations. It
decides which leaves the network is to rank. What is the same for all nodes of
a level is left out: no choice depends on it.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from jtm_tf.models import numerics
from jtm_tf.models import scorers


@keras.saving.register_keras_serializable("jtm_tf")
class Readout(numerics.Layer):
    """Scores nodes linearly, with coefficients for each level.

    Args:
        levels: L, of the tree below its root.
        node_dim: embedding size E.
        products: windows of a user, E wide each.
        direct: whether users have a direct vector.
        pair_dim: width of the features of a (user, node) pair, 0 for none.
        width: how many times the beam width the walk widens to, see
            `retrieval.Walk`: what costs a hundredth may look further.

    Attributes:
        kernel: [L, F] coefficients of `features`.
    """

    def __init__(
        self,
        levels: int,
        node_dim: int,
        products: int,
        *,
        direct: bool = False,
        pair_dim: int = 0,
        width: float = 2.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not width >= 1:
            raise ValueError(f"width must be >= 1; got {width}.")
        self.levels, self.node_dim, self.products = levels, node_dim, products
        self.direct, self.pair_dim, self.width = direct, pair_dim, width
        self._parts = [node_dim, products, int(direct), pair_dim]

    def build(self, input_shape=None):
        self.kernel = self.add_weight(
            shape=(self.levels, sum(self._parts)),
            initializer="zeros",
            trainable=False,
            name="kernel",
        )

    def features(self, of_users, nodes, pairs=None):
        """Returns what the read-out is linear in.

        Args:
            of_users: what `NodeScorer.of_users` returned, of B users.
            nodes: [B, W, E] embedded candidates.
            pairs: [B, W, pair_dim] features of user and node together; None
                for zeros.

        Returns:
            [B, W, F].
        """
        _, windows, *directly = of_users
        parts = [nodes, tf.matmul(nodes, windows, transpose_b=True)]
        for vector in directly:
            product = tf.linalg.matvec(nodes, vector)
            parts.append(scorers.likely(product)[..., None])
        if self.pair_dim:
            shape = [tf.shape(nodes)[0], tf.shape(nodes)[1], self.pair_dim]
            parts.append(tf.zeros(shape) if pairs is None else pairs)
        return tf.concat(parts, 2)

    def of_users(self, windows, directly, levels: Sequence[int]):
        """Returns the vectors that users have on some levels.

        Args:
            windows: [L', B, products, E] on these levels; or [1, B, ..], the
                same on all of them.
            directly: [L', B, E] or [1, B, E] direct vectors; None for none.
            levels: L' of them.

        Returns:
            What `scores` takes, for each level.
        """
        rows = tf.gather(self.kernel.value, [level - 1 for level in levels])
        own, mixed, likely, seen = tf.split(rows, self._parts, 1)
        vectors = tf.matmul(mixed[:, None, None], windows)  # [L', B, 1, E]
        vectors += own[:, None, None]
        if directly is not None:
            directly = tf.broadcast_to(directly[:, :, None], tf.shape(vectors))
            vectors = tf.concat([vectors, directly], 2)
        parts = (tf.unstack(x, len(levels)) for x in (vectors, likely, seen))
        return dict(zip(levels, zip(*parts)))

    def scores(self, of_users, nodes, pairs=None):
        """Scores candidates.

        Args:
            of_users: those of `of_users` on the level of the nodes.
            nodes: [B, W, E] embedded candidates, or [1, W, E], the same for
                all.
            pairs: as `features` takes them.

        Returns:
            [B, W] float32.
        """
        vectors, likely, seen = of_users
        products = tf.matmul(vectors, nodes, transpose_b=True)  # [B, 1|2, W]
        if not self.direct:
            scores = tf.squeeze(products, 1)
        else:
            scores, product = tf.unstack(products, 2, 1)
            scores += likely * scorers.likely(product)
        if pairs is not None:
            scores += tf.linalg.matvec(pairs, seen)
        return scores

    def get_config(self):
        return {
            **super().get_config(),
            "levels": self.levels,
            "node_dim": self.node_dim,
            "products": self.products,
            "direct": self.direct,
            "pair_dim": self.pair_dim,
            "width": self.width,
        }
