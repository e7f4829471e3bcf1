"""Tests of `jtm_tf.search.metrics` against plain loops."""

import numpy as np
import pytest

from jtm_tf import ragged
from jtm_tf.search import metrics
from jtm_tf.types import PAD


def by_loops(recommended, truth, offsets, num_results):
    """Returns the metrics as the paper's Sec. 3.2 states them, user by user."""
    rows = []
    for user, items in enumerate(recommended):
        wanted = set(truth[offsets[user] : offsets[user + 1]])
        found = {item for item in items[:num_results] if item != PAD} & wanted
        precision, recall = len(found) / num_results, len(found) / len(wanted)
        f = 2 * precision * recall / (precision + recall) if found else 0.0
        rows.append((precision, recall, f))
    return dict(zip(metrics.NAMES, np.array(rows).T))


@pytest.mark.parametrize(
    "users, width, num_results",
    [
        (1, 1, 1),
        (7, 5, 5),
        (7, 5, 3),
        (7, 5, 8),
        (40, 20, 10),
    ],
)
def test_against_loops(users, width, num_results):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        recommended = rng.integers(0, 15, (users, width)).astype(np.int32)
        sizes = rng.integers(1, 9, users)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        truth = rng.integers(1, 15, offsets[-1]).astype(np.int32)
        want = by_loops(recommended, truth, offsets, num_results)
        wanted = ragged.Ragged(truth, offsets)
        got = metrics.per_user(recommended, wanted, num_results)
        mean = metrics.metrics(recommended, wanted, num_results)
        for name in metrics.NAMES:
            np.testing.assert_allclose(got[name], want[name], err_msg=name)
            np.testing.assert_allclose(mean[name], want[name].mean())


def test_golden():
    # One of two distinct wanted items among four places, found twice.
    got = metrics.metrics(
        np.array([[2, 9, PAD, 2]]),
        ragged.Ragged(np.array([2, 3, 3]), np.array([0, 3])),
        4,
    )
    assert got == {"precision": 1 / 4, "recall": 1 / 2, "f_measure": 1 / 3}


def test_large_ids_do_not_overflow():
    big = np.int32(2**31 - 1)
    recommended = np.full((50, 1), big)
    truth = ragged.Ragged(np.full(50, big), np.arange(51))
    got = metrics.metrics(recommended, truth, 1)
    assert got["recall"] == 1.0


@pytest.mark.parametrize(
    "recommended, truth, offsets, num_results, message",
    [
        ([[1], [2]], [1], [0, 1, 1], 1, "1 users have no ground truth"),
        ([[1]], [1], [0, 1, 1], 1, "truth of U rows.* 2 rows"),
        ([[1]], [1, 2], [0, 1], 1, "offsets must ascend"),
        ([1], [1], [0, 1], 1, "recommended"),
        ([[1]], [PAD], [0, 1], 1, "start at 1"),
        ([[1]], [1], [0, 1], 0, "start at 1"),
        (np.zeros((0, 2), int), [], [0], 1, "no users"),
    ],
)
def test_bad_input(recommended, truth, offsets, num_results, message):
    with pytest.raises(ValueError, match=message):
        metrics.metrics(
            np.array(recommended),
            ragged.Ragged(np.array(truth), np.array(offsets)),
            num_results,
        )
