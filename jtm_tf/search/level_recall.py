"""Where a search loses: level by level, under the beam."""

import numpy as np
import tensorflow as tf

from jtm_tf.data import splits
from jtm_tf.models import tree_model
from jtm_tf.search import judging
from jtm_tf.search import retrieval
from jtm_tf.tree import tree as tree_lib


def level_recall(
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    *,
    beam_width: int,
    batch_size: int = 64,
) -> dict[int, float]:
    """Returns how much of the ground truth is still below the beam.

    Args:
        model: with its tree, which is not flat.
        users: the held-out users.
        beam_width: k.
        batch_size: users a call.

    Returns:
        For each level that the search scores, the share of a user's ground
        truth whose ancestor is among the k nodes kept, averaged over users.
        It falls from level to level; on the last it is Recall@k.
    """
    search = tree_search(model, beam_width)
    beams = search.beams.get_concrete_function()
    tree = model.tree
    owner = np.repeat(np.arange(len(users)), np.diff(users.truth_offsets))
    sizes = np.diff(users.truth_offsets)
    starts = np.arange(0, len(users), batch_size)
    batches = [
        [kept.numpy() for kept in beams(tf.constant(users.history[i:j]))]
        for i, j in zip(starts, starts + batch_size)
    ]
    width = tree_lib.num_codes(tree.max_level, tree.branching)
    recall = {}
    for place, level in enumerate(search.levels):
        kept = np.concatenate([batch[place] for batch in batches])
        pairs = np.arange(len(users))[:, None] * width + kept
        wanted = owner * width + tree.ancestors(level)[users.truth]
        hits = np.bincount(owner[np.isin(wanted, pairs)], minlength=len(sizes))
        recall[level] = float(np.mean(hits / sizes))
    return recall


def tree_search(
    model: tree_model.TreeModel, beam_width: int
) -> retrieval.TreeRetriever:
    """Returns the model's search, with k results.

    Raises:
        ValueError: its tree is flat.
    """
    search = judging.retriever(
        model, num_results=beam_width, beam_width=beam_width
    )
    if not isinstance(search, retrieval.TreeRetriever):
        raise ValueError("A flat tree has no levels to lose recall on.")
    return search
