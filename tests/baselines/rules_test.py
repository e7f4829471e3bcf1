"""Tests of `jtm_tf.baselines.rules` against plain loops."""

import collections

import numpy as np
import pytest

from jtm_tf.baselines import rules
from tests.support import purchases


@pytest.mark.parametrize("num_results", [1, 3, 12, 20])
@pytest.mark.parametrize("seed", range(5))
def test_against_loops(num_results, seed):
    num_items = 12
    training = purchases.draw(20, num_items, 8, seed)
    known = purchases.draw(15, num_items, 30, seed + 100) + [[]]
    best = purchases.best_sellers(training, num_items)
    examples, users = purchases.examples_of(training), purchases.users_of(known)

    got = rules.Popular.fit(examples, num_items).recommend_users(
        users, num_results
    )
    assert got.dtype == np.int32
    want = [purchases.filled([], best, num_results)] * len(known)
    np.testing.assert_array_equal(got, want)

    got = rules.Repeat.fit(examples, num_items).recommend_users(
        users, num_results
    )
    assert got.dtype == np.int32
    for row, history in zip(got, known):
        count = collections.Counter(history)
        last = {item: at for at, item in enumerate(history)}
        own = sorted(count, key=lambda i: (-count[i], -last[i]))
        assert row.tolist() == purchases.filled(own, best, num_results)


def test_golden():
    repeat = rules.Repeat.fit(purchases.examples_of([[3, 3, 3], [1, 4, 4]]), 5)
    np.testing.assert_array_equal(repeat.popular.items, [3, 4, 1, 2, 5])
    got = repeat.recommend_users(purchases.users_of([[2, 5, 2, 1], []]), 6)
    # 2 was bought twice, 1 after 5; then the best-sellers that are left.
    np.testing.assert_array_equal(got, [[2, 1, 5, 3, 4, 0], [3, 4, 1, 2, 5, 0]])


def test_one_by_one_is_the_same():
    training, known = (
        purchases.draw(30, 40, 9, seed=0),
        purchases.draw(20, 40, 9, seed=1),
    )
    for rule in (rules.Popular, rules.Repeat):
        model = rule.fit(purchases.examples_of(training), 40)
        whole = model.recommend_users(purchases.users_of(known), 10)
        for row, history in zip(whole, known):
            one = model.recommend_users(purchases.users_of([history]), 10)
            np.testing.assert_array_equal(row, one[0])


def test_only_the_samples_taken_count():
    examples = purchases.examples_of([[1, 2, 2, 3], [3, 3, 3]])
    popular = rules.Popular.fit(examples.take(np.array([1, 2])), 3)
    np.testing.assert_array_equal(popular.items, [2, 1, 3])


def test_no_users():
    model = rules.Repeat.fit(purchases.examples_of([[1, 2]]), 2)
    assert model.recommend_users(purchases.users_of([]), 3).shape == (0, 3)


def test_unknown_items():
    for bad in ([1, 4], [0, 1]):
        with pytest.raises(ValueError, match=r"Items must be in 1\.\.3"):
            rules.Popular.fit(purchases.examples_of([bad]), 3)
        model = rules.Repeat.fit(purchases.examples_of([[1]]), 3)
        with pytest.raises(ValueError, match=r"Items must be in 1\.\.3"):
            model.recommend_users(purchases.users_of([bad]), 2)
