"""Where a log is cut by time: what a service knows, and what comes then.

Before `validation_from` everybody's rows are trained on; those from there on
pick the best round, and those from `test_from` on judge it. Times are what the
rows have: seconds, or a mere order.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Periods:
    """Two cuts, of which each begins a period.

    Attributes:
        validation_from: the first time that is not trained on.
        test_from: the first that the best round is judged by.

    Raises:
        ValueError: they are not in this order.
    """

    validation_from: int
    test_from: int

    def __post_init__(self):
        if self.validation_from >= self.test_from:
            raise ValueError(
                f"validation_from={self.validation_from} is not before "
                f"test_from={self.test_from}; validation users are judged by "
                "what they did between the two."
            )


def cut(
    timestamp: np.ndarray, test_from: int, validation_from: int | None
) -> Periods:
    """Returns the periods of a log.

    Args:
        timestamp: [I] int64 of all rows.
        test_from: where the last period begins.
        validation_from: where the one before it begins; by default it is as
            long as the last.

    Raises:
        ValueError: a period has no rows.
    """
    first, last = int(timestamp.min()), int(timestamp.max())
    told = f"The rows are of {first} to {last}"
    if test_from > last:
        raise ValueError(
            f"{told}, so none is of test_from={test_from} or later."
        )
    if validation_from is None:
        validation_from = test_from - (last - test_from + 1)
    if validation_from <= first:
        raise ValueError(
            f"{told}; with test_from={test_from} and validation_from="
            f"{validation_from} none is left to train on. Choose later times."
        )
    return Periods(validation_from, test_from)


def of(manifest: Mapping[str, Any]) -> Periods | None:
    """Returns the periods of prepared data, None if users are split."""
    found = manifest.get("periods")
    return Periods(**found) if found else None
