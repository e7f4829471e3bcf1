"""Assertions on scores and answers that hold on every machine.

What is computed in another batch, by another graph, by another library or on
another machine is compared up to `rounding.TOLERANCE`, and so are the places
of items that it ties.
"""

import numpy as np

from jtm_tf.search import model_search
from jtm_tf.search import rounding


def scores(got, want):
    """Asserts that scores, [...], are the same but for rounding."""
    got, want = np.asarray(got, float), np.asarray(want, float)
    assert got.shape == want.shape
    assert rounding.same_scores(got, want), (
        f"off by {np.abs(got - want).max()} where rounding explains "
        f"{rounding.slack(want)}:\n{got}\n{want}"
    )


def rankings(got, got_scores, want, want_scores):
    """Asserts that answers, [B, M] ids and scores, differ by ties only.

    Rows may be lists of any length.
    """
    found, wanted = (
        [np.asarray(row, float) for row in side]
        for side in (got_scores, want_scores)
    )
    near = rounding.slack(np.concatenate(wanted))
    for row in zip(map(list, got), found, map(list, want), wanted, strict=True):
        assert rounding.same_ranking(*row, near=near), (
            "{} with {}\nis not\n{} with {}".format(*row)
        )


def answers(model, users, got, want, *, beam_width):
    """Asserts that items, [U, M], differ by ties of a model's search only."""
    same = rounding.same_answers(
        model, np.asarray(users), got, want, beam_width=beam_width
    )
    rows = np.flatnonzero(~same)
    assert not len(rows), f"rows {rows}:\n{got[rows]}\n{want[rows]}"


def edges(ranks, kept):
    """Asserts that the best `kept` of [B, W] ranks are so on every machine.

    For models that are drawn and not trained, whose ranks are thus known but
    for rounding: what is found beyond may be compared exactly.
    """
    assert not np.any(_tied(np.asarray(ranks), kept))


def doubt(model, users, *, num_results, beam_width):
    """Returns the share of users who may be recommended something else.

    A tie at the edge of the beam on any level makes a user one of them, so
    that recalls of a trained model are known but for this share.
    """
    search = model_search.beam_search(
        model, num_results=num_results, beam_width=beam_width
    )
    tied = [
        _tied(ranks.numpy(), num_results if last else beam_width)
        for last, (_, ranks) in zip(
            [level == model.max_level for level in search.levels],
            search.walk(users),
        )
    ]
    return np.mean(np.any(tied, axis=0))


def _tied(ranks, kept):
    """Tells for which of [B, W] ranks the last kept and the next are tied."""
    ordered = -np.sort(-ranks, axis=1)
    if ordered.shape[1] <= kept:
        return np.zeros(len(ranks), bool)
    last, fallen = ordered[:, kept - 1], ordered[:, kept]
    there = fallen > np.finfo(np.float32).min
    return there & (last - fallen <= 2 * rounding.slack(ranks))
