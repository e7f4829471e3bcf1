"""Tests of `jtm_tf.data.splits`, against loops over single users."""

import collections
import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.types import PAD


def random_interactions(*, num_users, num_items, seed, max_rows=12):
    """Returns users with 1..max_rows rows each, splits drawn at random."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, max_rows + 1, num_users)
    user = np.repeat(np.arange(1, num_users + 1), lengths).astype(np.int32)
    return interactions.Interactions(
        user=user,
        item=rng.integers(1, num_items + 1, len(user)).astype(np.int32),
        timestamp=np.arange(len(user), dtype=np.int64),
        items=pa.table({"item": np.arange(1, num_items + 1, dtype=np.int32)}),
        users=pa.table({"split": rng.choice(splits.SPLITS, num_users)}),
        manifest={},
    )


def items_by_user(data, split):
    """Returns {user: items, oldest first} of a split, by a loop."""
    found = collections.defaultdict(list)
    names = data.users["split"].to_pylist()
    for user, item in zip(data.user.tolist(), data.item.tolist()):
        if names[user - 1] == split:
            found[user].append(item)
    return found


def padded(items, width):
    """Returns the newest `width` items, left-padded."""
    newest = items[-width:]
    return [PAD] * (width - len(newest)) + newest


@pytest.mark.parametrize("num_users", [3, 4, 10, 101])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_splits_are_disjoint_and_none_is_empty(num_users, share):
    got = splits.split_users(
        num_users, validation_share=share, test_share=share, seed=1
    )
    counts = collections.Counter(got.tolist())
    assert sum(counts.values()) == num_users
    held_out = max(1, round(share * num_users))
    assert counts["validation"] == counts["test"] == held_out
    assert counts["train"] >= 1


def test_the_seed_decides_the_split():
    def draw(seed):
        return splits.split_users(
            50, validation_share=0.2, test_share=0.2, seed=seed
        ).tolist()

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


@pytest.mark.parametrize(
    "num_users, validation, test, match",
    [
        (2, 0.1, 0.1, "at least 3 users"),
        (10, 1.0, 0.1, "validation_share must be"),
        (10, 0.1, -0.1, "test_share must be"),
        (10, 0.5, 0.5, "leave none of 10 users"),
    ],
)
def test_impossible_splits_are_refused(num_users, validation, test, match):
    with pytest.raises(ValueError, match=match):
        splits.split_users(
            num_users, validation_share=validation, test_share=test, seed=0
        )


@pytest.mark.parametrize("seed", range(5))  # of seed 0 nobody trains
@pytest.mark.parametrize("max_history", [1, 3, 20])
def test_examples_against_loops(seed, max_history):
    data = random_interactions(num_users=9, num_items=5, seed=seed)
    want = [
        (padded(items[:at], max_history), item)
        for _, items in sorted(items_by_user(data, "train").items())
        for at, item in enumerate(items)
    ]
    got = splits.examples(data)
    assert len(got) == len(want)
    samples = np.random.default_rng(seed).permutation(len(want))
    histories = got.histories(samples, max_history)
    assert histories.dtype == got.target_items().dtype == np.int32
    assert got.starts.dtype == got.targets.dtype == np.int64
    assert histories.tolist() == [want[i][0] for i in samples]
    assert got.target_items()[samples].tolist() == [want[i][1] for i in samples]
    some = got.take(samples[:2])
    first = some.histories(np.arange(len(some)), max_history)
    assert first.tolist() == histories[:2].tolist()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_users_against_loops(seed, split):
    data = random_interactions(num_users=12, num_items=4, seed=seed)
    want = sorted(items_by_user(data, split).items())
    got = splits.held_out_users(data, split, max_history=3)
    assert got.users.tolist() == [user for user, _ in want]
    for row, (_, items) in enumerate(want):
        half = len(items) // 2
        assert got.history[row].tolist() == padded(items[:half], 3)
        assert got.full_history[row].tolist() == items[:half]
        assert got.truth[row].tolist() == sorted(set(items[half:]))
    for rows in (got.full_history, got.truth):
        assert rows.values.dtype == np.int32
        assert len(rows) == len(got)
        assert len(rows.offsets) == len(got) + 1
        assert rows.offsets[-1] == len(rows.values)


def cut_by_time(seed):
    """Returns data with ties in time, cut in three periods, and its rows."""
    data = random_interactions(num_users=15, num_items=6, seed=seed)
    rng = np.random.default_rng(seed)
    time = rng.integers(0, 12, len(data.user))
    order = np.lexsort([time, data.user])
    data = dataclasses.replace(
        data,
        timestamp=time[order],
        manifest={"periods": {"validation_from": 5, "test_from": 9}},
    )
    rows = collections.defaultdict(list)
    for user, item, when in zip(
        data.user.tolist(), data.item.tolist(), data.timestamp.tolist()
    ):
        rows[user].append((when, item))
    return data, rows


PERIODS = {"train": (0, 5), "validation": (5, 9), "test": (9, 12)}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("split", splits.SPLITS)
def test_examples_of_a_period_against_loops(seed, split):
    data, rows = cut_by_time(seed)
    begin, end = PERIODS[split]
    want = []
    for _, items in sorted(rows.items()):
        until = [item for when, item in items if when < end]
        for at, (when, item) in enumerate(items):
            if begin <= when < end:
                want.append((padded(until[:at], 4), item, len(until)))
    got = splits.examples(data, split=split)
    histories = got.histories(np.arange(len(got)), 4)
    assert histories.tolist() == [history for history, _, _ in want]
    assert got.target_items().tolist() == [item for _, item, _ in want]
    assert (got.ends - got.starts).tolist() == [count for _, _, count in want]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("split", ["validation", "test"])
def test_who_is_judged_by_a_period_against_loops(seed, split):
    data, rows = cut_by_time(seed)
    begin, end = PERIODS[split]
    want = []
    for user, items in sorted(rows.items()):
        known = [item for when, item in items if when < begin]
        truth = {item for when, item in items if begin <= when < end}
        if known and truth:
            want.append((user, known, sorted(truth)))
    got = splits.held_out_users(data, split, max_history=3)
    assert got.users.tolist() == [user for user, _, _ in want]
    assert got.history.tolist() == [padded(known, 3) for _, known, _ in want]
    assert [row.tolist() for row in got.full_history] == [w[1] for w in want]
    assert [row.tolist() for row in got.truth] == [w[2] for w in want]


def test_a_golden_user():
    # Seven rows: 3 known, 4 later, of which item 2 comes twice and was known.
    data = interactions.Interactions(
        user=np.full(7, 1, np.int32),
        item=np.array([5, 2, 3, 2, 4, 2, 1], np.int32),
        timestamp=np.arange(7),
        items=pa.table({"item": np.arange(1, 6)}),
        users=pa.table({"split": ["test"]}),
        manifest={},
    )
    got = splits.held_out_users(data, "test", max_history=2)
    assert got.history.tolist() == [[2, 3]]
    assert got.full_history.values.tolist() == [5, 2, 3]
    assert got.truth.values.tolist() == [1, 2, 4]
    assert len(splits.examples(data)) == 0


def test_training_users_are_not_held_out():
    data = random_interactions(num_users=5, num_items=4, seed=0)
    with pytest.raises(ValueError, match="validation.*test.*'train'"):
        splits.held_out_users(data, "train", max_history=3)


def test_some_users_are_whole():
    data = random_interactions(num_users=60, num_items=9, seed=3)
    every = splits.examples(data)
    rows = collections.Counter(every.starts.tolist())
    assert every.of_some_users(len(every), seed=0) is every
    drawn = set()
    for most in (len(every) - 1, 100, 13, 12):
        some = every.of_some_users(most, seed=0)
        kept = collections.Counter(some.starts.tolist())
        assert kept == {start: rows[start] for start in kept}
        # The next one would have been too many.
        assert most - 12 < len(some) <= most
        again = every.of_some_users(most, seed=0)
        np.testing.assert_array_equal(some.targets, again.targets)
        drawn |= set(every.of_some_users(most, seed=1).starts) - set(kept)
    assert drawn, "the seed decides who"
    assert len(set(every.of_some_users(1, seed=5).starts.tolist())) == 1


def test_repeats_are_counted_within_a_user():
    examples = splits.Examples(
        np.array([1, 1, 2, 2, 1, 1], np.int32),
        np.array([0, 0, 0, 3, 3, 3]),
        np.arange(6),
    )
    assert splits.repeat_share(examples) == pytest.approx(2 / 6)
    assert splits.repeat_share(examples.take(np.array([0, 2, 3]))) == 0


@pytest.mark.parametrize("most", [1, 2, 3, 7, 30])
def test_a_few_histories_stand_for_all_of_a_user(most):
    data = random_interactions(num_users=60, num_items=9, seed=3)
    every = splits.examples(data)
    chosen = np.random.default_rng(most).permutation(len(every))[:150]
    every = every.take(chosen)
    shared, of = every.shared_histories(most)
    assert of.shape == (len(every),)
    np.testing.assert_array_equal(shared.starts[of], every.starts)
    kept = shared.targets[of] - every.starts
    own = every.targets - every.starts
    rows = every.ends - every.starts
    assert np.all(kept <= own)
    assert np.all((own - kept) * most <= rows)
    np.testing.assert_array_equal(kept[rows <= most], own[rows <= most])
    distinct = set(zip(shared.starts.tolist(), shared.targets.tolist()))
    assert len(distinct) == len(shared)
    users = collections.Counter(shared.starts.tolist())
    assert max(users.values()) <= most
    assert np.all(np.isin(np.arange(len(shared)), of)), "none is idle"
