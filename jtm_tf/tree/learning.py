"""Algorithm 2: learns pi for a fixed model, `gap` levels at a time (Sec. 2.2).

Pure NumPy. The model enters as a `LogProbFn`; no TensorFlow, no files, no
output but the result. Samples are streamed in the order (node, item), so what
is held at once is bounded by `group_weights`, or by the largest sub-problem.

Departs from the paper: histories keep the old pi while weights are computed;
by default the leaves in use stay the same, so that trees remain balanced and
comparable, and no item moves to a node that the model was never trained on;
near the root a gap is smaller where a block's weights would be too many; as
options, an item's weights lean on those of its kin, an item moves only for a
margin, the leaf level is left out, and so are all levels whose nodes have few
samples.
"""

import dataclasses
import itertools
import math
import time
from collections.abc import Callable
from collections.abc import Iterator

import numpy as np

from jtm_tf import categories
from jtm_tf import ragged
from jtm_tf import types
from jtm_tf.tree import assignment
from jtm_tf.tree import edge_weights
from jtm_tf.tree import tree as tree_lib

SOLVERS = ("greedy", "priced", "exact")
WEIGHTS = ("likelihood", "information")


@dataclasses.dataclass(frozen=True)
class TreeLearningConfig:
    """How Algorithm 2 is run.

    Attributes:
        gap: levels decided at once, d; each sample is scored on
            b + b**2 + .. + b**d nodes a step.
        slack: seats of a node over its fair share of the items. 1 lets the
            items change places on the leaves in use, and the tree stays
            balanced; more lets a node of level l seat ceil(slack N / b**l)
            items but never more than it has leaves; inf leaves only that
            bound, the paper's.
        weights: what Algorithm 2 maximises. likelihood: Eq. 2, which also
            falls where what is popular gathers under few nodes; information:
            what the nodes tell of a user beyond that, log p(n|u) - log p(n)
            for each node n of an item's path.
        kin_strength: pseudo-samples, with the mean weight of the items of its
            category, that steady an item's own.
        margin: nats a sample must gain before its item leaves its old node.
        score_leaves: whether the leaf level counts. A leaf's score speaks of
            the item that sits there now; where embeddings move with their
            items it says little of the one that would come.
        solver: how items are assigned to nodes. greedy: the paper's
            rebalancing; priced: the same after the nodes are priced by
            demand, near the optimum; exact: for small trees.
        order: which items keep their seats in a node that is too full.
            regret: those that would lose most by leaving; weight: those of
            largest weight.
        lazy: whether items of the old tree keep their seats first.
        cluster_below: Algorithm 2 decides from the root down to the level
            whose nodes have at most so many samples on average, of those that
            are weighed; the items of a node are then divided by clusters of
            their vectors, see `learning.tree_step`, for few samples tell
            little of nodes that are much alike. 0, as in the paper, for all
            levels.
        max_samples_per_item: of an item's samples so many are weighed, drawn
            at random; all by default.
        histories_per_user: of a user with more samples, the histories of so
            many, evenly spread, stand for those of all: each is described
            once. None for each sample's own.
        seed: of the thinning.
        batch_samples: most samples, rows, of one call of the model.
        batch_nodes: most (sample, node) pairs of one call of the model.
        group_weights: most weights held at once, unless one sub-problem alone
            has more.
        problem_weights: most weights of a sub-problem of average size; where
            it would have more, near the root, fewer levels than `gap` are
            decided at once.
    """

    gap: int = 7
    slack: float = 1.0
    weights: str = "likelihood"
    kin_strength: float = 0.0
    margin: float = 0.0
    score_leaves: bool = True
    solver: str = "greedy"
    order: str = "regret"
    lazy: bool = True
    cluster_below: int = 0
    max_samples_per_item: int | None = None
    histories_per_user: int | None = 16
    seed: int = 0
    batch_samples: int = 2**14
    batch_nodes: int = 2**17
    group_weights: int = 2**25
    problem_weights: int = 2**27

    def __post_init__(self):
        for name, allowed in (
            ("solver", SOLVERS),
            ("order", assignment.ORDERS),
            ("weights", WEIGHTS),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(
                    f"{name} must be one of {allowed}; got {value!r}."
                )
        # `not x >= 1` refuses NaN too.
        if not self.slack >= 1:
            raise ValueError(
                f"slack must be >= 1, or items have no seat; got {self.slack}."
            )
        for name in ("kin_strength", "margin", "cluster_below"):
            value = getattr(self, name)
            if not value >= 0:
                raise ValueError(f"{name} must be >= 0; got {value}.")
        sizes = ("gap", "batch_samples", "batch_nodes", "group_weights")
        sizes += ("problem_weights",)
        for name in sizes + ("max_samples_per_item", "histories_per_user"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1; got {value}.")


@dataclasses.dataclass(frozen=True)
class Block:
    """What one step from level l - d to level l did to the objective.

    Attributes:
        level: l, the level that was decided.
        gap: d.
        sub_problems: nodes n_i with items.
        before: sum of L_c^{l-d+1,l}(pi), log-likelihood of the samples, over
            the items that were under their n_i in the old tree, at their old
            nodes.
        after: the same items at their new nodes.
        total: all items at their new nodes.
        bound: all items at their heaviest nodes, whatever the capacity.
    """

    level: int
    gap: int
    sub_problems: int
    before: float
    after: float
    total: float
    bound: float


@dataclasses.dataclass(frozen=True)
class Result:
    """The new tree and how it came about.

    Attributes:
        tree: the new tree, with the same items and shape.
        level: the last one that was decided, the leaves but for
            `cluster_below`; below it, items that stay below their node keep
            their leaf, and the others fill up what is left.
        moved_items: items that sit on another leaf.
        blocks: one a step, from the root down.
        scored_pairs: (sample, node) pairs that the model scored.
        seconds: wall time in all.
        seconds_scoring: wall time inside the model.
    """

    tree: tree_lib.Tree
    level: int
    moved_items: int
    blocks: tuple[Block, ...]
    scored_pairs: int
    seconds: float
    seconds_scoring: float


def capacity(tree: tree_lib.Tree, *, level: int, slack: float) -> np.ndarray:
    """Returns the seats of each node of `level`, [b**level] int64.

    With slack 1 they are the items under it now. Otherwise they are
    ceil(seats / b**l) of seats = min(b**l_max, ceil(slack N)) in all. Both
    ways the descendants of a node d levels below seat all that the node may
    hold, as b**d ceil(x / b**d) >= x, so every sub-problem is feasible.
    """
    nodes = tree.branching**level
    if slack == 1:
        first = tree_lib.first_code(level, tree.branching)
        return np.bincount(tree.ancestors(level)[1:] - first, minlength=nodes)
    seats = tree.num_leaves
    if slack * tree.num_items < seats:
        seats = math.ceil(slack * tree.num_items)
    return np.full(nodes, -(-seats // nodes))


def learn(
    tree: tree_lib.Tree,
    targets: np.ndarray,
    histories: Callable[[np.ndarray], np.ndarray],
    log_prob: types.LogProbFn,
    config: TreeLearningConfig,
    *,
    describe: types.DescribeFn = types.as_they_are,
    history_of: np.ndarray | None = None,
    kin: np.ndarray | None = None,
    folds: edge_weights.Folds | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Finds the pi that maximises -L(theta, pi) (Eq. 2) for a fixed theta.

    Args:
        tree: the old tree.
        targets: [S] int items, the target of each sample.
        histories: maps [B] numbers of histories to [B, T] history items.
        log_prob: log p(node|user), histories lifted through the *old* pi. A
            level is always scored in batches of one shape.
        config: see `TreeLearningConfig`.
        describe: what is done once for all scores of a history.
        history_of: [S] int, the number of each sample's history; by default
            that of the sample. Whether they are shared is the caller's.
        kin: [N + 1] int, the group of each item, see `categories.kin_groups`;
            needed if `kin_strength` is set.
        folds: parts of the samples that `log_prob` is prepared for.
        progress: called with (pairs scored, pairs in all) after each batch.

    Returns:
        A `Result`; its tree seats every item once.

    Raises:
        ValueError: a target is no item of the tree, `kin` is missing or has
            another length, or `log_prob` gives a wrong shape or infinities.
    """
    weigh = edge_weights.EdgeWeights(
        tree,
        targets,
        histories,
        log_prob,
        describe=describe,
        history_of=history_of,
        batch_samples=config.batch_samples,
        batch_nodes=config.batch_nodes,
        score_leaves=config.score_leaves,
        max_samples_per_item=config.max_samples_per_item,
        seed=config.seed,
        informative=config.weights == "information",
        folds=folds,
    )
    return solve(tree, weigh, config, kin=kin, progress=progress)


def solve(
    tree: tree_lib.Tree,
    weigh: edge_weights.Weights,
    config: TreeLearningConfig,
    *,
    kin: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Does what `learn` does, by edge weights that somebody sums.

    Args:
        tree: the old tree.
        weigh: the edge weights, by a fixed theta and the old pi.
        config: see `TreeLearningConfig`.
        kin: see `learn`.
        progress: see `learn`.

    Raises:
        ValueError: `kin` is missing or has another length, or the weights are
            infinite.
    """
    start = time.perf_counter()
    if config.kin_strength and (kin is None or len(kin) != len(tree.pi)):
        raise ValueError(
            f"kin_strength needs kin of length {len(tree.pi)}; got "
            f"{'none' if kin is None else len(kin)}."
        )
    last = last_level(
        int(weigh.counts.sum()),
        tree.max_level,
        tree.branching,
        config.cluster_below,
    )
    order = list(
        steps(
            last,
            config.gap,
            num_items=tree.num_items,
            branching=tree.branching,
            most=config.problem_weights,
        )
    )
    total = sum(weigh.pairs_of(*step) for step in order)

    def report():
        if progress is not None:
            progress(weigh.pairs, total)

    blocks = []
    # Line 1: all under the root, so that an item may come out anywhere,
    # wherever the old pi had it.
    nodes = np.ones(tree.num_items, np.int64)
    for level, gap in order:  # line 2
        nodes, block = _decide(
            tree, nodes, level, gap, weigh, config, kin, report
        )
        blocks.append(block)
    new_tree = _seated(tree, nodes, last)
    return Result(
        tree=new_tree,
        level=last,
        moved_items=new_tree.moved_items(tree),
        blocks=tuple(blocks),
        scored_pairs=weigh.pairs,
        seconds=time.perf_counter() - start,
        seconds_scoring=weigh.seconds,
    )


def last_level(
    samples: int, max_level: int, branching: int, cluster_below: int
) -> int:
    """Returns the level down to which Algorithm 2 decides.

    Args:
        samples: that are weighed.
        max_level: of the leaves.
        branching: b.
        cluster_below: see `TreeLearningConfig`.
    """
    level = 0
    while level < max_level and (
        not cluster_below or samples > cluster_below * branching**level
    ):
        level += 1
    return level


def steps(
    max_level: int,
    gap: int,
    *,
    num_items: int = 0,
    branching: int = 2,
    most: int = 0,
) -> Iterator[tuple[int, int]]:
    """Yields the (level, gap) of each step.

    Departs from the paper: near the root, where all items are in few
    sub-problems, a gap is smaller if the weights of one would be too many.

    Args:
        max_level: the last level that is decided.
        gap: d, levels decided at once.
        num_items: N.
        branching: b.
        most: weights of a sub-problem of average size, at most, unless a
            single level has more.
    """
    level = 0
    while level < max_level:
        step = min(gap, max_level - level)  # line 8
        while step > 1 and num_items * branching ** (step - level) > most:
            step -= 1
        level += step  # line 9
        yield level, step


def _decide(tree, nodes, level, gap, weigh, config, kin, report):
    """Moves every item down from level l - d to level l (lines 3 to 7).

    Args:
        nodes: [N] the node n_i of level l - d of each item in the new tree.

    Returns:
        The node of level l of each item, [N], and the `Block`.
    """
    b = tree.branching
    width = b**gap
    seats = capacity(tree, level=level, slack=config.slack)
    seats = seats.reshape(-1, width)  # of the descendants of each n_i
    parents = nodes - tree_lib.first_code(level - gap, b)
    leftmost = parents * width + tree_lib.first_code(level, b)
    # Who came from under another node has no seat here to keep.
    old = tree.ancestors(level)[1:] - leftmost
    old = np.where((old < 0) | (old >= width), assignment.NOWHERE, old)
    # By node, then by kin: sub-problems and families are runs of rows.
    kin = np.zeros(len(nodes), np.int64) if kin is None else kin[1:]
    by_node = np.lexsort((kin, nodes))
    starts = np.flatnonzero(np.diff(nodes[by_node], prepend=0))

    chosen = np.empty_like(nodes)
    sums = np.zeros(4)
    for first, last in _groups(
        starts, len(nodes), config.group_weights // width
    ):  # line 3
        items = by_node[first:last]  # C_ni of some whole n_i
        weights = weigh(  # line 4
            items, nodes[items], level, gap, progress=report
        )
        # Kin and margin bend the choice, not what is reported: `Block` sums
        # the log-likelihood of real samples.
        tilted = _tilted(
            weights,
            old[items],
            nodes[items],
            kin[items],
            weigh.counts[items],
            config,
        )
        choice = _solve(tilted, seats, old[items], parents[items], config)
        chosen[items] = leftmost[items] + choice  # line 5
        sums += _objective(weights, old[items], choice)
    return chosen, Block(level, gap, len(starts), *map(float, sums))


def _seated(tree, nodes, level):
    """Returns a tree with each item below its node of a level.

    Args:
        tree: the old tree.
        nodes: [N] int, the node of each item.
        level: of those nodes.
    """
    nodes = np.concatenate([tree.pi[:1], nodes])
    if level == tree.max_level:
        return tree.replace_pi(nodes)
    stay = tree.ancestors(level) == nodes
    movers = np.flatnonzero(~stay)
    movers = movers[np.argsort(nodes[movers], kind="stable")]
    width = tree.branching ** (tree.max_level - level)
    # Of a node, the leaves that were in use before are taken first, so that
    # with slack 1 the same are.
    on_leaf = tree.leaf_items()
    unused = on_leaf == types.PAD
    leaves = np.flatnonzero(unused | ~stay[on_leaf])
    leaves = leaves[np.lexsort((unused[leaves], leaves // width))]
    room = np.bincount(leaves // width, minlength=tree.branching**level)
    home = nodes[movers] - tree_lib.first_code(level, tree.branching)
    wanted = np.bincount(home, minlength=len(room))
    pi = tree.pi.copy()
    pi[movers] = (
        tree.first_leaf
        + leaves[ragged.ranges(wanted, ragged.offsets(room)[:-1])]
    )
    return tree.replace_pi(pi)


def _groups(starts, n, limit) -> Iterator[tuple[int, int]]:
    """Cuts rows 0..n into runs of whole nodes, of <= limit rows or one node."""
    ends = np.append(starts[1:], n)
    first = 0
    while first < n:
        one = np.searchsorted(ends, first, side="right")
        many = np.searchsorted(ends, first + limit, side="right") - 1
        last = int(ends[max(one, many)])
        yield first, last
        first = last


def _tilted(weights, old, nodes, kin, counts, config):
    """Returns the weights with pseudo-samples of kin and the margin, [n, D].

    Departs from the paper: W_c += k mean(W of a sample of c's kin under the
    same n_i), so that an item of few samples follows its kin; and the old
    node gains `margin` a sample.
    """
    if config.kin_strength:
        begins = np.diff(nodes, prepend=-1) != 0
        begins |= np.diff(kin, prepend=kin[0]) != 0
        runs, family = np.flatnonzero(begins), np.cumsum(begins) - 1
        sizes = np.add.reduceat(counts, runs)
        helps = (sizes > 0) & (kin[runs] != categories.UNKNOWN)
        strength = np.where(helps, config.kin_strength, 0.0)
        means = np.add.reduceat(weights, runs, axis=0, dtype=np.float64)
        means *= (strength / np.maximum(sizes, 1))[:, None]
        tilted = means.astype(np.float32)[family]
        tilted += weights
        counts = counts + strength[family]
    elif config.margin:
        tilted = weights.copy()
    else:
        return weights
    rows = np.flatnonzero(old != assignment.NOWHERE)
    tilted[rows, old[rows]] += config.margin * counts[rows]
    return tilted


def _solve(weights, seats, old, parents, config):
    """Solves a group of sub-problems: each item's chosen descendant, [n].

    Args:
        weights: [n, b**d] float.
        seats: [nodes of level l - d, b**d] int.
        old: [n] int, the old descendants.
        parents: [n] int, rows of `seats`, ascending.
    """
    begins = np.flatnonzero(np.diff(parents, prepend=-1))
    seats = seats[parents[begins]]
    if config.solver == "priced":
        price = assignment.prices(weights, seats, problem=parents)
        owner = np.repeat(
            np.arange(len(begins)), np.diff(begins, append=len(parents))
        )
        # An item that all nodes suit alike stays rather than goes shopping.
        choosy = np.ptp(weights, axis=1) > 0
        weights = weights - np.where(choosy[:, None], price[owner], 0)
    if config.solver != "exact":
        return assignment.greedy_rebalanced(
            weights,
            seats,
            old,
            problem=parents,
            lazy=config.lazy,
            order=config.order,
        )
    bounds = itertools.pairwise([*begins, len(parents)])
    return np.concatenate(
        [
            assignment.exact(weights[i:j], free, old[i:j])
            for (i, j), free in zip(bounds, seats)
        ]
    )


def _objective(weights, old, choice):
    """Returns before, after, total and bound of `Block`, [4]."""
    rows = np.arange(len(weights))
    at_choice = weights[rows, choice].astype(np.float64)
    home = np.flatnonzero(old != assignment.NOWHERE)
    return np.array(
        [
            weights[home, old[home]].sum(dtype=np.float64),
            at_choice[home].sum(),
            at_choice.sum(),
            weights.max(axis=1).sum(dtype=np.float64),
        ]
    )
