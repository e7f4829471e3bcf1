"""Eq. 2 under the search's own beam: trained where a search decides.

Negatives that are drawn evenly over a level hardly ever meet the nodes that a
search compares: the children of what it keeps. So those are all scored (after
Zhuo et al., "Learning Optimal Tree Models under Beam Search", ICML 2020), and
some of the others stand for the rest of the level. For a user and a level l

    C_l    = children of the k best nodes of C_{l-1}, as the search ranks them
    Z_l    = sum over C_l and the positives of e^s + sum over those of r nodes
             that are not yet in it of e^s / a(node)
    loss_l = mean over targets of log Z_l - s(ancestor)

where a(node) is how often r draws meet it on average. Half of them are drawn
evenly from the level's N_l nodes, half as often as a node is a target's: were
all drawn evenly, those few that users do take would be met seldom, and then
count for thousands.

E[Z_l] is the level's whole normaliser: log p is real, comparable between
levels and trees, and the tree learner may sum it. Where all nodes of a level
are children of kept ones, nothing is drawn and Z_l is exact. Gradients go
through the scores, not through the choice of C_l.

Several targets share one history, which is described and searched once.

With `pseudo` a target counts only as far up as the model would find it (the
pseudo-targets of the same paper): at its leaf, and at an ancestor only where
the best of that one's children is an ancestor, which counts, of a target.
"""

import math

import numpy as np
import tensorflow as tf

from jtm_tf.models import preference
from jtm_tf.tree import ops as tree_ops
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD


