"""Algorithm 1, line 4: a new pi for the model of the round, and the first pi.

Which learner is asked is the method's: Algorithm 2, or TDM's clustering.
"""

from collections.abc import Callable

import numpy as np

from jtm_tf import categories as categories_lib
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import settings
from jtm_tf.models import tree_model
from jtm_tf.tree import clustering
from jtm_tf.tree import initial
from jtm_tf.tree import learning as tree_learning
from jtm_tf.tree import tree as tree_lib


def initial_tree(
    config: settings.JointConfig, data: interactions.Interactions
) -> tree_lib.Tree:
    """Returns pi_0 of a run.

    Raises:
        ValueError: it is to follow categories and the data have none.
    """
    if config.traits.flat:
        return initial.flat(data.num_items)
    if config.initial_tree == "random":
        return initial.random(
            data.num_items, branching=config.branching, seed=config.seed
        )
    paths = categories(config, data)
    if paths is None:
        raise ValueError(
            "The data has no categories, which the initial tree needs: name "
            "their column at experiments.prepare, or use initial_tree=random."
        )
    return initial.by_category(
        paths, branching=config.branching, seed=config.seed
    )


def categories(
    config: settings.JointConfig, data: interactions.Interactions
) -> np.ndarray | None:
    """Returns the items' paths, [N] or None, as coarse as the run wants."""
    paths = data.categories()
    if paths is None or config.category_parts is None:
        return paths
    coarse = [
        categories_lib.prefix(path, config.category_parts) or None
        for path in paths
    ]
    return np.array(coarse, object)


def next_tree(
    config: settings.JointConfig,
    model: tree_model.TreeModel,
    examples: splits.Examples,
    kin: np.ndarray,
    progress: Callable[[int, int], None] | None = None,
) -> tree_lib.Tree:
    """Learns pi for a fixed model.

    Args:
        config: the run's settings; its method has a learner.
        model: theta, and the old pi.
        examples: the samples that Algorithm 2 weighs.
        kin: see `categories.kin_groups`.
        progress: see `tree.learning.learn`.
    """
    if config.traits.learner == "cluster":
        vectors = model.embedding.table.numpy()[model.tree.pi]
        return clustering.cluster(model.tree, vectors, seed=config.seed)
    result = tree_learning.learn(
        model.tree,
        examples.target_items(),
        lambda chosen: examples.histories(chosen, model.max_history),
        tree_model.log_prob_fn(model),
        config.tree_learning,
        kin=kin,
        progress=progress,
    )
    return result.tree
