"""Tests of `models.log_prob`: described once, users are scored as ever."""

import numpy as np
import pytest

from jtm_tf.models import log_prob
from tests.support import close
from tests.support import served_models

USERS = np.array(
    [[0] * served_models.HISTORY, [0, 3, 3, 50], [9, 1, 30, 2]], np.int32
)


@pytest.mark.parametrize("kind", served_models.KINDS)
def test_scores_are_the_model_s(kind):
    model = served_models.untrained(**served_models.KINDS[kind])
    levels = range(2, model.max_level + 1)
    weigh = log_prob.LogProb(model)
    described = weigh.describe(USERS, levels)
    for level in levels:
        for rows, families in (([1], 1), ([2, 0, 2, 1], 1), ([0, 1], 40)):
            above = np.resize(model.tree.occupied(level - 1), families)
            nodes = model.branching * (above[:, None] - 1) + 2
            nodes = (nodes + np.arange(model.branching)).ravel()
            nodes = np.tile(nodes.astype(np.int32), (len(rows), 1))
            got = weigh(described[np.array(rows)], nodes, level)
            assert isinstance(got, np.ndarray)
            want = model.log_prob(USERS[rows], nodes, level).numpy()
            close.scores(got, want)


def test_rows_of_rows_are_the_users_meant():
    model = served_models.untrained()
    weigh = log_prob.LogProb(model)
    described = weigh.describe(USERS, [1])[np.array([2, 1, 0])]
    nodes = np.array([[2, 3]] * 2, np.int32)
    close.scores(
        weigh(described[np.array([0, 2])], nodes, 1),
        model.log_prob(USERS[[2, 0]], nodes, 1).numpy(),
    )


def test_a_model_that_has_learned_since_is_asked_as_it_is():
    model = served_models.untrained()
    weigh = log_prob.LogProb(model)
    nodes = np.array([[2, 3]] * len(USERS), np.int32)
    before = weigh(weigh.describe(USERS, [1]), nodes, 1)
    table = model.embedding.tables[0]
    table.assign(table.numpy() + 1)
    after = weigh(weigh.describe(USERS, [1]), nodes, 1)
    assert np.all(before != after)
    close.scores(after, model.log_prob(USERS, nodes, 1).numpy())
