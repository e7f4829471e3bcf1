"""Tests of `jtm_tf.tree.assignment` against brute force and against itself."""

import itertools

import numpy as np
import pytest
from scipy import optimize

from jtm_tf.tree import assignment

NOWHERE = assignment.NOWHERE


def problem(items, nodes, seed):
    """Returns weights like sums of log-probabilities and old nodes."""
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, 6, (items, 1))
    weights = samples * rng.normal(-5, 2, (items, nodes))
    return weights, rng.integers(-1, nodes, items)


def total(weights, choice):
    """Returns the sum of the chosen weights."""
    return weights[np.arange(len(weights)), choice].sum()


def best_total(weights, capacity):
    """Brute force: the best total weight of every feasible assignment."""
    items, nodes = weights.shape
    return max(
        total(weights, list(choice))
        for choice in itertools.product(range(nodes), repeat=items)
        if np.all(np.bincount(choice, minlength=nodes) <= capacity)
    )


@pytest.mark.parametrize("order", ["regret", "weight"])
@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("items", [1, 2, 5, 6])
@pytest.mark.parametrize("capacity", [[6], [3, 3], [2, 0, 4], [2, 1, 2, 1]])
def test_against_brute_force(items, capacity, lazy, order):
    for seed in range(4):
        weights, old = problem(items, len(capacity), seed)
        before = weights.copy()
        got = assignment.greedy_rebalanced(
            weights, capacity, old, lazy=lazy, order=order
        )
        np.testing.assert_array_equal(weights, before)
        assert got.shape == (items,) and got.min() >= 0
        assert np.all(np.bincount(got, minlength=len(capacity)) <= capacity)
        best = best_total(weights, capacity)
        assert total(weights, got) <= best + 1e-9
        exact = assignment.exact(weights, capacity, old)
        assert np.all(np.bincount(exact, minlength=len(capacity)) <= capacity)
        np.testing.assert_allclose(total(weights, exact), best)


def test_is_optimal_when_no_node_overflows():
    weights, old = problem(30, 8, seed=0)
    for solve in (assignment.greedy_rebalanced, assignment.exact):
        got = solve(weights, 30, old)
        np.testing.assert_allclose(
            total(weights, got), weights.max(axis=1).sum()
        )


def test_regret_comes_close_to_the_optimum():
    lost = {"regret": 0.0, "weight": 0.0}
    for seed in range(50):
        weights, old = problem(24, 6, seed)
        best = total(weights, assignment.exact(weights, 4, old))
        for order in lost:
            got = assignment.greedy_rebalanced(
                weights, 4, old, order=order, lazy=False
            )
            lost[order] += best - total(weights, got)
    assert 0 <= lost["regret"] < 0.1 * lost["weight"]


def test_old_items_keep_their_seats_first():
    # All three want node 0, which has one seat; item 2 was there.
    weights = np.array([[0.0, -9.0], [0.0, -9.0], [0.0, -1.0]])
    old = [1, NOWHERE, 0]
    lazy = assignment.greedy_rebalanced(weights, [1, 2], old)
    np.testing.assert_array_equal(lazy, [1, 1, 0])
    eager = assignment.greedy_rebalanced(weights, [1, 2], old, lazy=False)
    np.testing.assert_array_equal(eager, [0, 1, 1])


def test_order_by_weight_is_the_papers():
    # Item 0 weighs less in node 0 but has more to lose by leaving it.
    weights = np.array([[-5.0, -50.0], [-1.0, -2.0]])
    old = [NOWHERE, NOWHERE]
    by_weight = assignment.greedy_rebalanced(weights, 1, old, order="weight")
    np.testing.assert_array_equal(by_weight, [1, 0])
    by_regret = assignment.greedy_rebalanced(weights, 1, old)
    np.testing.assert_array_equal(by_regret, [0, 1])


def test_equal_weights_go_to_the_old_node():
    old = np.array([3, 0, 2, 1, 2])
    for solve in (assignment.greedy_rebalanced, assignment.exact):
        got = solve(np.zeros((5, 4)), 2, old)
        np.testing.assert_array_equal(got, old)


