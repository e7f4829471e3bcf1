"""Tests of `jtm_tf.tree.initial`."""

import numpy as np
import pytest

from jtm_tf.tree import initial
from jtm_tf.tree import tree as tree_lib


@pytest.mark.parametrize("branching", [2, 3, 8])
@pytest.mark.parametrize("num_items", [1, 2, 3, 7, 8, 9, 100])
def test_items_are_spread_evenly(num_items, branching):
    got = initial.random(num_items, branching=branching, seed=3)
    assert got.max_level == tree_lib.min_max_level(num_items, branching)
    for level in range(got.max_level + 1):
        first = tree_lib.first_code(level, branching)
        counts = np.bincount(
            got.ancestors(level)[1:] - first, minlength=branching**level
        )
        assert np.ptp(counts) <= 1


def test_all_starts_occupy_the_same_leaves():
    by_category = initial.by_category([f"c{i % 7}" for i in range(100)])
    random = initial.random(100)
    for level in range(random.max_level + 1):
        np.testing.assert_array_equal(
            by_category.occupied(level), random.occupied(level)
        )


def test_categories_are_sorted_part_by_part():
    # As strings "a b" < "a|b", as paths "a" comes with its own first.
    categories = ["b", "a b", "a|c", None, "a", "a|b", ""]
    got = initial.by_category(categories, seed=0)
    order = np.argsort(got.pi[1:]) + 1
    np.testing.assert_array_equal(order[:5], [5, 6, 3, 2, 1])
    assert set(order[5:]) == {4, 7}


def test_ties_depend_on_the_seed_only():
    categories = np.array(["x"] * 20 + ["y"] * 20, object)
    trees = [initial.by_category(categories, seed=s).pi for s in (0, 0, 1)]
    np.testing.assert_array_equal(trees[0], trees[1])
    assert np.any(trees[0] != trees[2])
    assert trees[0][1:21].max() < trees[0][21:].min()


def test_random_is_seeded():
    one, two, other = (initial.random(50, seed=s).pi for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.any(one != other)


@pytest.mark.parametrize("num_items", [1, 2, 7])
def test_flat_is_a_list_below_the_root(num_items):
    tree = initial.flat(num_items)
    assert tree.max_level == min(1, num_items - 1)
    leaves = np.arange(num_items) + tree.first_leaf
    np.testing.assert_array_equal(tree.pi[1:], leaves)


def test_no_items():
    with pytest.raises(ValueError, match="at least one item"):
        initial.random(0)
    with pytest.raises(ValueError, match="at least one item"):
        initial.by_category([])
