"""The stream of training samples for one tree (Eq. 2).

Every sample is a user's history with the ancestors of its target on levels
1..l_max, each beside negatives of its level; or, to train under the search's
own beam, a history with several of the items that follow it. All randomness
is a function of (seed, epoch, position): a stream opened at any batch goes on
as if it had never stopped.
"""

import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from jtm_tf.data import splits
from jtm_tf.tree import ops as tree_ops
from jtm_tf.tree import statistics
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

# The streams of random numbers; folded into the seed so that they differ.
_ORDER, _NEGATIVES, _PLACES = 0, 1, 2


def negatives_per_level(
    negatives: int | Sequence[int], tree: tree_lib.Tree, spread: str = "level"
) -> tuple[int, ...]:
    """Returns n_l for the levels 1..l_max.

    Args:
        negatives: a total, at least one on each level; or one number a level.
        tree: what the levels are of.
        spread: of a total. level: in proportion to the level, as the released
            configurations do; nodes: to the square root of the level's nodes,
            so that where nodes are many there are more.

    Raises:
        ValueError: the list has another length, or a level gets none.
    """
    max_level = tree.max_level
    levels = range(1, max_level + 1)
    if isinstance(negatives, int):
        weights = {
            "level": lambda level: level,
            "nodes": lambda level: len(tree.occupied(level)) ** 0.5,
        }[spread]
        total = sum(map(weights, levels))
        shares = (negatives * weights(level) / total for level in levels)
        return tuple(max(1, round(share)) for share in shares)
    if len(negatives) != max_level or min(negatives) < 1:
        raise ValueError(
            f"The tree has {max_level} levels below its root: give one total "
            f"or {max_level} numbers >= 1; got {list(negatives)}."
        )
    return tuple(negatives)


def draw_negatives(
    occupied: tf.Tensor, positive: tf.Tensor, count: int, seed: tf.Tensor
) -> tf.Tensor:
    """Draws nodes of one level uniformly, never the positive.

    Args:
        occupied: [O] int32, the level's nodes with items, ascending; O >= 2.
        positive: [B] int32, each row's positive, a member of `occupied`.
        count: negatives a row, n.
        seed: [2] int, a stateless seed.

    Returns:
        [B, n] int32 nodes, drawn with replacement.
    """
    rank = tf.searchsorted(occupied, positive)[:, None]  # [B, 1]
    draw = tf.random.stateless_uniform(
        [tf.shape(positive)[0], count],
        seed,
        minval=0,
        maxval=tf.size(occupied) - 1,
        dtype=tf.int32,
    )
    # The positive's rank is stepped over: exact, without a rejection loop.
    return tf.gather(occupied, draw + tf.cast(draw >= rank, tf.int32))


def draw_siblings(occupied, positive, branching: int):
    """Returns the positives' siblings, the negatives of a branch softmax.

    Args:
        occupied: [num_codes] bool, whether a code has an item below.
        positive: [B] int32 nodes.
        branching: b.

    Returns:
        [B, b - 1] int32 nodes; PAD for those without an item.
    """
    family, place = tree_ops.families(positive, branching)
    others = (place[:, None] + tf.range(1, branching)) % branching
    nodes = tf.gather(family, others, batch_dims=1)
    return tf.where(tf.gather(occupied, nodes), nodes, PAD)


# What was traced for streams, to be used by others of the same settings: a
# dictionary that is empty at first. A graph is of so many nodes in use a level.
Graphs = dict[str, Any]


def dataset(
    examples: splits.Examples,
    tree: tree_lib.Tree,
    *,
    negatives: int | Sequence[int],
    spread: str = "level",
    siblings: bool = False,
    **position: Any,
) -> tf.data.Dataset:
    """Streams one epoch of training samples for `tree`.

    1. Shuffle: position p of the epoch is sample `index_shuffle(p)`.
    2. Batch B positions; the last batch is smaller.
    3. Users: the T behaviours before the target, left-padded items, and the
       profile codes.
    4. Positives: b_l(pi(target)) on every level l.
    5. Negatives: n_l occupied nodes of level l beside each positive, or its
       siblings.

    Args:
        examples: the training samples.
        tree: the current pi.
        negatives: a total or one number a level, see `negatives_per_level`.
        spread: of a total, likewise.
        siblings: whether a positive's negatives are its siblings, PAD for
            empty ones, instead of draws.
        **position: see `stream`.

    Returns:
        A dataset of {"history": [B, T + P] int32, "nodes": one [B, 1 + n_l]
        int32 tensor for each level 1..l_max, the positive first}.

    Raises:
        ValueError: there are no samples, or a level has a single node.
    """
    check(examples, tree, negatives)
    counts = negatives_per_level(negatives, tree, spread)
    return stream(
        functools.partial(SampledBatches, counts=None if siblings else counts),
        of_tree(tree),
        examples,
        tree,
        **position,
    )


