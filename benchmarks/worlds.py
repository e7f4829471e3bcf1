"""Random samples and models of any size, for timing only."""

import keras
import numpy as np

from jtm_tf.data import splits
from jtm_tf.learning import optimizer
from jtm_tf.models import tree_model
from jtm_tf.tree import tree as tree_lib


def random_examples(
    num_items: int, samples: int, *, seed: int = 0
) -> splits.Examples:
    """Returns at least `samples` of them; popularity falls off as 1 / rank.

    Users have 10 to 120 interactions.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(10, 120, samples // 10)
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), samples) + 1]
    ends = np.cumsum(lengths)
    rank = np.exp(rng.uniform(0, np.log(num_items), ends[-1])).astype(np.int64)
    items = rng.permutation(num_items)[rank - 1] + 1
    starts = np.repeat(ends - lengths, lengths)
    return splits.Examples(items.astype(np.int32), starts, np.arange(ends[-1]))


def random_tree(num_items: int, *, seed: int = 0) -> tree_lib.Tree:
    """Returns a binary tree with items in random order."""
    rng = np.random.default_rng(seed)
    return tree_lib.Tree.from_order(rng.permutation(num_items) + 1)


def random_model(tree: tree_lib.Tree, **options) -> tree_model.TreeModel:
    """Returns an untrained model of the paper's size on `tree`."""
    keras.utils.set_random_seed(0)
    model = tree_model.TreeModel(
        tree.num_items, tree.max_level, tree.branching, **options
    )
    model.set_tree(tree)
    return model


def with_optimizer(
    model: tree_model.TreeModel, cls=optimizer.RowSparseAdam
) -> tree_model.TreeModel:
    """Returns the model, ready for `step`."""
    model.optimizer = cls(1e-3)
    model.optimizer.build(model.trainable_variables)
    return model
