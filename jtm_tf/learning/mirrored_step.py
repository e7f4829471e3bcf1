"""The model step by several devices, each with its share of a batch.

Every device holds the whole model. What they add up to is the step of one
device on the whole batch, but for the order of sums.
"""

from typing import Any

import tensorflow as tf

from jtm_tf.data import splits
from jtm_tf.learning import model_step
from jtm_tf.models import tree_model


class MirroredTrainer(model_step.Trainer):
    """A `Trainer` whose steps are taken by the replicas of a strategy.

    To be made in the strategy's scope, as its model is.

    Args:
        model: the network with its pi.
        examples: the training samples.
        config: how to train.
        strategy: mirrors variables.
        **settings: see `model_step.Trainer`.
    """

    def __init__(
        self,
        model: tree_model.TreeModel,
        examples: splits.Examples,
        config: Any,
        *,
        strategy: tf.distribute.Strategy,
        **settings: Any,
    ):
        self._strategy = strategy
        super().__init__(model, examples, config, **settings)

    def _counted_step(self, inputs):
        losses = self._strategy.run(self._share_of_step, args=(inputs,))
        losses = self._strategy.reduce("SUM", losses, axis=None)
        self._count(losses)
        return losses

    def _share_of_step(self, inputs):
        """Takes a replica's part in a step; returns its part of the losses."""
        replica = tf.distribute.get_replica_context()
        first = replica.replica_id_in_sync_group
        count = replica.num_replicas_in_sync
        size = tf.shape(inputs["history"])[0]
        rows = tf.range(first, size, count)
        # A replica without a row takes any, for nothing: gradients are summed.
        share = tf.cast(tf.size(rows) / size, tf.float32)
        rows = tf.cond(tf.size(rows) > 0, lambda: rows, lambda: tf.range(1))
        own = tf.nest.map_structure(lambda x: tf.gather(x, rows), inputs)
        return self.model.step(own, share)
