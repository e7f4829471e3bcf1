"""Tests of `jtm_tf.ragged`: against loops over rows."""

import numpy as np
import pytest

from jtm_tf import ragged

COUNTS = ([3, 0, 1], [0, 0], [2], [0, 4, 0, 1, 0], [])


@pytest.mark.parametrize("counts", COUNTS)
def test_ranges(counts):
    counts = np.array(counts, int)
    starts = 10 * np.arange(len(counts)) - 3
    want = [s + i for s, n in zip(starts, counts) for i in range(n)]
    assert ragged.ranges(counts, starts).tolist() == want
    want = [i for n in counts for i in range(n)]
    assert ragged.ranges(counts).tolist() == want
    assert ragged.ranges(counts).dtype == np.int64


@pytest.mark.parametrize("counts", COUNTS)
def test_rows(counts):
    counts = np.array(counts, int)
    values = np.arange(counts.sum()) * 7
    rows = ragged.Ragged.of_counts(values, counts)
    assert len(rows) == len(counts)
    assert rows.counts.tolist() == counts.tolist()
    assert rows.offsets.dtype == np.int64
    lists = [row.tolist() for row in rows]
    assert sum(lists, []) == values.tolist()
    assert [len(row) for row in lists] == counts.tolist()
    assert rows.owner.tolist() == [
        r for r, n in enumerate(counts) for _ in range(n)
    ]
    for begin in range(len(counts)):
        for end in range(begin, len(counts) + 2):
            cut = rows.cut(begin, end)
            assert [row.tolist() for row in cut] == lists[begin:end]


@pytest.mark.parametrize("offsets", [[1, 3], [0, 2], [0, 4], [0, 2, 1, 3]])
def test_offsets_that_cut_nothing(offsets):
    with pytest.raises(ValueError, match="ascend from 0 to 3"):
        ragged.Ragged(np.arange(3), np.array(offsets))
