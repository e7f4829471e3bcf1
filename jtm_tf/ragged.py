"""Rows of unequal length, one after another in one array. Pure NumPy."""

import dataclasses

import numpy as np


def ranges(counts: np.ndarray, starts: np.ndarray | int = 0) -> np.ndarray:
    """Counts up in every row: start, start + 1, .. start + count - 1.

    Args:
        counts: [R] int, the length of each row.
        starts: [R] int, or one for all: where each row's numbers begin.

    Returns:
        [sum of counts] int64, row after row.
    """
    first = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - first, counts)


def offsets(counts: np.ndarray) -> np.ndarray:
    """Returns where each of R rows begins, and the last ends, [R + 1] int64."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of values; a row may be empty.

    Attributes:
        values: [V], row after row.
        offsets: [R + 1] int64; row r is `values[offsets[r]:offsets[r + 1]]`.

    Raises:
        ValueError: the offsets do not cut the values in rows.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __post_init__(self):
        ends = self.offsets[0], self.offsets[-1]
        if ends != (0, len(self.values)) or np.any(np.diff(self.offsets) < 0):
            raise ValueError(
                f"offsets must ascend from 0 to {len(self.values)}, the number "
                f"of values; got {ends[0]}..{ends[1]}."
            )

    @classmethod
    def of_counts(cls, values: np.ndarray, counts: np.ndarray) -> "Ragged":
        """Cuts values in rows of these lengths, [R]."""
        return cls(values, offsets(counts))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """Returns the values of a row, from 0."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def counts(self) -> np.ndarray:
        """The length of each row, [R]."""
        return np.diff(self.offsets)

    @property
    def owner(self) -> np.ndarray:
        """The row that each value belongs to, [V], ascending."""
        return np.repeat(np.arange(len(self)), self.counts)

    def cut(self, begin: int, end: int) -> "Ragged":
        """Returns rows begin..end - 1, fewer where there are no more."""
        own = self.offsets[begin : end + 1]
        return Ragged(self.values[own[0] : own[-1]], own - own[0])
