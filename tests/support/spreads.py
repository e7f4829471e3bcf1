"""How far items are from those they sit with."""

import numpy as np

from jtm_tf.tree import tree as tree_lib


def below(tree: tree_lib.Tree, vectors: np.ndarray, level: int) -> float:
    """Returns the squared distances of items to the mean of their node's.

    Args:
        tree: where they sit.
        vectors: [N + 1, E]; the row of PAD does not count.
        level: of the nodes.
    """
    nodes = tree.ancestors(level)
    return sum(
        np.square(vectors[nodes == node] - vectors[nodes == node].mean(0)).sum()
        for node in tree.occupied(level)
    )
