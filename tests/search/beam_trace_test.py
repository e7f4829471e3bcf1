"""Tests of `jtm_tf.search.beam_trace`: against sorted Python lists."""

import numpy as np
import pytest

from jtm_tf.search import beam_trace
from jtm_tf.search import model_search
from jtm_tf.search import rounding
from tests.support import close
from tests.support import judged
from tests.support import served_models


@pytest.mark.parametrize("kind", ["tdm", "jtm", "hsm"])
def test_a_search_is_followed(kind):
    model = served_models.untrained(**served_models.KINDS[kind])
    tree, users = model.tree, judged.held_out(1)
    search = model_search.retriever(model, num_results=3, beam_width=5)
    beams = [kept.numpy() for kept in search.beams(users.history)]
    walked = [(n.numpy(), r.numpy()) for n, r in search.walk(users.history)]
    found = search.recommend(users.history)[0].numpy()
    # A trace is of a batch of one, so that its ranks are rounded otherwise.
    near = rounding.slack(np.concatenate([r.ravel() for _, r in walked]))
    for level, (_, ranks) in zip(search.levels, walked):
        close.edges(ranks, 3 if level == tree.max_level else 5)
    for row, user in enumerate(users.history[:3]):
        trace = beam_trace.trace(search, tree, user)
        for level, kept in zip(trace.levels[:-1], beams):
            assert set(trace.kept(level)) == set(kept[row]) - {0}
        lost = []
        for item in range(1, tree.num_items + 1):
            steps = trace.steps(item)
            for step, (nodes, ranks) in zip(steps, walked):
                assert step.node == tree.ancestors(step.level)[item]
                scored = dict(zip(nodes[row], ranks[row]))
                best = sorted(scored.values(), reverse=True)
                last = best[step.kept - 1]
                assert step.last_kept == pytest.approx(last, abs=near)
                if step.node not in scored:
                    assert step.rank is step.place is step.short_by is None
                    continue
                rank = scored[step.node]
                assert best[step.place - 1] == pytest.approx(rank, abs=near)
                assert step.rank == pytest.approx(rank, abs=near)
                assert step.stays == (step.short_by <= 0)
            fell = beam_trace.first_loss(steps)
            if fell is None:
                assert item in found[row]
                continue
            lost.append(item)
            index = steps.index(fell)
            assert all(step.stays for step in steps[:index])
            assert not any(step.stays for step in steps[index:])
            assert fell.place is not None, "the search scored where it fell"
        assert sorted([*lost, *found[row]]) == list(range(1, 51))
