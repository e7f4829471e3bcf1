"""Who trains and who judges, and what each sees (paper Sec. 4.1).

Users are split disjointly. Each interaction of a training user is a sample
with the behaviours before it as its history; of a validation or test user the
first half by time is known and the second half is the ground truth.

Or the log is cut by time, as a service meets it: all users are trained on what
they did before a time, and judged by what they did after it. Pure NumPy; no
files.
"""

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np

from jtm_tf import ragged
from jtm_tf.data import interactions as interactions_lib
from jtm_tf.types import PAD

SPLITS = ("train", "validation", "test")


def split_users(
    num_users: int, *, validation_share: float, test_share: float, seed: int
) -> np.ndarray:
    """Draws each user's split; every split gets at least one user.

    Args:
        num_users: U, at least 3.
        validation_share: share of the users to validate on, in [0, 1).
        test_share: share of the users to test on, in [0, 1).
        seed: decides the draw together with the other arguments.

    Returns:
        [U] str, one of `SPLITS` each.

    Raises:
        ValueError: too few users, or shares that leave none to train on.
    """
    if num_users < len(SPLITS):
        raise ValueError(
            f"Three splits need at least 3 users; got {num_users}. Lower "
            "min_interactions or bring more data."
        )
    for name, share in (
        ("validation_share", validation_share),
        ("test_share", test_share),
    ):
        if not 0 <= share < 1:
            raise ValueError(f"{name} must be in [0, 1); got {share}.")
    validation = max(1, round(num_users * validation_share))
    test = max(1, round(num_users * test_share))
    if validation + test >= num_users:
        raise ValueError(
            f"validation_share {validation_share} and test_share {test_share} "
            f"leave none of {num_users} users to train on; lower them."
        )
    order = np.random.default_rng(seed).permutation(num_users)
    names = np.full(num_users, SPLITS[0], f"<U{max(map(len, SPLITS))}")
    names[order[:validation]] = SPLITS[1]
    names[order[validation : validation + test]] = SPLITS[2]
    return names


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """The training samples of Eq. 2, histories kept as ranges.

    A user's first interaction is a sample with an empty history: the model's
    answer to somebody unknown.

    Attributes:
        items: [I] int32, all training users' items, user after user, oldest
            first.
        starts: [S] int64, the first index in `items` of the sample's user.
        targets: [S] int64, the index in `items` of the sample's target; its
            history is `items[start:target]`.
        profile: [I, P] int32, the profile codes of the user of each of
            `items`; by default P = 0.
        ends: [S] int64, one past the last index in `items` of the sample's
            user: what comes after a target, `items[target + 1:end]`. By
            default users follow each other without a gap.
    """

    items: np.ndarray
    starts: np.ndarray
    targets: np.ndarray
    profile: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((0, 0), np.int32)
    )
    ends: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int64)
    )

    def __post_init__(self):
        if len(self.ends) != len(self.starts):
            firsts = np.unique(self.starts)
            after = np.append(firsts[1:], len(self.items)).astype(np.int64)
            ends = after[np.searchsorted(firsts, self.starts)]
            object.__setattr__(self, "ends", ends)
        if not self.profile.size:
            nothing = np.zeros((len(self.items), 0), np.int32)
            object.__setattr__(self, "profile", nothing)
        if self.starts.shape != self.targets.shape:
            raise ValueError(
                f"starts and targets must pair up; got {self.starts.shape} "
                f"and {self.targets.shape}."
            )

    def __len__(self) -> int:
        return len(self.targets)

    def target_items(self) -> np.ndarray:
        """Returns c_i, the item of each sample's target, [S] int32."""
        return self.items[self.targets]

    def histories(
        self,
        samples: np.ndarray,
        max_history: int,
        *,
        known: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns each sample's user as the model sees them.

        Args:
            samples: [B] int indices of samples.
            max_history: T.
            known: [N + 1] int, what the model calls each item; its own number
                if None.

        Returns:
            [B, T + P] int32: the newest items before the target, oldest to
            newest, left-padded with `PAD`, then the profile codes.
        """
        targets = self.targets[samples]
        items = _windows(self.items, self.starts[samples], targets, max_history)
        if known is not None:
            items = known[items].astype(items.dtype, copy=False)
        return np.concatenate([items, self.profile[targets]], axis=1)

    def shared_histories(self, most: int) -> tuple["Examples", np.ndarray]:
        """Returns a few histories of each user that stand for all samples'.

        A sample's history is cut back to the last of `most` places, evenly
        spread over the user's rows: of a user with more rows the newest ones
        of a history are missing, 1 / `most` of the rows at most. Users with
        no more rows keep each sample's own.

        Args:
            most: histories of a user.

        Returns:
            H samples whose histories those are, and [S] int, which of the H
            histories is that of each sample.
        """
        rows = self.ends - self.starts
        place = self.targets - self.starts
        cut = -(-(place * most // rows) * rows // most)
        cut = self.starts + np.where(rows > most, cut, place)
        _, first, of = np.unique(cut, return_index=True, return_inverse=True)
        shared = dataclasses.replace(self.take(first), targets=cut[first])
        return shared, of

    def of_some_users(self, most: int = 1_000_000, *, seed: int) -> "Examples":
        """Returns the samples of as many users, drawn, as stay within `most`.

        A user has all samples or none: what they tell of a user is kept. All
        samples are returned if there are no more, and one user's at least.

        Args:
            most: samples.
            seed: decides who.
        """
        if len(self) <= most:
            return self
        counts = np.bincount(self.starts)
        users = np.random.default_rng(seed).permutation(np.flatnonzero(counts))
        enough = np.cumsum(counts[users]) <= most
        chosen = np.zeros(len(counts), bool)
        chosen[users[: max(1, np.count_nonzero(enough))]] = True
        return self.take(np.flatnonzero(chosen[self.starts]))

    def fold_of(self, count: int, *, seed: int) -> np.ndarray:
        """Returns the part of each sample's user, [S] int in 0..count - 1.

        Drawn for each user alike, whatever samples were taken.

        Args:
            count: parts.
            seed: decides who.
        """
        draw = np.random.default_rng(seed)
        return draw.integers(count, size=len(self.items))[self.starts]

    def shards(self, count: int) -> list["Examples"]:
        """Returns the samples in parts, each over its own stretch of items.

        A user's samples stay together; the parts have about as many each, and
        are fewer than `count` if there are fewer users.
        """
        order = np.argsort(self.starts, kind="stable")
        begins = np.flatnonzero(np.diff(self.starts[order], prepend=-1))
        even = np.arange(1, count) * len(self) / count
        cuts = np.unique(begins[np.searchsorted(begins[:-1], even)])
        parts = np.split(order, cuts[cuts > 0])
        return [self.take(np.sort(part))._alone() for part in parts]

    def _alone(self):
        """Returns the same samples without the items before and behind."""
        first, last = int(self.starts.min()), int(self.ends.max())
        return Examples(
            self.items[first:last],
            self.starts - first,
            self.targets - first,
            self.profile[first:last],
            self.ends - first,
        )

    def take(self, samples: np.ndarray) -> "Examples":
        """Returns the samples at these indices, [B], over the same items."""
        return dataclasses.replace(
            self,
            starts=self.starts[samples],
            targets=self.targets[samples],
            ends=self.ends[samples],
        )


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOutUsers:
    """Validation or test users: what is known of each and what came later.

    Of m rows by time the first m // 2 are known; the rest, as a set, is the
    ground truth. Where the log is cut by time, what comes before the period
    is known, and the period is the ground truth. It may repeat known items.

    Attributes:
        users: [U] int32 user ids, ascending.
        history: [U, T + P] int32, the newest T known items, oldest to newest,
            left-padded with `PAD`, then the profile codes.
        full_history: int32, all known items, a row a user.
        truth: int32, each user's distinct later items, ascending.
    """

    users: np.ndarray
    history: np.ndarray
    full_history: ragged.Ragged
    truth: ragged.Ragged

    def __len__(self) -> int:
        return len(self.users)

    def first(self, count: int) -> "HeldOutUsers":
        """Returns the first users, `count` at most."""
        return self._cut(0, count)

    def batches(self, size: int) -> Iterator["HeldOutUsers"]:
        """Yields the users, `size` at a time."""
        for begin in range(0, len(self), size):
            yield self._cut(begin, begin + size)

    def _cut(self, begin, end):
        """Returns users begin..end - 1, fewer where there are no more."""
        return HeldOutUsers(
            users=self.users[begin:end],
            history=self.history[begin:end],
            full_history=self.full_history.cut(begin, end),
            truth=self.truth.cut(begin, end),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Spans:
    """Rows of some users: those that are known, then those that come later.

    Attributes:
        users: [U] int32 user ids, ascending.
        first: [U] int64, the first row of each.
        middle: [U] int64, the first row that comes later.
        last: [U] int64, one past the last of those.
    """

    users: np.ndarray
    first: np.ndarray
    middle: np.ndarray
    last: np.ndarray

    def take(self, chosen: np.ndarray) -> "Spans":
        """Returns the spans where `chosen`, [U] bool."""
        return Spans(
            self.users[chosen],
            self.first[chosen],
            self.middle[chosen],
            self.last[chosen],
        )


def sampled(interactions: interactions_lib.Interactions, split: str) -> Spans:
    """Returns the rows whose later ones are a split's samples."""
    periods, offsets = interactions.periods, interactions.user_rows()
    if periods is None:
        users = interactions.split_users(split)
        first = offsets[users]
        return Spans(users, first, first, offsets[users + 1])
    if split != SPLITS[0]:
        return _in_period(interactions, split)
    users = np.arange(1, interactions.num_users + 1, dtype=np.int32)
    first = offsets[users]
    last = interactions.rows_before(periods.validation_from)[users]
    return Spans(users, first, first, last).take(last > first)


def judged(interactions: interactions_lib.Interactions, split: str) -> Spans:
    """Returns the rows of a split's users, known ones and ground truth.

    Of users who are new in a period nothing is known: they are left out.

    Raises:
        ValueError: a split that does not judge.
    """
    if split not in SPLITS[1:]:
        raise ValueError(f"split must be one of {SPLITS[1:]}; got {split!r}.")
    if interactions.periods is not None:
        spans = _in_period(interactions, split)
        return spans.take(spans.middle > spans.first)
    users, offsets = interactions.split_users(split), interactions.user_rows()
    first, last = offsets[users], offsets[users + 1]
    return Spans(users, first, first + (last - first) // 2, last)


def _in_period(interactions, split):
    """Returns the rows of all who did something in a split's period."""
    periods, offsets = interactions.periods, interactions.user_rows()
    users = np.arange(1, interactions.num_users + 1, dtype=np.int32)
    middle = interactions.rows_before(periods.test_from)
    last = offsets[1:]
    if split == SPLITS[1]:
        last = middle
        middle = interactions.rows_before(periods.validation_from)
    first, middle, last = offsets[users], middle[users], last[users]
    return Spans(users, first, middle, last).take(last > middle)


def rows_of(spans: Spans) -> np.ndarray:
    """Returns the rows of spans, [I]: those of the items of `examples`."""
    return ragged.ranges(spans.last - spans.first, spans.first)


def examples(
    interactions: interactions_lib.Interactions,
    profile: Sequence[str] = (),
    *,
    split: str = SPLITS[0],
) -> Examples:
    """Returns every interaction of every user of a split as a sample.

    Where the log is cut by time, every one of the split's period.

    Args:
        interactions: the prepared data.
        profile: names of the profile columns to go with the history.
        split: whose; the training users' to train on.
    """
    spans = sampled(interactions, split)
    lengths = spans.last - spans.first
    rows = rows_of(spans)
    offsets, count = ragged.offsets(lengths), spans.last - spans.middle
    codes = interactions.profile_codes(profile)
    return Examples(
        interactions.item[rows],
        starts=np.repeat(offsets[:-1], count),
        targets=ragged.ranges(count, offsets[1:] - count),
        profile=codes[interactions.user[rows]],
        ends=np.repeat(offsets[1:], count),
    )


def repeat_share(examples: Examples) -> float:
    """Returns the share of samples whose item the user had before."""
    base = int(examples.items.max(initial=0)) + 1
    pairs = examples.starts * base + examples.target_items()
    return 1.0 - len(np.unique(pairs)) / max(1, len(examples))


def held_out_users(
    interactions: interactions_lib.Interactions,
    split: str,
    max_history: int,
    profile: Sequence[str] = (),
) -> HeldOutUsers:
    """Splits each held-out user's rows in a known half and a ground truth.

    Args:
        interactions: the prepared data.
        split: "validation" or "test".
        max_history: T.
        profile: names of the profile columns to go with the history.

    Returns:
        One row a user of the split.

    Raises:
        ValueError: another split.
    """
    spans = judged(interactions, split)
    users, lengths = spans.users, spans.last - spans.first
    rows = ragged.ranges(lengths, spans.first)
    items = interactions.item[rows]
    counts, starts = spans.middle - spans.first, ragged.offsets(lengths)[:-1]
    known = ragged.ranges(lengths) < np.repeat(counts, lengths)
    # One number a (user, item) pair, so that one sort removes repeats.
    owner = np.repeat(np.arange(len(users)), lengths)[~known]
    width = interactions.num_items + 1
    owner, truth = np.divmod(np.unique(owner * width + items[~known]), width)
    later = np.bincount(owner, minlength=len(users))
    return HeldOutUsers(
        users=users,
        history=np.concatenate(
            [
                _windows(items, starts, starts + counts, max_history),
                interactions.profile_codes(profile)[users],
            ],
            axis=1,
        ),
        full_history=ragged.Ragged.of_counts(items[known], counts),
        truth=ragged.Ragged.of_counts(truth.astype(np.int32), later),
    )


def _windows(
    items: np.ndarray, starts: np.ndarray, ends: np.ndarray, width: int
) -> np.ndarray:
    """Returns the last `width` of items[start:end] a row, left-padded."""
    at = ends[:, None] - np.arange(width, 0, -1)  # [B, T]
    inside = at >= starts[:, None]
    return np.where(inside, items[np.where(inside, at, 0)], PAD).astype(
        np.int32
    )
