"""L_c^{s,e} of Algorithm 2: how well each node suits each item (Sec. 2.2).

The weight of item c on a path from level s to level e is the sum of
log p(b_j(pi(c))|u) over the samples A_c whose target is c and over the levels
j = s..e of the path. Pure NumPy. Samples are streamed by history, which is
described once for all of them and all levels, and then by item; all batches of
a level that reach the model are of one shape.
"""

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from jtm_tf import ragged
from jtm_tf import types
from jtm_tf.tree import statistics
from jtm_tf.tree import tree as tree_lib


@dataclasses.dataclass(frozen=True, eq=False)
class Folds:
    """Parts of the samples that the model is to be prepared for.

    Attributes:
        of: [S] int in 0..count - 1, the part of each sample.
        count: parts.
        prepare: called with a part before the model scores samples of it.
        end: called when no more are scored.
    """

    of: np.ndarray
    count: int
    prepare: Callable[[int], object]
    end: Callable[[], object] = lambda: None


class Weights:
    """What the tree learner asks of edge weights, whoever sums them.

    Args:
        tree: the old tree; only its shape is used.
        counts: [N] int, the samples of items 1..N that are weighed.
        all_counts: [N] int, all samples of items 1..N.
        score_leaves: whether the leaf level counts.
        informative: whether a node's weight is less what it is worth to
            everyone: log p(n|u) - log p(n), p(n) its share of the samples.

    Attributes:
        counts: as given.
        pairs: (sample, node) pairs scored so far.
        seconds: wall time of scoring so far.
    """

    def __init__(
        self,
        tree: tree_lib.Tree,
        counts: np.ndarray,
        all_counts: np.ndarray,
        *,
        score_leaves: bool,
        informative: bool,
    ):
        self.counts, self.pairs, self.seconds = counts, 0, 0.0
        self._log_shares = _log_shares(tree, all_counts) if informative else []
        self._branching = tree.branching
        self._deepest = tree.max_level - (not score_leaves)

    def pairs_of(self, level: int, gap: int) -> int:
        """Returns the pairs to score, S (b + b**2 + .. + b**d), of a step."""
        depths = range(1, gap + 1 - max(0, level - self._deepest))
        return int(self.counts.sum()) * sum(self._branching**j for j in depths)

    def __call__(
        self,
        items: np.ndarray,
        nodes: np.ndarray,
        level: int,
        gap: int,
        *,
        progress: Callable[[], None] | None = None,
    ) -> np.ndarray:
        """Returns L_c^{l-d+1,l} for all descendants on level l of a node.

        Args:
            items: [n] int, items counted from 0.
            nodes: [n] int, a node of level l - d for each item.
            level: l.
            gap: d.
            progress: called now and then.

        Returns:
            [n, b**d] float32, descendants from left to right; 0 for items
            without samples.
        """
        weights = self._sums(
            items, nodes, level, gap, progress or (lambda: None)
        )
        if self._log_shares:
            weights -= self.counts[items][:, None] * self._worth(
                nodes, level, gap
            )
        return weights

    def _sums(self, items, nodes, level, gap, progress):
        """Returns sums of log p, as `__call__` promises its weights."""
        raise NotImplementedError

    def _worth(self, nodes, level, gap):
        """Returns log p of the paths to all descendants, [n, b**d]."""
        above = level - gap
        worth = np.zeros((len(nodes), 1), np.float32)
        for depth in range(1, gap + 1):
            worth = np.repeat(worth, self._branching, axis=1)
            if above + depth <= self._deepest:
                first = tree_lib.first_code(above + depth, self._branching)
                codes = tree_lib.descendants(
                    nodes, levels=depth, branching=self._branching
                )
                worth += self._log_shares[above + depth][codes - first]
        return worth


