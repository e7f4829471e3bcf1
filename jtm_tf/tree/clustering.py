"""TDM's way to learn a tree: cluster the items' vectors, top down.

Figure 2 of the paper sets JTM against it: Zhu et al., "Learning Tree-based
Deep Model for Recommender Systems" (KDD 2018), train a model, split all items
in two balanced halves by 2-means over its item embeddings, split each half
again, and so on down to the leaves. Pure NumPy (and scipy for sums
over segments); all nodes of a level are split at once.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from jtm_tf import ragged
from jtm_tf.tree import tree as tree_lib

# Steps towards each node's direction of largest variance, where 2-means
# starts: few, for it only has to be a good start.
_POWER_STEPS = 4
# Rows that are projected at once: 2 MB of vectors at E = 32, to stay in cache.
_BLOCK = 1 << 14


def cluster(
    tree: tree_lib.Tree,
    vectors: np.ndarray,
    *,
    level: int = 0,
    until: int | None = None,
    iterations: int = 5,
    seed: int = 0,
) -> tree_lib.Tree:
    """Returns a tree of the same shape whose nodes are clusters of vectors.

    Exactly the leaves of `tree` are taken again, so every node keeps as many
    items as it had and trees stay comparable. Where both clusters fit both
    seats, a cluster goes to the side where more of its items were; items of
    equal vectors keep their order.

    A node of b > 2 children is split in two groups of neighbouring children,
    the groups again, and so on: ceil(log2 b) splits in two a level.

    Args:
        tree: gives the shape, the taken leaves and who was where.
        vectors: [N + 1, E] float, a row an item; row `PAD` is not read.
        level: items stay below their nodes of this level; 0 for the root.
        until: the last level whose nodes are clusters; below it items keep
            their order. The leaves by default.
        iterations: of 2-means at each split.
        seed: of the directions from which 2-means starts.

    Raises:
        ValueError: vectors of another shape or not finite, no such level, or
            no iterations.
    """
    vectors = np.asarray(vectors)
    rows = tree.num_items + 1
    if vectors.ndim != 2 or len(vectors) != rows or vectors.shape[1] < 1:
        raise ValueError(
            f"vectors must be [{rows}, E >= 1], a row an item and one for "
            f"padding; got {vectors.shape}."
        )
    if not np.isfinite(vectors[1:]).all():
        raise ValueError(
            "vectors must be finite; the model has NaN or infinite embeddings."
        )
    until = tree.max_level if until is None else until
    if not 0 <= level <= until <= tree.max_level:
        raise ValueError(
            f"level and until must ascend in 0..{tree.max_level}; got {level} "
            f"and {until}."
        )
    if iterations < 1:
        raise ValueError(f"iterations must be >= 1; got {iterations}.")
    items = np.argsort(tree.pi[1:]) + 1
    leaves = tree.pi[items] - tree.first_leaf
    points = _centred(vectors, items)
    # Seats are the taken leaves from left to right; home[s] is the old seat of
    # the item on seat s. Within a segment homes always ascend.
    home = np.arange(len(items))
    for split, (starts, cuts, ends) in enumerate(
        _splits(leaves, tree, range(level, until))
    ):
        sizes, lefts = ends - starts, cuts - starts
        seats = ragged.ranges(sizes, starts)
        here = home[seats]
        # Where an item was: 1 left, -1 right, 0 under another node.
        side = np.where(here < np.repeat(cuts, sizes), 1, -1)
        side[here < np.repeat(starts, sizes)] = 0
        side[here >= np.repeat(ends, sizes)] = 0
        left = _two_means(
            points[here],
            sizes,
            lefts,
            side,
            iterations=iterations,
            rng=np.random.default_rng([seed, split]),
        )
        is_left_seat = seats < np.repeat(cuts, sizes)
        home[seats[is_left_seat]] = here[left]
        home[seats[~is_left_seat]] = here[~left]
    pi = np.zeros_like(tree.pi)
    pi[items[home]] = leaves + tree.first_leaf
    return tree.replace_pi(pi)


def _splits(
    leaves: np.ndarray, tree: tree_lib.Tree, levels: range
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields the segments to split, from above down, as ranges of seats.

    Args:
        leaves: [N] int, the taken leaves counted from 0, ascending.
        tree: gives branching and depth.
        levels: those of the nodes that are split.

    Yields:
        (starts, cuts, ends), each [S] int: the seats starts:cuts get one part
        and the seats cuts:ends the other; both are at least one seat.
    """
    for level in levels:
        child = tree.branching ** (tree.max_level - level - 1)
        width = child * tree.branching
        nodes = np.unique(leaves // width)[:, None] * width
        low, high = np.array([0]), np.array([tree.branching])  # children
        while len(low):
            middle = (low + high + 1) // 2
            starts, cuts, ends = (
                np.searchsorted(leaves, (nodes + edge * child).ravel())
                for edge in (low, middle, high)
            )
            real = (starts < cuts) & (cuts < ends)
            if real.any():
                yield starts[real], cuts[real], ends[real]
            low, high = (
                np.stack([low, middle], axis=1).ravel(),
                np.stack([middle, high], axis=1).ravel(),
            )
            low, high = low[high - low > 1], high[high - low > 1]


def _two_means(
    points: np.ndarray,
    sizes: np.ndarray,
    lefts: np.ndarray,
    side: np.ndarray,
    *,
    iterations: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Splits each segment in two clusters of given sizes.

    For centres c0 and c1 the best clusters of given sizes are those that a
    cut through the order of |x - c1|^2 - |x - c0|^2, which is the order of
    x (c0 - c1), makes; so no iteration adds to the squared distances.

    Args:
        points: [n, E] float32, segment after segment; overwritten.
        sizes: [S] int, the points of each segment.
        lefts: [S] int, how many of them go left, in (0, size).
        side: [n] int, 1 for points that were left, -1 right, 0 neither.
        iterations: at most so many.
        rng: draws the starts.

    Returns:
        [n] bool, whether a point goes left.
    """
    n, rights = len(points), sizes - lefts
    offsets = ragged.offsets(sizes)
    begins = offsets[:-1]
    segment = np.repeat(np.arange(len(sizes)), sizes)
    sums = sparse.csr_array(
        (
            np.repeat((1 / sizes).astype(np.float32), sizes),
            np.arange(n),
            offsets,
        ),
        shape=(len(sizes), n),
    )
    mean = sums @ points
    for block in _blocks(n):
        points[block] -= mean[segment[block]]

    score = rng.standard_normal(n, np.float32)
    for _ in range(_POWER_STEPS):
        sums.data = score
        score = _projections(points, sums @ points, segment)
    left = _largest(score, segment, begins, lefts)
    mirrored = _largest(-score, segment, begins, lefts)
    flip = _kept(mirrored, side, begins) > _kept(left, side, begins)
    left = np.where(np.repeat(flip, sizes), mirrored, left)

    share = np.repeat((1 / lefts).astype(np.float32), sizes)
    other = np.repeat((-1 / rights).astype(np.float32), sizes)
    for _ in range(iterations):
        sums.data = np.where(left, share, other)  # sums @ points is c0 - c1
        score = _projections(points, sums @ points, segment)
        before, left = left, _largest(score, segment, begins, lefts)
        if np.array_equal(left, before):
            break
    flip = (lefts == rights) & (_kept(left, side, begins) < 0)
    return left ^ np.repeat(flip, sizes)


def _projections(points, directions, segment):
    """Returns x d / |d| with the direction d of the point's segment, [n]."""
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = directions / np.maximum(length, 1e-30)
    result = np.empty(len(points), np.float32)
    for block in _blocks(len(points)):
        along = directions[segment[block]]
        np.einsum("ne,ne->n", points[block], along, out=result[block])
    return result


def _largest(score, segment, begins, counts):
    """Marks each segment's `count` largest scores, of equals the first, [n].

    Args:
        score: [n] float32.
        segment: [n] int, ascending.
        begins: [S] int, where each segment begins.
        counts: [S] int, from 1 to the segment's size.
    """
    # Bits of a float32, the negative ones mirrored, sort like the number (with
    # + 0 for -0): so one plain sort, much faster than an argsort, finds each
    # segment's cut.
    bits = (score + np.float32(0)).view(np.int32)
    bits = np.where(bits < 0, bits ^ np.iinfo(np.int32).max, bits)
    key = (segment << 32) - bits
    cut = np.sort(key)[begins + counts - 1][segment]
    result = key < cut
    ties = np.flatnonzero(key == cut)
    room = counts - np.add.reduceat(result, begins, dtype=np.int64)
    tied = np.bincount(segment[ties])
    result[ties[ragged.ranges(tied) < np.repeat(room, tied)]] = True
    return result


def _kept(left, side, begins):
    """Returns the points that stay on their side less those that leave it."""
    return np.add.reduceat(np.where(left, side, -side), begins)


def _centred(vectors, items):
    """Returns the items' vectors about their mean, in [-1, 1], float32."""
    points = vectors[items]
    # Scaled before and after: neither is the range of float32 left nor, where
    # all vectors are far from 0, its precision wasted.
    largest = max(points.max(), -points.min(), np.finfo(np.float32).tiny)
    points = (points / largest).astype(np.float32, copy=False)
    points -= points.mean(axis=0, dtype=np.float64).astype(np.float32)
    points /= max(points.max(), -points.min(), np.finfo(np.float32).tiny)
    return points


def _blocks(n):
    """Yields slices that cover n rows."""
    for begin in range(0, n, _BLOCK):
        yield slice(begin, begin + _BLOCK)
