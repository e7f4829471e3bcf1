"""What a pruned search finds, beside the exact search of the same model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from experiments.table import compare
from jtm_tf.data import splits
from jtm_tf.models import tree_model
from jtm_tf.search import metrics
from jtm_tf.search import model_search
from jtm_tf.search import read_out

EXACT = "exact"


def measure(
    model: tree_model.TreeModel,
    validation: splits.HeldOutUsers,
    test: splits.HeldOutUsers,
    cuts: Sequence[tuple[int, int]],
    widths: Sequence[float],
) -> dict[str, Any]:
    """Reads a model out and searches for the test users with it and without.

    Args:
        model: trained, with its tree; it ends as validation users decide.
        validation: the read-out is fitted on them, and they choose.
        test: whose recall is returned.
        cuts: pairs (M, k), the one that decides first.
        widths: how many times the beam the read-out widens to.

    Returns:
        `explained`, R^2 by level; `chosen`, the width, None for the exact
        search; and `recall`, a [U, cuts] float64 array for `exact` and for
        each of `widths`; `scored`, the nodes that the network scores for a
        user at each cut, likewise.
    """
    explained = read_out.fit(model, validation.history)
    readout, recall, scored = model.readout, {}, {}
    for name in (EXACT, *widths):
        model.readout = None if name == EXACT else readout
        if name != EXACT:
            read_out.widen(model, name)
        found = [_found(model, test, *cut) for cut in cuts]
        recall[str(name)] = np.stack([users for users, _ in found], 1)
        scored[str(name)] = [nodes for _, nodes in found]
    model.readout, (results, beam) = readout, cuts[0]
    chosen = read_out.choose(
        model, validation, num_results=results, beam_width=beam
    )
    return {
        "explained": [round(share, 3) for share in explained],
        "chosen": chosen["width"],
        "recall": recall,
        "scored": scored,
    }


def report(
    found: Sequence[dict[str, Any]], cuts: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Returns the figures of several seeds, of the same users, as JSON values.

    Each search's mean recall at each cut and, but for the exact one, what it
    finds more than that, with its 95 % interval by paired bootstrap over users.
    """
    means = {
        name: np.mean([x["recall"][name] for x in found], 0)
        for name in found[0]["recall"]
    }
    searches = {}
    for name, recall in means.items():
        difference = recall - means[EXACT]
        intervals = compare.bootstrap(difference)
        searches[name] = [
            {
                "num_results": results,
                "beam_width": beam,
                "recall": round(float(recall[:, at].mean()), 6),
                "scored": found[0]["scored"][name][at],
            }
            | (
                {}
                if name == EXACT
                else {
                    "more": round(float(difference[:, at].mean()), 6),
                    "interval": [round(float(x), 6) for x in intervals[at]],
                }
            )
            for at, (results, beam) in enumerate(cuts)
        ]
    return {
        "seeds": len(found),
        "users": len(means[EXACT]),
        "chosen": [x["chosen"] for x in found],
        "explained": [x["explained"] for x in found],
        "searches": searches,
    }


def _found(model, users, num_results, beam_width):
    """Returns each user's recall, and the nodes that the network scores."""
    search = model_search.tree_search(
        model, beam_width, num_results=num_results
    )
    recommend = search.recommend.get_concrete_function()
    items = model_search.recommend_all(recommend, users.history)
    recall = metrics.per_user(items, users.truth, num_results)["recall"]
    user = tf.constant(users.history[:1])
    walked = search.walk.get_concrete_function()(user)
    widths = [nodes.shape[1] for nodes, _ in walked]
    scored = widths[-1] if model.readout else sum(widths)
    return recall, scored
