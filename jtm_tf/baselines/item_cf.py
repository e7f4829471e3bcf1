"""Item-CF, the paper's first rival: items that the same users buy.

Sarwar et al., "Item-based Collaborative Filtering Recommendation Algorithms"
(WWW 2001): a table of similar items from the training users' rows, and a
user's score of an item is its similarity summed over the user's history. The
variants are those of Deshpande & Karypis, "Item-based Top-N Recommendation
Algorithms" (TOIS 2004). Pure NumPy and scipy.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from scipy import sparse

from jtm_tf import ragged
from jtm_tf.baselines import rules
from jtm_tf.data import splits
from jtm_tf.tree import factors
from jtm_tf.types import PAD

SIMILARITIES = ("cosine", "conditional")
# Most entries of a sparse product held at once, unless one row has more.
_CHUNK = 1 << 23


@dataclasses.dataclass(frozen=True)
class ItemCFConfig:
    """How similar items are found and summed.

    The defaults are the best of twelve settings by the validation recall of
    Amazon Beauty and Ta-Feng together.

    Below, c_ij are the users who bought i and j, and n_i those who bought i.

    Attributes:
        similarity: one of `SIMILARITIES`: "cosine", c_ij / sqrt(n_i n_j);
            "conditional", P(j|i) tempered: c_ij / (n_i n_j**alpha).
        alpha: for "conditional": 0 favours best-sellers, 1 the rare items.
        shrinkage: similarities are multiplied by c_ij / (c_ij + shrinkage), so
            that pairs seen once or twice count for less.
        inverse_user_frequency: whether a user counts 1 / log(1 + items bought)
            and not 1; who buys everything says little.
        num_neighbours: similar items kept of each item, itself not among them.
        keep_own: whether an item is similar to itself; so users are
            recommended what they bought before.
        decay: weight of a behaviour relative to the next newer one.
        max_history: newest behaviours that count; None for all.
    """

    similarity: str = "cosine"
    alpha: float = 0.5
    shrinkage: float = 20.0
    inverse_user_frequency: bool = True
    num_neighbours: int = 500
    keep_own: bool = True
    decay: float = 0.97
    max_history: int | None = None

    def __post_init__(self):
        if self.similarity not in SIMILARITIES:
            raise ValueError(
                f"similarity must be one of {SIMILARITIES}; got "
                f"{self.similarity!r}."
            )
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1]; got {self.alpha}.")
        if not 0 <= self.shrinkage < np.inf:
            raise ValueError(
                f"shrinkage must be finite, >= 0; got {self.shrinkage}."
            )
        if self.num_neighbours < 1:
            raise ValueError(
                f"num_neighbours must be >= 1; got {self.num_neighbours}."
            )
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must be in (0, 1]; got {self.decay}.")
        if self.max_history is not None and self.max_history < 1:
            raise ValueError(
                f"max_history must be >= 1 or None; got {self.max_history}."
            )


@dataclasses.dataclass(frozen=True, eq=False)
class ItemCF:
    """A table of similar items.

    Attributes:
        config: how it was made.
        similar: [N + 1, N + 1] sparse float32; row i holds what a behaviour i
            adds to the score of each item. Row and column `PAD` are empty.
        popular: best-sellers, which settle ties and fill short rows.
    """

    config: ItemCFConfig
    similar: sparse.csr_array
    popular: rules.Popular

    @classmethod
    def fit(
        cls,
        examples: splits.Examples,
        num_items: int,
        config: ItemCFConfig = ItemCFConfig(),
    ) -> "ItemCF":
        """Counts who bought what together.

        Args:
            examples: the training samples; `starts` tells users apart, the
                targets are what they bought.
            num_items: N.
            config: see there.

        Raises:
            ValueError: an item is not in 1..N.
        """
        popular = rules.Popular.fit(examples, num_items)
        bought = factors.taken(
            examples.starts, examples.target_items(), num_items
        ).astype(np.float64)
        lengths = np.diff(bought.indptr)
        weights = np.ones(len(lengths))
        if config.inverse_user_frequency:
            weights = 1 / np.log1p(lengths)
        buyers = bought.T.tocsr()  # [N + 1, U]
        weighted = bought.copy()
        weighted.data = np.repeat(weights, lengths)
        counts = buyers @ weights  # n_i
        tables = []
        for rows in _chunks(buyers @ lengths):
            together = buyers[rows] @ weighted  # c_ij
            tables.append(
                _neighbours(together, rows.start, counts, config, popular.rank)
            )
        similar = sparse.vstack(tables, format="csr")
        return cls(config, similar, popular)

    def recommend(
        self, history: np.ndarray, num_results: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Recommends from histories, the best first.

        Of equal scores the better seller comes first. A row with fewer than M
        scored items is filled up by best-sellers of score 0, so an unknown
        user gets best-sellers. An item bought twice counts twice.

        Args:
            history: [B, T] int items, oldest to newest, `PAD` anywhere.
            num_results: M.

        Returns:
            [B, M] int32 items, `PAD` only where M > N, and their [B, M]
            float32 scores, 0 for `PAD`.

        Raises:
            ValueError: history is not [B, T], or an item is not in 1..N.
        """
        return self._recommend(_behaviours(history), num_results)

    def recommend_users(
        self, users: splits.HeldOutUsers, num_results: int
    ) -> np.ndarray:
        """Recommends from the users' whole known histories, as `recommend`.

        Returns:
            [U, M] int32 items.
        """
        items, _ = self._recommend(users.full_history, num_results)
        return items

    def scores(self, history: np.ndarray) -> np.ndarray:
        """Returns the score of every item, [B, N + 1] float32.

        Args:
            history: [B, T] int items, as `recommend` takes them.
        """
        users, _ = self._users(_behaviours(history))
        return (users @ self.similar).astype(np.float32).toarray()

    def _users(self, known):
        """Returns users as rows of weighed items, [B, N + 1] sparse, and the
        behaviours that count, from a `Ragged` of items.
        """
        rules.check_items(known.values, self.popular.num_items)
        behaviours, lengths, offsets = known.values, known.counts, known.offsets
        age = np.repeat(lengths, lengths) - ragged.ranges(lengths) - 1
        if self.config.max_history is not None:
            recent = age < self.config.max_history
            behaviours, age = behaviours[recent], age[recent]
            lengths = np.minimum(lengths, self.config.max_history)
            offsets = ragged.offsets(lengths)
        # Copied: to sum a row's repeats, scipy would write into what it got.
        users = sparse.csr_array(
            (np.power(self.config.decay, age), behaviours, offsets),
            shape=(len(lengths), self.similar.shape[0]),
            copy=True,
        )
        return users, ragged.Ragged(behaviours, offsets)

    def _recommend(self, known, num_results):
        """As `recommend`, from a `Ragged` of items, a row a user."""
        users, used = self._users(known)
        # An upper bound of what each row of the product holds.
        reach = np.diff(self.similar.indptr)[used.values]
        reach = np.diff(ragged.offsets(reach)[used.offsets])
        shape = len(known), num_results
        items, scores = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        for rows in _chunks(reach + num_results):
            # Equal sums may differ in their last bits as float64.
            found = (users[rows] @ self.similar).astype(np.float32)
            owner, item, score = _largest(found, num_results, self.popular.rank)
            here = found.shape[0], num_results
            items[rows] = self.popular.fill_up(rules.table(owner, item, here))
            scores[rows] = rules.table(owner, score, here)
        return items, scores


