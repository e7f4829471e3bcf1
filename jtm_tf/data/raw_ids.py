"""From raw ids to numbers 1.., for a few ids among millions.

A dictionary of ten million Python strings takes gibibytes. Here the column
stays in Arrow beside the order that sorts it, and an id is found by bisection.
"""

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jtm_tf.types import PAD


class RawIds:
    """The raw ids of items or users 1..N.

    Args:
        column: [N] strings or integers, each once.
    """

    def __init__(self, column: pa.ChunkedArray):
        self._column = column
        self._type = int if pa.types.is_integer(column.type) else str
        self._order = pc.sort_indices(column).to_numpy()

    def __len__(self) -> int:
        return len(self._column)

    def number(self, raw_id: Any) -> int:
        """Returns the number of an id, PAD if it is unknown.

        17, "17" and 17.0 are the same id.
        """
        if isinstance(raw_id, float) and not raw_id.is_integer():
            return PAD
        try:
            wanted = self._type(raw_id)
        except (TypeError, ValueError):
            return PAD
        place = bisect.bisect_left(self._order, wanted, key=self._at)
        if place == len(self) or self._at(self._order[place]) != wanted:
            return PAD
        return int(self._order[place]) + 1

    def numbers(self, raw_ids: Sequence[Any]) -> np.ndarray:
        """Returns the numbers of ids, [len(raw_ids)] int32."""
        return np.array([self.number(x) for x in raw_ids], np.int32)

    def of(self, numbers: Sequence[int] | np.ndarray) -> list[int | str]:
        """Returns the ids of numbers, none of them PAD."""
        rows = np.asarray(numbers, np.int64) - 1
        return self._column.take(pa.array(rows)).to_pylist()

    def _at(self, row):
        """Returns the id in a row of the column."""
        return self._column[int(row)].as_py()
