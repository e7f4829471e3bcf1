"""A shop's service: candidates of several sources, ranked by one stage.

As in Sec. 3.3 of the paper: what differs between buckets is one source of
candidates; best-sellers, categories and the ranking behind them are the same.
The ranking stage is a logistic regression of clicks, learned from what was
shown the day before, times the bid: what an impression is expected to earn.
"""

import dataclasses

import numpy as np
from scipy import optimize
from scipy import special

from jtm_tf import categories
from jtm_tf.baselines import item_cf
from jtm_tf.data import splits
from jtm_tf.tree import factors
from jtm_tf.types import PAD

# Of a person's newest items, those whose categories count.
_NEWEST = 20
# Persons whose item-based scores are held at once, [persons, N + 1] float32.
_CHUNK = 512
# A product of factors that tells of nothing.
_UNIT = 1e-3


@dataclasses.dataclass(frozen=True)
class Config:
    """How a shop serves.

    Attributes:
        shown: places of a list, K.
        retrieved: candidates of the source that differs, M.
        best_sellers: candidates that all get.
        in_category: candidates of each of a person's two main categories.
        recent_days: the days whose rows count as popularity.
        factors: of the factorisation that the ranking stage sees.
        penalty: of squared coefficients of the ranking stage.
    """

    shown: int = 10
    retrieved: int = 50
    best_sellers: int = 20
    in_category: int = 15
    recent_days: int = 3
    factors: int = 16
    penalty: float = 1e-3


class Shop:
    """What is known on a morning, the same for every bucket.

    Args:
        config: see there.
        paths: [N] category paths.
        available: [N + 1] bool, the items that can be had.
        log: persons, items and days of all rows so far, [R] each, a person's
            in their order.
        today: the day that begins.

    Attributes:
        cf: Item-CF of the log, one of the sources.
    """

    def __init__(
        self,
        config: Config,
        paths: np.ndarray,
        available: np.ndarray,
        log: tuple[np.ndarray, np.ndarray, np.ndarray],
        today: int,
    ):
        self._config, self._available = config, available
        people, items, days = log
        recent = days >= today - config.recent_days
        counts = np.bincount(items[recent], minlength=len(available))
        self._sold = np.where(available, counts, -1)
        self._fine = _groups(paths, None)
        self._coarse = _groups(paths, 1)
        self._best = np.argsort(-self._sold[1:], kind="stable") + 1
        self._tops = self._top_of_category(config.in_category)
        order = np.argsort(people, kind="stable")
        starts = np.flatnonzero(np.diff(people[order], prepend=-1))
        lengths = np.diff(starts, append=len(people))
        examples = splits.Examples(
            items[order].astype(np.int32),
            np.repeat(starts, lengths),
            np.arange(len(people)),
        )
        self.cf = item_cf.ItemCF.fit(examples, len(paths))
        self._vectors = factors.item_vectors(
            factors.taken(people, items, len(paths)), config.factors
        )

    def candidates(
        self, newest: np.ndarray, retrieved: np.ndarray
    ) -> np.ndarray:
        """Returns what may be shown, each item once, none that was had.

        Args:
            newest: [V, T] int items of each visitor, oldest to newest.
            retrieved: [V, M] int items of the source that differs.

        Returns:
            [V, W] int32, PAD where nothing is left.
        """
        best = np.tile(
            self._best[: self._config.best_sellers], (len(newest), 1)
        )
        two = _two_most_frequent(self._fine[newest[:, -_NEWEST:]])
        near = self._tops[two].reshape(len(newest), -1)
        found = np.concatenate([retrieved, near, best], axis=1)
        found = np.where(self._available[found], found, PAD)
        return _without(found, newest).astype(np.int32)

    def features(
        self, newest: np.ndarray, candidates: np.ndarray
    ) -> np.ndarray:
        """Returns what the ranking stage sees, [V, W, F] float32.

        How an item sells; how much of a person's newest items is of its
        category, fine and coarse; and what Item-CF and a factorisation say of
        it.
        """
        sold = np.log1p(np.maximum(self._sold[candidates], 0))
        near = newest[:, -_NEWEST:]
        known = np.maximum(np.count_nonzero(near, axis=1), 1)[:, None]
        shares = [
            _share(group[near], group[candidates]) / known
            for group in (self._fine, self._coarse)
        ]
        similar = np.log1p(self._similarity(newest, candidates))
        liked = self._vectors[newest].sum(axis=1)  # PAD has zeros
        product = np.einsum("ve,vwe->vw", liked, self._vectors[candidates])
        product = np.log1p(np.maximum(product, 0) / _UNIT)
        stacked = np.stack([sold, *shares, similar, product], axis=-1)
        return stacked.astype(np.float32)

    def _similarity(self, newest, candidates):
        """Returns Item-CF's score of each candidate, [V, W]."""
        scores = np.empty(candidates.shape, np.float32)
        for begin in range(0, len(newest), _CHUNK):
            rows = slice(begin, begin + _CHUNK)
            dense = self.cf.scores(newest[rows])
            scores[rows] = np.take_along_axis(dense, candidates[rows], 1)
        return scores

    def _top_of_category(self, count):
        """Returns each fine category's best-sellers, [groups, count]."""
        group = self._fine[self._best]
        order = np.argsort(group, kind="stable")
        items, group = self._best[order], group[order]
        begins = np.searchsorted(group, np.arange(self._fine.max() + 2))
        place = begins[:-1, None] + np.arange(count)
        inside = place < begins[1:, None]
        tops = np.where(inside, items[np.where(inside, place, 0)], PAD)
        tops[categories.UNKNOWN] = PAD
        return tops


