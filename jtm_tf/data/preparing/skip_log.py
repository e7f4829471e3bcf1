"""Accounts for rows that are skipped: how many, why, and the first lines."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import pyarrow as pa


class SkipLog:
    """Counts skipped rows by reason and keeps the first lines of each.

    Attributes:
        counts: rows skipped, by reason.
        examples: the first offending lines, by reason, "line 7: a,b".
        malformed: rows that are broken, as opposed to out of scope.
    """

    kept_examples = 5

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}
        self.malformed = 0

    def add(
        self,
        reason: str,
        count: int,
        lines: Sequence[tuple[int | None, str]],
        *,
        malformed: bool = True,
    ) -> None:
        """Counts `count` rows; `lines` are (line number, text) of the first."""
        places = ("" if n is None else f"line {n}: " for n, _ in lines)
        shown = [place + text[:200] for place, (_, text) in zip(places, lines)]
        self._count(reason, count, shown)
        self.malformed += count if malformed else 0

    def add_all(
        self,
        counts: Mapping[str, int],
        examples: Mapping[str, Sequence[str]],
        malformed: int,
    ) -> None:
        """Counts what another log has, given by its attributes."""
        for reason, count in counts.items():
            self._count(reason, count, examples[reason])
        self.malformed += malformed

    def _count(self, reason, count, examples):
        """Counts rows, and keeps the first examples."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        kept = self.examples.setdefault(reason, [])
        kept += examples[: self.kept_examples - len(kept)]

    def wants(self, reason: str) -> bool:
        """Tells whether one more example of `reason` would be kept."""
        return len(self.examples.get(reason, ())) < self.kept_examples


def keep_good(
    block: pa.RecordBatch,
    bad: Mapping[str, np.ndarray],
    *,
    index: int,
    line_numbers: Callable[[np.ndarray], list[int | None]],
    shown: pa.RecordBatch,
    skipped: SkipLog,
    out_of_scope: Sequence[str] = (),
) -> pa.RecordBatch:
    """Drops and counts bad rows, each under the first reason that holds.

    Args:
        block: [R] rows.
        bad: [R] bool for each reason.
        index: the index of the block's first row in the file.
        line_numbers: row indices in the file -> the line of each, or None.
        shown: [R] rows to show in examples.
        skipped: takes the counts.
        out_of_scope: the reasons that do not make a row malformed.

    Returns:
        The rows for which no reason holds.
    """
    dropped = np.zeros(block.num_rows, bool)
    for reason, mask in bad.items():
        mask = mask & ~dropped
        count = int(np.count_nonzero(mask))
        if not count:
            continue
        dropped |= mask
        lines: list[tuple[int | None, str]] = []
        if skipped.wants(reason):
            first = np.flatnonzero(mask)[: skipped.kept_examples]
            texts = [
                ",".join("" if v is None else str(v) for v in row.values())
                for row in shown.take(pa.array(first)).to_pylist()
            ]
            lines = list(zip(line_numbers(first + index), texts))
        skipped.add(reason, count, lines, malformed=reason not in out_of_scope)
    if not dropped.any():
        return block
    return block.filter(pa.array(~dropped))