class EdgeWeights(Weights):
    """Runs a model over the samples of any items; keeps count of the work.

    Args:
        tree: the old tree; only its shape is used.
        targets: [S] int items, the target of each sample.
        histories: maps [B] numbers of histories to [B, T] history items.
        log_prob: log p(node|user).
        describe: what is done once for all scores of a history.
        history_of: [S] int, the number of each sample's history; by default
            that of the sample.
        batch_samples: most histories, or samples, rows, of one call of the
            model.
        batch_nodes: most (sample, node) pairs of one call of the model.
        score_leaves: whether the leaf level counts.
        max_samples_per_item: more are thinned at random; None for all.
        seed: of the thinning.
        informative: see `Weights`.
        folds: None where the model is the same for all samples.

    Raises:
        ValueError: a target is no item of the tree.
    """

    def __init__(
        self,
        tree: tree_lib.Tree,
        targets: np.ndarray,
        histories: Callable[[np.ndarray], np.ndarray],
        log_prob: types.LogProbFn,
        *,
        describe: types.DescribeFn = types.as_they_are,
        history_of: np.ndarray | None = None,
        batch_samples: int,
        batch_nodes: int,
        score_leaves: bool = True,
        max_samples_per_item: int | None = None,
        seed: int = 0,
        informative: bool = False,
        folds: Folds | None = None,
    ):
        targets = np.asarray(targets)
        wrong = (targets < 1) | (targets > tree.num_items)
        if targets.ndim != 1 or np.any(wrong):
            raise ValueError(
                f"targets must be [S] items in 1..{tree.num_items}; got shape "
                f"{targets.shape} and {np.count_nonzero(wrong)} other numbers."
            )
        if history_of is not None and len(history_of) != len(targets):
            raise ValueError(
                f"history_of must name the history of {len(targets)} samples; "
                f"got {len(history_of)}."
            )
        # A_c is samples[starts[c]:][:counts[c]].
        self._samples = kept(targets, max_samples_per_item, seed=seed)
        counts = _counts(tree, targets[self._samples])
        super().__init__(
            tree,
            counts,
            _counts(tree, targets),
            score_leaves=score_leaves,
            informative=informative,
        )
        self._starts = ragged.offsets(counts)[:-1]
        self._histories, self._describe = histories, describe
        self._log_prob = log_prob
        if history_of is None:
            history_of = np.arange(len(targets))
        self._history_of = np.asarray(history_of)
        self._batch_samples, self._batch_nodes = batch_samples, batch_nodes
        self._folds = folds

    def _sums(self, items, nodes, level, gap, progress):
        """Returns sums of log p, as `__call__` promises its weights."""
        counts = self.counts[items]
        row = np.repeat(np.arange(len(items)), counts)
        samples = self._samples[ragged.ranges(counts, self._starts[items])]
        weights = np.zeros((len(items), self._branching**gap), np.float32)
        above = level - gap
        levels = range(above + 1, min(level, self._deepest) + 1)
        for users, at, part in self._described(samples, levels):
            self._add_all(
                weights,
                users,
                at,
                row[part],
                nodes,
                (above, levels, gap),
                progress,
            )
        return weights

    def _described(self, samples, levels):
        """Yields users, described, and samples with whose histories they are.

        Yields:
            Users, [n] int, whose history is that of each of n samples, and
            which samples those are, ascending.
        """
        if not levels:
            return
        for part in self._parts(samples):
            numbers, at = np.unique(
                self._history_of[samples[part]], return_inverse=True
            )
            batch, at = np.divmod(at, self._batch_samples)
            # Stable: the samples of a batch stay in the order of their items.
            order = np.argsort(batch, kind="stable")
            ends = np.cumsum(np.bincount(batch))
            for i, chosen in enumerate(np.split(order, ends[:-1])):
                first = i * self._batch_samples
                own = numbers[first : first + self._batch_samples]
                histories = self._histories(own)
                begin = time.perf_counter()
                users = self._describe(histories, levels)
                self.seconds += time.perf_counter() - begin
                yield users, at[chosen], part[chosen]

    def _parts(self, samples):
        """Yields which samples the model is prepared for, part by part."""
        if not len(samples):
            return
        if self._folds is None:
            yield np.arange(len(samples))
            return
        of = self._folds.of[samples]
        for part in range(self._folds.count):
            chosen = np.flatnonzero(of == part)
            if len(chosen):
                self._folds.prepare(part)
                yield chosen

    def _add_all(self, weights, users, at, row, nodes, block, progress):
        """Adds to `weights`, [n, b**d], those of samples of items `row`."""
        above, levels, gap = block
        for start in range(0, len(row), self._batch_samples):
            part = slice(start, start + self._batch_samples)
            rows = row[part]
            begins = np.diff(rows, prepend=-1) != 0
            item = np.cumsum(begins) - 1  # of this batch, from 0
            sums = np.zeros((item[-1] + 1, 1))
            for depth in range(1, gap + 1):
                # A descendant adds its own to the sum of its ancestors.
                sums = np.repeat(sums, self._branching, axis=1)
                if above + depth in levels:
                    self._add(
                        sums, item, users, at[part], nodes[rows], above, depth
                    )
            weights[rows[begins]] += sums
            progress()

    def _add(self, sums, item, users, at, nodes, level, depth):
        """Adds log p of all descendants `depth` below to their item's sum."""
        width = self._branching**depth
        size = min(
            self._batch_samples,
            max(1, self._batch_nodes // width),
            len(self._samples),
        )
        for start in range(0, len(nodes), size):
            part = slice(start, start + size)
            codes = tree_lib.descendants(
                nodes[part].astype(np.int32),
                levels=depth,
                branching=self._branching,
            )
            scores = self._score(users, at[part], codes, level + depth, size)
            begins = np.flatnonzero(np.diff(item[part], prepend=-1))
            sums[item[part][begins]] += np.add.reduceat(
                scores, begins, axis=0, dtype=np.float64
            )

    def _score(self, users, at, codes, level, size):
        """Returns log p(node|user), [B, W], from a call with `size` rows."""
        rows = len(codes)
        if rows < size:
            # Repeats a row: a compiled model traces each shape anew.
            short = 0, size - rows
            at = np.pad(at, short, mode="edge")
            codes = np.pad(codes, (short, (0, 0)), mode="edge")
        begin = time.perf_counter()
        scores = np.asarray(self._log_prob(users[at], codes, level))
        self.seconds += time.perf_counter() - begin
        if scores.shape != codes.shape:
            raise ValueError(
                f"log_prob must return {codes.shape}, one value a candidate "
                f"node; got {scores.shape}."
            )
        self.pairs += rows * codes.shape[1]
        return scores[:rows]


def kept(
    targets: np.ndarray, max_samples_per_item: int | None, *, seed: int
) -> np.ndarray:
    """Returns the samples that are weighed, item by item.

    Sums over what is kept stay sums over that many samples: scaled up to all
    of A_c, a few samples would drown their item's kin.

    Args:
        targets: [S] int items, the target of each sample.
        max_samples_per_item: more are thinned at random; None for all.
        seed: of the thinning.

    Returns:
        Their numbers, at most S.
    """
    if max_samples_per_item is None:
        return np.argsort(targets, kind="stable")
    draw = np.random.default_rng(seed).random(len(targets))
    by_item = np.lexsort((draw, targets))
    place = ragged.ranges(np.bincount(targets))
    return by_item[place < max_samples_per_item]


def _counts(tree, targets):
    """Returns the samples of items 1..N, [N]."""
    return np.bincount(targets, minlength=tree.num_items + 1)[1:]


def _log_shares(tree, counts):
    """Returns log p(n) of the nodes of each level, from the root.

    Of a node's samples in the old tree, and one more, so that a node without
    any is rare but not impossible.
    """
    counts = np.concatenate([[0], counts])
    levels = range(tree.max_level + 1)
    below = [1 + statistics.sums(tree, level, counts) for level in levels]
    return [np.log(x / x.sum()).astype(np.float32) for x in below]
