"""Tests of `jtm_tf.models.visits` against counts by hand."""

import numpy as np

from jtm_tf.models import visits
from jtm_tf.types import PAD

WINDOWS = (4, 2, 1)


def test_visits_are_counted_by_window():
    behaviours = np.array([[PAD, 5, 5, 6, 5, 7, 6]], np.int32)
    got = visits.Visits(WINDOWS)(behaviours, np.array([[5, 6, 9]], np.int32))
    counts = np.array([[2, 1, 0], [1, 0, 1], [0, 0, 0]])
    total = counts.sum(axis=1, keepdims=True)
    want = np.hstack(
        [np.log1p(counts), np.minimum(counts, 1), np.log1p(total), total / 6]
    )
    np.testing.assert_allclose(got[0], want, atol=1e-6)
    nobody = visits.Visits(WINDOWS)(behaviours * 0, np.array([[5]], np.int32))
    assert not np.any(nobody)
