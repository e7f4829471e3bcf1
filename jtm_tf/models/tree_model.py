"""The preference model p(n | u; theta, pi) over the nodes of a tree (Eq. 2).

Theta and pi live in one Keras model, so a saved file can never pair a network
with another tree. Training reads batches of `data.samples`.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from jtm_tf import tree as tree_lib
from jtm_tf.models import layers

LOSSES = ("softmax", "bce")


@keras.saving.register_keras_serializable("jtm_tf")
class TreeModel(keras.Model):
    """Scores (user, node) pairs; a user is a history of items.

    Args:
        num_items: N.
        max_level: l_max of the tree.
        branching: b of the tree.
        embedding_dim: E.
        windows: lengths of the time windows, oldest first; T is their sum.
        hidden: widths of the scorer's hidden layers.
        hierarchical: describe users in nodes of the scored level (JTM,
            JTM-H), rather than in leaves on every level (TDM, JTM-J).
        loss: "softmax": the positive against its level's negatives, the
            normalised reading of Eq. 2; "bce": each node on its own, as in
            the authors' released code.
    """

    def __init__(
        self,
        num_items: int,
        max_level: int,
        branching: int = 2,
        *,
        embedding_dim: int = 24,
        windows: Sequence[int] = layers.WINDOWS,
        hidden: Sequence[int] = (128, 64, 32),
        hierarchical: bool = True,
        loss: str = "softmax",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {LOSSES}; got {loss!r}.")
        self.num_items, self.max_level = num_items, max_level
        self.branching, self.embedding_dim = branching, embedding_dim
        self.windows, self.hidden = tuple(windows), tuple(hidden)
        self.hierarchical, self.loss_name = hierarchical, loss
        self.embedding = layers.NodeEmbedding(
            tree_lib.num_codes(max_level, branching), embedding_dim
        )
        self.user_representation = layers.UserRepresentation(windows)
        self.scorer = layers.NodeScorer(
            len(self.windows) * embedding_dim, embedding_dim, hidden
        )
        self._mean_loss = keras.metrics.Mean(name="loss")
        self.pi = self.add_weight(
            shape=(num_items + 1,),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            name="pi",
        )
        self.embedding.build()
        self.user_representation.build()
        self.scorer.build()
        self.built = True

    @property
    def max_history(self) -> int:
        """T, the behaviours a user is described by."""
        return sum(self.windows)

    @property
    def tree(self) -> tree_lib.Tree:
        """The tree that the model's pi describes."""
        pi = keras.ops.convert_to_numpy(self.pi)
        return tree_lib.Tree(pi, self.max_level, self.branching)

    def set_tree(self, tree: tree_lib.Tree) -> None:
        """Takes another pi; the nodes' embeddings stay with their codes."""
        have = (self.num_items, self.max_level, self.branching)
        came = (tree.num_items, tree.max_level, tree.branching)
        if came != have:
            raise ValueError(
                "The model was built for (items, levels, branching) "
                f"{have}; the tree has {came}."
            )
        self.pi.assign(tree.pi)

    def score(self, history, nodes, level: int):
        """Scores nodes of one level; a `ScoreFn`.

        Args:
            history: [B, T] int32 items, left-padded with PAD.
            nodes: [B, W] int32 codes on `level`.
            level: Python integer.

        Returns:
            [B, W] float32 logits.
        """
        return self._logits(history, [nodes], [level])[0]

    def log_prob(self, history, nodes, level: int):
        """Returns log p(node | user), [B, W]; a `LogProbFn` on tensors.

        With the softmax loss the level's normaliser is left out: it is one
        constant for a user and a level, which no choice of a node can see.
        """
        logits = self.score(history, nodes, level)
        if self.loss_name == "bce":
            return tf.math.log_sigmoid(logits)
        return logits

    def _logits(self, history, nodes, levels):
        """Returns one [B, W_l] tensor for each level of `levels`."""
        leaves = tf.gather(self.pi.value, history)
        wanted = levels if self.hierarchical else [self.max_level]
        users = self.user_representation(
            leaves, embedding=self.embedding, tree=self, levels=wanted
        )
        if not self.hierarchical:
            users = users * len(levels)
        return [
            self.scorer(user, self.embedding(candidates))
            for user, candidates in zip(users, nodes)
        ]

    def call(self, inputs, training=None):
        """Returns the logits of training samples.

        Args:
            inputs: {"history": [B, T], "nodes": one [B, 1 + n_l] tensor for
                each level 1..l_max}, as `data.samples` makes them.
            training: ignored; the network behaves the same.

        Returns:
            One [B, 1 + n_l] tensor for each level 1..l_max.
        """
        levels = list(range(1, self.max_level + 1))
        return self._logits(inputs["history"], inputs["nodes"], levels)

    def level_losses(self, inputs):
        """Returns the sampled Eq. 2 by level, [l_max], averaged over users."""
        losses = []
        for logits in self(inputs):
            if self.loss_name == "softmax":
                loss = tf.reduce_logsumexp(logits, axis=1) - logits[:, 0]
            else:
                loss = tf.nn.softplus(-logits[:, 0]) + tf.reduce_sum(
                    tf.nn.softplus(logits[:, 1:]), axis=1
                )
            losses.append(tf.reduce_mean(loss))
        return tf.stack(losses)

    def step(self, inputs):
        """Takes one optimiser step; returns its losses by level, [l_max]."""
        with tf.GradientTape() as tape:
            level_losses = self.level_losses(inputs)
            loss = tf.reduce_sum(level_losses)
        variables = self.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        self.optimizer.apply(gradients, variables)
        return level_losses

    def train_step(self, data):
        """Serves `fit` with the very step that `training` takes."""
        return self._noted(self.step(data), data)

    def test_step(self, data):
        """Serves `evaluate`: the sampled Eq. 2."""
        return self._noted(self.level_losses(data), data)

    @property
    def metrics(self):
        """What `fit` and `evaluate` report: the mean loss of a sample."""
        return [self._mean_loss]

    def _noted(self, level_losses, inputs):
        """Adds a batch to the mean loss; returns the metrics so far."""
        self._mean_loss.update_state(
            tf.reduce_sum(level_losses),
            sample_weight=tf.shape(inputs["history"])[0],
        )
        return self.get_metrics_result()

    def get_config(self):
        return {
            **super().get_config(),
            "num_items": self.num_items,
            "max_level": self.max_level,
            "branching": self.branching,
            "embedding_dim": self.embedding_dim,
            "windows": self.windows,
            "hidden": self.hidden,
            "hierarchical": self.hierarchical,
            "loss": self.loss_name,
        }


def log_prob_fn(model: TreeModel):
    """Returns the model as a NumPy `LogProbFn`.

    One graph a level and number of candidates, for any number of users.
    """
    graphs = {}

    def graph(level, width):
        def log_prob(history, nodes):
            return model.log_prob(history, nodes, level)

        return tf.function(log_prob, autograph=False).get_concrete_function(
            tf.TensorSpec([None, model.max_history], tf.int32),
            tf.TensorSpec([None, width], tf.int32),
        )

    def log_prob(history, nodes, level):
        key = level, nodes.shape[1]
        if key not in graphs:
            graphs[key] = graph(*key)
        return graphs[key](
            tf.constant(history, tf.int32), tf.constant(nodes, tf.int32)
        ).numpy()

    return log_prob