def beam_dataset(
    examples: splits.Examples,
    tree: tree_lib.Tree,
    *,
    strata: Sequence[int],
    targets: int,
    horizon: int | None,
    **position: Any,
) -> tf.data.Dataset:
    """Streams one epoch of histories, each with some of what follows it.

    The history of sample `index_shuffle(p)` stands at position p. Its targets
    are drawn from the sample's own target and what the user took after it:
    the stretch is cut in `targets` equal parts and one place is drawn in
    each, so that items repeat only where there are fewer.

    Args:
        examples: the training samples.
        tree: the current pi.
        strata: r_l, nodes drawn of each level 1..l_max, see
            `models.beam_loss`.
        targets: m, of one history.
        horizon: how many of the following items may be targets, the sample's
            own counted; None for all of them, 1 for the next alone.
        **position: see `stream`; its samples are histories here.

    Returns:
        A dataset of {"history": [B, T + P] int32, "targets": [B, m] int32
        items, "far": one [B, r_l] int32 tensor for each level 1..l_max,
        "far_logs": the same in float32}, as `models.beam_loss` takes them.

    Raises:
        ValueError: there are no samples, or a tree of one item.
    """
    check(examples, tree, 1)
    return stream(
        functools.partial(
            BeamBatches, targets=targets, horizon=horizon, strata=strata
        ),
        of_tree(tree) | of_far(examples.target_items(), tree, strata),
        examples,
        tree,
        **position,
    )


def check(
    examples: splits.Examples,
    tree: tree_lib.Tree,
    negatives: int | Sequence[int],
) -> None:
    """Raises a `ValueError` where `dataset` has nothing to stream."""
    if not len(examples):
        raise ValueError("There are no training samples; check the splits.")
    if tree.num_items < 2:
        raise ValueError("A tree of one item has nothing to learn.")
    negatives_per_level(negatives, tree)
    for level in range(1, tree.max_level + 1):
        if len(tree.occupied(level)) < 2:
            raise ValueError(
                f"Level {level} has a single node with items, so it has no "
                "negatives; the initial tree should spread its items."
            )


def of_users(examples: splits.Examples) -> dict[str, np.ndarray]:
    """Returns what batches are made of, of the users.

    Without `profile` where nothing is known of them beside their histories.
    """
    names = ["items", "starts", "targets", "ends"]
    names += ["profile"] * bool(examples.profile.shape[1])
    return {name: getattr(examples, name) for name in names}


def of_tree(tree: tree_lib.Tree) -> dict[str, np.ndarray]:
    """Returns what batches are made of, of the tree.

    `occupied` are the nodes in use of the levels 1..l_max, one after another;
    `taken` tells of each code whether it is in use.
    """
    levels = range(1, tree.max_level + 1)
    return {
        "pi": tree.pi,
        "occupied": np.concatenate([tree.occupied(j) for j in levels]),
        "taken": tree.occupied_codes(),
    }


