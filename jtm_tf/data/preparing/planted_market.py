"""A planted market: UserBehavior's habits over a hidden tree, at any size.

A taste is a subtree of the hidden tree. A user takes up tastes, most of them
in a few areas of the tree, and comes back to them, the sooner the likelier;
what is never returned to is noise. A row shows an item of its taste by
popularity, or one that the user had before. The known categories are nodes of
the same tree, cut at uneven heights, under two-part names whose order tells
nothing and with some items mis-filed: how categories lie to each other, and
what lies within one, is for a learner to find. The fewer and coarser they are
and the more items are mis-filed, the more there is to find: in the paper's data
a category holds hundreds of items, and nothing is known below it.

`planted_world` plants a plainer world, with an oracle, for tests of learners.
"""

import dataclasses
import math

import numpy as np
import pyarrow as pa

from jtm_tf import categories
from jtm_tf import ragged
from jtm_tf.data.preparing import reader
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

# Counted on the first 100,000 and last 10,000 rows of the published file, its
# nine days, users with 10 rows or more: 1,072 users, 70,088 items, 3,261
# categories. The test holds both that sample and the market against them.
ROWS_PER_USER = 102.4
MEDIAN_ROWS_PER_USER = 75
REPEAT_SHARE = 0.2405  # rows whose item the user had before
# Rows, not a user's first, whose category is among the k rows before.
CATEGORY_SEEN = {1: 0.412, 2: 0.505, 5: 0.587, 10: 0.641, 20: 0.689}
CATEGORY_SEEN_EVER = 0.766
CATEGORIES_PER_USER = 12.4  # median of exp(entropy)
CATEGORY_TOP_1 = 0.403  # items in the largest 1 % of the categories
CATEGORY_TOP_10 = 0.759
# N times the sum of p(item)^2, p over (user, item) pairs and N = 4,162,024, the
# whole file's items. The sample shows most items once, so its ranks say little
# of popularity; how often two users meet in an item is measured without bias,
# and p ~ (rank / N + shift)^-0.8 with a shift of 7e-5 gives this figure.
POPULARITY_MOMENT = 30.4

MIN_ITEMS, ROWS_PER_ITEM = 1025, 10
MIN_ROWS = 10  # with fewer `prepare` drops a user
MISFILED_SHARE = 0.1
# The measured exponent, and a smaller shift: who returns to a taste meets its
# popular items again, so pairs are less skewed than draws. The moment is 8 so
# and stays there on purpose: at 13, the 200 best-sellers of 200,000 items would
# recall 12 % already, and a model had less to show.
_ZIPF, _ZIPF_SHIFT = 0.8, 1e-5
# Log-normal sizes with this sigma have the measured shares in the largest 1 %
# and 10 %; a mean of 50 lies between the sample's 21 items and the file's 441.
# The largest category has 3.5 % of the items, a node of level 5 has 3.1 %.
_LOG_SIZE_SIGMA, _ITEMS_PER_CATEGORY, _LARGEST_LEVEL = 2.15, 50, 5
_COARSE_LEVEL = 4
# Habits, set by hand so that the market shows the figures above.
_NEW_TASTE, _REPEAT = 0.25, 0.06  # shares of the rows
_NEW_SESSION = 0.158  # rows more than 30 minutes after the one before; measured
_STAY = 0.8  # of the others: to the taste of the row just before, for sure
_AREAS, _AREA_LEVEL, _IN_AREA = 3, 7, 0.7
_HEIGHTS = (6, 7, 8, 9, 10)  # of tastes above the leaves, evenly
_WITHIN, _AWAY = 120.0, 40_000.0  # mean seconds since the row before
_START, _DAY = 1511539200, 86_400  # as in the published file
_BLOCK_ROWS = 1 << 20
# What a market can be told of what is known of its items.
_KNOWN = ("items_per_category", "misfiled_share")


