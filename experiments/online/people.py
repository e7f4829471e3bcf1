"""People whose tastes are known to the simulation alone, and what they do.

A taste is a subtree of a hidden tree over all items. People have a few, love
some more than others, and now and then take up another. What they find by
themselves they draw from their tastes; what they are shown they look at from
the top, and click on the likelier the closer it lies to a taste. All of it is
set by hand in `Habits`: a market to compare services in, not a copy of one.
"""

import dataclasses

import numpy as np

from jtm_tf import categories
from jtm_tf.tree import tree as tree_lib

# Of an item within a taste, one step above it and two; nothing beyond.
CLOSENESS = (1.0, 0.4, 0.15)


@dataclasses.dataclass(frozen=True)
class Habits:
    """What people are like.

    Attributes:
        tastes: of each, F.
        taste_items: items below a taste, about.
        finds: mean of the items a day that one finds without the service.
        visits: mean of the visits a day to the service.
        least: chance of a click on what is of no taste.
        most: chance of a click on what is of the only taste.
        patience: chance to look at the next place of a list.
        drift: share of the people who change a taste in a night.
        popularity: exponent of how unevenly items are taken.
        bid_sigma: of the log-normal bids, whose median is 1.
    """

    tastes: int = 3
    taste_items: int = 32
    finds: float = 1.0
    visits: float = 1.0
    least: float = 0.01
    most: float = 0.6
    patience: float = 0.92
    drift: float = 0.03
    popularity: float = 0.6
    bid_sigma: float = 0.5


class People:
    """People and items, as they are from day to day.

    Args:
        people: U; persons are 0..U - 1.
        items: N, launched sooner or later; items are 1..N.
        habits: see there.
        seed: of all that is drawn.

    Attributes:
        tree: the hidden tree.
        paths: [N] category paths of items, two levels of the hidden tree.
        bids: [N + 1] float, what an advertiser pays for a click.
        tastes: [U, F] int, the nodes of each person's tastes.
        love: [U, F] float, how much of a person each taste is; sums to 1.
    """

    def __init__(
        self, people: int, items: int, habits: Habits = Habits(), seed: int = 0
    ):
        self.habits = habits
        self._draw = np.random.default_rng(seed)
        order = self._draw.permutation(items) + 1
        self.tree = tree_lib.Tree.from_order(order)
        self.level = tree_lib.min_max_level(-(-items // habits.taste_items), 2)
        self._order = order
        self._first = tree_lib.first_code(self.level, 2)
        # Where the items below each taste begin in the order, and above them.
        self._nodes = [
            self.tree.ancestors(max(0, self.level - up))
            for up in range(len(CLOSENESS))
        ]
        share = (self._draw.permutation(items) + 1) / items
        self._weight = np.append(0.0, share**-habits.popularity)
        self.bids = np.append(
            0.0, self._draw.lognormal(0, habits.bid_sigma, items)
        )
        self.paths = self._named()
        shape = people, habits.tastes
        self.tastes = self._first + self._draw.integers(
            0, 1 << self.level, shape
        )
        self.love = self._draw.dirichlet(np.full(habits.tastes, 2.0), people)

    def __len__(self) -> int:
        return len(self.tastes)

    @property
    def num_items(self) -> int:
        """N."""
        return self.tree.num_items

    def closeness(self, people: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns how close items lie to a person's tastes, in [0, 1].

        Args:
            people: [V] int.
            items: [V, K] int; PAD is of no taste.

        Returns:
            [V, K] float: over the tastes, the love times `CLOSENESS` at the
            lowest of its levels where the item lies below or beside it.
        """
        total = np.zeros(items.shape)
        for taste, love in zip(self.tastes[people].T, self.love[people].T):
            closest = np.zeros(items.shape)
            for up, nodes in reversed(list(enumerate(self._nodes))):
                above = tree_lib.ancestor(
                    taste,
                    from_level=self.level,
                    to_level=max(0, self.level - up),
                    branching=2,
                )
                beside = nodes[items] == above[:, None]
                closest = np.where(beside, CLOSENESS[up], closest)
            total += love[:, None] * closest
        return total

    def chances(self, people: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns the chance of a click on each shown item, looked at, [V, K].

        0 of PAD.
        """
        habits, close = self.habits, self.closeness(people, items)
        chance = habits.least + (habits.most - habits.least) * close
        return np.where(items > 0, chance, 0.0)

    def click(self, people: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Draws who clicks on what of the lists shown, [V, K] bool.

        A person looks from the top and loses patience on the way.
        """
        places = np.arange(items.shape[1])
        looks = self.habits.patience**places
        drawn = self._draw.random(items.shape)
        return drawn < self.chances(people, items) * looks

    def visitors(self) -> np.ndarray:
        """Draws who comes today, a person for each visit, in any order."""
        return self._some(self.habits.visits)

    def find(
        self, available: np.ndarray, mean: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws what people take today without the service.

        Args:
            available: [N + 1] bool, items that can be had.
            mean: items a person; `Habits.finds` by default.

        Returns:
            Persons, [R], and the item that each takes, [R].
        """
        people = self._some(self.habits.finds if mean is None else mean)
        favourite = np.sum(
            np.cumsum(self.love[people], axis=1)
            < self._draw.random(len(people))[:, None],
            axis=1,
        ).clip(max=self.habits.tastes - 1)
        taste = self.tastes[people, favourite]
        shares = np.array(CLOSENESS) / sum(CLOSENESS)
        steps = self._draw.choice(len(shares), len(people), p=shares)
        items = self._below(taste, steps, np.where(available, self._weight, 0))
        there = items > 0
        return people[there], items[there]

    def night(self) -> None:
        """Has some people change a taste."""
        change = np.flatnonzero(
            self._draw.random(len(self)) < self.habits.drift
        )
        which = self._draw.integers(0, self.habits.tastes, len(change))
        self.tastes[change, which] = self._first + self._draw.integers(
            0, 1 << self.level, len(change)
        )

    def _some(self, mean):
        """Draws persons, each as often as a Poisson number says, shuffled."""
        often = self._draw.poisson(mean, len(self))
        return self._draw.permutation(np.repeat(np.arange(len(self)), often))

    def _below(self, taste, steps, weight):
        """Draws an item below each taste or a node above it, 0 if none is.

        Args:
            taste: [R] nodes.
            steps: [R] how far above the item may lie.
            weight: [N + 1] how likely each item is.
        """
        mass = np.append(0.0, np.cumsum(weight[self._order]))
        steps = np.minimum(steps, self.level)
        level, number = self.level - steps, taste - self._first >> steps
        # `from_order` puts ranks ceil(m N / width) .. on the leaves of node m.
        first = -(-number * self.num_items >> level)
        last = -(-(number + 1) * self.num_items >> level)
        span = mass[last] - mass[first]
        at = mass[first] + self._draw.random(len(taste)) * span
        rank = np.searchsorted(mass, at, side="right") - 1
        rank = rank.clip(first, np.maximum(last - 1, first))
        rank = rank.clip(max=self.num_items - 1)
        return np.where(span > 0, self._order[rank], 0)

    def _named(self):
        """Returns the items' paths, under numbers that tell nothing."""
        levels = max(1, self.level - 5), max(1, self.level - 2)
        parts = []
        for level in levels:
            nodes = self.tree.ancestors(level)[1:]
            distinct, inverse = np.unique(nodes, return_inverse=True)
            names = self._draw.permutation(len(distinct))
            parts.append(names[inverse])
        return np.array(
            [categories.join([f"c{a}", f"f{b}"]) for a, b in zip(*parts)],
            object,
        )
