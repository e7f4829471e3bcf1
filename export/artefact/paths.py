"""Scores whole paths: what an item's rank in a search is made of.

A search ranks a leaf by the weighted sum of its ancestors' scores, see
`retrieval.TreeRetriever`; here for items that are given, whether or not a
search would come by them. A pruned search scores the ancestors by the
read-out.
"""

import tensorflow as tf

from jtm_tf.models import preference
from jtm_tf.tree import ops as tree_ops


def levels(model: preference.Preference) -> range:
    """Returns the levels of a path, from below the root to the leaves."""
    return range(min(1, model.max_level), model.max_level + 1)


def path_nodes(model: preference.Preference, items: tf.Tensor) -> tf.Tensor:
    """Maps [B, W] items to the nodes above them, [B, W, L] int32."""
    leaves = tf.gather(model.pi.value, items)
    lifted = [tree_ops.lift(leaves, level, model) for level in levels(model)]
    return tf.stack(lifted, -1)


def path_scores(
    model: preference.Preference, users: tf.Tensor, nodes: tf.Tensor
) -> tf.Tensor:
    """Returns the own score of each node of a path, [B, W, L] float32.

    Args:
        model: with its tree.
        users: [B, user_width] int32.
        nodes: [B, W, L] from `path_nodes`, none of them PAD.
    """
    scores = []
    for index, level in enumerate(levels(model)):
        at = nodes[..., index]
        score = _score_families if model.siblings else _score
        scores.append(score(model, users, at, level))
    return tf.stack(scores, -1)


def rank(model: preference.Preference, scores: tf.Tensor) -> tf.Tensor:
    """Maps the scores of paths, [B, W, L], to ranks of leaves, [B, W].

    The recurrence of the search: rank = score + w rank of the parent.
    """
    total = tf.zeros_like(scores[..., 0])
    for score in tf.unstack(scores, axis=-1):
        total = score + model.path_weight * total
    return total


def _score(model, users, nodes, level):
    """Returns the scores of nodes, [B, W]."""
    return model.score_walked(users, nodes, level)


def _score_families(model, users, nodes, level):
    """Returns the scores of nodes, which are a softmax among siblings."""
    families, place = tree_ops.families(nodes, model.branching)
    shape = tf.shape(families)  # [B, W, b]
    flat = tf.reshape(families, [shape[0], shape[1] * model.branching])
    scores = tf.reshape(model.score(users, flat, level), shape)
    return tf.gather(scores, place, batch_dims=2)
