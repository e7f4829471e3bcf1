"""Words that every layer shares: padding, dimension letters, function types.

In shape descriptions B is the batch, T the history length, n negatives, W the
candidates of one beam step, K the beam width, M the results, E the embedding
size, N the items, L the levels below the root and b the branching factor.
Items are 1..N and nodes are heap codes from 1 (the root); 0 is padding for
both.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

# Padding of items and of nodes: pi, ancestors and look-ups map PAD to PAD.
PAD = 0

# A NumPy array or a tf.Tensor.
Array = Any

# Scores nodes of one level: ([B, T] history items, [B, W] nodes, level) ->
# [B, W] float. Larger is better; only the order within a level matters.
ScoreFn = Callable[[Array, Array, int], Array]

# The same with log p(node | user) as the score (Eq. 2): NumPy in, NumPy out.
# Users are rows of what its `DescribeFn` makes of histories.
LogProbFn = Callable[[Any, Array, int], Array]

# Recommends: [B, T] history items -> ([B, M] items, [B, M] scores), best first;
# PAD items fill rows that have fewer than M answers.
RecommendFn = Callable[[Array], tuple[Array, Array]]

# Tells which nodes a search may enter, row by row: ([B, W] nodes, level) ->
# [B, W] bool. A node may be entered if an item below it may be returned.
LiveFn = Callable[[Array, int], Array]

# Describes users once for all the levels that are scored: ([B, T] history
# items, levels) -> what its `ScoreFn` takes in place of a history, or what, by
# rows, its `LogProbFn` takes.
DescribeFn = Callable[[Array, Sequence[int]], Any]


def as_they_are(history: Array, levels: Sequence[int]) -> Array:
    """Leaves users as they are; a `DescribeFn`."""
    del levels
    return history
