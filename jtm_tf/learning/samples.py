"""The stream of training samples for one tree (Eq. 2, sampled).

Every sample is a user's history with the ancestors of its target on levels
1..l_max, each beside negatives of its level. All randomness is a function of
(seed, epoch, position): a stream opened at any batch goes on as if it had
never stopped.
"""

from collections.abc import Sequence

import tensorflow as tf

from jtm_tf.data import splits
from jtm_tf.tree import ops as tree_ops
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

# The streams of random numbers; folded into the seed so that they differ.
_ORDER, _NEGATIVES = 0, 1


def negatives_per_level(
    negatives: int | Sequence[int], max_level: int
) -> tuple[int, ...]:
    """Returns n_l for the levels 1..l_max.

    Args:
        negatives: a total, spread in proportion to the level (at least one on
            each), as the released configurations do; or one number a level.
        max_level: l_max.

    Raises:
        ValueError: the list has another length, or a level gets none.
    """
    if isinstance(negatives, int):
        share = negatives / (max_level * (max_level + 1) / 2)
        return tuple(
            max(1, round(share * level)) for level in range(1, max_level + 1)
        )
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


def dataset(
    examples: splits.Examples,
    tree: tree_lib.Tree,
    *,
    max_history: int,
    negatives: int | Sequence[int],
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    start_batch: int = 0,
    max_samples: int | None = None,
    siblings: bool = False,
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
        max_history: T.
        negatives: a total or one number a level, see `negatives_per_level`.
        batch_size: B.
        seed: of the run.
        epoch: counts on through the whole run; each has its own order.
        start_batch: the first batch to produce.
        max_samples: the epoch ends after that many samples; None for all.
        siblings: whether a positive's negatives are its siblings, PAD for
            empty ones, instead of draws.

    Returns:
        A dataset of {"history": [B, T + P] int32, "nodes": one [B, 1 + n_l]
        int32 tensor for each level 1..l_max, the positive first}.

    Raises:
        ValueError: there are no samples, or a level has a single node.
    """
    check(examples, tree, negatives)
    length = len(examples)
    if max_samples is not None:
        length = min(length, max_samples)
    counts = negatives_per_level(negatives, tree.max_level)
    batches = _Batches(
        examples,
        tree,
        max_history=max_history,
        counts=None if siblings else counts,
        length=length,
        batch_size=batch_size,
        seed=seed,
        epoch=epoch,
    )
    return (
        tf.data.Dataset.range(start_batch, -(-length // batch_size))
        .map(batches.batch, num_parallel_calls=2, deterministic=True)
        .prefetch(2)
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
    negatives_per_level(negatives, tree.max_level)
    for level in range(1, tree.max_level + 1):
        if len(tree.occupied(level)) < 2:
            raise ValueError(
                f"Level {level} has a single node with items, so it has no "
                "negatives; the initial tree should spread its items."
            )


class _Batches:
    """The batches of one epoch, each a function of its index alone."""

    def __init__(
        self,
        examples,
        tree,
        *,
        max_history,
        counts,  # n_l by level; None where negatives are the siblings
        length,
        batch_size,
        seed,
        epoch,
    ):
        self._tree, self._counts = tree, counts
        self._max_history, self._batch_size = max_history, batch_size
        self._size, self._length = len(examples), length
        self._items = tf.constant(examples.items)
        self._starts = tf.constant(examples.starts)
        self._targets = tf.constant(examples.targets)
        self._profile = tf.constant(examples.profile)
        self._pi = tf.constant(tree.pi)
        self._levels = range(1, tree.max_level + 1)
        self._occupied = [tf.constant(tree.occupied(j)) for j in self._levels]
        if counts is None:
            self._taken = tf.constant(tree.occupied_codes())
        self._order = _fold_in(tf.constant([seed, _ORDER]), epoch)
        self._draws = _fold_in(tf.constant([seed, _NEGATIVES]), epoch)

    def batch(self, index):
        """Returns batch `index`, as `dataset` promises it."""
        sample = self._samples(index)
        target = tf.gather(self._targets, sample)
        history = self._histories(sample, target)
        profile = tf.gather(self._profile, target)
        leaf = tf.gather(self._pi, tf.gather(self._items, target))  # [B]
        return {
            "history": tf.concat([history, profile], 1),
            "nodes": tuple(self._nodes(j, leaf, index) for j in self._levels),
        }

    def _samples(self, index):
        """Returns which samples stand at the batch's positions, [B] int64."""
        first = index * self._batch_size
        last = tf.minimum(first + self._batch_size, self._length)
        # A pseudo-random permutation, computed place by place: an epoch's
        # order needs neither memory nor its beginning.
        sample = tf.random.experimental.index_shuffle(
            tf.cast(tf.range(first, last), tf.int32),
            self._order,
            self._size - 1,
        )
        return tf.cast(sample, tf.int64)

    def _histories(self, sample, target):
        """Returns the T items before each target, [B, T], left-padded."""
        before = tf.range(-self._max_history, 0, dtype=tf.int64)
        reach = target[:, None] + before
        known = reach >= tf.gather(self._starts, sample)[:, None]
        return tf.where(
            known, tf.gather(self._items, tf.maximum(reach, 0)), PAD
        )

    def _nodes(self, level, leaf, index):
        """Returns each target's ancestor and its negatives, [B, 1 + n_l]."""
        positive = tree_ops.lift(leaf, level, self._tree)
        if self._counts is None:
            negative = draw_siblings(
                self._taken, positive, self._tree.branching
            )
        else:
            # One seed a (batch, level): no draw depends on another.
            seed = _fold_in(self._draws, index * len(self._levels) + level)
            negative = draw_negatives(
                self._occupied[level - 1],
                positive,
                self._counts[level - 1],
                seed,
            )
        return tf.concat([positive[:, None], negative], axis=1)


def _fold_in(seed, data):
    """Returns a seed of `seed` and a number beside it."""
    return tf.random.experimental.stateless_fold_in(seed, data)