def of_far(
    targets: np.ndarray, tree: tree_lib.Tree, strata: Sequence[int]
) -> dict[str, np.ndarray]:
    """Returns what far nodes are drawn from.

    Half of r draws are even over the N_l nodes and half are of the nodes of
    some target: node n is drawn r_even / N_l + r_busy share(n) times on
    average, and stands for as many nodes as that goes into 1.

    Args:
        targets: [Q] int32 items, of all samples or some of them.
        tree: the current pi.
        strata: r_l, nodes drawn of each level 1..l_max.

    Returns:
        `busy`, the targets; and `logs`, [num_codes] float32, the logarithm of
        the nodes that each code stands for.
    """
    counts = np.bincount(targets, minlength=tree.num_items + 1)
    logs = np.zeros(tree.num_codes, np.float32)
    for level, drawn in enumerate(strata, 1):
        if drawn:
            share = statistics.sums(tree, level, counts)
            even = (drawn - drawn // 2) / len(tree.occupied(level))
            often = even + drawn // 2 * share / len(targets)
            first = tree_lib.first_code(level, tree.branching)
            logs[first : first + len(often)] = -np.log(often)
    return {"busy": targets, "logs": logs}


def stream(
    batches: Callable[..., "_Batches"],
    sources: dict[str, np.ndarray],
    examples: splits.Examples,
    tree: tree_lib.Tree,
    *,
    max_history: int,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    start_batch: int = 0,
    max_samples: int | None = None,
    graphs: Graphs | None = None,
) -> tf.data.Dataset:
    """Streams the batches of an epoch: what `dataset` and `beam_dataset` share.

    Args:
        batches: the kind of `_Batches`, with what is its own.
        sources: what it is made of, of the tree.
        examples: the training samples.
        tree: the current pi.
        max_history: T.
        batch_size: B.
        seed: of the run.
        epoch: counts on through the whole run; each has its own order.
        start_batch: the first batch to produce.
        max_samples: the epoch ends after that many samples; None for all.
        graphs: see `Graphs`.
    """
    length = min(len(examples), max_samples or len(examples))
    firsts = [
        tree_lib.first_code(level, tree.branching)
        for level in range(1, tree.max_level + 2)
    ]
    shape = str(np.diff(np.searchsorted(sources["occupied"], firsts)).tolist())
    tensors = {
        name: tf.constant(array)
        for name, array in (of_users(examples) | sources).items()
    }
    graphs = {} if graphs is None else graphs
    if shape not in graphs:
        number = tf.TensorSpec([], tf.int64)
        graphs[shape] = tf.function(
            lambda index, length, epoch, tensors: batches(
                tensors,
                tree,
                max_history=max_history,
                length=length,
                batch_size=batch_size,
                seed=seed,
                epoch=epoch,
            ).batch(index),
            autograph=False,
        ).get_concrete_function(
            *[number] * 3,
            {
                name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
                for name, tensor in tensors.items()
            },
        )
    graph = graphs[shape]
    where = [tf.constant(x, tf.int64) for x in (length, epoch)]
    # Autograph would read the source of it all, at every opening.
    batch = tf.autograph.experimental.do_not_convert(
        lambda index: graph(index, *where, tensors)
    )
    return (
        tf.data.Dataset.range(start_batch, -(-length // batch_size))
        .map(batch, num_parallel_calls=2, deterministic=True)
        .prefetch(2)
    )


class _Batches:
    """The batches of one epoch, each a function of its index alone.

    Args:
        sources: tensors of what `of_users` and `of_tree` return.
        tree: the current pi, for its shape and how many nodes it has in use.
        max_history: T.
        length: samples of the epoch, at most all.
        batch_size: B.
        seed: of the run.
        epoch: counts on through the whole run.
    """

    def __init__(
        self, sources, tree, *, max_history, length, batch_size, seed, epoch
    ):
        self._sources, self._tree = sources, tree
        self._max_history, self._length = max_history, length
        self.batch_size = batch_size
        self._size = tf.size(sources["targets"])
        self._levels = range(1, tree.max_level + 1)
        self._sizes = [len(tree.occupied(level)) for level in self._levels]
        # A number of another width would be another draw.
        epoch = tf.cast(epoch, tf.int32)
        self._order, self._draws, self._places = (
            _fold_in(tf.constant([seed, stream]), epoch)
            for stream in (_ORDER, _NEGATIVES, _PLACES)
        )

    def batch(self, index):
        """Returns batch `index`."""
        raise NotImplementedError

    def _samples(self, index):
        """Returns which samples stand at the batch's positions, [B] int64."""
        first = index * self.batch_size
        last = tf.minimum(first + self.batch_size, self._length)
        # A pseudo-random permutation, computed place by place: an epoch's
        # order needs neither memory nor its beginning.
        sample = tf.random.experimental.index_shuffle(
            tf.cast(tf.range(first, last), tf.int32),
            self._order,
            self._size - 1,
        )
        return tf.cast(sample, tf.int64)

    def _users(self, sample, target):
        """Returns the users of samples as the model sees them, [B, T + P]."""
        before = tf.range(-self._max_history, 0, dtype=tf.int64)
        reach = target[:, None] + before
        sources = self._sources
        known = reach >= tf.gather(sources["starts"], sample)[:, None]
        history = tf.where(
            known, tf.gather(sources["items"], tf.maximum(reach, 0)), PAD
        )
        if "profile" not in sources:
            return history
        return tf.concat([history, tf.gather(sources["profile"], target)], 1)

    def _seed(self, index, level):
        """Returns the seed of a (batch, level): no draw depends on another."""
        return _fold_in(self._draws, index * len(self._levels) + level)


class SampledBatches(_Batches):
    """One target a history, its ancestors beside negatives.

    counts: n_l by level; None where negatives are the siblings.
    """

    def __init__(self, sources, tree, *, counts, **position):
        super().__init__(sources, tree, **position)
        self._counts = counts
        self._occupied = tf.split(sources["occupied"], self._sizes)

    def batch(self, index):
        """Returns batch `index`, as `dataset` promises it."""
        sources, sample = self._sources, self._samples(index)
        target = tf.gather(sources["targets"], sample)
        item = tf.gather(sources["items"], target)
        leaf = tf.gather(sources["pi"], item)  # [B]
        return {
            "history": self._users(sample, target),
            "nodes": tuple(self._nodes(j, leaf, index) for j in self._levels),
        }

    def _nodes(self, level, leaf, index):
        """Returns each target's ancestor and its negatives, [B, 1 + n_l]."""
        positive = tree_ops.lift(leaf, level, self._tree)
        if self._counts is None:
            negative = draw_siblings(
                self._sources["taken"], positive, self._tree.branching
            )
        else:
            negative = draw_negatives(
                self._occupied[level - 1],
                positive,
                self._counts[level - 1],
                self._seed(index, level),
            )
        return tf.concat([positive[:, None], negative], axis=1)


class BeamBatches(_Batches):
    """Several targets a history, and what stands for the rest of a level.

    `sources` have what `of_far` returns too.
    """

    def __init__(self, sources, tree, *, targets, horizon, strata, **position):
        super().__init__(sources, tree, **position)
        self._count, self._horizon = targets, horizon
        self._strata = list(strata)  # r_l by level
        self._columns = _columns(self._tree, self._sizes, self._strata)

    def batch(self, index):
        """Returns batch `index`, as `beam_dataset` promises it."""
        sample = self._samples(index)
        target = tf.gather(self._sources["targets"], sample)
        return {
            "history": self._users(sample, target),
            "targets": self._following(sample, target, index),
            **self._far(tf.shape(sample)[0], index),
        }

    def _following(self, sample, target, index):
        """Draws what follows each history, [B, m] items."""
        ahead = tf.gather(self._sources["ends"], sample) - target
        if self._horizon is not None:
            ahead = tf.minimum(ahead, self._horizon)
        shape = [tf.shape(sample)[0], self._count]
        seed = _fold_in(self._places, index)
        # Place i of m falls into the i-th of m equal parts of what is ahead.
        part = tf.range(self._count, dtype=tf.float32)
        part += tf.random.stateless_uniform(shape, seed)
        span = tf.cast(ahead, tf.float32)[:, None]
        place = tf.cast(part * (span / self._count), tf.int64)
        place = tf.minimum(place, ahead[:, None] - 1)  # of a rounded 1.0
        return tf.gather(self._sources["items"], target[:, None] + place)

    def _far(self, batch, index):
        """Draws r_l nodes of each level, with replacement, and their logs."""
        columns, sources = self._columns, self._sources
        seed = _fold_in(self._draws, index)
        # All levels at once: a graph of a few operations, however many.
        even = tf.random.stateless_uniform(
            [batch, len(columns.size)], _fold_in(seed, 0), dtype=tf.float64
        )
        rank = tf.cast(even * columns.size, tf.int32)
        rank = tf.minimum(rank, columns.last) + columns.offset
        busy = tf.random.stateless_uniform(
            [batch, len(columns.below)],
            _fold_in(seed, 1),
            maxval=tf.size(sources["busy"]),
            dtype=tf.int32,
        )
        items = tf.gather(sources["busy"], busy)
        leaf = tf.gather(sources["pi"], items) - self._tree.first_leaf
        nodes = tf.concat(
            [
                tf.gather(sources["occupied"], rank),
                leaf // columns.below + columns.first,
            ],
            1,
        )
        nodes = tf.gather(nodes, columns.order, axis=1)
        logs = tf.gather(sources["logs"], nodes)
        return {
            "far": tuple(tf.split(nodes, self._strata, 1)),
            "far_logs": tuple(tf.split(logs, self._strata, 1)),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class _Columns:
    """What each column of the far nodes of all levels is drawn from.

    Attributes:
        size, last, offset: of the even ones: nodes of the level, the last of
            them, and where they begin among those of all levels.
        below, first: of the others: leaves below a node, first code.
        order: level by level, of both the first after the second.
    """

    size: np.ndarray
    last: np.ndarray
    offset: np.ndarray
    below: np.ndarray
    first: np.ndarray
    order: np.ndarray


def _columns(tree, occupied, strata):
    """Returns `_Columns` for r_l by level and the nodes in use there."""
    levels = np.arange(1, tree.max_level + 1)
    drawn = np.array(strata)
    even, busy = drawn - drawn // 2, drawn // 2
    sizes = np.array(occupied)
    firsts = [tree_lib.first_code(level, tree.branching) for level in levels]
    below = tree.branching ** (tree.max_level - levels)
    offsets = np.cumsum(sizes) - sizes
    level_of = np.concatenate(
        [np.repeat(levels, even), np.repeat(levels, busy)]
    )
    return _Columns(
        np.repeat(sizes, even).astype(np.float64),
        np.repeat(sizes - 1, even).astype(np.int32),
        np.repeat(offsets, even).astype(np.int32),
        np.repeat(below, busy).astype(np.int32),
        np.repeat(firsts, busy).astype(np.int32),
        np.argsort(level_of, kind="stable"),
    )


def _fold_in(seed, data):
    """Returns a seed of `seed` and a number beside it."""
    return tf.random.experimental.stateless_fold_in(seed, data)
