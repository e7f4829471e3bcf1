"""Tests of `jtm_tf.data.planted_world`."""

import numpy as np
import pytest

from jtm_tf.data import planted_world
from jtm_tf.tree import initial
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD


def below(tree, level):
    """Returns each item's node of `level`, [N + 1]."""
    return tree.ancestors(level)


@pytest.mark.parametrize(
    "num_items, branching",
    [
        (1, 2),
        (7, 2),
        (100, 3),
        (256, 2),
        (500, 8),
    ],
)
def test_shapes_and_ranges(num_items, branching):
    world = planted_world.planted_world(
        9, num_items, 5, seed=0, branching=branching
    )
    np.testing.assert_array_equal(world.user, np.repeat(np.arange(1, 10), 5))
    np.testing.assert_array_equal(world.timestamp, np.tile(np.arange(5), 9))
    assert world.item.min() >= 1 and world.item.max() <= num_items
    assert world.user.dtype == world.item.dtype == np.int32
    assert world.true_tree.num_items == len(world.categories) == num_items


def test_is_a_function_of_the_seed():
    one, two, other = (
        planted_world.planted_world(20, 100, 10, seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.item, two.item)
    np.testing.assert_array_equal(one.true_tree.pi, two.true_tree.pi)
    assert np.any(one.item != other.item)
    assert np.any(one.true_tree.pi != other.true_tree.pi)


def test_a_user_without_noise_stays_with_the_favourite():
    world = planted_world.planted_world(
        50, 100, 20, seed=0, favourites=1, taste_level=3, climb=(1.0,)
    )
    node = below(world.true_tree, 3)[world.item].reshape(50, 20)
    assert np.all(node == node[:, :1])
    assert len(np.unique(node)) == 8


def test_climbs_as_often_as_told():
    world = planted_world.planted_world(
        4000, 64, 10, seed=0, favourites=1, taste_level=3, climb=(0.0, 1.0)
    )
    # One step up, a user sees both children of one node evenly.
    parents = below(world.true_tree, 2)[world.item].reshape(-1, 10)
    assert np.all(parents == parents[:, :1])
    children = below(world.true_tree, 3)[world.item]
    left = np.mean(children % 2 == 0)
    assert 0.48 < left < 0.52


def test_noise_is_drawn_by_popularity():
    world = planted_world.planted_world(1000, 64, 20, seed=0, climb=(0.0,))
    counts = np.sort(np.bincount(world.item, minlength=65)[1:])[::-1]
    assert counts[0] > 5 * counts[20] > 0


def test_histories_are_the_items_before():
    world = planted_world.planted_world(6, 40, 5, seed=0)
    got = world.histories(3)
    for row, user in enumerate(world.user):
        past = [world.item[i] for i in range(row) if world.user[i] == user][-3:]
        want = [PAD] * (3 - len(past)) + past
        np.testing.assert_array_equal(got[row], want)


def test_categories_are_coarser_than_the_tastes():
    world = planted_world.planted_world(1, 256, 1, seed=0)
    assert world.taste_level == 5
    labels = np.array(world.categories)
    node = below(world.true_tree, 3)[1:]
    assert len(set(labels)) == 8
    for label in set(labels):
        assert len(set(node[labels == label])) == 1
    tree = initial.by_category(world.categories)
    assert planted_world.shared_pairs(tree, world.true_tree, 3) == 1.0
    assert planted_world.shared_pairs(tree, world.true_tree, 5) < 0.5


def test_oracle_is_a_distribution_that_sums_up_the_tree():
    world = planted_world.planted_world(30, 50, 6, seed=0)
    tree = initial.random(50, branching=3, seed=1)
    log_prob = planted_world.oracle(world, tree)
    history = world.histories(4)[10:20]
    above = None
    for level in range(tree.max_level + 1):
        first = tree_lib.first_code(level, 3)
        codes = np.arange(first, first + 3**level)
        nodes = np.tile(codes, (10, 1)).astype(np.int32)
        p = np.exp(log_prob(history, nodes, level)) - 1e-6
        assert p.dtype == np.float32 and p.shape == nodes.shape
        known = np.any(history != PAD, axis=1)
        np.testing.assert_allclose(p[known].sum(axis=1), 1, atol=1e-4)
        np.testing.assert_allclose(p[~known], 0, atol=1e-6)
        if above is not None:
            children = p.reshape(10, -1, 3).sum(axis=2)
            np.testing.assert_allclose(children, above, atol=1e-4)
        above = p


def test_shared_pairs_against_loops():
    truth, tree = initial.random(30, seed=0), initial.random(30, seed=1)
    for level in range(5):
        a, b = below(truth, level), below(tree, level)
        pairs = [
            b[i] == b[j]
            for i in range(1, 31)
            for j in range(1, i)
            if a[i] == a[j]
        ]
        want = sum(pairs) / len(pairs) if pairs else 0
        got = planted_world.shared_pairs(tree, truth, level)
        assert got == pytest.approx(want)
    assert planted_world.shared_pairs(truth, truth, 4) == 1.0


def test_bad_input():
    with pytest.raises(ValueError, match="within 4 levels"):
        planted_world.planted_world(1, 16, 1, 0, taste_level=5)
    with pytest.raises(ValueError, match="at most 1"):
        planted_world.planted_world(1, 16, 1, 0, climb=(0.9, 0.2))
