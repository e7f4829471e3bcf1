"""log p(node | user) of a model as NumPy functions: what a tree learns from.

A user is described once for several levels, and then scored with many nodes:
of a long history describing is by far the larger part.
"""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from jtm_tf.models import tree_model


@dataclasses.dataclass(frozen=True, eq=False)
class DescribedUsers:
    """Users as a model describes them; indexed by rows, like an array.

    Attributes:
        visited: what is the same on all levels.
        levels: the description on each level.
        rows: [B] int32, which of the U users are meant.
    """

    visited: Any
    levels: Mapping[int, Any]
    rows: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "DescribedUsers":
        return dataclasses.replace(self, rows=self.rows[rows])


class LogProb:
    """A model as a `LogProbFn`, and `describe` as its `DescribeFn`.

    One graph for the levels of a description, and one for a level and a number
    of candidates, for any number of users.

    Args:
        model: theta and pi; both may change between calls.
    """

    def __init__(self, model: tree_model.TreeModel):
        self._model = model
        self._describe: dict[tuple[int, ...], Any] = {}
        self._score: dict[tuple[int, int], Any] = {}

    def describe(
        self, history: np.ndarray, levels: Sequence[int]
    ) -> DescribedUsers:
        """Describes users once for all scores on some levels.

        Args:
            history: [U, user_width] int32 users.
            levels: the levels.
        """
        key = tuple(levels)
        if key not in self._describe:
            self._describe[key] = self._describing(key)
        visited, described = self._describe[key](tf.constant(history, tf.int32))
        rows = np.arange(len(history), dtype=np.int32)
        return DescribedUsers(visited, dict(zip(key, described)), rows)

    def __call__(
        self, users: DescribedUsers, nodes: np.ndarray, level: int
    ) -> np.ndarray:
        """Returns log p(node | user), [B, W].

        Args:
            users: B of those that `describe` returned.
            nodes: [B, W] int codes on `level`.
            level: one of the levels that the users were described for.
        """
        key = level, nodes.shape[1]
        described = users.visited, users.levels[level]
        if key not in self._score:
            self._score[key] = self._scoring(*key, described)
        return self._score[key](
            described, tf.constant(users.rows), tf.constant(nodes, tf.int32)
        ).numpy()

    def _describing(self, levels):
        """Returns a graph: users -> what is the same on all
        levels, and a description a level."""

        def describe(history):
            visited, described = self._model.described(history, levels)
            return visited, [described[level] for level in levels]

        return tf.function(describe, autograph=False).get_concrete_function(
            tf.TensorSpec([None, self._model.user_width], tf.int32)
        )

    def _scoring(self, level, width, described):
        """Returns a graph: described users, rows of them, nodes -> scores."""

        def log_prob(described, rows, nodes):
            visited, of_level = tf.nest.map_structure(
                lambda x: tf.gather(x, rows), described
            )
            return self._model.log_prob_described(
                (visited, {level: of_level}), nodes, level
            )

        return tf.function(log_prob, autograph=False).get_concrete_function(
            tf.nest.map_structure(
                lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype),
                described,
            ),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None, width], tf.int32),
        )
