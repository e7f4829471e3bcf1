"""A planted world: users whose tastes are subtrees of a hidden tree.

Each user has a few favourite nodes of the hidden tree. An interaction is an
item under a favourite, or under an ancestor of it a few steps up, or an item
drawn by popularity. So the best index is known, and a learner can be judged
by what it recovers, with `oracle` in the place of a trained model. Pure NumPy
and Arrow.
"""

import dataclasses

import numpy as np
import pyarrow as pa

from jtm_tf import categories
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import Array
from jtm_tf.types import LogProbFn
from jtm_tf.types import PAD


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """Interactions and the truth behind them.

    Attributes:
        user: [I] int32, 1..U, ascending.
        item: [I] int32, 1..N.
        timestamp: [I] int64, ascending within a user.
        categories: [N] paths of items 1..N, coarser than the hidden tree.
        true_tree: the hidden tree.
        taste_level: level of the favourites.
        climb: climb[k] is the share of interactions k steps above a favourite;
            what is missing to 1 is drawn by popularity.
    """

    user: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    categories: list[str]
    true_tree: tree_lib.Tree
    taste_level: int
    climb: tuple[float, ...]

    def table(self) -> pa.Table:
        """Returns the interactions as a table that `jtm_tf.prepare` takes."""
        paths = pa.array(self.categories)
        return pa.table(
            {
                "user": self.user,
                "item": self.item,
                "timestamp": self.timestamp,
                "category": paths.take(pa.array(self.item - 1)),
            }
        )

    def histories(self, length: int) -> np.ndarray:
        """Returns the items before each interaction, [I, T], left-padded."""
        back = np.arange(len(self.item))[:, None] - np.arange(length, 0, -1)
        same = (back >= 0) & (self.user[back] == self.user[:, None])
        return np.where(same, self.item[back], PAD).astype(np.int32)


def planted_world(
    num_users: int,
    num_items: int,
    interactions_per_user: int,
    seed: int,
    *,
    branching: int = 2,
    favourites: int = 2,
    taste_level: int | None = None,
    climb: tuple[float, ...] = (0.6, 0.2, 0.1),
    category_level: int | None = None,
) -> World:
    """Draws a world; a function of its arguments.

    Args:
        num_users: U.
        num_items: N.
        interactions_per_user: of every user.
        seed: of the hidden tree, the favourites and the interactions.
        branching: b of the hidden tree.
        favourites: favourite nodes of a user.
        taste_level: their level; by default that with about 8 items a node.
        climb: see `World`.
        category_level: nodes of this level are the categories, two parts a
            path; by default two levels above the favourites.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(num_items) + 1
    true_tree = tree_lib.Tree.from_order(order, branching=branching)
    if taste_level is None:
        taste_level = tree_lib.min_max_level(-(-num_items // 8), branching)
    if category_level is None:
        category_level = max(taste_level - 2, 0)
    levels = max(taste_level, category_level)
    if levels > true_tree.max_level or sum(climb) > 1 + 1e-9:
        raise ValueError(
            f"taste_level and category_level lie within {true_tree.max_level} "
            f"levels and climb sums to at most 1; got {taste_level}, "
            f"{category_level} and {climb}."
        )
    shape = (num_users, interactions_per_user)
    tastes = rng.integers(0, branching**taste_level, (num_users, favourites))
    taste = np.take_along_axis(tastes, rng.integers(0, favourites, shape), 1)
    steps = np.searchsorted(np.cumsum(climb), rng.random(shape), side="right")
    width = branching ** np.maximum(taste_level - steps, 0)
    node = taste // branching ** np.minimum(steps, taste_level)
    # `from_order` puts ranks ceil(m N / width) .. on the leaves of node m.
    first = -(-node * num_items // width)
    last = -(-(node + 1) * num_items // width)
    rank = first + (rng.random(shape) * (last - first)).astype(np.int64)
    # Popularity falls as 1 / rank in an order that the tree knows nothing of.
    place = (num_items ** rng.random(shape) - 1).astype(np.int64)
    popular = rng.permutation(num_items)[place]
    rank = np.where(steps == len(climb), popular, rank)
    item = order[np.minimum(rank, num_items - 1)]
    fine = _below(true_tree, category_level)[1:]
    coarse = _below(true_tree, category_level // 2)[1:]
    return World(
        user=np.repeat(np.arange(1, num_users + 1), shape[1]).astype(np.int32),
        item=item.ravel().astype(np.int32),
        timestamp=np.tile(np.arange(shape[1]), num_users),
        categories=[
            categories.join([f"c{c}", f"f{f}"]) for c, f in zip(coarse, fine)
        ],
        true_tree=true_tree,
        taste_level=taste_level,
        climb=tuple(climb),
    )


def oracle(world: World, tree: tree_lib.Tree) -> LogProbFn:
    """Returns log p(node|user) as a perfect model of `tree` would give it.

    Each item of the history stands for the user's tastes by turns: p(c|u) is
    the mean over the history of the chance that c is drawn by a user whose
    favourite lies there, and a node has the sum of its items; to an empty
    history all nodes are alike. Memory is nodes of the level times N: for
    small worlds.
    """
    affinities: dict[int, np.ndarray] = {}

    def log_prob(histories: Array, nodes: Array, level: int) -> np.ndarray:
        """Maps [B, T] items and [B, W] nodes of `level` to [B, W]."""
        if level not in affinities:
            affinities[level] = _affinity(world, tree, level)
        rows = nodes - tree_lib.first_code(level, tree.branching)
        each = affinities[level][rows[:, :, None], histories[:, None, :]]
        lengths = np.count_nonzero(histories != PAD, axis=1)[:, None]
        share = each.sum(axis=2) / np.maximum(lengths, 1)
        return np.log(share + 1e-6).astype(np.float32)

    return log_prob


def shared_pairs(
    tree: tree_lib.Tree, truth: tree_lib.Tree, level: int
) -> float:
    """Returns how much of the hidden tree is found, in [0, 1].

    It is the share of the pairs of items in one subtree of `truth` at `level`
    that are in one subtree of `tree` at that level; a random tree has about
    b**-level.
    """
    width = truth.branching**level
    hidden = _below(truth, level)[1:].astype(np.int64)
    both = hidden * width + _below(tree, level)[1:]
    found = _pairs(np.unique(both, return_counts=True)[1])
    return float(found / max(_pairs(np.bincount(hidden)), 1))


def _below(tree, level):
    """Returns the number of each item's node of `level`, from 0, [N + 1]."""
    first = tree_lib.first_code(level, tree.branching)
    return np.maximum(tree.ancestors(level) - first, 0)


def _pairs(counts):
    """Returns the pairs within groups of these sizes."""
    return (counts * (counts - 1) // 2).sum()


def _affinity(world, tree, level):
    """Returns p(node of `level`|an item of the history), [nodes, N + 1]."""
    items = tree.num_items
    node = _below(tree, level)[1:]
    nodes = tree.branching**level
    noise = 1 - sum(world.climb)
    result = np.zeros((nodes, items + 1), np.float32)
    result[:, 1:] = noise * np.bincount(node, minlength=nodes)[:, None] / items
    for steps, share in enumerate(world.climb):
        up = max(world.taste_level - steps, 0)
        subtree = _below(world.true_tree, up)[1:]
        width = world.true_tree.branching**up
        counts = np.bincount(node * width + subtree, minlength=nodes * width)
        counts = counts.reshape(nodes, width)
        sizes = counts.sum(axis=0)
        result[:, 1:] += share * (counts / np.maximum(sizes, 1))[:, subtree]
    return result
