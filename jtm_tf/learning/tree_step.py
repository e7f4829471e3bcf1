"""Algorithm 1, line 4: a new pi for the model of the round.

Which learner is asked is the method's: Algorithm 2, which may leave the lower
levels to clusters, or TDM's clustering.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jtm_tf.data import splits
from jtm_tf.learning import pooled_clusters
from jtm_tf.learning import pooled_weights
from jtm_tf.learning import settings
from jtm_tf.models import log_prob
from jtm_tf.models import tree_model
from jtm_tf.pools import serial
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
        pool: of `jtm_tf.pools`, whose workers weigh, and cluster; None to do it
            here.
        folder: for files on the way.
    """
    where = {"pool": pool, "folder": folder}
    if config.traits.learner == "cluster":
        return clusters(config, model, **where)
    try:
        result = _learned(
            config, model, examples, kin, folds, progress, **where
        )
    finally:
        if folds is not None:
            folds.end()
    tree, level = result.tree, result.level
    if level == tree.max_level:
        return tree
    clustered = clusters(config, model, tree, level=level, **where)
    if not config.tree_learning.margin:
        return clustered
    # A margin keeps the old seats, those below a node with the same items too.
    nodes = tree.ancestors(level)
    came = nodes[nodes != model.tree.ancestors(level)]
    same = ~np.isin(nodes, came)
    return tree.replace_pi(np.where(same, tree.pi, clustered.pi))


def clusters(
    config: settings.JointConfig,
    model: tree_model.TreeModel,
    tree: tree_lib.Tree | None = None,
    *,
    level: int = 0,
    pool: Any = None,
    folder: pathlib.Path = pathlib.Path("."),
) -> tree_lib.Tree:
    """Returns a tree of clusters of what training made of the items.

    Args:
        config: the run's settings.
        model: theta, and the old pi.
        tree: where the items are; the old pi by default.
        level: items stay below their nodes of this level.
        pool: of `jtm_tf.pools`; None to do it here.
        folder: for files on the way.
    """
    return pooled_clusters.cluster(
        serial.Pool() if pool is None else pool,
        folder,
        model.tree if tree is None else tree,
        model.embedding.rows.gather(model.tree.pi).numpy(),
        level=level,
        seed=config.seed,
    )


def _learned(config, model, examples, kin, folds, progress, *, pool, folder):
    """Runs Algorithm 2."""
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
            )
    most, history_of = config.tree_learning.histories_per_user, None
    described = examples
    if most is not None:
        described, history_of = examples.shared_histories(most)
    weighed = log_prob.LogProb(model)
    return tree_learning.learn(
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
