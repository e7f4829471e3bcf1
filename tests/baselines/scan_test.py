"""Tests of `jtm_tf.baselines.scan` against plain loops."""

import numpy as np
import pytest

from jtm_tf.baselines import rules
from jtm_tf.baselines import scan
from jtm_tf.types import PAD
from tests.support import purchases


def test_rows_are_sets():
    users = purchases.users_of([[3, 1, 3], [], [2]])
    got = scan.known_rows(users, 4)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(
        got.toarray(), [[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]
    )


def test_unknown_items():
    with pytest.raises(ValueError, match=r"Items must be in 1\.\.3"):
        scan.known_rows(purchases.users_of([[4]]), 3)


@pytest.mark.parametrize("num_results", [1, 5, 9, 12])
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_the_best_by_loops(num_results, batch, monkeypatch):
    monkeypatch.setattr(scan, "_BATCH", batch)
    num_items, rng = 9, np.random.default_rng(0)
    training = purchases.draw(20, num_items, 8, seed=0)
    popular = rules.Popular.fit(purchases.examples_of(training), num_items)
    # Few values: many are equal. PAD would be the best of all.
    scores = rng.integers(-2, 3, (11, num_items + 1)).astype(np.float32)
    scores[:, PAD] = 9
    got = scan.recommend(
        lambda rows: scores[rows], len(scores), num_results, popular
    )
    assert got.dtype == np.int32
    best = purchases.best_sellers(training, num_items)
    for row, score in zip(got, scores):
        want = sorted(best, key=lambda item: -score[item])  # stable
        assert row.tolist() == purchases.filled(want, [], num_results)
