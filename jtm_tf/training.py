"""Algorithm 1, line 3: minimises L(theta, pi) over theta for a fixed tree.

The trainer owns everything that a checkpoint must hold to go on after a kill
as if nothing had happened: model (with pi), optimiser, and the position in
the sample stream.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from jtm_tf import optimizers
from jtm_tf import tree as tree_lib
from jtm_tf.data import samples
from jtm_tf.data import splits
from jtm_tf.models import tree_model


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How theta is trained.

    Attributes:
        batch_size: B, samples a step.
        learning_rate: of Adam.
        negatives: n_l, a total over all levels or one number a level.
        samples_per_epoch: an epoch is that many samples, drawn anew for
            each; None for all of them.
    """

    batch_size: int = 256
    learning_rate: float = 1e-3
    negatives: int | tuple[int, ...] = 100
    samples_per_epoch: int | None = None

    def __post_init__(self):
        for name in ("batch_size", "learning_rate", "samples_per_epoch"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive; got {value}.")


class Trainer(tf.Module):
    """Trains one model on one sample stream, epoch after epoch.

    Attributes:
        model: the network with its pi.
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
        config: TrainingConfig,
        *,
        seed: int,
    ):
        super().__init__()
        self.model, self.config = model, config
        self.optimizer = optimizers.RowSparseAdam(config.learning_rate)
        self.optimizer.build(model.trainable_variables)
        model.optimizer = self.optimizer
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self.batch = tf.Variable(0, dtype=tf.int64)
        self.loss_sum = tf.Variable(tf.zeros([model.max_level], tf.float64))
        self.loss_count = tf.Variable(0, dtype=tf.int64)
        self._examples, self._seed = examples, seed
        self._step = tf.function(self._counted_step, reduce_retracing=True)

    @property
    def batches_per_epoch(self) -> int:
        """Steps of one epoch."""
        samples = len(self._examples)
        if self.config.samples_per_epoch is not None:
            samples = min(samples, self.config.samples_per_epoch)
        return math.ceil(samples / self.config.batch_size)

    def train_epoch(
        self, on_batch: Callable[[tf.Tensor], None] | None = None
    ) -> None:
        """Trains from the current position to the end of the epoch.

        Args:
            on_batch: called after every step with its losses by level; a
                checkpoint may be taken there.

        Raises:
            FloatingPointError: the loss is no longer finite.
        """
        stream = samples.dataset(
            self._examples,
            self.model.tree,
            max_history=self.model.max_history,
            negatives=self.config.negatives,
            batch_size=self.config.batch_size,
            seed=self._seed,
            epoch=int(self.epoch.numpy()),
            start_batch=int(self.batch.numpy()),
            max_samples=self.config.samples_per_epoch,
        )
        for inputs in stream:
            losses = self._step(inputs)
            if on_batch is not None:
                on_batch(losses)
        if not np.isfinite(self.mean_loss).all():
            raise FloatingPointError(
                f"The loss diverged in epoch {int(self.epoch.numpy())} "
                f"(by level: {self.mean_loss}); lower the learning rate, now "
                f"{self.config.learning_rate}."
            )
        self.epoch.assign_add(1)
        self.batch.assign(0)

    def _counted_step(self, inputs):
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

    def set_tree(self, tree: tree_lib.Tree, *, carry: bool = True) -> None:
        """Goes over to another pi; theta is kept (a warm start).

        Args:
            tree: the new tree, of the same shape.
            carry: whether the vector of a leaf (and its optimiser slots)
                belongs to its item and moves with it, or stays with the code.
        """
        old = self.model.tree
        self.model.set_tree(tree)
        moved = np.flatnonzero(old.pi != tree.pi)
        if not carry or not len(moved):
            return
        table = self.model.embedding.table
        index = self.optimizer._get_variable_index(table)
        for variable in (
            table,
            self.optimizer._momentums[index],
            self.optimizer._velocities[index],
        ):
            rows = tf.gather(variable.value, old.pi[moved])
            variable.value.scatter_update(
                tf.IndexedSlices(rows, tree.pi[moved])
            )
