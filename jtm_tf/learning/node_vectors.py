"""The vectors of nodes, and their optimiser slots, when pi changes.

They are one table by code. Here its rows move with their items, inner nodes
follow the items below them, and all of it starts from vectors of items that
are known beforehand.
"""

from collections.abc import Sequence

import numpy as np

from jtm_tf.models import rows as rows_lib
from jtm_tf.tree import tree as tree_lib


class NodeVectors:
    """A node table that is changed from outside, between training steps.

    Args:
        table: [num_codes, E], the vectors.
        slots: of the same shape, the optimiser's moments of them.
    """

    def __init__(self, table: rows_lib.Rows, slots: Sequence[rows_lib.Rows]):
        self._table, self._slots = table, slots

    def carry(self, old: tree_lib.Tree, new: tree_lib.Tree) -> None:
        """Moves the rows of leaves, slots too, to where their items go."""
        moved = np.flatnonzero(old.pi != new.pi)
        if not len(moved):
            return
        for one in (self._table, *self._slots):
            # All are read before one is written: items change places.
            one.update(new.pi[moved], one.gather(old.pi[moved]))

    def renew_inner(self, tree: tree_lib.Tree, *, slots: bool = True) -> None:
        """Sets inner nodes to the mean of their items' vectors.

        Args:
            tree: where the items sit.
            slots: whether the moments of the vectors that are gone go too.
        """
        for nodes, means in self._inner_means(tree):
            self._table.update(nodes, means)
            for slot in self._slots if slots else ():
                slot.update(nodes, np.zeros_like(means))

    def inner(self, tree: tree_lib.Tree) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns (occupied nodes, their vectors) by inner level."""
        levels = map(tree.occupied, range(1, tree.max_level))
        return [(nodes, self._table.gather(nodes).numpy()) for nodes in levels]

    def set_inner(self, vectors: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Sets what `inner` returned."""
        for nodes, rows in vectors:
            self._table.update(nodes, rows)

    def inner_means(
        self, tree: tree_lib.Tree
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns (occupied nodes, their items' mean vectors) by level."""
        return list(self._inner_means(tree))

    def shift_inner(
        self,
        before: list[tuple[np.ndarray, np.ndarray]],
        after: list[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Moves inner nodes by the change of their items' mean vector.

        What training made of a node beside that mean is kept. A node that
        was empty has no mean to move from, and starts from the new one.

        Args:
            before: what `inner_means` returned then.
            after: what it returns now.
        """
        for (old, was), (new, now) in zip(before, after, strict=True):
            _, here, there = np.intersect1d(
                new, old, assume_unique=True, return_indices=True
            )
            rows = now.copy()
            rows[here] += self._table.gather(new[here]).numpy()
            rows[here] -= was[there]
            self._table.update(new, rows)

    def start_from(self, vectors: np.ndarray, tree: tree_lib.Tree) -> None:
        """Sets leaves to the vectors of their items, inner nodes to means.

        Args:
            vectors: [N + 1, E] float; rows of zeros stay as they are.
            tree: where the items sit.
        """
        self.start_leaves(tree.pi, vectors)
        self.renew_inner(tree)

    def start_leaves(self, leaves: np.ndarray, vectors: np.ndarray) -> None:
        """Sets [R] leaves to [R, E] vectors; rows of zeros leave them."""
        known = np.any(vectors != 0, axis=1)
        self._table.update(leaves[known], vectors[known])

    def add(self, vectors: np.ndarray, tree: tree_lib.Tree) -> None:
        """Adds to leaves a vector for their item, to inner nodes the mean.

        Args:
            vectors: [N + 1, E] float32; the row of PAD does not count.
            tree: where the items sit.
        """
        self._table.add(tree.pi[1:], vectors[1:])
        for nodes, rows in _means_by_level(tree, vectors):
            self._table.add(nodes, rows)

    def _inner_means(self, tree):
        """Yields what `inner_means` returns, level by level."""
        return _means_by_level(tree, self._table.gather(tree.pi).numpy())


def scale_of(vectors: np.ndarray, stddev: float) -> float:
    """Returns what gives vectors of items the spread of other tables.

    Adam's steps are made for that.

    Args:
        vectors: [N + 1, E] float; rows of zeros do not count.
        stddev: of a table's entries at a random start.
    """
    return float(stddev / vectors[np.any(vectors != 0, axis=1)].std())


def _means_by_level(tree, vectors):
    """Yields (occupied nodes, mean vectors of their items) by inner level.

    Args:
        tree: where the items sit.
        vectors: [N + 1, E], of the items.
    """
    # By leaf, so that the items below a node are a range on any level.
    order = np.argsort(tree.pi[1:]) + 1
    vectors = vectors[order]
    for level in range(1, tree.max_level):
        nodes, begins, counts = np.unique(
            tree.ancestors(level)[order],
            return_index=True,
            return_counts=True,
        )
        sums = np.add.reduceat(vectors, begins)
        yield nodes, sums / counts[:, None].astype(np.float32)
