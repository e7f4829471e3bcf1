"""The preference model p(n | u; theta, pi) over the nodes of a tree (Eq. 2).

Theta and pi live in one Keras model, so a saved file can never pair a network
with another tree. Training reads batches of `learning.samples`.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from jtm_tf.models import attention
from jtm_tf.models import beam_loss
from jtm_tf.models import choices
from jtm_tf.models import embedding
from jtm_tf.models import numerics
from jtm_tf.models import preference
from jtm_tf.models import readout as readout_lib
from jtm_tf.models import scorers
from jtm_tf.models import user_representation
from jtm_tf.models import visits as visits_lib
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD


@keras.saving.register_keras_serializable("jtm_tf")
class TreeModel(preference.Preference, numerics.Model):
    """Scores (user, node) pairs; a user is a history of items.

    A user is a row of T items, left-padded, followed by one code for each
    profile feature, 0 for unknown; without profile features the history only.

    Args:
        num_items: N.
        max_level: l_max of the tree.
        branching: b of the tree.
        embedding_dim: E.
        windows: lengths of the time windows, oldest first.
        whole_history: behaviours of one more window, that of all; 0 for none.
            T is the sum of the windows or, if larger, this.
        hidden: widths of the scorer's hidden layers.
        hierarchical: describe users in nodes of the scored level (JTM,
            JTM-H), rather than in leaves on every level (TDM, JTM-J).
        loss: "softmax": the positive against its level's negatives, the
            normalised reading of Eq. 2; "bce": each node on its own, as in
            the authors' released code; "beam": the softmax under the search's
            own beam, see `beam_loss`.
        train_beam: k of `beam_loss`; of no effect on the others.
        pseudo_targets: whether a training step of loss "beam" counts targets
            only as far up as the model finds them.
        scorer: one of `choices.SCORERS`.
        direct: whether the MLP's score begins with the weighted products of
            node and windows, see `scorers.NodeScorer`.
        visits: whether the scorer sees how often the history went through
            the node.
        profile_sizes: codes of each profile feature, 0 (unknown) included.
        path_weight: how much a node's rank leans on its ancestors' in the
            search, see `retrieval.TreeRetriever`.
        readout: how wide a read-out walks, see `readout.Readout`; None for a
            model that has none yet.
        table_shards: variables that the vectors of nodes lie in, 0 where they
            stay in their file, see `embedding.NodeEmbedding`.
    """

    def __init__(
        self,
        num_items: int,
        max_level: int,
        branching: int = 2,
        *,
        embedding_dim: int = 24,
        windows: Sequence[int] = choices.WINDOWS,
        whole_history: int = 0,
        hidden: Sequence[int] = (128, 64, 32),
        hierarchical: bool = True,
        loss: str = "softmax",
        train_beam: int = 40,
        pseudo_targets: bool = False,
        scorer: str = "mlp",
        direct: bool = False,
        visits: bool = False,
        profile_sizes: Sequence[int] = (),
        path_weight: float = 0.0,
        readout: float | None = None,
        table_shards: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if loss not in choices.LOSSES:
            raise ValueError(
                f"loss must be one of {choices.LOSSES}; got {loss!r}."
            )
        if scorer not in choices.SCORERS:
            raise ValueError(
                f"scorer must be one of {choices.SCORERS}; got {scorer!r}."
            )
        self.num_items, self.max_level = num_items, max_level
        self.branching, self.embedding_dim = branching, embedding_dim
        self.windows, self.hidden = tuple(windows), tuple(hidden)
        self.train_beam, self.pseudo_targets = train_beam, pseudo_targets
        # Attention weighs each behaviour of the windows as it is.
        self.whole_history = 0 if scorer == "attention" else whole_history
        self.hierarchical, self.loss_name = hierarchical, loss
        self.scorer_name, self.path_weight = scorer, path_weight
        self.direct = direct and scorer == "mlp"
        self.profile_sizes = tuple(profile_sizes)
        self.embedding = embedding.NodeEmbedding(
            tree_lib.num_codes(max_level, branching),
            embedding_dim,
            shards=table_shards,
        )
        self.profile = user_representation.Profile(profile_sizes)
        self.visits = (
            visits_lib.Visits(windows)
            if visits and scorer != "product"
            else None
        )
        self.user_representation, self.scorer = self._make_scorer()
        self._mean_loss = keras.metrics.Mean(name="loss")
        self.pi = self.add_weight(
            shape=(num_items + 1,),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            name="pi",
        )
        self.embedding.build()
        self.profile.build()
        self.user_representation.build()
        self.scorer.build()
        self._beam_loss: beam_loss.BeamLoss | None = None
        self.built = True
        if readout is not None:
            self.readout = self.new_readout(readout)

    def _make_scorer(self):
        """Returns the layers that describe users and that score nodes."""
        dim, profile = self.embedding_dim, self.profile.dim
        pair = self.visits.features if self.visits else 0
        if self.scorer_name == "attention":
            return (
                user_representation.UserSequence(),
                attention.AttentionScorer(
                    self.windows, dim, self.hidden, pair, profile
                ),
            )
        represent = user_representation.UserRepresentation(
            self.windows, bool(self.whole_history)
        )
        pooled = represent.count * dim + profile
        if self.scorer_name == "product":
            return represent, scorers.ProductScorer(pooled, dim, self.hidden)
        return represent, scorers.NodeScorer(
            pooled, dim, self.hidden, pair, represent.count, self.direct
        )

    @property
    def may_read_out(self) -> bool:
        """Whether the scorer has a first layer, and the tree inner levels."""
        linear = self.scorer_name == "mlp" and not self.siblings
        return linear and self.max_level > 1

    def new_readout(self, width: float) -> readout_lib.Readout:
        """Returns a read-out of this network, of no coefficients yet.

        Raises:
            ValueError: the network can have none.
        """
        if not self.may_read_out:
            raise ValueError(
                "A read-out is of scorer='mlp', no softmax among siblings, on "
                f"a tree of two levels or more; here are {self.scorer_name!r}"
                f", {type(self).__name__} and {self.max_level} levels."
            )
        readout = readout_lib.Readout(
            self.max_level,
            self.embedding_dim,
            self.scorer.products,
            direct=self.direct,
            pair_dim=self.scorer.pair_dim,
            width=width,
        )
        readout.build()
        return readout

    def readout_features(self, users, nodes, level: int):
        """Returns `Readout.features` for users of `described`, [B, W, F]."""
        assert self.readout is not None
        visited, described = users
        return self.readout.features(
            described[level],
            self.embedding(nodes, level=level),
            self._pairs(visited, nodes, level),
        )

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
        same = self._beam_loss is not None and np.array_equal(
            self.tree.occupied_codes(), tree.occupied_codes()
        )
        self.pi.assign(tree.pi)
        if same:
            return
        self._beam_loss = None  # of the old one
        # Keras traces `fit` anew: the graph holds the nodes in use.
        self.train_function = self.test_function = None

    @property
    def beam_loss(self) -> beam_loss.BeamLoss:
        """Eq. 2 under the beam, of the present tree.

        Raises:
            ValueError: the tree is flat.
        """
        if self._beam_loss is None:
            self._beam_loss = beam_loss.BeamLoss(self.tree, self.train_beam)
        return self._beam_loss

    def log_prob(self, history, nodes, level: int):
        """Returns log p(node | user), [B, W]; a `LogProbFn` on tensors.

        With the softmax loss the level's normaliser is left out: it is one
        constant for a user and a level, which no choice of a node can see.
        """
        users = self.described(history, [level])
        return self.log_prob_described(users, nodes, level)

    def log_prob_described(self, users, nodes, level: int):
        """Returns what `log_prob` does, for users of `described`."""
        logits = self.score_described(users, nodes, level)
        if self.loss_name == "bce":
            return tf.math.log_sigmoid(logits)
        return logits

    def user_vectors(self, history):
        """Returns users as vectors; what they like has the largest product.

        The score of an item is the inner product with its row of
        `item_vectors`, so that any nearest-neighbour search may find the best.

        Args:
            history: [B, user_width] int32 users.

        Returns:
            [B, E] float32.

        Raises:
            ValueError: the model's scorer is no inner product.
        """
        if self.scorer_name != "product":
            raise ValueError(
                "Only scorer='product' has vectors of users; the model's "
                f"scorer is {self.scorer_name!r}."
            )
        _, (described,), profile = self._describe(history, [self.max_level])
        return self.scorer.vector(self._user(described, profile))

    def item_vectors(self):
        """Returns the items' leaf embeddings, [N + 1, E]; row PAD is void."""
        return self.embedding(self.pi.value)

    def call(self, inputs, training=None):
        """Returns the logits of training samples.

        Args:
            inputs: {"history": [B, user_width], "nodes": one [B, 1 + n_l]
                tensor for each level 1..l_max}, as `learning.samples` makes
                them.
            training: ignored; the network behaves the same.

        Returns:
            One [B, 1 + n_l] tensor for each level 1..l_max.
        """
        levels = range(1, self.max_level + 1)
        users = self.described(inputs["history"], levels)
        nodes = dict(zip(levels, inputs["nodes"], strict=True))
        return [
            self._by_scorer(users, nodes[level], vectors, level)
            for level, vectors in self.embedding.of_levels(nodes).items()
        ]

    def level_losses(self, inputs):
        """Returns Eq. 2 by level, [l_max], averaged over users.

        Sampled, or, of `inputs` with several targets, under the beam.
        """
        if "targets" in inputs:
            return self.beam_loss(self, inputs)
        losses = []
        for logits, nodes in zip(self(inputs), inputs["nodes"]):
            if self.siblings:  # an empty one stands as PAD
                logits = tf.where(nodes != PAD, logits, preference.NEVER)
            if self.loss_name == "softmax":
                loss = tf.reduce_logsumexp(logits, axis=1) - logits[:, 0]
            else:
                loss = tf.nn.softplus(-logits[:, 0]) + tf.reduce_sum(
                    tf.nn.softplus(logits[:, 1:]), axis=1
                )
            losses.append(tf.reduce_mean(loss))
        return tf.stack(losses)

    def step(self, inputs, share=1.0):
        """Takes one optimiser step; returns its losses by level, [l_max].

        Args:
            inputs: as `level_losses` takes them.
            share: of the batch that these are: what losses and gradients
                count for where several replicas take the step.
        """
        with tf.GradientTape() as tape, self._network_read_once():
            level_losses = share * self._trained_losses(inputs)
            loss = tf.reduce_sum(level_losses)
        variables = self.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        self.optimizer.apply(gradients, variables)
        return level_losses

    def _network_read_once(self):
        """Returns a block in which all levels share one reading of the
        scorer's weights: they may lie on another machine.
        """
        return keras.StatelessScope(
            [
                (weight, tf.convert_to_tensor(weight.value))
                for weight in self.scorer.trainable_variables
            ],
            initialize_variables=False,
        )

    def _trained_losses(self, inputs):
        """Returns what a step lowers: Eq. 2, of the targets that count."""
        if self.pseudo_targets and "targets" in inputs:
            return self.beam_loss(self, inputs, pseudo=True)
        return self.level_losses(inputs)

    def train_step(self, data):
        """Serves `fit` with the very step that `model_step` takes."""
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
            "whole_history": self.whole_history,
            "hidden": self.hidden,
            "hierarchical": self.hierarchical,
            "loss": self.loss_name,
            "train_beam": self.train_beam,
            "pseudo_targets": self.pseudo_targets,
            "scorer": self.scorer_name,
            "direct": self.direct,
            "visits": self.visits is not None,
            "profile_sizes": self.profile_sizes,
            "path_weight": self.path_weight,
            "readout": self.readout.width if self.readout else None,
        }
