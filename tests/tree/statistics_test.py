"""Tests of `jtm_tf.tree.statistics`: against loops over items."""

import collections

import numpy as np
import pytest

from jtm_tf.tree import initial
from jtm_tf.tree import statistics as tree_statistics
from jtm_tf.tree import tree as tree_lib

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
