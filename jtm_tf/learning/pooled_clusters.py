"""Clusters of vectors by a pool: what is below a node is a piece of work.

The vectors lie in one file, in the order of the leaves, and whoever is given a
stretch of it reads no more than that. Where all items are more than a piece,
the first levels are split here. Pieces do not depend on who does them, and so
the clusters do not either.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jtm_tf import files
from jtm_tf.tree import clustering
from jtm_tf.tree import statistics
from jtm_tf.tree import tree as tree_lib

# Items of a piece, at most.
_PIECE_ITEMS = 1 << 17


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """The items below a node, or all.

    Attributes:
        path: of the file of vectors.
        first, last: its rows, first <= row < last.
        leaves: [n] int, those that the items are on, counted from the node's
            first, ascending.
        levels: from the node down to its leaves.
        level: of those, the one below whose nodes the items stay.
        branching: children of a node.
        seed: of the starts of 2-means.
    """

    path: str
    first: int
    last: int
    leaves: np.ndarray
    levels: int
    level: int
    branching: int
    seed: int


def cluster(
    pool: Any,
    folder: pathlib.Path,
    tree: tree_lib.Tree,
    vectors: np.ndarray,
    *,
    level: int = 0,
    seed: int = 0,
    piece_items: int | None = None,
) -> tree_lib.Tree:
    """Returns what `clustering.cluster` does, but for the starts of 2-means.

    Args:
        pool: of `jtm_tf.pools`.
        folder: that all workers see under this name.
        tree, vectors, level, seed: see `clustering.cluster`.
        piece_items: items of a piece, at most; 131,072 by default.
    """
    most = _PIECE_ITEMS if piece_items is None else piece_items
    root = 0  # the level of the pieces' nodes
    while root < tree.max_level and statistics.sums(tree, root).max() > most:
        root += 1
    if level < root:
        tree = clustering.cluster(
            tree, vectors, level=level, until=root, seed=seed
        )
    items = np.argsort(tree.pi[1:]) + 1
    path = folder / "vectors.npy"
    with files.replacing(path) as temporary, open(temporary, "wb") as out:
        np.save(out, vectors[items].astype(np.float32, copy=False))
    places = tree.pi[items] - tree.first_leaf
    width = tree.branching ** (tree.max_level - root)
    nodes = places // width
    firsts = np.flatnonzero(np.diff(nodes, prepend=-1))
    lasts = np.append(firsts[1:], len(items))
    pieces = (
        Piece(
            str(path),
            int(first),
            int(last),
            places[first:last] % width,
            tree.max_level - root,
            max(0, level - root),
            tree.branching,
            seed,
        )
        for first, last in zip(firsts, lasts)
    )
    pi = tree.pi.copy()
    with pool.workers(_clustering) as do:
        for first, last, leaves in zip(firsts, lasts, do(pieces)):
            pi[items[first:last]] = (
                leaves + nodes[first] * width + tree.first_leaf
            )
    path.unlink()
    return tree.replace_pi(pi)


def clustered(piece: Piece) -> np.ndarray:
    """Does a piece of work: what an actor is.

    Returns:
        [n] int, the new leaf of each row, counted as `Piece.leaves` are.
    """
    rows = np.load(piece.path, mmap_mode="r")[piece.first : piece.last]
    vectors = np.concatenate([np.zeros_like(rows[:1]), rows])
    first = tree_lib.first_code(piece.levels, piece.branching)
    pi = np.concatenate([[0], piece.leaves + first])
    tree = tree_lib.Tree(pi, piece.levels, piece.branching)
    found = clustering.cluster(
        tree, vectors, level=piece.level, seed=piece.seed
    )
    return found.pi[1:] - first


def _clustering() -> Callable[[Piece], np.ndarray]:
    """Returns what an actor does with a piece."""
    return clustered
