"""Reads a trained network out: fits what walks its tree in its place.

The logits of the nodes that a search compares are regressed on what the first
layer is linear in (`models.readout`), level by level, in closed form: ridge
regression, both centred within a user's candidates.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from jtm_tf.data import splits
from jtm_tf.models import tree_model
from jtm_tf.search import metrics
from jtm_tf.search import model_search
from jtm_tf.search import retrieval

# Nodes kept on a level while examples are gathered: those of a narrow beam
# are told apart by the same coefficients as those of a wide one.
_BEAM = 100
_USERS = 1024
_BATCH = 64
# Of a coefficient, as a share of the variance of what it belongs to.
_RIDGE = 1e-3
# How wide a walk may look for what the network would have found.
WIDTHS = (2.0, 4.0)
# What may be lost, both: standard errors of the mean difference, which chance
# alone makes, and a share of what the exact search finds.
_CHANCE, _SHARE = 1.96, 0.01


def fit(
    model: tree_model.TreeModel,
    histories: np.ndarray,
    *,
    width: float = WIDTHS[0],
) -> list[float]:
    """Gives a model a read-out of its network.

    Args:
        model: trained, with its tree.
        histories: [U, user_width] int32 users; the first 1,024 will do.
        width: of the walk, see `readout.Readout`.

    Returns:
        The share of the logits' variance within the candidates of a user that
        the read-out explains, R^2, by level from 1.

    Raises:
        ValueError: the network can have no read-out, or there are no users.
    """
    if not len(histories):
        raise ValueError("A read-out is fitted on users; there are none.")
    model.readout = model.new_readout(width)
    try:
        moments, cross, total = _gathered(model, histories[:_USERS])
    except BaseException:
        model.readout = None  # of no coefficients
        raise
    scale = np.einsum("lff->lf", moments)
    scale = np.where(scale > 0, scale, 1.0)
    ridge = _RIDGE * scale[:, None] * np.eye(scale.shape[1])
    kernel = np.linalg.solve(moments + ridge, cross[..., None])[..., 0]
    model.readout.kernel.assign(kernel)
    explained = 2 * np.sum(kernel * cross, 1) - np.einsum(
        "lf,lfg,lg->l", kernel, moments, kernel
    )
    return (explained / np.where(total > 0, total, 1.0)).tolist()


def choose(
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    *,
    num_results: int,
    beam_width: int,
) -> dict[str, Any]:
    """Lets a model walk by its read-out, as narrow as nothing is lost.

    That is where users find no less than by the exact search, or less by no
    more than chance makes, user by user, and by no more than a hundredth.
    Where all of `WIDTHS` lose more, the model is left without a read-out.

    Args:
        model: with a read-out.
        users: whose recall decides.
        num_results: M.
        beam_width: k.

    Returns:
        `width`, None for the exact search; `exact`, the recall by that; and
        `pruned`, the recall with each width that was tried.

    Raises:
        ValueError: the model has no read-out.
    """
    readout = _readout_of(model)
    model.readout = None
    exact = _recall(model, users, num_results, beam_width)
    chosen: dict[str, Any] = {
        "width": None,
        "exact": round(float(exact.mean()), 6),
        "pruned": {},
    }
    for width in WIDTHS:
        model.readout = readout
        widen(model, width)
        found = _recall(model, users, num_results, beam_width)
        chosen["pruned"][str(width)] = round(float(found.mean()), 6)
        lost = exact - found
        chance = _CHANCE * lost.std() / len(lost) ** 0.5
        if lost.mean() <= max(0.0, min(chance, _SHARE * exact.mean())):
            return chosen | {"width": width}
    model.readout = None
    return chosen


def _recall(model, users, num_results, beam_width):
    """Returns what each user finds of what they took, [U]."""
    items = model_search.recommend_users(
        model, users, num_results=num_results, beam_width=beam_width
    )
    return metrics.per_user(items, users.truth, num_results)["recall"]


def widen(model: tree_model.TreeModel, width: float) -> None:
    """Lets a model's read-out walk in another width.

    Raises:
        ValueError: the model has no read-out.
    """
    kernel = _readout_of(model).kernel
    model.readout = model.new_readout(width)
    model.readout.kernel.assign(kernel)


def _readout_of(model):
    """Returns the read-out that a model is to have."""
    if model.readout is None:
        raise ValueError("The model has no read-out yet; fit one.")
    return model.readout


def _gathered(model, histories):
    """Sums what ridge regression needs, over users and their candidates.

    Returns:
        By level [L, F, F] second moments of features, [L, F] those of features
        and logits, and [L] of logits; all centred within a user's candidates.
    """
    # From the first level on, so that a beam of any width finds its own.
    search = retrieval.TreeRetriever(
        model.score_described,
        model.tree,
        beam_width=_BEAM,
        num_results=1,
        user_width=model.user_width,
        path_weight=model.path_weight,
        describe_fn=model.described,
        first_level=1,
    )

    def moments(users):
        described = model.described(users, search.levels)
        sums = []
        for level, (nodes, ranks) in zip(search.levels, search.walk(users)):
            live = tf.cast(ranks > ranks.dtype.min, tf.float32)
            logits = model.score_described(described, nodes, level)
            features = model.readout_features(described, nodes, level)
            both = tf.concat([features, logits[..., None]], 2)
            count = tf.maximum(tf.reduce_sum(live, 1), 1.0)[:, None, None]
            mean = tf.reduce_sum(both * live[..., None], 1, keepdims=True)
            both = (both - mean / count) * live[..., None]
            both = tf.reshape(both, [-1, both.shape[2]])
            sums.append(tf.matmul(both, both, transpose_a=True))
        return tf.stack(sums)

    spec = tf.TensorSpec([None, model.user_width], tf.int32)
    graph = tf.function(moments, autograph=False).get_concrete_function(spec)
    total = np.zeros(graph.outputs[0].shape)
    for i in range(0, len(histories), _BATCH):
        total += graph(tf.constant(histories[i : i + _BATCH])).numpy()
    return total[:, :-1, :-1], total[:, :-1, -1], total[:, -1, -1]
