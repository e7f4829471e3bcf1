"""Two rules that any model must beat: best-sellers and own purchases.

Both know only rows of training users and what a user has bought; where people
buy the same things again they are hard to beat. Pure NumPy.
"""

import dataclasses
from typing import Protocol

import numpy as np

from jtm_tf import ragged
from jtm_tf.data import splits
from jtm_tf.types import PAD


class Baseline(Protocol):
    """Whatever answers held-out users."""

    def recommend_users(
        self, users: splits.HeldOutUsers, num_results: int
    ) -> np.ndarray:
        """Returns each user's items, [U, M] int32, best first, then PAD."""


@dataclasses.dataclass(frozen=True, eq=False)
class Popular:
    """Best-sellers of the training users, the same for everybody.

    Attributes:
        items: [N] int32, the most rows first; of equals the smaller id.
        rank: [N + 1] int64, each item's index in `items`; of `PAD` it is N.
    """

    items: np.ndarray
    rank: np.ndarray

    @classmethod
    def fit(cls, examples: splits.Examples, num_items: int) -> "Popular":
        """Counts each item's rows.

        Args:
            examples: the training samples.
            num_items: N.

        Raises:
            ValueError: an item is not in 1..N.
        """
        bought = examples.target_items()
        check_items(bought, num_items)
        counts = np.bincount(bought, minlength=num_items + 1)[1:]
        items = (np.argsort(-counts, kind="stable") + 1).astype(np.int32)
        rank = np.full(num_items + 1, num_items)
        rank[items] = np.arange(num_items)
        return cls(items, rank)

    @property
    def num_items(self) -> int:
        """N; items are 1..N."""
        return len(self.items)

    def recommend_users(
        self, users: splits.HeldOutUsers, num_results: int
    ) -> np.ndarray:
        """Returns the M best-sellers to each user, [U, M] int32."""
        answers = np.full((len(users), num_results), PAD, np.int32)
        return self.fill_up(answers)

    def fill_up(self, answers: np.ndarray) -> np.ndarray:
        """Fills short rows with the best-sellers that they lack.

        Args:
            answers: [B, M] int32, distinct items of a row, then `PAD`.

        Returns:
            [B, M] int32; `PAD` is left only where M > N.
        """
        answers = np.array(answers, np.int32)
        num_results = answers.shape[1]
        missing = np.count_nonzero(answers == PAD, axis=1)
        short = np.flatnonzero(missing)
        # The first M best-sellers do: no row can hold more than it lacks.
        best = self.items[:num_results]
        lacks = np.ones((len(short), len(best) + 1), bool)
        ranks = np.minimum(self.rank[answers[short]], len(best))
        np.put_along_axis(lacks, ranks, False, axis=1)
        lacks = lacks[:, :-1]
        count = np.cumsum(lacks, axis=1)
        row, rank = np.nonzero(lacks & (count <= missing[short][:, None]))
        column = (num_results - missing)[short[row]] + count[row, rank] - 1
        answers[short[row], column] = best[rank]
        return answers


@dataclasses.dataclass(frozen=True, eq=False)
class Repeat:
    """The user's own purchases, then best-sellers.

    What was bought more often comes first; of equals, what was bought last.

    Attributes:
        popular: the best-sellers.
    """

    popular: Popular

    @classmethod
    def fit(cls, examples: splits.Examples, num_items: int) -> "Repeat":
        """Takes what `Popular.fit` takes and raises what it raises."""
        return cls(Popular.fit(examples, num_items))

    def recommend_users(
        self, users: splits.HeldOutUsers, num_results: int
    ) -> np.ndarray:
        """Answers from the users' whole known histories.

        Returns:
            [U, M] int32; `PAD` is left only where M > N.

        Raises:
            ValueError: a known item is not in 1..N.
        """
        known = users.full_history
        check_items(known.values, self.popular.num_items)
        width = self.popular.num_items + 1
        # Newest first, so that the first index of a pair is its last purchase.
        pairs, newest, counts = np.unique(
            (known.owner * width + known.values)[::-1],
            return_index=True,
            return_counts=True,
        )
        order = np.lexsort((newest, -counts, pairs // width))
        owner, items = np.divmod(pairs[order], width)
        answers = table(owner, items, (len(users), num_results))
        return self.popular.fill_up(answers.astype(np.int32))


def check_items(items: np.ndarray, num_items: int) -> None:
    """Raises a `ValueError` unless all items are in 1..N."""
    if len(items) and not 1 <= items.min() <= items.max() <= num_items:
        raise ValueError(
            f"Items must be in 1..{num_items}; got {items.min()}.."
            f"{items.max()}."
        )


def table(
    owner: np.ndarray, values: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Lays out the first values of each row, padded on the right.

    Args:
        owner: [n] int, ascending, each value's row.
        values: [n], a row's values from left to right.
        shape: (B, M); values from the M-th of a row on are left out.

    Returns:
        [B, M] of the values' type, 0 where a row has no more values.
    """
    counts = np.bincount(owner, minlength=shape[0])
    column = ragged.ranges(counts)
    kept = column < shape[1]
    result = np.zeros(shape, values.dtype)
    result[owner[kept], column[kept]] = values[kept]
    return result
