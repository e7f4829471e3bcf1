"""One user's search, level by level: what was kept, and why not this item.

The search ranks the nodes it scores and keeps the best k of a level; an item
is lost on the first level where its ancestor is not among them.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from jtm_tf.search import retrieval
from jtm_tf.tree import tree as tree_lib


@dataclasses.dataclass(frozen=True)
class Step:
    """What became of an item's ancestor on one level.

    Attributes:
        level: of the tree.
        node: the item's ancestor there.
        rank: its rank value in the search; None where the search had lost it.
        place: 1 for the best node of the level; None in the same way.
        scored: how many nodes the search scored.
        kept: how many of them went on: k, and M on the last level.
        last_kept: the rank value of the last of them.
    """

    level: int
    node: int
    rank: float | None
    place: int | None
    scored: int
    kept: int
    last_kept: float

    @property
    def stays(self) -> bool:
        """Whether the item is still below the beam."""
        return self.place is not None and self.place <= self.kept

    @property
    def short_by(self) -> float | None:
        """What the rank lacks to the last kept; None where there is none."""
        return None if self.rank is None else self.last_kept - self.rank


@dataclasses.dataclass(frozen=True, eq=False)
class BeamTrace:
    """The nodes that a search scored for one user.

    Attributes:
        tree: the index.
        levels: the levels searched; the last one twice where the search was
            pruned, and chose leaves before the model scored them.
        nodes: one [W] int array a level, best first; what has no item below
            it is left out.
        ranks: their ranks, descending, likewise.
        widths: how many of them were kept, likewise.
    """

    tree: tree_lib.Tree
    levels: list[int]
    nodes: list[np.ndarray]
    ranks: list[np.ndarray]
    widths: list[int]

    def kept(self, level: int) -> np.ndarray:
        """Returns the nodes kept on a searched level, best first."""
        index = len(self.levels) - 1 - self.levels[::-1].index(level)
        return self.nodes[index][: self.widths[index]]

    def steps(self, item: int) -> list[Step]:
        """Follows an item down the search.

        Args:
            item: 1..N.

        Returns:
            A step for each of `levels`.
        """
        found = []
        for level, nodes, ranks, width in zip(
            self.levels, self.nodes, self.ranks, self.widths
        ):
            node = int(self.tree.ancestors(level)[item])
            at = np.flatnonzero(nodes == node)
            found.append(
                Step(
                    level=level,
                    node=node,
                    rank=float(ranks[at[0]]) if len(at) else None,
                    place=int(at[0]) + 1 if len(at) else None,
                    scored=len(nodes),
                    kept=width,
                    last_kept=float(ranks[width - 1]),
                )
            )
        return found


def trace(
    search: retrieval.TreeRetriever, tree: tree_lib.Tree, user: np.ndarray
) -> BeamTrace:
    """Searches for one user and keeps what was scored.

    Args:
        search: over `tree`.
        tree: the index.
        user: [user_width] int32.
    """
    nodes, ranks, widths = [], [], []
    walked = search.walk(tf.constant(user[None], tf.int32))
    for (at, rank), width in zip(
        walked, [*search.kept[:-1], search.num_results]
    ):
        at, rank = at.numpy()[0], rank.numpy()[0]
        real = np.flatnonzero(rank > np.finfo(rank.dtype).min)
        order = real[np.argsort(-rank[real], kind="stable")]
        nodes.append(at[order])
        ranks.append(rank[order])
        widths.append(min(width, len(order)))
    return BeamTrace(tree, search.levels, nodes, ranks, widths)


def first_loss(steps: list[Step]) -> Step | None:
    """Returns where an item fell out of the beam; None if it never did."""
    return next((step for step in steps if not step.stays), None)