class Ranking:
    """The ranking stage: a logistic regression of clicks.

    Args:
        penalty: of squared coefficients.

    Attributes:
        weights: [F + 2]: of the features, of the place, and a constant; of a
            stage that has seen nothing, what sells and what is like wins.
    """

    def __init__(self, penalty: float = 1e-3):
        self._penalty = penalty
        self.weights = np.array([0.3, 1.0, 1.0, 1.0, 0.3, -0.1, -5.0])

    def learn(self, features: np.ndarray, clicks: np.ndarray) -> None:
        """Fits to lists that were shown, [V, K, F], and clicks, [V, K] bool."""
        if not clicks.any():
            return  # nothing to learn from; yesterday's stays
        x, y = self._with_place(features), clicks.reshape(-1).astype(float)

        def loss(weights):
            logits = x @ weights
            penalty = self._penalty * weights[:-1]
            value = np.mean(np.logaddexp(0, logits) - y * logits)
            slope = x.T @ (special.expit(logits) - y) / len(y)
            slope[:-1] += 2 * penalty
            return value + penalty @ weights[:-1], slope

        self.weights = optimize.minimize(
            loss, self.weights, jac=True, method="L-BFGS-B"
        ).x

    def chances(self, features: np.ndarray) -> np.ndarray:
        """Returns the chance of a click in the first place, [V, W]."""
        # Places differ by what people look at, not by what they like.
        kept = np.append(self.weights[:-2], self.weights[-1])
        return special.expit(features @ kept[:-1] + kept[-1])

    def _with_place(self, features):
        """Returns [V * K, F + 2] float64: features, place, constant."""
        shape = features.shape[:2]
        place = np.broadcast_to(np.arange(shape[1]), shape)
        stacked = [features, place[..., None], np.ones([*shape, 1])]
        return np.concatenate(stacked, axis=2).reshape(-1, len(self.weights))


def best(
    candidates: np.ndarray, worth: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the most worth of each row's candidates.

    Args:
        candidates: [V, W] int, PAD where there is none.
        worth: [V, W].
        count: K.

    Returns:
        [V, K] items, PAD where there are fewer, and their columns, [V, K].
    """
    worth = np.where(candidates == PAD, -np.inf, worth)
    columns = np.argsort(-worth, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(candidates, columns, 1), columns


def _groups(paths, count):
    """Returns the group of each item, [N + 1]; of PAD it is UNKNOWN."""
    return np.append(categories.UNKNOWN, categories.groups(paths, count)[0])


def _share(known, asked):
    """Returns how often each asked group is among the known, [V, W].

    Args:
        known: [V, T] groups.
        asked: [V, W] groups.
    """
    total = np.zeros(asked.shape)
    for column in known.T:
        total += (asked == column[:, None]) & (column != categories.UNKNOWN)[
            :, None
        ]
    return total


def _two_most_frequent(groups):
    """Returns each row's two most frequent groups, UNKNOWN where fewer."""
    often = _share(groups, groups)
    first = np.argmax(often, axis=1)[:, None]
    main = np.take_along_axis(groups, first, 1)
    rest = np.where(groups == main, 0, often)
    second = np.argmax(rest, axis=1)[:, None]
    other = np.take_along_axis(groups, second, 1)
    none = np.take_along_axis(rest, second, 1) == 0
    return np.concatenate([main, np.where(none, 0, other)], axis=1)


def _without(found, had):
    """Returns items with PAD for those that come again, or were had.

    Args:
        found: [V, W] items.
        had: [V, T] items.
    """
    both = np.concatenate([had, found], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    ordered = np.take_along_axis(both, order, 1)
    again = np.zeros(both.shape, bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeats = np.zeros(both.shape, bool)
    np.put_along_axis(repeats, order, again, 1)
    return np.where(repeats[:, had.shape[1] :], PAD, found)
