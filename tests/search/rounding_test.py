"""What counts as the same answer: ties may turn, and nothing else."""

import numpy as np
import pytest

from jtm_tf.search import beam_trace
from jtm_tf.search import model_search
from jtm_tf.search import rounding
from jtm_tf.tree import initial
from tests.support import judged

M, BEAM = 4, 6


def test_scores():
    want = np.array([[8.0, -4.0, np.finfo("f").min]], "f")
    near = 8 * rounding.TOLERANCE
    assert rounding.slack(want) == near
    for off, same in ((0, True), (0.9, True), (-0.9, True), (1.1, False)):
        got = want + np.array([0, off * near, 0], "f")
        assert rounding.same_scores(got, want) == same
    assert not rounding.same_scores(want[:, ::-1], want)
    assert not rounding.same_scores(np.where(want < 0, 8, want), want)


@pytest.mark.parametrize(
    "got, same",
    [
        ("abcd", True),
        ("bacd", True),  # a and b are tied
        ("abce", True),  # d gave way to e
        ("abdc", True),
        ("acbd", False),
        ("ebcd", False),  # e has not the score of a
        ("aacd", False),
        ("abc", False),
    ],
)
def test_rankings(got, same):
    scores = [2.0, 2.0 - 1e-6, 1.0, 1.0 - 1e-6]
    answer = list(got), np.array(scores[: len(got)])
    want = list("abcd"), np.array(scores)
    assert rounding.same_ranking(*answer, *want, near=1e-5) == same


@pytest.fixture(name="searched", scope="module", params=["tree", "flat"])
def _searched(request):
    """A model, its users and their answers."""
    flat = initial.flat(judged.ITEMS) if request.param == "flat" else None
    model, users = judged.make_model(flat), judged.held_out(5).history
    search = model_search.retriever(model, num_results=M, beam_width=BEAM)
    return model, users, search.recommend(users)[0].numpy()


def same(searched, got):
    """Tells which answers pass for those of the model."""
    model, users, want = searched
    return rounding.same_answers(
        model, users, got, want, beam_width=BEAM
    ).tolist()


def others(want, of):
    """Returns the answers, and that of user 0 as `of` makes it."""
    got = want.copy()
    got[0] = of(got[0])
    return got


def test_answers(searched):
    want = searched[2]
    assert all(same(searched, want))
    every = [True] * (len(want) - 1)
    for of in (
        lambda row: row[[1, 0, 2, 3]],
        lambda row: np.append(row[:-1], 0),
        lambda row: np.append(row[:-1], row[0]),
        lambda row: np.append(row[:-1], np.setdiff1d(range(1, 41), row)[-1]),
    ):
        assert same(searched, others(want, of)) == [False, *every]


def test_ties_in_answers(searched, monkeypatch):
    """Two ranks are tied from just where their distance is allowed."""
    model, users, want = searched
    search = model_search.beam_search(model, num_results=M, beam_width=BEAM)
    trace = beam_trace.trace(search, model.tree, users[0])
    size = np.abs(np.concatenate(trace.ranks)).max()
    turned = others(want, lambda row: row[[0, 2, 1, 3]])
    gaps = [(turned, trace.ranks[-1][1] - trace.ranks[-1][2])]
    last = min(  # how nearly the last item fell
        step.rank - ranks[step.kept]
        for step, ranks in zip(trace.steps(want[0, -1]), trace.ranks)
        if step.scored > step.kept
    )
    lost = [item for item in range(1, judged.ITEMS + 1) if item not in want[0]]
    falls = [beam_trace.first_loss(trace.steps(item)) for item in lost]
    for level in {step.level for step in falls}:
        nearest = min(
            (step.short_by, item)
            for step, item in zip(falls, lost)
            if step.level == level
        )
        got = others(want, lambda row, item=nearest[1]: [*row[:-1], item])
        gaps.append((got, max(nearest[0], last)))
    assert len(gaps) > 2 or model.flat
    for got, gap in gaps:
        for share, tied in ((0.99, False), (1.01, True)):
            monkeypatch.setattr(rounding, "TOLERANCE", share * gap / size)
            assert rounding._tied(trace, got[0], want[0]) == tied
