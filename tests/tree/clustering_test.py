"""Tests of `tree.clustering`: planted clusters, brute force, invariants."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jtm_tf.data import planted_world
from jtm_tf.tree import clustering
from jtm_tf.tree import initial
from jtm_tf.tree import tree as tree_lib
from tests.support import spreads


def gaussian(num_items, size, seed):
    """Returns [N + 1, E] vectors, padding not a number."""
    vectors = np.random.default_rng(seed).normal(size=(num_items + 1, size))
    vectors[0] = np.nan
    return vectors


def nested(true_tree, seed, *, noise=0.1):
    """Returns vectors that are a walk down a tree, with shrinking steps."""
    rng = np.random.default_rng(seed)
    vectors = np.zeros((true_tree.num_items + 1, 32))
    for level in range(1, true_tree.max_level + 1):
        steps = rng.normal(size=(true_tree.num_codes, 32))
        steps /= np.linalg.norm(steps, axis=1, keepdims=True)
        vectors += 0.5**level * steps[true_tree.ancestors(level)]
    last = 0.5**true_tree.max_level * noise
    return vectors + last * rng.normal(size=vectors.shape)


def with_holes(num_items, levels, branching, seed):
    """Returns a tree of items on leaves drawn at random."""
    rng = np.random.default_rng(seed)
    leaves = rng.permutation(branching**levels)[:num_items]
    pi = np.concatenate([[0], leaves + tree_lib.first_code(levels, branching)])
    return tree_lib.Tree(pi, levels, branching)


def squares(points, left):
    """Returns the squared distances to the means of the two parts."""
    return sum(
        np.square(part - part.mean(axis=0)).sum()
        for part in (points[left], points[~left])
    )


def first_split(tree, vectors, **kwargs):
    """Returns whether items 1..N go under the root's first child, [N]."""
    got = clustering.cluster(tree, vectors, **kwargs)
    return got.ancestors(1)[1:] == 2


@hypothesis.given(
    branching=st.integers(2, 5),
    levels=st.integers(0, 4),
    share=st.floats(0, 1),
    kind=st.sampled_from(["gaussian", "constant", "few", "huge"]),
    seed=st.integers(0, 99),
)
@hypothesis.settings(deadline=None, derandomize=True)
def test_the_same_leaves_are_taken(branching, levels, share, kind, seed):
    num_items = max(1, round(share * branching**levels))
    old = with_holes(num_items, levels, branching, seed)
    vectors = gaussian(num_items, 3, seed)
    if kind == "constant":
        vectors[1:] = 0.1
    elif kind == "few":
        vectors[1:] = np.sign(vectors[1:])
    elif kind == "huge":
        vectors[1:] *= 1e150
    before = vectors.copy()
    got = clustering.cluster(old, vectors, seed=seed)
    np.testing.assert_array_equal(vectors, before)
    np.testing.assert_array_equal(np.sort(got.pi), np.sort(old.pi))
    assert (got.max_level, got.branching) == (levels, branching)
    if kind == "constant":
        np.testing.assert_array_equal(got.pi, old.pi)


@pytest.mark.parametrize("num_items", [1, 2, 3])
def test_smallest_trees(num_items):
    old = initial.random(num_items)
    got = clustering.cluster(old, gaussian(num_items, 4, seed=0))
    np.testing.assert_array_equal(np.sort(got.pi), np.sort(old.pi))
    if num_items == 2:  # any split is as good; nothing moves
        np.testing.assert_array_equal(got.pi, old.pi)


@pytest.mark.parametrize("branching, levels", [(2, 9), (3, 5), (5, 3)])
def test_planted_clusters_are_found_on_every_level(branching, levels):
    num_items = branching**levels
    truth = initial.random(num_items, branching=branching, seed=1)
    old = initial.random(num_items, branching=branching, seed=2)
    got = clustering.cluster(old, nested(truth, seed=3))
    for level in range(1, levels):
        want = 0.95 if branching == 2 else 0.8
        assert planted_world.shared_pairs(got, truth, level) > want, level
        assert planted_world.shared_pairs(old, truth, level) < 0.6, level


@pytest.mark.parametrize("num_items", [4, 6, 8, 10])
def test_splits_are_close_to_the_best(num_items):
    ratios = []
    for seed in range(20):
        old = initial.random(num_items, seed=seed)
        vectors = gaussian(num_items, 3, seed)
        left = first_split(old, vectors)
        points, size = vectors[1:], np.count_nonzero(left)
        every = []
        for chosen in itertools.combinations(range(num_items), size):
            other = np.isin(np.arange(num_items), chosen)
            every.append(squares(points, other))
        assert squares(points, left) <= np.median(every)
        ratios.append(squares(points, left) / min(every))
    assert np.mean(ratios) < 1.1 and max(ratios) < 1.6


