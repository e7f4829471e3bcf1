"""Layer-wise beam search over the tree, and the linear scan beside it.

Both take the model as a `ScoreFn`. Under a max-heap preference (Eq. 1) the
top k nodes of a level lie below the top k of the level above, so the search
is exact after scoring O(k b log_b N) nodes; the scan scores all N leaves.
"""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from jtm_tf import types
from jtm_tf.tree import ops as tree_ops
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import DescribeFn
from jtm_tf.types import LiveFn
from jtm_tf.types import PAD
from jtm_tf.types import ScoreFn


def check_beam(beam_width: int, num_results: int, *, branching: int) -> None:
    """Raises `ValueError` where a beam of k scores fewer than M leaves."""
    if num_results > beam_width * branching:
        raise ValueError(
            f"A beam of {beam_width} nodes scores {branching} leaves each, "
            f"fewer than num_results={num_results}; widen the beam."
        )


@dataclasses.dataclass(frozen=True)
class Walk:
    """What walks down to the leaves in a model's place, sooner than it.

    Attributes:
        score_fn: scores nodes; inner ones come in whole families, and as
            [1, W] where they are the same for all users.
        describe_fn: what makes users of histories for it.
        width: nodes that it keeps on the last level above the leaves, as a
            multiple of k; >= 1. On the first that it prunes, if that is
            another, it keeps k, and evenly more from level to level: what is
            lost is lost low down, where ranks know least.
    """

    score_fn: ScoreFn
    describe_fn: DescribeFn
    width: float


