"""Scores (user, node) pairs with the parts of a model: p(n | u; theta, pi).

What a model in training (`tree_model`) and one laid out for search (`frozen`)
have in common: the same parts, put together in the same way.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from jtm_tf.models import readout as readout_lib

# The logit of a candidate that is not there.
NEVER = -1e9

# The attributes that hang on no tree: what two layouts of a model share.
NETWORK = (
    "windows",
    "whole_history",
    "user_representation",
    "profile",
    "visits",
    "scorer",
    "scorer_name",
    "hierarchical",
    "siblings",
    "profile_sizes",
    "path_weight",
    "readout",
)


class Preference:
    """Scores nodes for users; a user is a history of items, then a profile.

    Attributes:
        num_items, max_level, branching: of the tree.
        pi: a variable, [N + 1] int32.
        occupied: a variable, [num_codes] bool; only where `siblings`.
        embedding: maps nodes of a level to vectors.
        windows: lengths of the time windows, oldest first.
        whole_history: behaviours in a window beside them; 0 for none.
        user_representation: describes histories.
        profile: embeds profile codes.
        visits: counts visits of histories to nodes, or None.
        scorer: maps what is known of users and nodes to logits.
        scorer_name: one of `choices.SCORERS`.
        hierarchical: whether users are described in nodes of the scored level.
        siblings: whether a score is the log-probability of a branch, a softmax
            among siblings; then nodes come in whole families.
        profile_sizes: codes of each profile feature.
        path_weight: see `retrieval.TreeRetriever`.
        readout: what walks the tree in the scorer's place, or None.
        tree: a `tree.Tree`, the index.
        leaf_items: a variable, [num_leaves] int32, or None.
    """

    num_items: int
    max_level: int
    branching: int
    pi: keras.Variable
    occupied: keras.Variable
    embedding: Any
    windows: tuple[int, ...]
    whole_history: int
    user_representation: keras.layers.Layer
    profile: keras.layers.Layer
    visits: keras.layers.Layer | None
    scorer: keras.layers.Layer
    scorer_name: str
    hierarchical: bool
    siblings: bool = False
    profile_sizes: tuple[int, ...]
    path_weight: float
    readout: readout_lib.Readout | None = None
    tree: Any
    leaf_items: Any = None

    @property
    def max_history(self) -> int:
        """T, the behaviours a user is described by."""
        return max(sum(self.windows), self.whole_history)

    @property
    def user_width(self) -> int:
        """Columns of a user: T items, then the profile codes."""
        return self.max_history + len(self.profile_sizes)

    @property
    def flat(self) -> bool:
        """Whether the tree is a mere list of items, so search is a scan."""
        return self.max_level == 1 < self.num_items

    def score(self, history, nodes, level: int):
        """Scores nodes of one level; a `ScoreFn`.

        Args:
            history: [B, user_width] int32 users.
            nodes: [B, W] int32 codes on `level`; in whole families where
                `siblings`: W is a multiple of b, every b are siblings.
            level: Python integer.

        Returns:
            [B, W] float32 logits; where `siblings`, log p(node|parent, user).
        """
        # Not what a subclass makes of them: that may want whole families.
        users = Preference.described(self, history, [level])
        logits = Preference._logits(self, users, nodes, level)
        return self._branches(logits, nodes) if self.siblings else logits

    def described(self, history, levels: Sequence[int]) -> Any:
        """Returns what `score_described` takes for users on `levels`."""
        spoken = levels if self.hierarchical else [self.max_level]
        leaves, users = self._of_users(history, spoken)
        if not self.hierarchical:
            users *= len(levels)
        return self._visited(leaves), dict(zip(levels, users))

    def score_described(self, users, nodes, level: int):
        """Scores as `score` does users of `described`; inner nodes of
        `nodes` come in whole families.
        """
        logits = self._logits(users, nodes, level)
        return self._branches(logits, nodes) if self.siblings else logits

    def read_out(self, history, levels: Sequence[int]) -> Any:
        """Returns what `score_read_out` takes for users on `levels`."""
        spoken = levels if self.hierarchical else [self.max_level]
        leaves, of_users = self._of_users(history, spoken)
        return self._read_out(leaves, list(zip(*of_users)), levels)

    def score_read_out(self, users, nodes, level: int):
        """Scores nodes by the read-out, for users of `read_out`.

        Args:
            users: what `read_out` returned.
            nodes: [B, W] int32 codes, or [1, W], the same for all; inner
                nodes in whole families.
            level: theirs, one of those of `read_out`.

        Returns:
            [B, W] float32, comparable among the nodes of a user and a level.
        """
        return self._by_read_out(
            users, nodes, self.embedding(nodes, level=level), level
        )

    def score_walked(self, history, nodes, level: int):
        """Scores as `score` does, as the model's own search does.

        That is by the read-out above the leaves, where there is one.
        """
        if self.readout is None or level == self.max_level:
            return self.score(history, nodes, level)
        users = Preference.read_out(self, history, [level])
        return Preference.score_read_out(self, users, nodes, level)

    def _read_out(self, leaves, of_users, levels):
        """Does what `read_out` does; of each thing a tensor of all levels."""
        _, windows, *directly = (tf.stack(part) for part in of_users)
        return self._visited(leaves), self.readout.of_users(
            windows, directly[0] if directly else None, levels
        )

    def _by_read_out(self, users, nodes, vectors, level):
        """Scores nodes by their vectors, [B, W, E]."""
        visited, of_users = users
        pairs = self._pairs(visited, nodes, level)
        return self.readout.scores(of_users[level], vectors, pairs)

    def _of_users(self, history, levels):
        """Returns users' leaves, and what the scorer has of them by level."""
        leaves, described, profile = self._describe(history, levels)
        return leaves, [
            self.scorer.of_users(self._user(one, profile)) for one in described
        ]

    def _logits(self, users, nodes, level):
        """Returns the logits of [B, W] nodes for users of `described`."""
        vectors = self.embedding(nodes, level=level)
        return self._by_scorer(users, nodes, vectors, level)

    def _by_scorer(self, users, nodes, vectors, level):
        """Scores nodes by their vectors, [B, W, E]."""
        visited, described = users
        pairs = self._pairs(visited, nodes, level)
        return self.scorer.score(described[level], vectors, pairs)

    def _visited(self, leaves):
        """Returns what visits are counted from, nothing where none are."""
        return self.visits.of_users(leaves) if self.visits else ()

    def _pairs(self, visited, nodes, level):
        """Returns features of users and nodes together, or None.

        To histories of leaves, inner nodes are never visited.
        """
        spoken = self.hierarchical or level == self.max_level
        if not self.visits or not spoken:
            return None
        return self.visits(visited, nodes, level=level, tree=self)

    def _branches(self, logits, nodes):
        """Returns the softmax of logits among siblings, as logarithms."""
        live = tf.gather(self.occupied.value, nodes)
        families = tf.reshape(
            tf.where(live, logits, NEVER), [-1, self.branching]
        )
        return tf.reshape(tf.nn.log_softmax(families), tf.shape(nodes))

    def _describe(self, users, levels):
        """Returns leaves [B, T], a description a level, and the profile."""
        leaves, profile = self._leaves_and_profile(users)
        described = self.user_representation(
            leaves, embedding=self.embedding, tree=self, levels=levels
        )
        return leaves, described, profile

    def _leaves_and_profile(self, users):
        """Returns the history's leaves, [B, T], and the embedded profile."""
        leaves = tf.gather(self.pi.value, users[:, : self.max_history])
        return leaves, self.profile(users[:, self.max_history :])

    def _user(self, described, profile):
        """Returns what the scorer takes for a user on one level."""
        if self.scorer_name == "attention":
            return described, profile
        return tf.concat([described, profile], 1)
