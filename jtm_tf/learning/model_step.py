"""Algorithm 1, line 3: minimises L(theta, pi) over theta for a fixed tree.

The trainer owns everything that a checkpoint must hold to go on after a kill
as if nothing had happened: model (with pi), optimiser, and the position in
the sample stream.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from jtm_tf.data import splits
from jtm_tf.learning import optimizer
from jtm_tf.learning import samples
from jtm_tf.learning import settings
from jtm_tf.models import tree_model
from jtm_tf.tree import tree as tree_lib

# The epoch whose draws `Trainer.measure` uses; no run gets there.
_MEASURING = 2**30


class Trainer(tf.Module):
    """Trains one model on one sample stream, epoch after epoch.

    Attributes:
        model: the network with its pi.
        examples: the training samples.
        optimizer: row-sparse Adam.
        epoch: int64 variable, epochs finished.
        batch: int64 variable, batches of the current epoch finished.
        loss_sum: [l_max] variable, sums of Eq. 2 by level since `reset_loss`.
        loss_count: int64 variable, batches in `loss_sum`.
    """

    def __init__(
        self,
        model: tree_model.TreeModel,
        examples: splits.Examples,
        config: settings.TrainingConfig,
        *,
        seed: int,
    ):
        super().__init__()
        self.model, self.config = model, config
        self.optimizer = optimizer.RowSparseAdam(
            config.learning_rate, row_rate=config.row_rate
        )
        # Now, so that a checkpoint finds the slots it is to fill.
        self.optimizer.build(model.trainable_variables)
        model.optimizer = self.optimizer
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self.batch = tf.Variable(0, dtype=tf.int64)
        self.loss_sum = tf.Variable(tf.zeros([model.max_level], tf.float64))
        self.loss_count = tf.Variable(0, dtype=tf.int64)
        self.examples, self._seed = examples, seed
        # Targets of one history.
        self._targets = config.targets if model.loss_name == "beam" else 1
        self._trace()

    @property
    def batches_per_epoch(self) -> int:
        """Steps of one epoch."""
        histories = self._histories(
            self.examples, self.config.samples_per_epoch
        )
        return math.ceil(histories / self._batch_size)

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
        stream = self._stream(
            self.examples,
            epoch=int(self.epoch.numpy()),
            start_batch=int(self.batch.numpy()),
            max_samples=self.config.samples_per_epoch,
        )
        for inputs in stream:
            losses = self._step(inputs)
            if on_batch is not None:
                on_batch(losses)
        # Not at every step: a look at the loss would wait for it.
        if not np.isfinite(self.mean_loss).all():
            raise FloatingPointError(
                f"The loss diverged in epoch {int(self.epoch.numpy())} "
                f"(by level: {self.mean_loss}); lower the learning rate, now "
                f"{self.config.learning_rate}."
            )
        self.epoch.assign_add(1)
        self.batch.assign(0)

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
        total, count = 0.0, 0
        for inputs in stream:
            size = len(inputs["history"])
            total += size * float(tf.reduce_sum(self._losses(inputs)))
            count += size
        return total / count

    def _stream(self, examples, *, max_samples, **position):
        """Returns the stream of samples for the model as it is now."""
        model, config = self.model, self.config
        shared = {
            "max_history": model.max_history,
            "batch_size": self._batch_size,
            "max_samples": self._histories(examples, max_samples),
            "seed": self._seed,
            **position,
        }
        if model.loss_name != "beam":
            return samples.dataset(
                examples,
                model.tree,
                negatives=config.negatives,
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
        # An epoch's last batch is smaller, which is no other graph.
        self._step = tf.function(self._counted_step, reduce_retracing=True)
        self._losses = tf.function(
            self.model.level_losses, reduce_retracing=True
        )

    def _counted_step(self, inputs):
        # With the step itself, so that no checkpoint comes between the two.
        losses = self.model.step(inputs)
        self.loss_sum.assign_add(tf.cast(losses, tf.float64))
        self.loss_count.assign_add(1)
        self.batch.assign_add(1)
        return losses

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
        old = self.model.tree
        means = self._inner_means(old) if inner == "shift" else None
        self.model.set_tree(tree)
        moved = np.flatnonzero(old.pi != tree.pi)
        if carry and len(moved):
            for variable in self._table_and_slots():
                # All are read before one is written: items change places.
                rows = tf.gather(variable, old.pi[moved])
                variable.scatter_update(tf.IndexedSlices(rows, tree.pi[moved]))
        if inner == "shift":
            self._shift_inner(means, self._inner_means(tree))
        elif inner == "yes":
            self._renew_inner(tree)
        if self.model.loss_name == "beam":
            self._trace()

    def start_from(self, vectors: np.ndarray) -> None:
        """Sets leaves to the vectors of their items, inner nodes to means.

        A scorer with direct products begins as what the vectors are for: the
        products with the whole history alone, the MLP silent.

        Args:
            vectors: [N + 1, E] float, as `tree.factors` makes them; rows of
                zeros stay at their random start.
        """
        tree, model = self.model.tree, self.model
        known = np.flatnonzero(np.any(vectors != 0, axis=1))
        # The spread of other tables: Adam's steps are made for that.
        spread = model.embedding.stddev / vectors[known].std()
        rows = tf.IndexedSlices(vectors[known] * spread, tree.pi[known])
        model.embedding.table.value.scatter_update(rows)
        self._renew_inner(tree)
        if model.direct and model.whole_history:
            model.scorer.start_from_products(1 / spread**2)

    def restart(self, model: tree_model.TreeModel) -> None:
        """Goes over to theta and pi of another model (a cold start)."""
        # Values, not variables: graphs and checkpoints hold on to those.
        for mine, other in zip(
            self.model.variables, model.variables, strict=True
        ):
            mine.assign(other)
        self.optimizer.reset()

    def _table_and_slots(self):
        """Returns the node table and its optimiser slots, three variables."""
        table = self.model.embedding.table
        return [table.value, *self.optimizer.slots(table)]

    def _renew_inner(self, tree):
        """Sets inner nodes to the mean of their items' vectors."""
        table, *slots = self._table_and_slots()
        for nodes, means in self._inner_means(tree):
            table.scatter_update(tf.IndexedSlices(means, nodes))
            for slot in slots:  # moments of a vector that is gone
                slot.scatter_update(
                    tf.IndexedSlices(np.zeros_like(means), nodes)
                )

    def _shift_inner(self, before, after):
        """Moves inner nodes by the change of their items' mean vector.

        What training made of a node beside that mean is kept. A node that
        was empty has no mean to move from, and starts from the new one.
        """
        table = self.model.embedding.table.value
        for (old, was), (new, now) in zip(before, after, strict=True):
            _, here, there = np.intersect1d(
                new, old, assume_unique=True, return_indices=True
            )
            rows = now.copy()
            rows[here] += tf.gather(table, new[here]).numpy() - was[there]
            table.scatter_update(tf.IndexedSlices(rows, new))

    def _inner_means(self, tree):
        """Returns (occupied nodes, their items' mean vectors) by level."""
        # By leaf, so that the items below a node are a range on any level.
        order = np.argsort(tree.pi[1:]) + 1
        table = self.model.embedding.table.value
        vectors = tf.gather(table, tree.pi[order]).numpy()
        means = []
        for level in range(1, tree.max_level):
            nodes, begins, counts = np.unique(
                tree.ancestors(level)[order],
                return_index=True,
                return_counts=True,
            )
            sums = np.add.reduceat(vectors, begins)
            means.append((nodes, sums / counts[:, None].astype(np.float32)))
        return means
