"""From raw ids to numbers 1.., for a few ids among millions.

A dictionary of ten million Python strings takes gibibytes. Here the column
stays in Arrow beside the order that sorts it, and an id is found by bisection:
integers all at once, strings one by one in some 20 microseconds.
"""

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jtm_tf.data import identity
from jtm_tf.types import PAD


class RawIds:
    """The raw ids of items or users 1..N.

    Args:
        column: [N] strings or integers, each once.
    """

    def __init__(self, column: pa.ChunkedArray):
        self._column = column
        self._order = pc.sort_indices(column).to_numpy()
        self._sorted: np.ndarray | None = None  # Integers only.
        if pa.types.is_integer(column.type):
            self._sorted = column.to_numpy().astype(np.int64)[self._order]

    def __len__(self) -> int:
        return len(self._column)

    def number(self, raw_id: Any) -> int:
        """Returns the number of an id, PAD if it is unknown.

        17, "17", " 17" and 17.0 are the same id; see `identity`.
        """
        return int(self.numbers([raw_id])[0])

    def numbers(self, raw_ids: Sequence[Any]) -> np.ndarray:
        """Returns the numbers of ids, [len(raw_ids)] int32."""
        if self._sorted is None:
            places = [self._place_of(x) for x in raw_ids]
        else:
            wanted = [identity.as_integer(x) for x in raw_ids]
            ids = np.array([x or 0 for x in wanted], np.int64)
            at = np.searchsorted(self._sorted, ids)
            there = self._sorted[np.minimum(at, len(self) - 1)] == ids
            places = [
                None if x is None or not found else place
                for x, found, place in zip(wanted, there, at)
            ]
        return np.array(
            [PAD if p is None else 1 + self._order[p] for p in places],
            np.int32,
        )

    def of(self, numbers: Sequence[int] | np.ndarray) -> list[int | str]:
        """Returns the ids of numbers, none of them PAD."""
        return [self._at(number - 1) for number in numbers]

    def _place_of(self, raw_id):
        """Returns where a string id stands in the order, None if nowhere."""
        places = map(self._place, identity.as_texts(raw_id))
        return next((place for place in places if place is not None), None)

    def _place(self, text):
        """Returns where a string stands in the order, None if nowhere."""
        place = bisect.bisect_left(self._order, text, key=self._at)
        if place == len(self) or self._at(self._order[place]) != text:
            return None
        return place

    def _at(self, row):
        """Returns the id in a row of the column."""
        return self._column[int(row)].as_py()


def numbers_in(known: pa.ChunkedArray, asked: pa.ChunkedArray) -> np.ndarray:
    """Returns which number from 1 ids have among others, [n], PAD if none.

    Args:
        known: raw ids, of numbers 1, 2, ..
        asked: others; where one kind is integers and the other is not, none
            is found.
    """
    if pa.types.is_integer(known.type) != pa.types.is_integer(asked.type):
        return np.full(len(asked), PAD)
    found = pc.index_in(pc.cast(asked, known.type), known)
    return pc.fill_null(found, -1).to_numpy() + 1
