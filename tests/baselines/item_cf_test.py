"""Tests of `jtm_tf.baselines.item_cf` against plain loops."""

import dataclasses
import math

import numpy as np
import pytest

from jtm_tf.baselines import item_cf
from jtm_tf.types import PAD
from tests.support import purchases

Config = item_cf.ItemCFConfig


def similarities_by_loops(histories, num_items, config):
    """Returns what each item adds to each other, [N + 1, N + 1]."""
    users = [set(history) for history in histories if history]
    weights = [
        1 / math.log(1 + len(items)) if config.inverse_user_frequency else 1
        for items in users
    ]

    def bought(*wanted):
        return sum(
            weight
            for weight, items in zip(weights, users)
            if items.issuperset(wanted)
        )

    best = purchases.best_sellers(histories, num_items)
    result = np.zeros((num_items + 1, num_items + 1))
    for i in range(1, num_items + 1):
        for j in range(1, num_items + 1):
            both = bought(i, j)
            if not both or (i == j and not config.keep_own):
                continue
            if config.similarity == "cosine":
                value = both / math.sqrt(bought(i) * bought(j))
            else:
                value = both / (bought(i) * bought(j) ** config.alpha)
            result[i, j] = value * both / (both + config.shrinkage)
        others = [j for j in best if j != i]
        others.sort(key=lambda j: -np.float32(result[i, j]))  # stable
        result[i, others[config.num_neighbours :]] = 0
    return result


def scores_by_loops(history, similar, config):
    """Returns every item's score, [N + 1] float32."""
    newest = history[::-1][: config.max_history]
    scores = np.zeros(len(similar))
    for age, item in enumerate(newest):
        scores += config.decay**age * similar[item]
    return scores.astype(np.float32)


CONFIGS = [
    Config(),
    Config(keep_own=False, shrinkage=0.0, decay=1.0),
    Config(shrinkage=3.0, decay=0.7, max_history=4),
    Config(inverse_user_frequency=False, num_neighbours=3),
    Config(similarity="conditional", alpha=0.3, num_neighbours=1),
    Config(similarity="conditional", alpha=1.0, max_history=2),
]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("chunk", [1, 40, 1 << 20])
def test_against_loops(config, seed, chunk, monkeypatch):
    monkeypatch.setattr(item_cf, "_CHUNK", chunk)
    num_items, num_results = 15, 8
    training = purchases.draw(25, num_items, 7, seed)
    known = purchases.draw(12, num_items, 9, seed + 50) + [[]]
    model = item_cf.ItemCF.fit(
        purchases.examples_of(training), num_items, config
    )
    similar = similarities_by_loops(training, num_items, config)
    np.testing.assert_allclose(model.similar.toarray(), similar, rtol=1e-6)

    users = purchases.users_of(known, max_history=9)
    items, scores = model.recommend(users.history, num_results)
    assert (items.dtype, scores.dtype) == (np.int32, np.float32)
    assert items.shape == scores.shape == (len(known), num_results)
    best = purchases.best_sellers(training, num_items)
    for row, row_scores, history in zip(items, scores, known):
        want = scores_by_loops(history, model.similar.toarray(), config)
        own = sorted(best, key=lambda item: -want[item])  # stable
        own = [item for item in own if want[item] > 0]
        assert row.tolist() == purchases.filled(own, best, num_results)
        np.testing.assert_allclose(row_scores, want[row], rtol=1e-6)
    np.testing.assert_array_equal(
        model.recommend_users(users, num_results), items
    )


def test_checkerboard():
    # Even users buy even items, odd users odd ones; each misses one.
    every = [list(range(2 - user % 2, 21, 2)) for user in range(20)]
    training = [
        [item for item in items if item != items[user // 2]]
        for user, items in enumerate(every)
    ]
    model = item_cf.ItemCF.fit(purchases.examples_of(training), 20)
    items, scores = model.recommend(np.array([[PAD, 4], [7, 9]]), 10)
    assert np.all(items[0] % 2 == 0) and np.all(items[1] % 2 == 1)
    assert np.all(scores > 0) and np.all(np.diff(scores) <= 0)
    # Self-similarity keeps one's own items on top.
    assert items[0, 0] == 4 and set(items[1, :2]) == {7, 9}


def test_one_by_one_is_the_same():
    training = purchases.draw(200, 60, 12, seed=0)
    model = item_cf.ItemCF.fit(purchases.examples_of(training), 60)
    history = purchases.users_of(purchases.draw(40, 60, 5, seed=1)).history
    items, scores = model.recommend(history, 20)
    for row in range(len(history)):
        one, one_scores = model.recommend(history[row : row + 1], 20)
        np.testing.assert_array_equal(one[0], items[row])
        np.testing.assert_array_equal(one_scores[0], scores[row])


def test_nobody_and_nothing_known():
    # Nobody bought 4; 3 stands alone.
    training = [[1, 2], [2, 1, 2], [3]]
    model = item_cf.ItemCF.fit(
        purchases.examples_of(training), 4, Config(keep_own=False)
    )
    history = np.array([[PAD, PAD], [PAD, 4], [3, PAD], [PAD, 1]])
    items, scores = model.recommend(history, 6)
    best = [2, 1, 3, 4, PAD, PAD]
    np.testing.assert_array_equal(items, [best, best, best, best])
    assert scores[3, 0] > 0 and np.count_nonzero(scores) == 1
    items, scores = model.recommend(np.zeros((2, 0), int), 2)
    np.testing.assert_array_equal(items, [[2, 1], [2, 1]])
    assert model.recommend(np.zeros((0, 3), int), 2)[0].shape == (0, 2)


def test_the_users_are_left_as_they_are():
    model = item_cf.ItemCF.fit(purchases.examples_of([[1, 2], [2, 3]]), 3)
    users = purchases.users_of([[2, 1, 1, 2], [3, 3], []])
    before = dataclasses.asdict(users)  # copies
    model.recommend_users(users, 2)
    np.testing.assert_equal(dataclasses.asdict(users), before)


def test_only_the_samples_taken_count():
    examples = purchases.examples_of([[1, 2, 3], [3, 1]])
    model = item_cf.ItemCF.fit(examples.take(np.array([0, 1, 3, 4])), 3)
    similar = model.similar.toarray()
    assert similar[1, 2] > 0 and similar[1, 3] > 0 and similar[2, 3] == 0


def test_bad_arguments():
    for field, value in {
        "similarity": "euclid",
        "alpha": 1.5,
        "shrinkage": -1.0,
        "num_neighbours": 0,
        "decay": 0.0,
        "max_history": 0,
    }.items():
        with pytest.raises(ValueError, match=f"{field} must be"):
            Config(**{field: value})
    model = item_cf.ItemCF.fit(purchases.examples_of([[1, 2]]), 2)
    with pytest.raises(ValueError, match=r"history must be \[B, T\]"):
        model.recommend(np.array([1, 2]), 1)
    with pytest.raises(ValueError, match=r"Items must be in 1\.\.2"):
        model.recommend(np.array([[1, 3]]), 1)
