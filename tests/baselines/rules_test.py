"""Tests of `jtm_tf.baselines.rules` against plain loops."""

import collections

import numpy as np
import pytest

from jtm_tf.baselines import rules
from jtm_tf.data import splits
from jtm_tf.types import PAD


def examples_of(histories):
    """Returns the training samples of users with these items each."""
    lengths = np.array([len(history) for history in histories], int)
    ends = np.cumsum(lengths)
    return splits.Examples(
        np.array(sum(map(list, histories), []), np.int32),
        np.repeat(ends - lengths, lengths),
        np.arange(lengths.sum()),
    )


def users_of(histories, max_history=5):
    """Returns held-out users of whom these items are known."""
    lengths = np.array([len(history) for history in histories], int)
    window = np.zeros((len(histories), max_history), np.int32)
    for row, history in zip(window, histories):
        newest = history[-max_history:]
        row[max_history - len(newest) :] = newest
    return splits.HeldOutUsers(
        users=np.arange(1, len(histories) + 1, dtype=np.int32),
        history=window,
        full_history=np.array(sum(map(list, histories), []), np.int32),
        full_history_offsets=np.concatenate([[0], np.cumsum(lengths)]),
        truth=np.ones(len(histories), np.int32),
        truth_offsets=np.arange(len(histories) + 1),
    )


def draw(users, num_items, longest, seed):
    """Draws histories, some of them empty; low ids are popular."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest + 1, users)
    return [
        np.minimum(rng.geometric(2 / num_items, length), num_items).tolist()
        for length in lengths
    ]


def best_sellers(histories, num_items):
    """Returns items 1..N by rows, most first, then by id."""
    counts = collections.Counter(sum(histories, []))
    return sorted(range(1, num_items + 1), key=lambda i: (-counts[i], i))


def filled(own, best, num_results):
    """Returns own answers, then best-sellers, then PAD, M in all."""
    row = own + [item for item in best if item not in own]
    return (row + [PAD] * num_results)[:num_results]


@pytest.mark.parametrize("num_results", [1, 3, 12, 20])
@pytest.mark.parametrize("seed", range(5))
def test_against_loops(num_results, seed):
    num_items = 12
    training = draw(20, num_items, 8, seed)
    known = draw(15, num_items, 30, seed + 100) + [[]]
    best = best_sellers(training, num_items)
    examples, users = examples_of(training), users_of(known)

    got = rules.Popular.fit(examples, num_items).recommend_users(
        users, num_results
    )
    assert got.dtype == np.int32
    want = [filled([], best, num_results)] * len(known)
    np.testing.assert_array_equal(got, want)

    got = rules.Repeat.fit(examples, num_items).recommend_users(
        users, num_results
    )
    assert got.dtype == np.int32
    for row, history in zip(got, known):
        count = collections.Counter(history)
        last = {item: at for at, item in enumerate(history)}
        own = sorted(count, key=lambda i: (-count[i], -last[i]))
        assert row.tolist() == filled(own, best, num_results)


def test_golden():
    repeat = rules.Repeat.fit(examples_of([[3, 3, 3], [1, 4, 4]]), 5)
    np.testing.assert_array_equal(repeat.popular.items, [3, 4, 1, 2, 5])
    got = repeat.recommend_users(users_of([[2, 5, 2, 1], []]), 6)
    # 2 was bought twice, 1 after 5; then the best-sellers that are left.
    np.testing.assert_array_equal(got, [[2, 1, 5, 3, 4, 0], [3, 4, 1, 2, 5, 0]])


def test_one_by_one_is_the_same():
    training, known = draw(30, 40, 9, seed=0), draw(20, 40, 9, seed=1)
    for rule in (rules.Popular, rules.Repeat):
        model = rule.fit(examples_of(training), 40)
        whole = model.recommend_users(users_of(known), 10)
        for row, history in zip(whole, known):
            one = model.recommend_users(users_of([history]), 10)
            np.testing.assert_array_equal(row, one[0])


def test_only_the_samples_taken_count():
    examples = examples_of([[1, 2, 2, 3], [3, 3, 3]])
    popular = rules.Popular.fit(examples.take(np.array([1, 2])), 3)
    np.testing.assert_array_equal(popular.items, [2, 1, 3])


def test_no_users():
    model = rules.Repeat.fit(examples_of([[1, 2]]), 2)
    assert model.recommend_users(users_of([]), 3).shape == (0, 3)


def test_unknown_items():
    for bad in ([1, 4], [0, 1]):
        with pytest.raises(ValueError, match=r"Items must be in 1\.\.3"):
            rules.Popular.fit(examples_of([bad]), 3)
        model = rules.Repeat.fit(examples_of([[1]]), 3)
        with pytest.raises(ValueError, match=r"Items must be in 1\.\.3"):
            model.recommend_users(users_of([bad]), 2)