@pytest.mark.parametrize("num_items", [7, 64, 501])
def test_splits_beat_random_ones_and_iterations_help(num_items):
    for seed in range(5):
        vectors = gaussian(num_items, 8, seed)
        old = initial.random(num_items, seed=seed)
        random = old.ancestors(1)[1:] == 2
        costs = [
            squares(vectors[1:], first_split(old, vectors, iterations=count))
            for count in (1, 3, 20)
        ]
        assert costs[0] <= squares(vectors[1:], random)
        assert costs[1] <= costs[0] * (1 + 1e-6)
        assert costs[2] <= costs[1] * (1 + 1e-6)


def test_uneven_parts_are_each_a_cluster():
    # Two seats left, six right: the two far points belong together.
    pi = np.array([0, 16, 20, 24, 25, 26, 27, 28, 29])
    old = tree_lib.Tree(pi, max_level=4)
    vectors = np.zeros((9, 2))
    vectors[[5, 8]] = [[9, 9], [9, 8]]
    vectors[1:] += 0.01 * gaussian(8, 2, seed=0)[1:]
    left = first_split(old, vectors)
    np.testing.assert_array_equal(np.flatnonzero(left) + 1, [5, 8])


@pytest.mark.parametrize("branching, levels", [(2, 7), (3, 4)])
def test_below_a_level_items_stay_under_their_nodes(branching, levels):
    """And what is below falls into clusters."""
    num_items = branching**levels - 5
    old = with_holes(num_items, levels, branching, seed=0)
    vectors = gaussian(num_items, 4, seed=1)
    for level in range(levels + 1):
        got = clustering.cluster(old, vectors, level=level)
        np.testing.assert_array_equal(
            got.ancestors(level), old.ancestors(level)
        )
        np.testing.assert_array_equal(np.sort(got.pi), np.sort(old.pi))
        if level < levels - 1:
            cost = spreads.below(got, vectors, level + 1)
            was = spreads.below(old, vectors, level + 1)
            assert cost < 0.97 * was, level
    for level in (-1, levels + 1):
        with pytest.raises(ValueError, match="must ascend in"):
            clustering.cluster(old, vectors, level=level)


def test_in_two_parts_as_in_one():
    """But for the starts of 2-means: above and below a level."""
    truth = initial.random(256, seed=1)
    old = initial.random(256, seed=2)
    vectors = nested(truth, seed=3, noise=0.01)
    upper = clustering.cluster(old, vectors, until=4)
    assert planted_world.shared_pairs(upper, truth, 4) > 0.95
    assert planted_world.shared_pairs(upper, truth, 6) < 0.8
    lower = clustering.cluster(upper, vectors, level=4)
    np.testing.assert_array_equal(lower.ancestors(4), upper.ancestors(4))
    assert planted_world.shared_pairs(lower, truth, 6) > 0.95


def test_half_the_items_stay_where_the_parts_are_even():
    for seed in range(100):
        old = initial.random(16, seed=seed)
        left = first_split(old, gaussian(16, 8, seed), seed=seed)
        assert np.mean(left == (old.ancestors(1)[1:] == 2)) >= 0.5


@pytest.mark.parametrize("num_items", [512, 511])
def test_clusters_stay_on_the_side_of_most_of_their_items(num_items):
    truth = initial.random(num_items, seed=1)
    vectors = nested(truth, seed=2)
    got = clustering.cluster(truth, vectors)
    for level in range(1, 8):
        same = got.ancestors(level) == truth.ancestors(level)
        assert same.mean() > 0.9, level
    # A tree that is clustered already is (nearly) left alone.
    assert got.moved_items(clustering.cluster(got, vectors)) < 26


def test_is_a_function_of_its_arguments():
    old = initial.random(300)
    vectors = gaussian(300, 5, seed=0)
    one, two, other = (
        clustering.cluster(old, vectors, seed=seed).pi for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert np.any(one != other)


def test_bad_arguments():
    old = initial.random(4)
    vectors = gaussian(4, 2, seed=0)
    with pytest.raises(ValueError, match=r"must be \[5, E >= 1\]"):
        clustering.cluster(old, vectors[1:])
    with pytest.raises(ValueError, match="iterations"):
        clustering.cluster(old, vectors, iterations=0)
    for bad in (np.nan, np.inf):
        vectors[3, 1] = bad
        with pytest.raises(ValueError, match="must be finite"):
            clustering.cluster(old, vectors)
