"""Raw ids against a dictionary."""

import numpy as np
import pyarrow as pa
import pytest

from jtm_tf.data import raw_ids
from jtm_tf.types import PAD

STRINGS = ["b", "a", "", "007", "7", "Ä", "\U0001f95b", "￿", "ab", "a b"]
INTEGERS = [5, -3, 2**62, 0, 17]


@pytest.mark.parametrize("ids", [STRINGS, sorted(STRINGS), INTEGERS, ["x"]])
@pytest.mark.parametrize("chunks", [1, 3])
def test_against_a_dictionary(ids, chunks):
    parts = [p.tolist() for p in np.array_split(np.array(ids, object), chunks)]
    column = pa.chunked_array(parts, pa.array(ids).type)
    found = raw_ids.RawIds(column)
    assert len(found) == len(ids)
    want = {raw_id: number for number, raw_id in enumerate(ids, 1)}
    asked = [*ids, "zz", "aa", 18, -(10**30), None, float("nan"), "1.5"]
    numbers = found.numbers(asked)
    assert numbers.dtype == np.int32
    assert numbers.tolist() == [want.get(x, PAD) for x in asked]
    assert found.of(numbers[: len(ids)]) == ids
    assert found.of([]) == []


def test_one_id_in_several_forms():
    same = [17, "17", 17.0, np.int64(17), np.float32(17)]
    others = [17.5, np.float32(17.5), np.float32("inf"), float("nan"), 2**70]
    for ids in ([17, 18], ["17", "18"]):
        found = raw_ids.RawIds(pa.chunked_array([ids]))
        assert found.numbers(same).tolist() == [1] * len(same)
        assert found.numbers(others).tolist() == [PAD] * len(others)
        assert found.number("18") == 2
