"""Tests of `tree.factors`: against normal equations and a planted world."""

import numpy as np
import pytest

from jtm_tf.data import planted_world
from jtm_tf.tree import factors


def a_matrix(seed=0, users=12, num_items=9, samples=50):
    """Returns owners, items and the matrix of who took what."""
    rng = np.random.default_rng(seed)
    owners = rng.integers(0, users, samples)
    items = rng.integers(1, num_items + 1, samples)
    return owners, items, factors.taken(owners, items, num_items)


def test_taken():
    owners, items, matrix = a_matrix()
    want = np.zeros(matrix.shape)
    rows = {owner: row for row, owner in enumerate(np.unique(owners))}
    for owner, item in zip(owners, items):
        want[rows[owner], item] = 1
    np.testing.assert_array_equal(matrix.toarray(), want)


def objective(matrix, users, items, regularization, alpha):
    """Returns what alternating least squares minimise, by a plain loop."""
    ones = matrix.toarray()
    total = regularization * (np.square(users).sum() + np.square(items).sum())
    for u, i in np.ndindex(*ones.shape):
        confidence = 1 + alpha * ones[u, i]
        total += confidence * (ones[u, i] - users[u] @ items[i]) ** 2
    return total


def exact_half_step(matrix, columns, regularization, alpha):
    """Solves the normal equations of each row."""
    solved = []
    for row in matrix.toarray():
        weight = np.diag(1 + alpha * row)
        a = columns.T @ weight @ columns
        a += regularization * np.eye(columns.shape[1])
        solved.append(np.linalg.solve(a, columns.T @ weight @ row))
    return np.array(solved)


@pytest.mark.parametrize("block", [1, 7, 1 << 18])
def test_a_half_step_against_the_normal_equations(block, monkeypatch):
    monkeypatch.setattr(factors, "_BLOCK", block)
    _, _, matrix = a_matrix()
    rng = np.random.default_rng(1)
    columns = rng.normal(0, 1, (matrix.shape[1], 4)).astype(np.float32)
    start = rng.normal(0, 1, (matrix.shape[0], 4)).astype(np.float32)
    want = exact_half_step(matrix, columns, 2.0, 5.0)
    found = start
    for _ in range(10):
        found = factors._half_step(matrix, found, columns, 2.0, 5.0)
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-4)
    losses = [
        objective(matrix, users, columns, 2.0, 5.0) for users in (want, found)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_the_vectors_fold_a_typical_user_in():
    """w_j . sum_i w_i is v_j . u with A of a user of average history."""
    _, _, matrix = a_matrix(samples=80)
    items = np.random.default_rng(0).normal(0, 1, (matrix.shape[1], 3))
    vectors = factors._folded(matrix, items, 1.0, 4.0)
    popularity = matrix.toarray().sum(axis=0)
    typical = (items.T * popularity) @ items / popularity.sum()
    known = 0.5 * matrix.nnz / matrix.shape[0]
    a = items.T @ items + 4.0 * known * typical + np.eye(3)
    want = 5.0 * items @ np.linalg.solve(a, items.T)
    np.testing.assert_allclose(vectors @ vectors.T, want, rtol=1e-4, atol=1e-5)


def test_who_was_never_taken_is_zero():
    _, items, matrix = a_matrix(num_items=40, samples=30)
    vectors = factors.item_vectors(matrix, 4, regularization=1.0)
    never = np.setdiff1d(np.arange(41), items)  # PAD among them
    assert 0 in never and len(never) > 10
    np.testing.assert_array_equal(vectors[never], 0)
    assert np.all(np.any(vectors[np.unique(items)] != 0, axis=1))


def test_neighbours_are_of_one_taste():
    """Items under one node of the hidden tree have the largest products."""
    world = planted_world.planted_world(400, 256, 20, seed=0)
    matrix = factors.taken(world.user, world.item, 256)
    vectors = factors.item_vectors(matrix, 16, regularization=10.0)[1:]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -1)
    node = world.true_tree.ancestors(world.taste_level)[1:]
    nearest = alike.argmax(axis=1)
    by_chance = np.mean(node[:, None] == node) - 1 / 256
    assert np.mean(node == node[nearest]) > 10 * by_chance


def test_bad_input():
    _, _, matrix = a_matrix()
    for options in (
        dict(regularization=0.0),
        dict(alpha=-1.0),
        dict(iterations=0),
        dict(regularization=float("nan")),
    ):
        with pytest.raises(ValueError, match="must be"):
            factors.item_vectors(matrix, 4, **options)
    nothing = factors.taken(np.zeros(0, int), np.zeros(0, int), 5)
    with pytest.raises(ValueError, match="nothing to factor"):
        factors.item_vectors(nothing, 4)


def test_factors_without_those_of_a_fold():
    rng = np.random.default_rng(5)
    owners = np.repeat(np.arange(90), 8)
    # Two kinds of people, so that the factors have something to find.
    items = 1 + (owners % 2) * 10 + rng.integers(10, size=len(owners))
    matrix = factors.taken(owners, items, 21)
    fold = np.arange(90) % 3
    tables = list(factors.cross_fitted(matrix, fold, 3, 4, seed=6))
    assert len(tables) == 4
    for table in tables:
        assert table.shape == (22, 4) and table.dtype == np.float32
    whole = factors.item_vectors(matrix, 4, seed=6)
    np.testing.assert_array_equal(tables[0], whole)
    for part in range(3):
        others = factors.item_vectors(matrix[fold != part], 4, seed=6)
        table = tables[1 + part]
        # Turned, so that products stay and the tables lie near each other.
        np.testing.assert_allclose(
            table @ table.T, others @ others.T, atol=1e-4
        )
        apart = np.linalg.norm(table - whole)
        assert apart <= np.linalg.norm(others - whole) + 1e-5
        assert apart < 0.5 * np.linalg.norm(whole)
    (alone,) = factors.cross_fitted(matrix, fold * 0, 1, 4, seed=6)
    np.testing.assert_array_equal(alone, whole)
