"""Tests of `jtm_tf.tree.statistics`: against loops over items."""

import collections

import numpy as np
import pytest

from jtm_tf.tree import initial
from jtm_tf.tree import statistics as tree_statistics
from jtm_tf.tree import tree as tree_lib
from tests.support import tastes

SHAPES = [(1, 2), (2, 2), (13, 2), (37, 3), (64, 4)]


def draw(items, branching, seed=0):
    """Returns a tree in random order and a group of each item, 0 included."""
    rng = np.random.default_rng(seed)
    groups = np.append(0, rng.integers(0, 4, items))
    groups[1] = 3
    return initial.random(items, branching=branching, seed=seed), groups


def members(tree, level):
    """Returns the items below each node of a level that has any."""
    below = collections.defaultdict(list)
    for item, node in enumerate(tree.ancestors(level)):
        if item:
            below[int(node)].append(item)
    return below


@pytest.mark.parametrize("items, branching", SHAPES)
def test_sums(items, branching):
    tree, _ = draw(items, branching)
    values = np.arange(items + 1) ** 2 + 0.5
    for level in range(tree.max_level + 1):
        counts = tree_statistics.sums(tree, level)
        totals = tree_statistics.sums(tree, level, values)
        assert len(counts) == len(totals) == branching**level
        first = tree_lib.first_code(level, branching)
        below = members(tree, level)
        for place, (count, total) in enumerate(zip(counts, totals)):
            inside = below[place + first]
            assert count == len(inside)
            assert total == pytest.approx(values[inside].sum())


@pytest.mark.parametrize("items, branching", SHAPES)
def test_majority_and_purity(items, branching):
    tree, groups = draw(items, branching)
    purity = tree_statistics.purity(tree, groups)
    for level in range(tree.max_level + 1):
        want = {}
        for node, inside in members(tree, level).items():
            of = collections.Counter(groups[i] for i in inside if groups[i])
            if of:
                most = max(of.values())
                want[node] = min(g for g in of if of[g] == most), most
        nodes, group, counts = tree_statistics.majority(tree, groups, level)
        assert list(nodes) == sorted(want)
        assert dict(zip(nodes, zip(group, counts))) == want
        known = np.count_nonzero(groups)
        assert purity[level] == pytest.approx(counts.sum() / known)
    assert purity[-1] == 1
    assert np.all(np.diff(purity) >= 0), "a split never mixes"


def test_no_known_group():
    tree, groups = draw(9, 2)
    assert np.isnan(tree_statistics.purity(tree, 0 * groups)).all()
    assert not len(tree_statistics.majority(tree, 0 * groups, 1)[0])


@pytest.mark.parametrize("items, branching", SHAPES)
def test_moved(items, branching):
    before, _ = draw(items, branching)
    after = initial.random(items, branching=branching, seed=1)
    moved = tree_statistics.moved(before, after)
    for level, count in enumerate(moved):
        pairs = zip(before.ancestors(level), after.ancestors(level))
        assert count == sum(a != b for a, b in pairs)
    assert moved[-1] == before.moved_items(after)
    assert not tree_statistics.moved(before, before).any()


def test_trees_of_another_shape():
    with pytest.raises(ValueError, match=r"\(9, 4, 2\) and \(9, 2, 3\)"):
        tree_statistics.moved(initial.random(9), initial.random(9, branching=3))


def test_entropy_and_information_against_loops():
    rng = np.random.default_rng(0)
    tree = initial.random(11, seed=3)
    users, items = rng.integers(0, 5, 60), rng.integers(1, 12, 60)
    weights = rng.random(60)
    counts = np.bincount(items, weights, minlength=12)
    entropy = tree_statistics.entropy(tree, counts)
    told_by = tree_statistics.information(tree, users, items, weights)
    most = tree_statistics.busiest(tree, counts, nodes=3)
    for level in range(tree.max_level + 1):
        joint = np.zeros((5, 2**level))
        for user, item, weight in zip(users, items, weights):
            place = tree.ancestors(level)[item] - 2**level
            joint[user, place] += weight / weights.sum()
        nodes, of_users = joint.sum(axis=0), joint.sum(axis=1)
        want = -sum(x * np.log(x) for x in nodes if x)
        assert entropy[level] == pytest.approx(want)
        want = sum(
            joint[u, n] * np.log(joint[u, n] / of_users[u] / nodes[n])
            for u, n in np.argwhere(joint)
        )
        assert told_by[level] == pytest.approx(want, abs=1e-12)
        assert most[level] == pytest.approx(sum(sorted(nodes)[-3:]))
    assert np.all(np.diff(told_by) > -1e-12), "a finer level tells no less"


@pytest.mark.parametrize("items, branching", SHAPES)
def test_measures_are_lists_from_level_1(items, branching):
    rng = np.random.default_rng(1)
    tree = initial.random(items, branching=branching)
    users, taken = rng.integers(0, 7, 90), rng.integers(1, items + 1, 90)
    measures = tree_statistics.measures(tree, users, taken)
    assert tuple(measures) == tree_statistics.MEASURES
    counts = np.bincount(taken, minlength=items + 1)
    for level in range(1, 1 + tree.max_level):
        nodes = tree_statistics.sums(tree, level, counts)
        share = np.sort(nodes)[::-1] / 90
        entropy = -sum(x * np.log(x) for x in share if x)
        got = {name: values[level - 1] for name, values in measures.items()}
        assert got["entropy"] == pytest.approx(entropy, abs=1e-6)
        assert got["busiest"] == pytest.approx(share[:20].sum(), abs=1e-6)
        assert 0 <= got["information"] <= got["entropy"] + 1e-6
    assert {len(values) for values in measures.values()} == {tree.max_level}


def test_gathering_what_is_popular_tells_nothing_of_users():
    """Eq. 2 alone prefers such a tree to the true one; the two terms differ."""
    rng = np.random.default_rng(0)
    p, _ = tastes.preferences(rng, 300, 8, zipf=1.0)
    true = tree_lib.Tree.from_order(np.arange(1, 257))
    popular = tree_lib.Tree.from_order(np.argsort(-p.sum(axis=0)) + 1)
    counts = np.concatenate([[0], p.sum(axis=0)])
    spread = [tree_statistics.entropy(t, counts).sum() for t in (true, popular)]
    information = [tastes.told(t, p) for t in (true, popular)]
    assert spread[1] < spread[0] - 1
    assert information[1] < 0.8 * information[0]
