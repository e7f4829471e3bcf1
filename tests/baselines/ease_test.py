"""Tests of `jtm_tf.baselines.ease` against the closed form, spelled out."""

import numpy as np
import pytest

from jtm_tf.baselines import ease
from jtm_tf.baselines import scan
from jtm_tf.tree import factors
from tests.support import purchases

NUM_ITEMS = 15


def weights_by_loops(histories, num_items, regularization):
    """Returns B of the module's docstring, [N + 1, N + 1]."""
    gram = regularization * np.eye(num_items + 1)
    for history in histories:
        for i in set(history):
            for j in set(history):
                gram[i, j] += 1
    inverse = np.linalg.inv(gram)
    weights = np.zeros_like(inverse)
    for i in range(num_items + 1):
        for j in range(num_items + 1):
            if i != j:
                weights[i, j] = -inverse[i, j] / inverse[j, j]
    return weights


# Fewer users than items, and more.
@pytest.mark.parametrize("users", [9, 60])
@pytest.mark.parametrize("regularization", [0.5, 20.0])
@pytest.mark.parametrize("block", [4, 1 << 10])
def test_against_loops(users, regularization, block, monkeypatch):
    monkeypatch.setattr(ease, "_BLOCK", block)
    training = purchases.draw(users, NUM_ITEMS, 7, seed=0)
    config = ease.EASEConfig(regularization=regularization)
    model = ease.EASE.fit(purchases.examples_of(training), NUM_ITEMS, config)
    assert (model.rows is None) == (users == 60)
    weights = weights_by_loops(training, NUM_ITEMS, regularization)

    single = purchases.users_of([[i] for i in range(1, NUM_ITEMS + 1)])
    got = model.scores(scan.known_rows(single, NUM_ITEMS))
    np.testing.assert_allclose(got, weights[1:], atol=1e-10)
    # No item explains itself.
    np.testing.assert_allclose(np.diag(got[:, 1:]), 0, atol=1e-10)

    known = purchases.draw(12, NUM_ITEMS, 9, seed=50) + [[]]
    got = model.recommend_users(purchases.users_of(known), 6)
    best = purchases.best_sellers(training, NUM_ITEMS)
    for row, history in zip(got, known):
        scores = sum((weights[i] for i in set(history)), np.zeros(16))
        order = np.argsort(-scores[1:]) + 1
        np.testing.assert_allclose(scores[row], scores[order[:6]], atol=1e-9)
        if not history:
            assert row.tolist() == best[:6]


def test_the_weights_are_least_squares():
    """Any other weights with a diagonal of zeros have a larger loss."""
    training = purchases.draw(30, NUM_ITEMS, 7, seed=2)
    examples = purchases.examples_of(training)
    rows = factors.taken(
        examples.starts, examples.target_items(), NUM_ITEMS
    ).toarray()
    config = ease.EASEConfig(regularization=3.0)
    model = ease.EASE.fit(examples, NUM_ITEMS, config)
    single = purchases.users_of([[i] for i in range(1, NUM_ITEMS + 1)])
    weights = np.zeros((NUM_ITEMS + 1, NUM_ITEMS + 1))
    weights[1:] = model.scores(scan.known_rows(single, NUM_ITEMS))

    def loss(weights):
        return ((rows - rows @ weights) ** 2).sum() + 3 * (weights**2).sum()

    rng = np.random.default_rng(0)
    for _ in range(20):
        other = rng.normal(0, 0.01, weights.shape)
        np.fill_diagonal(other, 0)
        assert loss(weights + other) > loss(weights)


def test_what_nobody_had_scores_nothing():
    for histories in ([[1, 2]] * 3, [[1, 2]] * 9):  # by users, by items
        model = ease.EASE.fit(purchases.examples_of(histories), 4)
        users = purchases.users_of([[1, 4]])
        scores = model.scores(scan.known_rows(users, 4))
        assert scores[0, 3] == scores[0, 4] == 0 and scores[0, 2] > 0


def test_only_the_samples_taken_count():
    examples = purchases.examples_of([[1, 2, 3], [3, 1]])
    model = ease.EASE.fit(examples.take(np.array([0, 2, 4])), 3)
    users = purchases.users_of([[1], [2]])
    scores = model.scores(scan.known_rows(users, 3))
    assert scores[0, 3] > 0 and not scores[0, 2] and not scores[1].any()


def test_unknown_items():
    with pytest.raises(ValueError, match=r"Items must be in 1\.\.3"):
        ease.EASE.fit(purchases.examples_of([[1, 4]]), 3)


def test_too_large_is_refused():
    examples = purchases.examples_of([[1, 2]] * 70)
    small = ease.EASEConfig(max_gib=1.5e-5)
    with pytest.raises(
        ValueError, match="50 items or of 70 users, .* GiB; it may take 1.5e-05"
    ):
        ease.EASE.fit(examples, 50, small)
    ease.EASE.fit(examples, 40, small)


def test_bad_settings():
    for value in (0.0, -1.0, np.inf):
        with pytest.raises(ValueError, match="regularization must be"):
            ease.EASEConfig(regularization=value)
