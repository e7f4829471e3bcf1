"""What float32 leaves open: whether two answers are the same but for rounding.

A product of matrices adds its terms in an order that depends on its shape, on
the processor's instructions and on threads. So a model that is asked in another
batch, by another graph or on another machine gives scores that differ in their
last bits, and where two ranks are that close they may change places: in an
answer, at its end, and at the edge of the beam on any level above.
"""

from collections.abc import Sequence

import numpy as np

from jtm_tf.models import preference
from jtm_tf.search import beam_trace
from jtm_tf.search import model_search
from jtm_tf.types import PAD

# Scores that differ by this share of the largest are the same. The errors of n
# roundings, 2**-24 each at most, add up like a random walk, to sqrt(n) 2**-24;
# a score of the paper's network adds up 45,000 products, fewer than 2**16.
TOLERANCE = 2.0**-16

_MISSING = np.finfo(np.float32).min


def slack(scores: np.ndarray) -> float:
    """Returns what rounding may change in scores such as these, [...]."""
    known = np.abs(scores[scores > _MISSING])
    return TOLERANCE * float(known.max(initial=0.0))


def same_scores(got: np.ndarray, want: np.ndarray) -> bool:
    """Tells whether scores, [...] both, are the same but for rounding.

    What is missing in one, with the least finite float32 as its score, is
    missing in the other.
    """
    known = want > _MISSING
    return np.array_equal(got > _MISSING, known) and bool(
        np.all(np.abs(got[known] - want[known]) <= slack(want))
    )


def same_ranking(
    got: Sequence,
    got_scores: np.ndarray,
    want: Sequence,
    want_scores: np.ndarray,
    *,
    near: float,
) -> bool:
    """Tells whether two answers are the same but for rounding and ties.

    Items may change places with others of the same score, and the last of an
    answer give way to others of the same score.

    Args:
        got: [M] ids, best first.
        got_scores: [M] of these ids.
        want: [M] ids of the other answer.
        want_scores: [M] of the other ids.
        near: the `slack` of scores of this model.
    """
    if len(got) != len(want) or len(set(got)) != len(set(want)):
        return False
    score_of = dict(zip(want, want_scores))
    last = min(want_scores, default=0.0)
    expected = [score_of.get(name, last) for name in got]
    lost = [score_of[name] for name in set(want) - set(got)]
    return all(
        np.all(np.abs(np.subtract(*pair)) <= near)
        for pair in (
            (got_scores, want_scores),
            (got_scores, expected),
            (lost, last),
        )
    )


def same_answers(
    model: preference.Preference,
    users: np.ndarray,
    got: np.ndarray,
    want: np.ndarray,
    *,
    beam_width: int,
) -> np.ndarray:
    """Tells whose answers are the same but for ties in a model's own search.

    Args:
        model: with its tree.
        users: [U, user_width] int32.
        got: [U, M] items, best first, PAD where there are fewer.
        want: [U, M] items of the other answer.
        beam_width: k of both searches.

    Returns:
        [U] bool. The items of such a user are in the order of their ranks, but
        for ties, and each that is in one answer only was tied, it or a node
        above it, with the first that fell out of the beam or the last that
        stayed.
    """
    same = np.all(got == want, axis=1)
    if same.all():
        return same
    search = model_search.beam_search(
        model, num_results=got.shape[1], beam_width=beam_width
    )
    for row in np.flatnonzero(~same):
        trace = beam_trace.trace(search, model.tree, users[row])
        same[row] = _tied(trace, got[row], want[row])
    return same


def _tied(trace, got, want):
    """Tells whether two answers to one user, [M] each, differ by ties only."""
    got, want = (items[items != PAD].tolist() for items in (got, want))
    if len(got) != len(want) or len(set(got)) < len(got):
        return False
    near = slack(np.concatenate(trace.ranks))
    if not all(
        _on_the_edge(trace, item, near) for item in set(got) ^ set(want)
    ):
        return False
    leaves = trace.tree.pi[got]
    rank_of = dict(zip(trace.nodes[-1], trace.ranks[-1]))
    ranks = np.array([rank_of[leaf] for leaf in leaves if leaf in rank_of])
    best_below = np.maximum.accumulate(ranks[::-1])[::-1]
    return bool(np.all(best_below - ranks <= near))


def _on_the_edge(trace, item, near):
    """Tells whether an item that fell nearly stayed, or the other way round."""
    steps = trace.steps(item)
    fell = beam_trace.first_loss(steps)
    if fell is not None:
        return fell.short_by is not None and fell.short_by <= near
    return any(
        step.scored > step.kept and step.rank - ranks[step.kept] <= near
        for step, ranks in zip(steps, trace.ranks)
    )