class BeamLoss:
    """Eq. 2 by level, for the nodes that one tree has in use.

    Args:
        tree: tells which nodes have items.
        beam_width: k.

    Raises:
        ValueError: the tree is flat: there is no beam to train under.
    """

    def __init__(self, tree: tree_lib.Tree, beam_width: int):
        if tree.max_level < 2:
            raise ValueError(
                f"A tree of {tree.max_level} level has no beam to train "
                "under; use loss=softmax."
            )
        self.beam_width, self._branching = beam_width, tree.branching
        self._levels = list(range(1, tree.max_level + 1))
        # A tensor of the outside is handed to a graph, not written into it.
        self._occupied = tf.constant(tree.occupied_codes())
        self._sizes = [
            len(tree.occupied(level)) for level in range(tree.max_level + 1)
        ]

    def prunes(self, level: int) -> bool:
        """Tells whether some nodes of a level are below no kept one."""
        return self._sizes[level - 1] > self.beam_width

    def strata(self, stratum: int) -> list[int]:
        """Returns r_l of the levels 1..l_max, 0 where nothing is pruned.

        What is left to be drawn for grows with a level's nodes, the error of
        its estimate with their square root.

        Args:
            stratum: r on the last level; above it r (N_l / N)^(1/2).
        """
        last = self._sizes[-1]
        return [
            self.prunes(level)
            * math.ceil(stratum * (self._sizes[level] / last) ** 0.5)
            for level in self._levels
        ]

    def __call__(
        self, model: preference.Preference, inputs, pseudo: bool = False
    ) -> tf.Tensor:
        """Returns the loss of each level 1..l_max, averaged over users.

        Args:
            model: scores the nodes; its pi seats the targets.
            inputs: {"history": [B, user_width] int32 users, "targets": [B, m]
                int32 items that each of them takes, PAD for none, "far": one
                [B, r_l] int32 tensor for each level 1..l_max, drawn with
                replacement from its occupied nodes; r_l is 0 where nothing is
                pruned, "far_logs": for each of them -log a(node)}. Maybe
                "taken", [num_codes] bool, which nodes are occupied; otherwise
                it is the tree's own constant.
            pseudo: whether targets count only as far up as they are found.
        """
        occupied = inputs.get("taken", self._occupied)
        users = model.described(inputs["history"], self._levels)
        leaves = tf.gather(model.pi.value, inputs["targets"])
        real = leaves != PAD
        share = tf.cast(real, tf.float32)
        share /= tf.maximum(tf.reduce_sum(share, 1, keepdims=True), 1.0)
        kept = tf.ones_like(leaves[:, :1])  # the root
        above = None  # ranks of the kept
        losses, found = [], []
        for level, far, logs in zip(
            self._levels, inputs["far"], inputs["far_logs"], strict=True
        ):
            candidates = tree_ops.children(kept, self._branching)
            positive = tree_ops.lift(leaves, level, model)
            asked = positive
            if pseudo:
                parents = tree_ops.lift(leaves, level - 1, model)
                parents = tf.maximum(parents, 1)  # of PAD there are none
                asked = tree_ops.children(parents, self._branching)
            nodes = tf.concat([candidates, asked, far], 1)
            parts = [candidates.shape[1], asked.shape[1], far.shape[1]]
            scores, hits, others = tf.split(
                model.score_described(users, nodes, level), parts, 1
            )
            if pseudo:
                hits, wins = self._winners(positive, asked, hits, occupied)
                found.append((positive, wins))
            live = tf.gather(occupied, candidates)
            scores = tf.where(live, scores, preference.NEVER)
            new = real & ~_among(positive, candidates) & ~_repeated(positive)
            known = tf.concat([candidates, positive], 1)
            others = tf.where(
                _among(far, known), preference.NEVER, others + logs
            )
            log_z = tf.reduce_logsumexp(
                tf.concat(
                    [scores, tf.where(new, hits, preference.NEVER), others], 1
                ),
                axis=1,
            )
            losses.append(share * (log_z[:, None] - hits))
            # What the search does next; no gradient goes through a choice.
            above = self._ranks(model, tf.stop_gradient(scores), above)
            kept = candidates
            if kept.shape[1] > self.beam_width:
                above, best = tf.math.top_k(above, self.beam_width)
                kept = tf.gather(candidates, best, batch_dims=1)
        if pseudo:
            losses = [x * c for x, c in zip(losses, _counting(real, found))]
        return tf.stack([tf.reduce_mean(tf.reduce_sum(x, 1)) for x in losses])

    def _winners(self, nodes, families, scores, occupied):
        """Returns the scores of nodes, and whether none of their family's is
        higher, [B, m] each.

        Args:
            nodes: [B, m], PAD for none.
            families: [B, m * b], the family of each.
            scores: [B, m * b], theirs.
            occupied: [num_codes] bool.
        """
        shape = [-1, nodes.shape[1], self._branching]
        families = tf.reshape(families, shape)
        live = tf.gather(occupied, families)
        scores = tf.reshape(scores, shape)
        own = tf.where(families == nodes[..., None], scores, preference.NEVER)
        own = tf.reduce_max(own, axis=2)
        best = tf.reduce_max(tf.where(live, scores, preference.NEVER), axis=2)
        return own, own >= best

    def _ranks(self, model, scores, above):
        """Returns the ranks of candidates, which lean on their parents'."""
        if above is None or not model.path_weight:
            return scores
        leaned = tf.repeat(above, self._branching, axis=1)
        return scores + model.path_weight * leaned


def _counting(real, found):
    """Returns whether each target counts on each level, [B, m] of 0 and 1.

    Args:
        real: [B, m], whether there is a target.
        found: by level from 1, the targets' ancestors and whether each is the
            best of its family.
    """
    counts, below = [real], real
    for (nodes, _), (_, wins) in zip(found[-2::-1], found[:0:-1]):
        # A node counts by any target below it whose path goes on to be best.
        same = nodes[:, :, None] == nodes[:, None]
        below = tf.reduce_any(same & (wins & below)[:, None], axis=2) & real
        counts.append(below)
    return [tf.cast(x, tf.float32) for x in reversed(counts)]


def _among(nodes, others):
    """Tells which of [B, W] nodes are among the [B, V] others of their row."""
    return tf.reduce_any(nodes[:, :, None] == others[:, None], axis=2)


def _repeated(nodes):
    """Tells which of [B, W] nodes came before in their row."""
    width = nodes.shape[1]
    before = tf.constant(np.tril(np.ones((width, width), bool), -1))
    same = nodes[:, :, None] == nodes[:, None]
    return tf.reduce_any(same & before, axis=2)