@dataclasses.dataclass(frozen=True, eq=False)
class Market:
    """Interactions and the truth behind them.

    Attributes:
        user: [I] int32, 1..U, ascending.
        item: [I] int32, 1..N; every item occurs.
        timestamp: [I] int64 seconds, ascending within a user.
        taste: [I] int32, the node of the hidden tree that the row came from;
            a few rows that show an item nobody came upon lie outside.
        categories: [N] paths `coarse|fine` of items 1..N.
        popularity: [N + 1], the share of each item in draws from anywhere.
        true_tree: the hidden tree.
    """

    user: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    taste: np.ndarray
    categories: np.ndarray
    popularity: np.ndarray
    true_tree: tree_lib.Tree


def calibrated_world(
    num_items: int,
    num_interactions: int,
    seed: int,
    *,
    items_per_category: int | None = None,
    misfiled_share: float = MISFILED_SHARE,
) -> Market:
    """Draws a market; a function of its arguments.

    Users follow from the interactions: 102.4 rows each on average, 10 at
    least and exponential above, as the sample's are.

    Args:
        num_items: N, at least `MIN_ITEMS`, so that no taste is everything.
        num_interactions: I, at least `ROWS_PER_ITEM` N: every item occurs.
        seed: decides everything.
        items_per_category: cuts the categories evenly: all are of about that
            many items, and there are num_items / items_per_category. By
            default sizes are as uneven as the sample's, 50 items on average.
        misfiled_share: items, drawn, that change categories among each other.
            Neither changes who took what.

    Raises:
        ValueError: too few items, or too few interactions for them; or a
            category or a share of an impossible size.
    """
    if num_items < MIN_ITEMS:
        raise ValueError(
            f"A market needs num_items >= {MIN_ITEMS}; got {num_items}. For "
            "smaller worlds see planted_world.planted_world."
        )
    if num_interactions < ROWS_PER_ITEM * num_items:
        raise ValueError(
            f"A market needs num_interactions >= {ROWS_PER_ITEM} num_items, so "
            f"that every item occurs; got {num_interactions} for {num_items}."
        )
    if items_per_category is None:
        num_categories = None
    elif 1 <= items_per_category <= num_items // 2:
        num_categories = round(num_items / items_per_category)
    else:
        raise ValueError(
            "A market needs two categories: items_per_category must be in 1.."
            f"{num_items // 2}; got {items_per_category}."
        )
    if not 0 <= misfiled_share <= 1:
        raise ValueError(
            f"misfiled_share must be in [0, 1]; got {misfiled_share}."
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(num_items) + 1
    tree = tree_lib.Tree.from_order(order)
    share = (rng.permutation(num_items) + 1) / num_items
    weight = (share + _ZIPF_SHIFT) ** -_ZIPF
    user, place = _users(num_interactions, rng)
    habits = _habits(place, rng)
    taste, rank = _draw(tree, weight, user, habits, rng)
    popularity = np.zeros(num_items + 1)
    popularity[order] = weight / weight.sum()
    timestamp = _times(place, habits.session, rng)
    if num_categories is None:
        nodes = _cut_unevenly(tree, rng)
    else:
        nodes = _cut_evenly(tree, num_categories, rng)
    return Market(
        user=(user + 1).astype(np.int32),
        item=order[rank].astype(np.int32),
        timestamp=timestamp,
        taste=taste,
        categories=_names(tree, nodes, misfiled_share, rng),
        popularity=popularity,
        true_tree=tree,
    )


class Planted(reader.Reader):
    """A market drawn on the spot: deep enough that pruning matters.

    Every item and user occurs, so those of the prepared folder are the
    market's own, and its hidden tree lies in the folder. `calibrated_world`
    with the manifest's settings gives the rest of the truth.
    """

    home = "A planted market has no input; it is drawn from --seed."
    takes = ("num_items", "num_rows", *_KNOWN)
    num_items, num_rows = 200_000, 5_000_000

    def find_paths(self):
        if self.options.input is not None:
            raise ValueError(
                f"--input means nothing to this dataset; got "
                f"{self.options.input!r}. {self.home}"
            )
        return []

    def settings(self):
        given = {
            name: getattr(self.options, name)
            for name in self.takes
            if getattr(self.options, name) is not None
        }
        # What is not given is not named, so that folders from before there
        # were such options stand.
        sizes = {"num_items": self.num_items, "num_rows": self.num_rows}
        return sizes | given

    def rows(self, skipped):
        chosen = self.settings()
        drawn = calibrated_world(
            chosen["num_items"],
            chosen["num_rows"],
            self.options.seed,
            **{name: chosen[name] for name in _KNOWN if name in chosen},
        )
        self._true_tree = drawn.true_tree
        self._categories = pa.array(drawn.categories.tolist())
        for start in range(0, len(drawn.item), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            yield pa.RecordBatch.from_pydict(
                {
                    "user": pa.array(drawn.user[block], pa.int64()),
                    "item": pa.array(drawn.item[block], pa.int64()),
                    "timestamp": pa.array(drawn.timestamp[block]),
                }
            )

    def describe_items(self, raw_ids, skipped):
        at = pa.array(np.asarray(raw_ids) - 1)
        return pa.table({"category": self._categories.take(at)})

    def true_tree(self, raw_ids):
        of_kept = self._true_tree.pi[np.asarray(raw_ids)]
        return dataclasses.replace(self._true_tree, pi=np.append(PAD, of_kept))


@dataclasses.dataclass(frozen=True, eq=False)
class _Habits:
    """What each row takes from rows before it, whatever the items.

    Attributes:
        session: [I] bool, the row starts a session.
        taste_row: [I] the row that took up this row's taste.
        item_row: [I] the row that brought this row's item; most often itself.
    """

    session: np.ndarray
    taste_row: np.ndarray
    item_row: np.ndarray


def _users(num_rows, rng):
    """Returns each row's user from 0, and its place among the user's rows."""
    users = round(num_rows / ROWS_PER_USER)
    share = np.cumsum(rng.exponential(size=users))
    spare = num_rows - MIN_ROWS * users
    ends = np.round(share / share[-1] * spare).astype(np.int64)
    ends += MIN_ROWS * np.arange(1, users + 1)
    lengths = np.diff(ends, prepend=0)
    return np.repeat(np.arange(users), lengths), ragged.ranges(lengths)


def _habits(place, rng):
    """Draws which rows begin something and which go back to earlier ones."""
    rows = len(place)
    session = (rng.random(rows) < _NEW_SESSION) | (place == 0)
    kind = rng.random(rows)
    new = (kind < _NEW_TASTE) | (place == 0)
    repeat = (kind >= 1 - _REPEAT) & (place > 1)
    # Uniform in the logarithm: the chance to go back k rows falls as 1 / k.
    # A repeat goes back two at least: the sample has no item twice in a row.
    reach = np.where(repeat, place, place + 1).astype(float)
    back = (reach ** rng.random(rows)).astype(np.int64) + repeat
    stays = ~session & ~repeat & (rng.random(rows) < _STAY)
    back[stays] = 1
    row = np.arange(rows)
    source = row - np.minimum(back, place)
    return _Habits(
        session=session,
        taste_row=_follow(np.where(new, row, source)),
        item_row=_follow(np.where(repeat, source, row)),
    )


def _follow(source):
    """Returns the end of each row's chain, [I]; an end names itself.

    Each round doubles the reach.
    """
    while True:
        further = source[source]
        if np.array_equal(further, source):
            return source
        source = further


def _draw(tree, weight, user, habits, rng):
    """Returns the taste of each row, a node, and its item's rank, [I] each."""
    items, levels = len(weight), tree.max_level
    mass = np.concatenate([[0.0], np.cumsum(weight)])

    def below(node, level):
        """Draws the rank of an item below each node, by popularity."""
        # `from_order` puts ranks ceil(m N / width) .. on the leaves of node m.
        first = -(-node * items >> level)
        last = -(-(node + 1) * items >> level)
        at = mass[first] + rng.random(len(node)) * (mass[last] - mass[first])
        rank = np.searchsorted(mass, at, side="right") - 1
        return np.clip(rank, first, last - 1)

    def above(rank, level):
        """Returns the node of `level` above each item, from 0."""
        return (rank << levels) // items >> levels - level

    # A taste is a subtree around an item of the user's areas, or of anywhere.
    root = np.zeros((user[-1] + 1) * _AREAS, np.int64)
    areas = above(below(root, root), _AREA_LEVEL).reshape(-1, _AREAS)
    row = np.arange(len(user))
    begins = np.flatnonzero(habits.taste_row == row)
    area = areas[user[begins], rng.integers(0, _AREAS, len(begins))]
    inside = rng.random(len(begins)) < _IN_AREA
    anchor = below(np.where(inside, area, 0), np.where(inside, _AREA_LEVEL, 0))
    level = levels - rng.choice(_HEIGHTS, len(begins))
    node = above(anchor, level)

    number = np.zeros(len(user), np.int64)
    number[begins] = np.arange(len(begins))
    number = number[habits.taste_row]
    rank = below(node[number], level[number])
    rank[begins] = anchor
    # Items that nobody came upon replace some that several did.
    fresh = np.flatnonzero(habits.item_row == row)
    shown, first = np.unique(rank[fresh], return_index=True)
    missing = np.setdiff1d(np.arange(items), shown, assume_unique=True)
    spare = np.delete(fresh, first)
    rank[rng.choice(spare, len(missing), replace=False)] = missing
    taste = (node + (1 << level)).astype(np.int32)
    return taste[number], rank[habits.item_row]


def _times(place, session, rng):
    """Draws the second of each row, [I] int64; sessions lie hours apart."""
    pause = rng.exponential(np.where(session, _AWAY, _WITHIN))
    time = np.cumsum(pause.astype(np.int64))
    first = np.arange(len(place)) - place
    begin = rng.integers(0, _DAY, len(place))[first]
    return _START + begin + time - time[first]


def _cut_evenly(tree, count, rng):
    """Returns the category of each item, one of `count` nodes, [N + 1].

    All nodes of a level, some of them drawn to be halved: the largest category
    is about twice the smallest.
    """
    level = count.bit_length() - 1
    nodes = tree.ancestors(level)
    can_be = np.flatnonzero(np.bincount(nodes) > 1)
    halved = rng.permutation(can_be)[: count - (1 << level)]
    below = tree.ancestors(min(level + 1, tree.max_level))
    return np.where(np.isin(nodes, halved), below, nodes)


def _cut_unevenly(tree, rng):
    """Returns the category of each item, a node of the hidden tree, [N + 1]."""
    # Weighted by items, log-normal sizes are log-normal again, sigma^2 / 2
    # above the logarithm of the mean. So the level at which an item's category
    # is cut is normal, and an open node is cut by that normal's hazard.
    log_size = math.log(_ITEMS_PER_CATEGORY) + _LOG_SIZE_SIGMA**2 / 2
    middle = (math.log(tree.num_items) - log_size) / math.log(2)
    spread = _LOG_SIZE_SIGMA / math.log(2)

    def later(level):
        """Returns the share of the items that are cut below `level`."""
        return math.erfc((level + 0.5 - middle) / spread / math.sqrt(2)) / 2

    category = np.zeros(tree.num_items + 1, np.int32)  # a node; 0 as yet
    left = 1.0
    for level in range(_LARGEST_LEVEL, tree.max_level + 1):
        nodes = tree.ancestors(level)
        whole = np.unique(nodes[1:][category[1:] == 0])
        rest = later(level) if level < tree.max_level else 0.0
        cut = rng.permutation(whole)[: round(len(whole) * (1 - rest / left))]
        category = np.where(np.isin(nodes, cut), nodes, category)
        left = rest
    return category


def _names(tree, nodes, misfiled_share, rng):
    """Returns each item's path, [N] str, of its category's node, [N + 1]."""
    # Numbers are drawn, so names sort without regard to the tree.
    largest = int(tree_lib.level_of(nodes[1:], tree.branching).min())
    fine = nodes[1:]
    coarse = tree.ancestors(min(_COARSE_LEVEL, largest))[1:]
    names = np.char.add(
        np.char.add(_number(coarse, rng), categories.SEPARATOR),
        _number(fine, rng),
    )
    wrong = rng.random(tree.num_items) < misfiled_share
    names[wrong] = rng.permutation(names[wrong])
    return names


def _number(nodes, rng):
    """Returns a number for each node, drawn, as text of equal length."""
    distinct, inverse = np.unique(nodes, return_inverse=True)
    digits = len(str(len(distinct) - 1))
    numbers = rng.permutation(len(distinct)).astype(str)
    return np.char.zfill(numbers, digits)[inverse]
