"""Tests of `jtm_tf.tree.learning` against plain loops, scipy and theorems."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import optimize

from jtm_tf.data import planted_world
from jtm_tf.tree import assignment
from jtm_tf.tree import edge_weights
from jtm_tf.tree import initial
from jtm_tf.tree import learning as tree_learning
from jtm_tf.tree import tree as tree_lib
from tests.support import tastes

Config = tree_learning.TreeLearningConfig


def histories(samples):
    """Returns a history that names its sample, [B, 2]."""
    return np.stack([samples, samples], axis=1).astype(np.int32)


class Table:
    """A `LogProbFn` that looks up sample and node; it notes the shapes."""

    def __init__(self, tree, samples, seed):
        rng = np.random.default_rng(seed)
        shape = (max(samples, 1), tree.num_codes)
        self.values = rng.normal(-4, 2, shape).astype(np.float32)
        self.tree = tree
        self.shapes = {}

    def __call__(self, history, nodes, level):
        assert history.dtype == nodes.dtype == np.int32
        levels = tree_lib.level_of(nodes, self.tree.branching)
        assert np.all(levels == level)
        shapes = self.shapes.setdefault(level, set())
        shapes.add((history.shape, nodes.shape))
        return self.values[history[:, :1], nodes]


def case(num_items, samples, *, branching=2, seed=0):
    """Returns a random tree, targets and a table of log-probabilities."""
    tree = initial.random(num_items, branching=branching, seed=seed)
    rng = np.random.default_rng(seed)
    targets = rng.integers(1, num_items + 1, samples).astype(np.int32)
    return tree, targets, Table(tree, samples, seed)


def learn_by_loops(tree, targets, values, *, gap, kin, strength, margin):
    """Algorithm 2 a line at a time, with exact sub-problems."""
    b, level = tree.branching, 0
    node_of = {item: 1 for item in range(1, tree.num_items + 1)}
    while level < tree.max_level:
        step = min(gap, tree.max_level - level)
        old_of = tree.ancestors(level + step)
        for node in sorted(set(node_of.values())):
            items = [c for c in node_of if node_of[c] == node]
            paths = [[node]]
            for _ in range(step):
                paths = [
                    path + [b * (path[-1] - 1) + 2 + i]
                    for path in paths
                    for i in range(b)
                ]
            weights = np.zeros((len(items), len(paths)))
            counts = [np.count_nonzero(targets == c) for c in items]
            for row, item in enumerate(items):
                for sample in np.flatnonzero(targets == item):
                    for column, path in enumerate(paths):
                        weights[row, column] += sum(values[sample, path[1:]])
            ends = [path[-1] for path in paths]
            old = [ends.index(o) if o in ends else -1 for o in old_of[items]]
            tilted = weights.copy()
            for row, item in enumerate(items):
                family = [kin[c] == kin[item] for c in items]
                total = np.sum(np.array(counts)[family])
                own = counts[row]
                if total:
                    tilted[row] += strength * weights[family].sum(0) / total
                    own += strength
                if old[row] >= 0:
                    tilted[row, old[row]] += margin * own
            # As many seats as the old tree has items there.
            seats = [np.count_nonzero(old_of == end) for end in ends]
            chosen = assignment.exact(tilted, seats, np.array(old))
            node_of.update(zip(items, (ends[m] for m in chosen)))
        level += step
    return [node_of[c] for c in range(1, tree.num_items + 1)]


@pytest.mark.parametrize("branching, num_items", [(2, 13), (3, 20), (2, 16)])
@pytest.mark.parametrize("strength, margin", [(0, 0), (2.5, 0.7)])
def test_against_plain_loops(branching, num_items, strength, margin):
    tree, targets, table = case(num_items, 90, branching=branching)
    kin = np.random.default_rng(1).integers(1, 5, num_items + 1)
    config = Config(
        gap=2,
        solver="exact",
        kin_strength=strength,
        margin=margin,
        batch_samples=7,
        batch_nodes=20,
        group_weights=30,
    )
    want = learn_by_loops(
        tree,
        targets,
        table.values.astype(np.float64),
        gap=2,
        kin=kin,
        strength=strength,
        margin=margin,
    )
    got = tree_learning.learn(tree, targets, histories, table, config, kin=kin)
    np.testing.assert_array_equal(got.tree.pi[1:], want)


@pytest.mark.parametrize("batch", [3, 40])
def test_a_shared_history_is_described_once_a_step(batch):
    """As if each sample had it for itself, in any batches."""
    tree, targets, table = case(20, 90)
    history_of = np.random.default_rng(3).integers(10, size=90)
    described = []

    def describe(history, levels):
        described.extend((tuple(levels), number) for number in history[:, 0])
        return history

    config = Config(gap=2, batch_samples=batch, batch_nodes=20)
    want = tree_learning.learn(
        tree,
        targets,
        lambda samples: histories(history_of[samples]),
        table,
        config,
    )
    got = tree_learning.learn(
        tree,
        targets,
        histories,
        table,
        config,
        describe=describe,
        history_of=history_of,
    )
    np.testing.assert_array_equal(got.tree.pi, want.tree.pi)
    assert got.scored_pairs == want.scored_pairs
    steps = [(1, 2), (3, 4), (5,)]
    once = [(levels, number) for levels in steps for number in range(10)]
    assert sorted(described) == once


def test_the_model_is_prepared_for_each_part_of_the_samples():
    """Every sample is scored once, as if there were no parts."""
    tree, targets, table = case(20, 90)
    of = np.random.default_rng(2).integers(4, size=90)
    prepared = []

    def log_prob(history, nodes, level):
        assert np.all(of[history[:, 0]] == prepared[-1])
        return table(history, nodes, level)

    config = Config(gap=2, batch_samples=7, batch_nodes=20, group_weights=30)
    folds = edge_weights.Folds(of, 5, prepared.append)  # one has no sample
    want = tree_learning.learn(tree, targets, histories, table, config)
    got = tree_learning.learn(
        tree, targets, histories, log_prob, config, folds=folds
    )
    np.testing.assert_array_equal(got.tree.pi, want.tree.pi)
    assert got.scored_pairs == want.scored_pairs
    assert got.blocks[0].total == pytest.approx(want.blocks[0].total)


def test_one_step_to_the_leaves_is_one_matching():
    tree, targets, table = case(16, 60)
    got = tree_learning.learn(
        tree, targets, histories, table, Config(gap=4, solver="exact")
    )
    weights = np.zeros((16, 16))
    for level in range(1, 5):
        above = tree_lib.ancestor(
            np.arange(16, 32), from_level=4, to_level=level, branching=2
        )
        np.add.at(weights, targets - 1, table.values[:, above])
    best = optimize.linear_sum_assignment(weights, maximize=True)
    (block,) = got.blocks
    np.testing.assert_allclose(block.total, weights[best].sum(), rtol=1e-5)
    seats = got.tree.pi[1:] - 16
    np.testing.assert_allclose(
        weights[np.arange(16), seats].sum(), block.total, rtol=1e-5
    )
    seats = tree.pi[1:] - 16
    np.testing.assert_allclose(
        weights[np.arange(16), seats].sum(), block.before, rtol=1e-5
    )


@pytest.mark.parametrize("seed", range(5))
def test_solved_exactly_the_objective_never_falls(seed):
    tree, targets, table = case(29, 100, seed=seed)
    for _ in range(3):
        got = tree_learning.learn(
            tree, targets, histories, table, Config(gap=9, solver="exact")
        )
        (block,) = got.blocks
        assert block.before <= block.after + 1e-3
        assert block.after == block.total <= block.bound + 1e-3
        tree = got.tree
    assert got.moved_items == 0  # the table is fixed, so it has converged


@hypothesis.settings(deadline=None, max_examples=80, derandomize=True)
@hypothesis.given(
    num_items=st.integers(1, 40),
    branching=st.sampled_from([2, 3, 8]),
    gap=st.integers(1, 3),
    slack=st.sampled_from([1.0, 1.3, math.inf]),
    kin_strength=st.sampled_from([0.0, 3.0]),
    margin=st.sampled_from([0.0, 0.5]),
    solver=st.sampled_from(["greedy", "exact"]),
    order=st.sampled_from(["regret", "weight"]),
    lazy=st.booleans(),
    score_leaves=st.booleans(),
    cluster_below=st.sampled_from([0, 1, 3, 10, 100]),
    samples=st.integers(0, 60),
    seed=st.integers(0, 99),
)
def test_every_item_gets_its_own_leaf(
    num_items, branching, samples, seed, **options
):
    tree, targets, table = case(
        num_items, samples, branching=branching, seed=seed
    )
    kin = np.random.default_rng(seed).integers(0, 4, num_items + 1)
    got = tree_learning.learn(
        tree, targets, histories, table, Config(**options), kin=kin
    )
    # `Tree` itself refuses a pi that is not injective.
    assert got.tree.num_items == num_items
    assert got.level == tree_learning.last_level(
        samples, tree.max_level, branching, options["cluster_below"]
    )
    for level in range(got.level + 1):
        if options["slack"] == 1:
            np.testing.assert_array_equal(
                got.tree.occupied(level), tree.occupied(level)
            )
        elif level % options["gap"] == 0 or level == got.level:
            now = tree_learning.capacity(got.tree, level=level, slack=1)
            seats = tree_learning.capacity(
                tree, level=level, slack=options["slack"]
            )
            assert np.all(now <= seats)


@pytest.mark.parametrize("slack", [1, 2])
@pytest.mark.parametrize(
    "cluster_below, level", [(0, 7), (1, 7), (10, 6), (45, 4), (500, 0)]
)
def test_lower_levels_are_left_as_they_are(cluster_below, level, slack):
    """What is decided above is the same; who stays below a node sits still."""
    tree, targets, table = case(100, 500)
    whole = tree_learning.learn(
        tree, targets, histories, table, Config(gap=2, slack=slack)
    )
    config = Config(gap=2, slack=slack, cluster_below=cluster_below)
    assert tree_learning.last_level(500, 7, 2, cluster_below) == level
    got = tree_learning.learn(tree, targets, histories, table, config)
    assert got.level == level
    same = level - level % 2 if level < 7 else 7
    np.testing.assert_array_equal(
        got.tree.ancestors(same), whole.tree.ancestors(same)
    )
    stay = got.tree.ancestors(level) == tree.ancestors(level)
    if level < tree.max_level:
        np.testing.assert_array_equal(got.tree.pi[stay], tree.pi[stay])
        assert got.scored_pairs < whole.scored_pairs
    if slack == 1:
        np.testing.assert_array_equal(np.sort(got.tree.pi), np.sort(tree.pi))
    if level:
        assert 0 < stay.sum() < 101 and got.moved_items > 0
    else:
        assert got.moved_items == 0


@pytest.mark.parametrize("branching", [2, 3, 8])
@pytest.mark.parametrize("slack", [1, 1.2, 2, math.inf])
def test_descendants_seat_all_that_a_node_may_hold(branching, slack):
    for num_items in (1, 2, 5, 8, 9, 100, 1000, 4097):
        tree = initial.random(num_items, branching=branching)
        seats = [
            tree_learning.capacity(tree, level=level, slack=slack)
            for level in range(tree.max_level + 1)
        ]
        assert seats[0] >= num_items and seats[-1].max() == 1
        for level, above in enumerate(seats):
            assert np.all(above <= branching ** (tree.max_level - level))
            for below in seats[level:]:
                below = below.reshape(len(above), -1).sum(axis=1)
                assert np.all(below >= above)


def test_weights_of_a_block_are_bounded():
    """Near the root gaps are smaller; where there is room all are as asked."""
    for items, branching, gap, most in [
        (10**7, 2, 7, 2**27),
        (10**8, 2, 7, 2**27),
        (10**6, 2, 7, 2**27),
        (5000, 3, 4, 20_000),
        (100, 2, 3, 10),
    ]:
        levels = math.ceil(math.log(items, branching))
        shape = {"num_items": items, "branching": branching, "most": most}
        found = list(tree_learning.steps(levels, gap, **shape))
        assert [level for level, _ in found] == list(
            np.cumsum([step for _, step in found])
        )
        assert found[-1][0] == levels
        for level, step in found:
            held = items / branching ** (level - step) * branching**step
            assert held <= most or step == 1
            # One more would have been too many, or is not asked for.
            assert step == gap or level == levels or held * branching > most, (
                items,
                level,
            )
    assert list(tree_learning.steps(17, 7)) == [(7, 7), (14, 7), (17, 3)]
    shape = {"num_items": 10**6, "branching": 2, "most": 2**27}
    assert list(tree_learning.steps(20, 7, **shape))[0] == (7, 7)


def test_small_blocks_find_a_good_tree_too():
    """Few levels at once, as for many items, against many."""
    tree, targets, table = case(200, 4000)
    totals = []
    for most in (2**27, 1000):
        config = Config(gap=4, problem_weights=most)
        got = tree_learning.learn(tree, targets, histories, table, config)
        totals.append(sum(block.total for block in got.blocks))
        np.testing.assert_array_equal(np.sort(got.tree.pi), np.sort(tree.pi))
        assert (got.blocks[0].gap == 4) == (most > 1000)
    assert totals[1] > 1.05 * totals[0]  # log-likelihoods: below zero


def test_items_without_samples_stay():
    tree, _, table = case(100, 1)
    none = np.zeros(0, np.int32)
    got = tree_learning.learn(tree, none, histories, table, Config(gap=3))
    assert got.moved_items == 0 and got.scored_pairs == 0
    # One item with samples displaces one other at most.
    some = np.array([7] * 5, np.int32)
    table = Table(tree, 5, seed=2)
    for lazy in (True, False):
        got = tree_learning.learn(
            tree, some, histories, table, Config(gap=7, lazy=lazy)
        )
        assert got.moved_items <= 2


def test_items_without_samples_follow_their_kin():
    # Items 1..8 and 9..16 are two families; all start mixed up.
    tree, _, _ = case(16, 1)
    kin = np.repeat([0, 1, 2], [1, 8, 8])
    targets = np.repeat([1, 2, 9, 10], 5)
    side = np.where(targets < 9, 2, 3)

    def log_prob(history, nodes, level):
        half = tree_lib.ancestor(
            nodes, from_level=level, to_level=1, branching=2
        )
        return np.where(half == side[history[:, :1]], -0.1, -3.0)

    config = Config(gap=1, kin_strength=1.0, lazy=False)
    got = tree_learning.learn(
        tree, targets, histories, log_prob, config, kin=kin
    )
    np.testing.assert_array_equal(got.tree.ancestors(1)[1:], kin[1:] + 1)


def test_a_large_margin_keeps_all_in_place():
    tree, targets, table = case(60, 300)
    for solver in ("greedy", "exact"):
        config = Config(gap=3, margin=1e3, solver=solver)
        got = tree_learning.learn(tree, targets, histories, table, config)
        assert got.moved_items == 0


def test_the_result_depends_on_no_batch_size():
    tree, targets, table = case(70, 500)
    kin = 1 + np.arange(71) % 5
    results = [
        tree_learning.learn(
            tree,
            targets,
            histories,
            table,
            Config(gap=3, kin_strength=2, batch_nodes=pairs, group_weights=w),
            kin=kin,
        )
        for pairs, w in [(2**17, 2**25), (50, 2**25), (64, 100), (1, 1)]
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(other.tree.pi, results[0].tree.pi)
        for one, two in zip(results[0].blocks, other.blocks):
            np.testing.assert_allclose(one.total, two.total, rtol=1e-5)


def test_a_level_is_scored_in_one_shape_and_within_the_budget():
    tree, targets, table = case(70, 500)
    config = Config(gap=3, batch_nodes=100, batch_samples=30, group_weights=99)
    seen = []
    got = tree_learning.learn(
        tree,
        targets,
        histories,
        table,
        config,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert sorted(table.shapes) == list(range(1, 8))
    for shapes in table.shapes.values():
        ((history, nodes),) = shapes
        assert history[0] == nodes[0] <= 30
        assert nodes[0] * nodes[1] <= 100
    # Steps to levels 3, 6 and 7.
    assert got.scored_pairs == 500 * (14 + 14 + 2)
    assert seen == sorted(seen) and seen[-1] == (got.scored_pairs,) * 2
    assert 0 < got.seconds_scoring < got.seconds


def test_leaves_can_be_left_out():
    tree, targets, table = case(70, 500)
    got = tree_learning.learn(
        tree, targets, histories, table, Config(gap=3, score_leaves=False)
    )
    assert 7 not in table.shapes and got.scored_pairs == 500 * 28


def test_thinning_is_seeded_and_changes_nothing_when_not_needed():
    tree, targets, table = case(20, 300)

    def learn(**options):
        return tree_learning.learn(
            tree, targets, histories, table, Config(**options)
        )

    every, enough = learn(), learn(max_samples_per_item=300)
    np.testing.assert_array_equal(every.tree.pi, enough.tree.pi)
    one, two = (learn(max_samples_per_item=3, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one.tree.pi, two.tree.pi)
    most = np.minimum(np.bincount(targets), 3).sum()
    assert one.scored_pairs * len(targets) == every.scored_pairs * most
    # A sum over the samples that are kept, not scaled up to all of them.
    ratio = one.blocks[0].bound / every.blocks[0].bound
    assert 0.7 < ratio * len(targets) / most < 1.3


def learned(p, tree, *, cap=None, rounds=4, samples=15_000, **options):
    """Returns the tree after some steps with a perfect model, [U, N] `p`."""
    rng = np.random.default_rng(0)
    users = rng.integers(0, len(p), samples)
    draws = rng.random(samples)
    targets = 1 + np.minimum(
        (p.cumsum(axis=1)[users] < draws[:, None]).sum(axis=1), p.shape[1] - 1
    )
    # Kin are what the first tree knows of: its nodes of level 3.
    kin = tree.ancestors(3).astype(np.int64)
    for number in range(rounds):
        leaves = tree.pi[1:] - tree.first_leaf
        by_leaf = np.zeros_like(p)
        by_leaf[:, leaves] = p

        def log_prob(history, nodes, level, by_leaf=by_leaf):
            width = by_leaf.shape[1] // 2**level
            below = by_leaf.reshape(len(by_leaf), -1, width).sum(axis=2)
            found = below[history[:, :1], nodes - 2**level]
            return np.log(found).astype(np.float32)

        tree = tree_learning.learn(
            tree,
            targets,
            lambda chosen: users[chosen][:, None],
            log_prob,
            Config(
                gap=5,
                score_leaves=False,
                kin_strength=5.0,
                max_samples_per_item=cap,
                seed=number,
                **options,
            ),
            kin=kin,
        ).tree
    return tree


@pytest.mark.parametrize("zipf, seed", [(0.7, 0), (0.7, 1), (1.0, 1)])
def test_thinned_steps_tell_no_less_of_users(zipf, seed):
    """A perfect model and few samples an item never make a tree worse."""
    p, tree = tastes.preferences(np.random.default_rng(seed), 1500, 10, zipf)
    before = tastes.told(tree, p)
    told = {
        cap: tastes.told(learned(p, tree, cap=cap), p) for cap in (2, 5, None)
    }
    assert min(told.values()) > before
    assert told[2] > 0.95 * told[None] and told[5] > 0.95 * told[None]


def test_weights_without_what_is_popular():
    tree, targets, table = case(13, 200)
    counts = np.bincount(targets, minlength=14)
    below = [np.zeros(table.tree.num_codes) for _ in range(5)]
    for level in range(5):
        np.add.at(below[level], tree.ancestors(level)[1:], counts[1:])
    log_share = sum(
        np.where(
            tree_lib.level_of(np.arange(1, tree.num_codes), 2) == level,
            np.log((below[level][1:] + 1) / (200 + 2**level)),
            0,
        )
        for level in range(5)
    )
    table_of = table.values[:, 1:] - log_share.astype(np.float32)

    def weighed(log_prob, informative):
        weigh = edge_weights.EdgeWeights(
            tree,
            targets,
            histories,
            log_prob,
            batch_samples=64,
            batch_nodes=256,
            informative=informative,
        )
        return weigh(np.arange(13), np.ones(13, np.int64), 4, 4)

    got = weighed(table, True)
    wanted = weighed(lambda h, nodes, _: table_of[h[:, :1], nodes - 1], False)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("zipf, seed", [(0.7, 0), (1.0, 1)])
def test_informative_weights_tell_more_of_users(zipf, seed):
    p, tree = tastes.preferences(np.random.default_rng(seed), 1500, 10, zipf)
    found = {
        weights: learned(p, tree, weights=weights)
        for weights in tree_learning.WEIGHTS
    }
    told = {name: tastes.told(found[name], p) for name in found}
    assert told["information"] > 1.03 * told["likelihood"]


@pytest.mark.parametrize("num_items", [300, 512])
def test_recovers_the_planted_tree(num_items):
    world = planted_world.planted_world(500, num_items, 20, seed=0)
    past = world.histories(12)
    tree = initial.random(num_items, seed=1)
    level = world.taste_level
    assert planted_world.shared_pairs(tree, world.true_tree, level) < 0.05
    for _ in range(4):
        tree = tree_learning.learn(
            tree,
            world.item,
            lambda samples: past[samples],
            planted_world.oracle(world, tree),
            Config(gap=3),
        ).tree
    assert planted_world.shared_pairs(tree, world.true_tree, level) > 0.4


def test_a_better_model_gives_a_better_tree():
    world = planted_world.planted_world(400, 256, 20, seed=0)
    past = world.histories(12)
    tree = initial.random(256, seed=1)
    oracle = planted_world.oracle(world, tree)
    rng = np.random.default_rng(0)

    def blurred(history, nodes, level):
        scores = oracle(history, nodes, level)
        return scores + rng.normal(0, 4, scores.shape)

    found = [
        planted_world.shared_pairs(
            tree_learning.learn(
                tree,
                world.item,
                lambda samples: past[samples],
                model,
                Config(gap=3),
            ).tree,
            world.true_tree,
            world.taste_level,
        )
        for model in (blurred, oracle)
    ]
    assert found[0] < 0.7 * found[1]


def test_bad_input():
    tree, targets, table = case(10, 20)

    def learn(targets=targets, log_prob=table, kin=None, **options):
        tree_learning.learn(
            tree, targets, histories, log_prob, Config(**options), kin=kin
        )

    for bad in ([0, 1], [11], [[1]]):
        with pytest.raises(ValueError, match=r"items in 1\.\.10"):
            learn(targets=np.array(bad))
    with pytest.raises(ValueError, match="length 11; got none"):
        learn(kin_strength=1.0)
    with pytest.raises(ValueError, match="length 11; got 10"):
        learn(kin_strength=1.0, kin=np.zeros(10, int))
    with pytest.raises(ValueError, match="must return"):
        learn(log_prob=lambda history, nodes, level: np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        learn(log_prob=lambda h, nodes, level: np.full(nodes.shape, np.nan))


@pytest.mark.parametrize(
    "options",
    [
        dict(gap=0),
        dict(slack=0.9),
        dict(slack=math.nan),
        dict(margin=-1),
        dict(kin_strength=-1),
        dict(solver="best"),
        dict(batch_nodes=0),
        dict(max_samples_per_item=0),
    ],
)
def test_bad_config(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Config(**options)
