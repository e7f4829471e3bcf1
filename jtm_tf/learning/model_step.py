"""Algorithm 1, line 3: minimises L(theta, pi) over theta for a fixed tree.

The trainer owns everything that a checkpoint must hold to go on after a kill
as if nothing had happened: model (with pi), optimiser, and the position in
the sample stream.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from jtm_tf import files
from jtm_tf.data import splits
from jtm_tf.learning import node_vectors
from jtm_tf.learning import optimizer
from jtm_tf.learning import samples
from jtm_tf.learning import settings
from jtm_tf.models import tree_model
from jtm_tf.tree import edge_weights
from jtm_tf.tree import tree as tree_lib

# The epoch whose draws `Trainer.measure` uses; no run gets there.
_MEASURING = 2**30


class Trainer(tf.Module):
    """Trains one model on one sample stream, epoch after epoch.

    Where vectors of the items are known beforehand, made of what these users
    took, a model that begins from them and learns from the same users finds
    them better than they are. So the users fall into folds, and while those
    of one are trained on, the vectors are those that the others made: the
    model learns what such vectors tell of a stranger, who is whom it will be
    asked about. In between, and at the end, they are those of all users.

    Args:
        model: the network with its pi.
        examples: the training samples.
        config: how to train.
        seed: of the run.
        epochs: of the whole run, over which the learning rate falls.
        steps_before: steps of an earlier run that the optimiser has counted.
        vectors: [1 + K, N + 1, E] float32, of the items, see `tree.factors`:
            made by all users, then by all but those of each of K folds; or
            [1, N + 1, E], one table for all; None for a random start.
        scale: what they are multiplied with; by default so that the model's
            have the spread of other tables.

    Attributes:
        vectors: as given.
        model: the network with its pi.
        examples: the training samples.
        optimizer: row-sparse Adam.
        epoch: int64 variable, epochs finished.
        batch: int64 variable, batches of the current epoch finished.
        loss_sum: [l_max] variable, sums of Eq. 2 by level since `reset_loss`.
        loss_count: int64 variable, batches in `loss_sum`.
        begun_from: int64 variable, which of several tables of first vectors
            is in the model now.
    """

    def __init__(
        self,
        model: tree_model.TreeModel,
        examples: splits.Examples,
        config: settings.TrainingConfig,
        *,
        seed: int,
        epochs: int = 1,
        steps_before: int = 0,
        vectors: np.ndarray | None = None,
        scale: float | None = None,
    ):
        super().__init__()
        self.model, self.config = model, config
        self.examples, self._seed = examples, seed
        # Targets of one history.
        self._targets = config.targets if model.loss_name == "beam" else 1
        self.vectors, self._given_scale = vectors, scale
        self.optimizer = optimizer.RowSparseAdam(
            self._rate(epochs, steps_before),
            row_rate=config.row_rate,
            row_epsilon=config.row_epsilon,
        )
        # Now, so that a checkpoint finds the slots it is to fill.
        self.optimizer.build(model.trainable_variables)
        model.optimizer = self.optimizer
        embedding = model.embedding
        self._nodes = node_vectors.NodeVectors(
            embedding.rows, self.optimizer.slot_rows(embedding.tables)
        )
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self.batch = tf.Variable(0, dtype=tf.int64)
        self.loss_sum = tf.Variable(tf.zeros([model.max_level], tf.float64))
        self.loss_count = tf.Variable(0, dtype=tf.int64)
        if self._folds > 1:  # else a checkpoint of before would lack it
            self.begun_from = tf.Variable(0, dtype=tf.int64)
        self._trace()

    @property
    def batches_per_epoch(self) -> int:
        """Steps of one epoch."""
        return sum(steps for *_, steps in self._parts())

    def train_epoch(
        self, on_batch: Callable[[tf.Tensor], object] | None = None
    ) -> None:
        """Trains from the current position to the end of the epoch.

        Args:
            on_batch: called after every step with its losses by level; a
                checkpoint may be taken there.

        Raises:
            FloatingPointError: the loss is no longer finite.
        """
        done, epoch = int(self.batch.numpy()), int(self.epoch.numpy())
        for part, (examples, share, steps) in enumerate(self._parts()):
            if done >= steps:
                done -= steps
                continue
            self._begin_from(part + 1 if self._folds > 1 else 0)
            self._take_steps(
                examples,
                on_batch or (lambda losses: None),
                epoch=epoch * self._folds + part,
                start_batch=done,
                max_samples=share,
            )
            done = 0
        self.begin_from_all()
        # Not at every step: a look at the loss would wait for it.
        if not np.isfinite(self.mean_loss).all():
            raise FloatingPointError(
                f"The loss diverged in epoch {int(self.epoch.numpy())} "
                f"(by level: {self.mean_loss}); lower the learning rate, now "
                f"{self.config.learning_rate}."
            )
        self.epoch.assign_add(1)
        self.batch.assign(0)

    def folds(self, examples: splits.Examples) -> edge_weights.Folds | None:
        """Returns how the model is prepared for the users of each fold.

        Args:
            examples: of the training users.
        """
        if self._folds == 1:
            return None
        return edge_weights.Folds(
            examples.fold_of(self._folds, seed=self._seed),
            self._folds,
            lambda part: self._begin_from(part + 1),
            self.begin_from_all,
        )

    def begin_from_all(self) -> None:
        """Has the model begin from the vectors that all users made."""
        self._begin_from(0)

    def measure(
        self, examples: splits.Examples, *, max_samples: int = 20_000
    ) -> float:
        """Returns Eq. 2 of some samples, with the same draws at every call.

        Args:
            examples: of any users.
            max_samples: that many are drawn if there are more.
        """
        stream = self._stream(
            examples, epoch=_MEASURING, start_batch=0, max_samples=max_samples
        )
        losses = self._graph(self.model.level_losses, stream)
        total, count = 0.0, 0
        for inputs in stream:
            size = len(inputs["history"])
            total += size * float(tf.reduce_sum(losses(inputs)))
            count += size
        return total / count

    @property
    def _folds(self):
        """Into how many parts the users fall, each with its own vectors."""
        return 1 if self.vectors is None else max(1, len(self.vectors) - 1)

    @functools.cached_property
    def _scale(self):
        """What the vectors are multiplied with, the same for all tables."""
        return self._given_scale or node_vectors.scale_of(
            self.vectors[0], self.model.embedding.stddev
        )

    def _parts(self):
        """Returns the stretches of an epoch: (examples, samples, steps)."""
        examples, most = self.examples, self.config.samples_per_epoch
        parts = [examples]
        if self._folds > 1:
            fold = examples.fold_of(self._folds, seed=self._seed)
            parts = [
                examples.take(np.flatnonzero(fold == k))
                for k in range(self._folds)
            ]
        shares = [
            most and math.ceil(most * len(part) / len(examples))
            for part in parts
        ]
        return [
            (part, share, self._steps_of(part, share))
            for part, share in zip(parts, shares)
        ]

    def _take_steps(self, examples, on_batch, **position):
        """Takes the steps of a stretch of an epoch, counted."""
        stream = self._stream(examples, **position)
        step = self._graph(self._counted_step, stream)
        for inputs in stream:
            on_batch(step(inputs))

    def _steps_of(self, examples, max_samples):
        """Returns the steps for that many samples."""
        histories = self._histories(examples, max_samples)
        return math.ceil(histories / self._batch_size)

    def _rate(self, epochs, steps_before):
        """Returns the learning rate, or how it falls with the steps."""
        config = self.config
        if config.final_rate == 1:
            return config.learning_rate
        return optimizer.Falling(
            config.learning_rate,
            decay_steps=epochs * self.batches_per_epoch,
            end_learning_rate=config.final_rate * config.learning_rate,
            first_step=steps_before,
        )

    def _begin_from(self, table):
        """Has the model as if it had begun from another table of vectors.

        What training added to a vector stays with it.
        """
        if self.vectors is None or self._folds == 1:
            return
        now = int(self.begun_from.numpy())
        if now == table:
            return
        change = self.vectors[table] - self.vectors[now]
        change *= self._scale
        files.let_go(self.vectors)
        self._nodes.add(change, self.model.tree)
        self.begun_from.assign(table)

    def _stream(self, examples, *, max_samples, **position):
        """Returns the stream of samples for the model as it is now."""
        model, config = self.model, self.config
        shared = {
            "max_history": model.max_history,
            "batch_size": self._batch_size,
            "max_samples": self._histories(examples, max_samples),
            "seed": self._seed,
            "graphs": self._batch_graphs,
            **position,
        }
        if model.loss_name != "beam":
            return samples.dataset(
                examples,
                model.tree,
                negatives=config.negatives,
                spread=config.spread,
                siblings=model.siblings,
                **shared,
            )
        return samples.beam_dataset(
            examples,
            model.tree,
            strata=model.beam_loss.strata(config.stratum),
            targets=self._targets,
            horizon=config.horizon,
            **shared,
        )

    def _histories(self, examples, max_samples):
        """Returns how many histories have as many targets as samples are
        wanted: all, or `max_samples` if there are more.
        """
        most = len(examples) if max_samples is None else max_samples
        return math.ceil(min(len(examples), most) / self._targets)

    @property
    def _batch_size(self):
        """Histories of a batch, whose targets are `batch_size` in all."""
        return max(1, self.config.batch_size // self._targets)

    def _trace(self):
        """Has the graphs of a step made anew, for the nodes now in use."""
        self._graphs: dict[str, Callable] = {}
        self._batch_graphs: samples.Graphs = {}

    def _graph(self, function, stream):
        """Returns the one graph of a function for a stream's batches.

        Of any size: an epoch's last batch is smaller.
        """
        name = function.__name__
        if name not in self._graphs:
            # Without autograph: there is nothing to rewrite, and to look
            # through all code for Python's branches takes a third of tracing.
            traced = tf.function(function, autograph=False)
            self._graphs[name] = traced.get_concrete_function(
                stream.element_spec
            )
        return self._graphs[name]

    def _counted_step(self, inputs):
        # With the step itself, so that no checkpoint comes between the two.
        losses = self.model.step(inputs)
        self._count(losses)
        return losses

    def _count(self, losses):
        """Notes a step and its losses by level."""
        self.loss_sum.assign_add(tf.cast(losses, tf.float64))
        self.loss_count.assign_add(1)
        self.batch.assign_add(1)

    @property
    def mean_loss(self) -> np.ndarray:
        """Eq. 2 by level, [l_max], averaged over the steps since a reset."""
        return self.loss_sum.numpy() / max(1, int(self.loss_count.numpy()))

    def reset_loss(self) -> None:
        """Starts `mean_loss` anew."""
        self.loss_sum.assign(tf.zeros_like(self.loss_sum))
        self.loss_count.assign(0)

    def set_tree(
        self,
        tree: tree_lib.Tree,
        *,
        carry: bool = True,
        inner: str = "no",
    ) -> None:
        """Goes over to another pi; theta is kept (a warm start).

        Args:
            tree: the new tree, of the same shape.
            carry: whether the vector of a leaf (and its optimiser slots)
                belongs to its item and moves with it, or stays with the code.
            inner: what becomes of inner nodes. no: their vectors stay with
                the codes; shift: they move by as much as the mean vector of
                the items below; yes: they start anew from that mean, with
                empty slots.
        """
        self._go_over(tree, carry=carry, inner=inner)

    @contextlib.contextmanager
    def visit(
        self,
        tree: tree_lib.Tree,
        *,
        carry: bool = True,
        inner: str = "no",
    ) -> Iterator[None]:
        """Goes over to another pi for a block, then back, as if never gone.

        Args:
            tree, carry, inner: see `set_tree`; the optimiser slots of inner
                nodes stay.
        """
        old = self.model.tree
        kept = self._nodes.inner(tree) if inner != "no" else []
        self._go_over(tree, carry=carry, inner=inner, slots=False)
        try:
            yield
        finally:
            self._go_over(old, carry=carry, inner="no")
            self._nodes.set_inner(kept)

    def _go_over(self, tree, *, carry, inner, slots=True):
        """Does what `set_tree` says; `slots` as `renew_inner` has it."""
        old, nodes = self.model.tree, self._nodes
        under_beam = self.model.loss_name == "beam"
        beam = self.model.beam_loss if under_beam else None
        means = nodes.inner_means(old) if inner == "shift" else None
        self.model.set_tree(tree)
        if carry:
            nodes.carry(old, tree)
        if means is not None:
            nodes.shift_inner(means, nodes.inner_means(tree))
        elif inner == "yes":
            nodes.renew_inner(tree, slots=slots)
        # Where the same leaves are in use the graphs are too.
        if under_beam and self.model.beam_loss is not beam:
            self._trace()

    def start_from_vectors(self) -> None:
        """Sets leaves to the first vectors of items, inner nodes to means.

        A scorer with direct products begins as what the vectors are for: the
        products with the whole history alone, the MLP silent.

        Raises:
            ValueError: there are no vectors.
        """
        if self.vectors is None:
            raise ValueError("The trainer was given no vectors to start from.")
        model = self.model
        self._nodes.start_from(self.vectors[0] * self._scale, model.tree)
        if self._folds > 1:
            self.begun_from.assign(0)
        if model.direct and model.whole_history:
            model.scorer.start_from_products(1 / self._scale**2)

    def start_items(self, items: np.ndarray) -> None:
        """Sets the leaves of some items, [A], to their first vectors.

        Of items without any, and where there are none, they stay.
        """
        if self.vectors is not None:
            rows = self.vectors[0][items] * self._scale
            self._nodes.start_leaves(self.model.tree.pi[items], rows)

    def follow(self, was: np.ndarray, items: np.ndarray) -> None:
        """Moves nodes as the first vectors of their items have moved.

        Args:
            was: [N + 1, E], what those were.
            items: [K] those of which that is known.
        """
        assert self.vectors is not None
        change = np.zeros_like(was)
        change[items] = (self.vectors[0][items] - was[items]) * self._scale
        self._nodes.add(change, self.model.tree)

    def restart(self, model: tree_model.TreeModel) -> None:
        """Goes over to theta and pi of another model (a cold start)."""
        self.set_tree(model.tree, carry=False)  # other leaves may be in use
        # Values, not variables: graphs and checkpoints hold on to those.
        for mine, other in zip(
            self.model.variables, model.variables, strict=True
        ):
            mine.assign(other)
        self.optimizer.reset()
