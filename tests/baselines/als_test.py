"""Tests of `jtm_tf.baselines.als` against dense least squares."""

import sys

import numpy as np
import pytest

from jtm_tf.baselines import als
from jtm_tf.types import PAD
from tests.support import purchases

NUM_ITEMS = 15


@pytest.fixture(name="training", scope="module")
def _training():
    pytest.importorskip("implicit", reason="needs implicit, of extra `rivals`")
    return purchases.draw(40, NUM_ITEMS, 7, seed=0)


def folded_by_loops(known, items, config):
    """Returns the x that minimises the loss of one user, see `ALSConfig`."""
    system = config.regularization * np.eye(config.factors)
    right = np.zeros(config.factors)
    for item, vector in enumerate(items):
        had = item in known
        system += (config.alpha if had else 1) * np.outer(vector, vector)
        right += config.alpha * had * vector
    return np.linalg.solve(system, right)


@pytest.mark.parametrize("alpha", [1.0, 20.0])
def test_new_users_are_folded_in(training, alpha):
    config = als.ALSConfig(factors=4, regularization=0.5, alpha=alpha)
    model = als.ALS.fit(purchases.examples_of(training), NUM_ITEMS, config)
    known = purchases.draw(12, NUM_ITEMS, 9, seed=50) + [[]]
    got = model.recommend_users(purchases.users_of(known), 6)
    items = model.model.item_factors.astype(np.float64)
    assert items.shape == (NUM_ITEMS + 1, 4) and not items[PAD].any()
    best = purchases.best_sellers(training, NUM_ITEMS)
    for row, history in zip(got, known):
        scores = items @ folded_by_loops(history, items, config)
        if history:
            order = np.argsort(-scores[1:]) + 1
            np.testing.assert_allclose(scores[row], scores[order[:6]], 1e-4)
        else:
            assert row.tolist() == best[:6]


def test_the_items_are_least_squares_too(training):
    """At the end of alternation, items solve their own users' problem."""
    config = als.ALSConfig(
        factors=3, regularization=1.0, alpha=5.0, iterations=200
    )
    model = als.ALS.fit(purchases.examples_of(training), NUM_ITEMS, config)
    users = model.model.user_factors.astype(np.float64)
    histories = [history for history in training if history]
    for item in range(1, NUM_ITEMS + 1):
        buyers = [u for u, had in enumerate(histories) if item in had]
        want = folded_by_loops(buyers, users, config)
        np.testing.assert_allclose(
            model.model.item_factors[item], want, atol=5e-3
        )


def test_one_by_one_is_the_same(training):
    config = als.ALSConfig(factors=4, regularization=1.0, alpha=10.0)
    model = als.ALS.fit(purchases.examples_of(training), NUM_ITEMS, config)
    known = purchases.draw(10, NUM_ITEMS, 5, seed=1)
    whole = model.recommend_users(purchases.users_of(known), 5)
    for row, history in zip(whole, known):
        one = model.recommend_users(purchases.users_of([history]), 5)
        np.testing.assert_array_equal(row, one[0])
    assert model.recommend_users(purchases.users_of([]), 5).shape == (0, 5)


def test_a_seed_says_it_all(training):
    examples = purchases.examples_of(training)

    def vectors(seed):
        config = als.ALSConfig(factors=4, regularization=1.0, seed=seed)
        return als.ALS.fit(examples, NUM_ITEMS, config).model.item_factors

    np.testing.assert_array_equal(vectors(0), vectors(0))
    assert not np.array_equal(vectors(0), vectors(1))


def test_unknown_items(training):
    with pytest.raises(ValueError, match=r"Items must be in 1\.\.3"):
        als.ALS.fit(purchases.examples_of([[1, 4]]), 3)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit", None)
    monkeypatch.setitem(sys.modules, "implicit.cpu", None)
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(ValueError, match=r"pip install \.\[rivals\]"):
        als.ALS.fit(purchases.examples_of([[1, 2]]), 2)


def test_bad_settings():
    for field, value in {
        "factors": 0,
        "regularization": -1.0,
        "alpha": 0.5,
        "iterations": 0,
    }.items():
        with pytest.raises(ValueError, match=f"{field}.* must be"):
            als.ALSConfig(**{field: value})