def _behaviours(history):
    """Returns the items of histories, [B, T], as a `Ragged`."""
    history = np.asarray(history)
    if history.ndim != 2:
        raise ValueError(f"history must be [B, T]; got {history.shape}.")
    known = history != PAD
    return ragged.Ragged.of_counts(history[known], known.sum(axis=1))


def _neighbours(together, first, counts, config, rank):
    """Returns the rows of `ItemCF.similar` from item `first` on.

    Args:
        together: [rows, N + 1] sparse, c_ij.
        first: the item of the first row.
        counts: [N + 1], n_i.
        config: an `ItemCFConfig`.
        rank: [N + 1], settles ties.
    """
    shape, count = together.shape, together.data
    row = np.repeat(np.arange(shape[0]), np.diff(together.indptr))
    column = together.indices
    item = row + first
    if config.similarity == "cosine":
        value = count / np.sqrt(counts[item] * counts[column])
    else:
        value = count / (counts[item] * counts[column] ** config.alpha)
    value *= count / (count + config.shrinkage)
    own = item == column
    others = sparse.csr_array(
        (value[~own].astype(np.float32), (row[~own], column[~own])), shape
    )
    row_kept, column_kept, value_kept = _largest(
        others, config.num_neighbours, rank
    )
    if config.keep_own:
        row_kept = np.concatenate([row_kept, row[own]])
        column_kept = np.concatenate([column_kept, column[own]])
        value_kept = np.concatenate([value_kept, value[own]])
    return sparse.csr_array(
        (value_kept.astype(np.float32), (row_kept, column_kept)), shape
    )


def _largest(matrix, count, rank):
    """Returns each row's largest positive entries, best first.

    Args:
        matrix: [B, N + 1] sparse float32, csr; no entry is stored twice.
        count: at most so many a row.
        rank: [N + 1], of equal entries that of smaller rank comes first.

    Returns:
        rows [n], ascending, columns [n] int32 and values [n] float32.
    """
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    # Bits of a positive float32 sort like the number. One plain sort finds
    # what each row's last place costs; ties are settled among the few left.
    key = row << 32 | np.iinfo(np.int32).max - matrix.data.view(np.int32)
    last = matrix.indptr[:-1] + count - 1
    full = last < matrix.indptr[1:]
    limit = np.full(matrix.shape[0], np.iinfo(np.int64).max)
    limit[full] = np.sort(key)[last[full]]
    kept = np.flatnonzero((key <= limit[row]) & (matrix.data > 0))
    row, column = row[kept], matrix.indices[kept]
    value = matrix.data[kept]
    order = np.lexsort((rank[column], -value, row))
    row, column, value = row[order], column[order], value[order]
    sizes = np.bincount(row, minlength=matrix.shape[0])
    kept = ragged.ranges(sizes) < count
    return row[kept], column[kept].astype(np.int32), value[kept]


def _chunks(costs: np.ndarray) -> Iterator[slice]:
    """Cuts rows in slices whose costs sum to at most `_CHUNK` each."""
    total = np.cumsum(costs)
    begin = 0
    while begin < len(total):
        paid = total[begin - 1] if begin else 0
        end = int(np.searchsorted(total, paid + _CHUNK, side="right"))
        end = max(end, begin + 1)
        yield slice(begin, end)
        begin = end
