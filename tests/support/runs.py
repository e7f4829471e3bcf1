"""Runs of seconds, for tests of what runs leave."""

import dataclasses

from jtm_tf.learning import settings

TINY = settings.JointConfig(
    joint_iterations=2,
    epochs_per_iteration=1,
    embedding_dim=4,
    windows=(3, 1),
    hidden=(8,),
    num_results=5,
    beam_width=8,
    training=settings.TrainingConfig(batch_size=64, negatives=12),
    tree_learning=dataclasses.replace(
        settings.JointConfig().tree_learning, gap=3
    ),
)
