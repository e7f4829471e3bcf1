"""Algorithm 1, line 4: a new pi for the model of the round.

Which learner is asked is the method's: Algorithm 2, or TDM's clustering.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jtm_tf.data import splits
from jtm_tf.learning import pooled_weights
from jtm_tf.learning import settings
from jtm_tf.models import log_prob
from jtm_tf.models import tree_model
from jtm_tf.tree import clustering
from jtm_tf.tree import edge_weights
from jtm_tf.tree import learning as tree_learning
from jtm_tf.tree import tree as tree_lib


def next_tree(
    config: settings.JointConfig,
    model: tree_model.TreeModel,
    examples: splits.Examples,
    kin: np.ndarray,
    folds: edge_weights.Folds | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    pool: Any = None,
    folder: pathlib.Path = pathlib.Path("."),
) -> tree_lib.Tree:
    """Learns pi for a fixed model.

    Args:
        config: the run's settings; its method has a learner.
        model: theta, and the old pi.
        examples: the samples that Algorithm 2 weighs.
        kin: see `categories.kin_groups`.
        folds: see `tree.learning.learn`.
        progress: see `tree.learning.learn`.
        pool: of `jtm_tf.pools`, whose workers weigh; None to do it here.
        folder: for the pool's files.
    """
    if config.traits.learner == "cluster":
        # What training made of the items says who is alike.
        vectors = model.embedding.numpy()[model.tree.pi]
        return clustering.cluster(model.tree, vectors, seed=config.seed)
    if pool is not None:
        with pooled_weights.pooled(
            pool, folder, model, examples, config.tree_learning, folds
        ) as weigh:
            return tree_learning.solve(
                model.tree,
                weigh,
                config.tree_learning,
                kin=kin,
                progress=progress,
            ).tree
    most, history_of = config.tree_learning.histories_per_user, None
    described = examples
    if most is not None:
        described, history_of = examples.shared_histories(most)
    weighed = log_prob.LogProb(model)
    result = tree_learning.learn(
        model.tree,
        examples.target_items(),
        # Histories keep the old pi while weights are computed: `model` has it.
        lambda chosen: described.histories(chosen, model.max_history),
        weighed,
        config.tree_learning,
        describe=weighed.describe,
        history_of=history_of,
        kin=kin,
        folds=folds,
        progress=progress,
    )
    return result.tree
