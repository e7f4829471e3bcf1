"""Judging: the numbers, against loops over users."""

import numpy as np
import pytest

from jtm_tf.search import judging
from jtm_tf.search import model_search
from tests.support import judged


@pytest.fixture(name="model", scope="module")
def _model():
    return judged.make_model()


@pytest.mark.parametrize("filter_history", [False, True])
def test_numbers_against_loops(model, filter_history):
    users = judged.held_out(1)
    cut = {"num_results": 5, "beam_width": 8, "filter_history": filter_history}
    items = model_search.recommend_users(model, users, **cut)
    assert items.shape == (len(users), 5)
    precision, recall, f_measure = [], [], []
    truth = judged.lists(users.truth)
    for got, wanted in zip(items, truth):
        hits = len(set(got) & set(wanted))
        precision.append(hits / 5)
        recall.append(hits / len(wanted))
        f_measure.append(2 * hits / (5 + len(wanted)))
    found = judging.judge_model(model, users, **cut)
    assert found == {
        "precision": pytest.approx(np.mean(precision), abs=1e-6),
        "recall": pytest.approx(np.mean(recall), abs=1e-6),
        "f_measure": pytest.approx(np.mean(f_measure), abs=1e-6),
        "num_results": 5,
        "beam_width": 8,
        "users": len(users),
    }