class TreeRetriever(tf.Module):
    """Recommends the items on the best leaves that a beam search finds.

    The search starts on the first level with more than k nodes (nothing is
    pruned above it), keeps the k best of every level and ranks all scored
    leaves of the last. Levels are unrolled: every shape but B is static.

    A node's rank may lean on its ancestors: with a path weight w it is
    score(n) + w score(parent) + w**2 score(grandparent) + .., from level 1 on.
    0 is the paper's search; 1 adds log-probabilities of branches (HSM).

    A pruned search lets another, cheaper score walk, and with a wider beam;
    of the leaves that it comes to, the model scores the best b k, as many as
    without it.

    Args:
        score_fn: scores nodes of one level.
        tree: the index.
        beam_width: k, the nodes kept on each level.
        num_results: M, the items returned.
        user_width: columns of a user, T if it is a mere history.
        path_weight: w, in [0, 1].
        describe_fn: what makes users of histories, once for all levels, that
            `score_fn` takes in their place. Inner nodes are then scored in
            whole families.
        leaf_items: a variable that holds `tree.leaf_items()`, if there is one.
        walk: what walks in the model's place; None for the model.
        first_level: where the search starts; by default not before a level
            that it prunes or is leaned on.

    Attributes:
        recommend: a `RecommendFn`.
        beams: maps users to the nodes kept on each of `levels`, best first,
            PAD where there are fewer; [B, <= w] each, see `kept`.
        walk: maps users to the nodes scored on each of `levels` and their
            ranks, a pair of [B, W] each; what has no item below it has the
            least finite rank. The children of a node stand side by side, but
            for leaves that a pruned search has chosen.
        levels: the levels that are scored, downwards; the last one twice
            where a pruned search chooses leaves for the model.
        kept: how many nodes go on from each of them at most: k, or more in a
            pruned search; of the last the k best.

    Raises:
        ValueError: M items can never come from the leaves that are scored.
    """

    def __init__(
        self,
        score_fn: ScoreFn,
        tree: tree_lib.Tree,
        *,
        beam_width: int,
        num_results: int,
        user_width: int,
        path_weight: float = 0.0,
        describe_fn: DescribeFn = types.as_they_are,
        leaf_items: tf.Variable | None = None,
        walk: Walk | None = None,
        first_level: int | None = None,
    ):
        super().__init__()
        check_beam(beam_width, num_results, branching=tree.branching)
        self.beam_width, self.num_results = beam_width, num_results
        self._walk_by = walk
        self.path_weight = path_weight
        self._score_fn, self._describe_fn = score_fn, describe_fn
        self._max_level, self._branching = tree.max_level, tree.branching
        levels, b = range(tree.max_level + 1), tree.branching
        codes = tree.occupied_codes()
        firsts = [tree_lib.first_code(x, b) for x in range(len(levels) + 1)]
        counts = [
            np.count_nonzero(codes[i:j]) for i, j in itertools.pairwise(firsts)
        ]
        # Where all nodes are kept, their scores decide nothing; but they are
        # leaned on further down.
        if first_level is None and path_weight:
            first_level = min(1, tree.max_level)
        elif first_level is None:
            wide = [x for x in levels if counts[x] > beam_width]
            first_level = min(wide, default=tree.max_level)
        first_nodes = np.ones(1, np.int32)  # the root
        if first_level:
            above = tree.occupied(first_level - 1)
            first_nodes = tree_lib.children(above, b).ravel()
        self._first_nodes = tf.constant(first_nodes)
        self.levels = list(range(first_level, tree.max_level + 1))
        self.kept = self._widths(counts)
        if self._chooses(len(first_nodes)):
            self.levels.append(tree.max_level)
            self.kept.append(beam_width * b)
        self.kept.append(beam_width)
        # Children come unasked, some without items.
        self._with_holes = [x for x in levels if counts[x] < b**x]
        self._first_leaf = tree.first_leaf
        # Variables: constants of this size would be saved with each graph.
        self._leaf_items = _shared(leaf_items, tree)
        # Leaves are looked up by their items.
        inner = [x for x in self._with_holes if x < tree.max_level]
        codes = codes[: firsts[max(inner, default=0) + 1]]
        self._occupied = tf.Variable(codes, trainable=False)
        users = [tf.TensorSpec([None, user_width], tf.int32)]
        self.recommend = tf.function(
            self._recommend, input_signature=users, autograph=False
        )
        self.beams = tf.function(
            self._beams, input_signature=users, autograph=False
        )
        self.followed = tf.function(
            self._followed, input_signature=users, autograph=False
        )
        self.walk = tf.function(
            self.walked, input_signature=users, autograph=False
        )

    def search(
        self, history: tf.Tensor, live: LiveFn | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Recommends within a graph of the caller's, under a filter or none.

        With k >= M a row gets M items whenever M are allowed: every node that
        is entered has one below it, so that no place in the beam is wasted.

        Args:
            history: [B, T] items.
            live: tells which nodes may be entered, all by default.

        Returns:
            ([B, M] items, [B, M] scores), best first; PAD, with the least
            finite score, fills rows that have fewer.
        """
        nodes, scores = self.walked(history, live)[-1]
        return _ranked_items(scores, self._items_on(nodes), self.num_results)

    def walked(
        self, history: tf.Tensor, live: LiveFn | None = None
    ) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Walks down within a graph of the caller's, as `search` does.

        Args:
            history: [B, T] items.
            live: tells which nodes may be entered, all by default.

        Returns:
            What `walk` does: for each of `levels` the nodes scored and their
            ranks, [B, W] each.
        """
        score, describe, levels = self._score_fn, self._describe_fn, self.levels
        if self._walk_by is not None:
            score, describe = self._walk_by.score_fn, self._walk_by.describe_fn
            levels = levels[:-1]  # the model's
        users = describe(history, levels) if levels else None
        batch = tf.shape(history)[0]
        # The same for all users, until the first of them are pruned.
        nodes = self._first_nodes[None]
        if self._walk_by is None:
            nodes = _everyones(nodes, batch)
        above = None  # ranks of the parents, [B, W / b]
        walked = []
        for level, width in zip(self.levels, self.kept):
            if level == self._max_level:
                break
            ranks = self._ranked(score(users, nodes, level), above)
            everyones = _everyones(nodes, batch)
            # Where all are kept, those without live children cost nothing.
            prunes = nodes.shape[1] > width
            ranks = self._alive(
                everyones, ranks, level, live if prunes else None
            )
            walked.append((everyones, ranks))
            above = ranks
            # Eq. 1: the best leaves lie below the best nodes, so what is
            # pruned here needs no look at what lies below. In any order: the
            # next level ranks anew.
            if prunes:
                above, best = tf.math.top_k(ranks, width, sorted=False)
                nodes = tf.gather(everyones, best, batch_dims=1)
            nodes = tree_ops.children(nodes, self._branching)
        nodes = _everyones(nodes, batch)
        return walked + self._leaves(history, users, nodes, above, live)

    def _items_on(self, leaves):
        """Maps [B, W] leaves to items."""
        return tf.gather(self._leaf_items, leaves - self._first_leaf)

    def _is_occupied(self, nodes, level):
        """Tells which [B, W] nodes have an item below."""
        if level == self._max_level:
            return self._items_on(nodes) != PAD
        return tf.gather(self._occupied, nodes)

    def _beams(self, history):
        """Maps [B, T] items to the nodes kept on each level, best first."""
        return self._all_kept(self.walked(history))

    def _followed(self, history):
        """Maps [B, T] items to [B, M] items and what `beams` returns."""
        walked = self.walked(history)
        nodes, scores = walked[-1]
        items, _ = _ranked_items(
            scores, self._items_on(nodes), self.num_results
        )
        return items, self._all_kept(walked)

    def _all_kept(self, walked):
        """Returns the nodes kept of those scored on each level."""
        return [
            self._kept(*scored, width)
            for scored, width in zip(walked, self.kept)
        ]

    def _widths(self, counts):
        """Returns how many nodes go on from each of the levels but the last.

        Never fewer than k, so that under any filter M items are come to.
        """
        above = self.levels[:-1]
        widths = np.full(len(above), self.beam_width)
        if self._walk_by is not None:
            pruned = sum(counts[level] > self.beam_width for level in above)
            growth = np.linspace(self._walk_by.width, 1, pruned)[::-1]
            most = np.ceil(np.round(self.beam_width * growth, 6))
            widths[len(above) - pruned :] = most
        return widths.tolist()

    def _chooses(self, first_nodes):
        """Tells whether the walk may come to more leaves than b k."""
        if self._walk_by is None:
            return False
        above = max(1, first_nodes // self._branching)
        for width in self.kept:
            above = min(above * self._branching, width)
        return above > self.beam_width

    def _kept(self, nodes, scores, width):
        """Returns the best of [B, W] nodes, PAD where there are fewer."""
        found, best = tf.math.top_k(scores, min(width, nodes.shape[1]))
        nodes = tf.gather(nodes, best, batch_dims=1)
        return tf.where(found > scores.dtype.min, nodes, PAD)

    def _recommend(self, history):
        """Maps [B, T] items to ([B, M] items, [B, M] scores), best first."""
        return self.search(history)

    def _leaves(self, history, users, nodes, above, live):
        """Scores the leaves, [B, W], that the walk has come to."""
        level = self._max_level
        lean = self._ranked(tf.zeros_like(nodes, tf.float32), above)
        lean = self._alive(nodes, lean, level, live)
        walked = []
        if self._walk_by is not None:
            if self.levels[-2:] == [level, level]:
                scores = self._walk_by.score_fn(users, nodes, level)
                ranks = _added(scores, lean)
                walked.append((nodes, ranks))
                _, best = tf.math.top_k(ranks, self.kept[-2], sorted=False)
                nodes = tf.gather(nodes, best, batch_dims=1)
                lean = tf.gather(lean, best, batch_dims=1)
            users = self._describe_fn(history, [level])
        ranks = _added(self._score_fn(users, nodes, level), lean)
        return [*walked, (nodes, ranks)]

    def _ranked(self, scores, above):
        """Adds to [B, W] scores what they lean on their parents' ranks.

        A leaf was trained on few samples, its ancestors on many: their ranks
        say what its own score cannot know yet.
        """
        if not self.path_weight or above is None:
            return scores
        parents = np.arange(scores.shape[1]) // self._branching
        return scores + tf.gather(self.path_weight * above, parents, axis=1)

    def _alive(self, nodes, ranks, level, live):
        """Gives the least rank to nodes that no answer lies below."""
        if live is not None:
            alive = live(nodes, level)
        elif level in self._with_holes:
            alive = self._is_occupied(nodes, level)
        else:
            return ranks
        return tf.where(alive, ranks, ranks.dtype.min)


def _everyones(nodes, batch):
    """Returns nodes as [B, W], of [1, W] if they are the same for all."""
    if nodes.shape[0] != 1:  # no copy where they are rows of their own
        return nodes
    return tf.repeat(nodes, batch, 0)


def _added(scores, lean):
    """Adds scores to what they lean on; the least finite number stays."""
    return tf.where(lean > lean.dtype.min, scores + lean, lean.dtype.min)


class ScanRetriever(tf.Module):
    """Recommends the best of all items: the exact, linear-time answer.

    Args:
        score_fn: scores leaves.
        tree: the index.
        num_results: M.
        user_width: columns of a user, T if it is a mere history.
        chunk: leaves scored at once, to bound memory.
        describe_fn, leaf_items: as in `TreeRetriever`.
    """

    def __init__(
        self,
        score_fn: ScoreFn,
        tree: tree_lib.Tree,
        *,
        num_results: int,
        user_width: int,
        chunk: int = 8192,
        describe_fn: DescribeFn = types.as_they_are,
        leaf_items: tf.Variable | None = None,
    ):
        super().__init__()
        self.num_results = num_results
        self._score_fn, self._level = score_fn, tree.max_level
        self._describe_fn = describe_fn
        leaves = tree.occupied(tree.max_level)
        self._leaves = tf.Variable(leaves, trainable=False)
        self._first_leaf = tree.first_leaf
        self._leaf_items = _shared(leaf_items, tree)
        self._chunk = min(chunk, tree.num_items)
        self.recommend = tf.function(
            self._recommend,
            input_signature=[tf.TensorSpec([None, user_width], tf.int32)],
            autograph=False,
        )

    def _recommend(self, history):
        """Maps [B, T] items to ([B, M] items, [B, M] scores), best first."""
        return self.search(history)

    def search(
        self, history: tf.Tensor, live: LiveFn | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Recommends as `TreeRetriever.search` does; `live` sees leaves."""
        batch, kept = tf.shape(history)[0], self.num_results
        users = self._describe_fn(history, [self._level])

        def scan_chunk(first, best_items, best_scores):
            leaves = self._leaves[first : first + self._chunk]
            nodes = tf.repeat(leaves[None], batch, 0)
            scores = self._score_fn(users, nodes, self._level)
            if live is not None:
                allowed = live(nodes, self._level)
                scores = tf.where(allowed, scores, scores.dtype.min)
            items = tf.gather(self._leaf_items, nodes - self._first_leaf)
            return first + self._chunk, *_ranked_items(
                tf.concat([best_scores, scores], 1),
                tf.concat([best_items, items], 1),
                kept,
            )

        nothing = (
            tf.fill([batch, kept], PAD),
            tf.fill([batch, kept], tf.float32.min),
        )
        _, best_items, best_scores = tf.while_loop(
            lambda first, *_: first < self._leaves.shape[0],
            scan_chunk,
            (0, *nothing),
            shape_invariants=(
                tf.TensorShape([]),
                *[tf.TensorShape([None, kept])] * 2,
            ),
        )
        return best_items, best_scores


def _shared(leaf_items, tree):
    """Returns the variable, or a new one of the tree's items by leaf."""
    if leaf_items is None:
        return tf.Variable(tree.leaf_items(), trainable=False)
    return leaf_items


def _ranked_items(scores, items, num_results):
    """Returns the best [B, M] items and scores; PAD where there are none."""
    missing = num_results - (scores.shape[1] or num_results)
    if missing > 0:
        scores = tf.pad(
            scores, [[0, 0], [0, missing]], constant_values=tf.float32.min
        )
        items = tf.pad(items, [[0, 0], [0, missing]], constant_values=PAD)
    best, index = tf.math.top_k(scores, num_results)
    found = best > scores.dtype.min
    items = tf.where(found, tf.gather(items, index, batch_dims=1), PAD)
    return items, best
