"""L_c^{s,e} of Algorithm 2: how well each node suits each item (Sec. 2.2).

The weight of item c on a path from level s to level e is the sum of
log p(b_j(pi(c))|u) over the samples A_c whose target is c and over the levels
j = s..e of the path. Pure NumPy. Samples are streamed by item, and all batches
of a level that reach the model are of one shape.
"""

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from jtm_tf import ragged
from jtm_tf.tree import statistics
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import LogProbFn


@dataclasses.dataclass(frozen=True, eq=False)
class Folds:
    """Parts of the samples that the model is to be prepared for.

    Attributes:
        of: [S] int in 0..count - 1, the part of each sample.
        count: parts.
        prepare: called with a part before the model scores samples of it.
    """

    of: np.ndarray
    count: int
    prepare: Callable[[int], object]


class EdgeWeights:
    """Runs a model over the samples of any items; keeps count of the work.

    Args:
        tree: the old tree; only its shape is used.
        targets: [S] int items, the target of each sample.
        histories: maps [B] sample indices to [B, T] history items.
        log_prob: log p(node|user).
        batch_samples: most samples, rows, of one call of the model.
        batch_nodes: most (sample, node) pairs of one call of the model.
        score_leaves: whether the leaf level counts.
        max_samples_per_item: more are thinned at random; None for all.
        seed: of the thinning.
        informative: whether a node's weight is less what it is worth to
            everyone: log p(n|u) - log p(n), p(n) its share of the samples.
        folds: None where the model is the same for all samples.

    Attributes:
        counts: [N] int, the samples of items 1..N that are weighed.
        pairs: (sample, node) pairs scored so far.
        seconds: wall time inside `log_prob` so far.

    Raises:
        ValueError: a target is no item of the tree.
    """

    def __init__(
        self,
        tree: tree_lib.Tree,
        targets: np.ndarray,
        histories: Callable[[np.ndarray], np.ndarray],
        log_prob: LogProbFn,
        *,
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
        self.counts = np.bincount(targets, minlength=tree.num_items + 1)[1:]
        self.pairs, self.seconds = 0, 0.0
        self._log_shares = _log_shares(tree, self.counts) if informative else []
        self._branching = tree.branching
        self._deepest = tree.max_level - (not score_leaves)
        self._histories, self._log_prob = histories, log_prob
        self._batch_samples, self._batch_nodes = batch_samples, batch_nodes
        self._folds = folds
        # A_c is samples[starts[c]:][:counts[c]].
        self._samples = np.argsort(targets, kind="stable")
        if max_samples_per_item is not None:
            draw = np.random.default_rng(seed).random(len(targets))
            by_item = np.lexsort((draw, targets))
            drawn = ragged.ranges(self.counts) < max_samples_per_item
            self._samples = by_item[drawn]
            # Sums over what is kept stay sums over that many samples: scaled
            # up to all of A_c, a few samples would drown their item's kin.
            self.counts = np.minimum(self.counts, max_samples_per_item)
        self._starts = ragged.offsets(self.counts)[:-1]

    def pairs_of(self, level: int, gap: int) -> int:
        """Returns the pairs to score, S (b + b**2 + .. + b**d), of a step."""
        depths = range(1, gap + 1 - max(0, level - self._deepest))
        return len(self._samples) * sum(self._branching**j for j in depths)

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
            progress: called after each batch.

        Returns:
            [n, b**d] float32, descendants from left to right; 0 for items
            without samples.
        """
        counts = self.counts[items]
        row = np.repeat(np.arange(len(items)), counts)
        samples = self._samples[ragged.ranges(counts, self._starts[items])]
        weights = np.zeros((len(items), self._branching**gap), np.float32)
        for part in self._parts(samples):
            self._add_all(
                weights,
                samples[part],
                row[part],
                nodes,
                level,
                gap,
                progress or (lambda: None),
            )
        return weights

    def _parts(self, samples):
        """Yields which samples the model is prepared for, part by part."""
        if self._folds is None:
            yield slice(None)
            return
        of = self._folds.of[samples]
        for part in range(self._folds.count):
            self._folds.prepare(part)
            yield np.flatnonzero(of == part)

    def _add_all(self, weights, samples, row, nodes, level, gap, progress):
        """Adds to `weights`, [n, b**d], those of samples of items `row`."""
        for start in range(0, len(row), self._batch_samples):
            part = slice(start, start + self._batch_samples)
            history, rows = self._histories(samples[part]), row[part]
            begins = np.diff(rows, prepend=-1) != 0
            item = np.cumsum(begins) - 1  # of this batch, from 0
            sums = np.zeros((item[-1] + 1, 1))
            for depth in range(1, gap + 1):
                # A descendant adds its own to the sum of its ancestors.
                sums = np.repeat(sums, self._branching, axis=1)
                if level - gap + depth <= self._deepest:
                    self._add(
                        sums, item, history, nodes[rows], level - gap, depth
                    )
            weights[rows[begins]] += sums
            progress()

    def _add(self, sums, item, history, nodes, level, depth):
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
            scores = self._score(history[part], codes, level + depth, size)
            if self._log_shares:
                shares = self._log_shares[level + depth]
                first = tree_lib.first_code(level + depth, self._branching)
                scores = scores - shares[codes - first]
            begins = np.flatnonzero(np.diff(item[part], prepend=-1))
            sums[item[part][begins]] += np.add.reduceat(
                scores, begins, axis=0, dtype=np.float64
            )

    def _score(self, history, codes, level, size):
        """Returns log p(node|user), [B, W], from a call with `size` rows."""
        rows = len(codes)
        if rows < size:
            # Repeats a row: a compiled model traces each shape anew.
            short = ((0, size - rows), (0, 0))
            history = np.pad(history, short, mode="edge")
            codes = np.pad(codes, short, mode="edge")
        begin = time.perf_counter()
        scores = np.asarray(self._log_prob(history, codes, level))
        self.seconds += time.perf_counter() - begin
        if scores.shape != codes.shape:
            raise ValueError(
                f"log_prob must return {codes.shape}, one value a candidate "
                f"node; got {scores.shape}."
            )
        self.pairs += rows * codes.shape[1]
        return scores[:rows]


def _log_shares(tree, counts):
    """Returns log p(n) of the nodes of each level, from the root.

    Of a node's samples in the old tree, and one more, so that a node without
    any is rare but not impossible.
    """
    counts = np.concatenate([[0], counts])
    levels = range(tree.max_level + 1)
    below = [1 + statistics.sums(tree, level, counts) for level in levels]
    return [np.log(x / x.sum()).astype(np.float32) for x in below]