def test_the_indifferent_spread_over_the_free_seats():
    got = assignment.greedy_rebalanced(np.zeros((8, 4)), 5, np.full(8, NOWHERE))
    np.testing.assert_array_equal(np.bincount(got), [2, 2, 2, 2])


def test_the_indifferent_yield_to_those_with_a_wish():
    weights = np.array([[0.0, 0.0], [-1.0, -2.0]])
    got = assignment.greedy_rebalanced(weights, 1, [NOWHERE, NOWHERE])
    np.testing.assert_array_equal(got, [1, 0])


@pytest.mark.parametrize("order", ["regret", "weight"])
def test_sub_problems_in_lockstep_equal_one_by_one(order):
    rng = np.random.default_rng(0)
    for _ in range(100):
        nodes = rng.integers(1, 7)
        sizes = rng.integers(1, 12, rng.integers(1, 6))
        numbers = np.repeat(np.arange(len(sizes)) * 3 + 5, sizes)
        weights = rng.integers(-3, 1, (len(numbers), nodes)).astype(float)
        weights[rng.random(len(weights)) < 0.3] = 0
        old = rng.integers(-1, nodes, len(weights))
        seats = rng.integers(0, 5, (len(sizes), nodes))
        seats[:, -1] += np.maximum(sizes - seats.sum(axis=1), 0)
        got = assignment.greedy_rebalanced(
            weights, seats, old, problem=numbers, order=order
        )
        for number, free in zip(np.unique(numbers), seats):
            rows = numbers == number
            alone = assignment.greedy_rebalanced(
                weights[rows], free, old[rows], order=order
            )
            np.testing.assert_array_equal(got[rows], alone)


@pytest.mark.parametrize(
    "solve", [assignment.greedy_rebalanced, assignment.exact]
)
def test_no_items_and_one_node(solve):
    assert solve(np.zeros((0, 3)), 1, np.zeros(0, int)).shape == (0,)
    got = solve(np.arange(4.0)[:, None], 4, np.full(4, NOWHERE))
    np.testing.assert_array_equal(got, 0)


def test_exact_is_scipys_matching_with_one_seat_a_node():
    weights, _ = problem(20, 20, seed=1)
    got = assignment.exact(weights, 1, np.full(20, NOWHERE))
    rows, columns = optimize.linear_sum_assignment(-weights)
    np.testing.assert_allclose(
        total(weights, got), weights[rows, columns].sum()
    )


@pytest.mark.parametrize(
    "solve", [assignment.greedy_rebalanced, assignment.exact]
)
@pytest.mark.parametrize(
    "weights, capacity, old, message",
    [
        (np.zeros((3, 2)), 1, [0, 0, 0], "3 items do not fit into 2 seats"),
        (np.array([[0, np.nan]]), 1, [0], "finite"),
        (np.array([[0, -np.inf]]), 1, [0], "finite"),
        (np.zeros((1, 2)), 1, [2], "old"),
        (np.zeros((1, 2)), 1, [0, 0], "old"),
        (np.zeros((1, 2)), [1, 1, 1], [0], "capacity"),
        (np.zeros((1, 2)), -1, [0], "capacity"),
        (np.zeros(2), 1, [0], "weights"),
    ],
)
def test_bad_input(solve, weights, capacity, old, message):
    with pytest.raises(ValueError, match=message):
        solve(weights, capacity, np.array(old))


def test_bad_options():
    zeros = np.zeros((2, 2)), 1, np.zeros(2, int)
    with pytest.raises(ValueError, match="order"):
        assignment.greedy_rebalanced(*zeros, order="heaviest")
    with pytest.raises(ValueError, match="ascending"):
        assignment.greedy_rebalanced(*zeros, problem=np.array([1, 0]))
    with pytest.raises(ValueError, match="2 items do not fit into 1 seats"):
        assignment.greedy_rebalanced(
            np.zeros((3, 2)),
            np.array([[1, 1], [1, 0]]),
            np.zeros(3, int),
            problem=np.array([0, 1, 1]),
        )
