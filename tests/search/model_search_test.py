"""A model's own search: for many users, without known items, over a list."""

import numpy as np
import pytest

from jtm_tf.search import model_search
from jtm_tf.tree import initial
from jtm_tf.types import PAD
from tests.support import close
from tests.support import judged


@pytest.fixture(name="model", scope="module")
def _model():
    return judged.make_model()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_batches_make_no_difference(batch_size):
    history = np.random.default_rng(0).integers(0, 9, [7, 3]).astype(np.int32)

    def recommend(batch):
        assert 0 < len(batch) <= batch_size
        return batch[:, ::-1] + 1, batch

    got = model_search.recommend_all(recommend, history, batch_size=batch_size)
    np.testing.assert_array_equal(got, history[:, ::-1] + 1)


def test_filters_what_is_known_and_nothing_else(model):
    users = judged.held_out(0)
    # A beam as wide as the tree ranks all items, so the answer is known.
    ranked = model_search.recommend_users(
        model, users, num_results=judged.ITEMS, beam_width=judged.ITEMS
    )
    filtered = model_search.recommend_users(
        model,
        users,
        num_results=10,
        beam_width=judged.ITEMS,
        filter_history=True,
    )
    wanted = np.full_like(filtered, PAD)
    known = judged.lists(users.full_history)
    for row, everything, had in zip(wanted, ranked, known):
        want = [item for item in everything if item not in had][:10]
        row[: len(want)] = want
    close.answers(
        model, users.history, filtered, wanted, beam_width=judged.ITEMS
    )


@pytest.mark.parametrize("filter_history", [False, True])
def test_a_flat_tree_is_scanned(filter_history):
    tree = initial.flat(judged.ITEMS)
    model = judged.make_model(tree)
    users = judged.held_out(2)
    nodes = np.tile(tree.pi[1:], (len(users), 1))
    scores = model.score(users.history, nodes, 1).numpy()
    got = model_search.recommend_users(
        model,
        users,
        num_results=10,
        beam_width=1,
        filter_history=filter_history,
    )
    wanted = np.full_like(got, PAD)
    known = judged.lists(users.full_history)
    for want, row, had in zip(wanted, scores, known):
        order = np.argsort(-row, kind="stable") + 1
        if filter_history:
            order = [item for item in order if item not in had]
        want[: len(order)] = order[:10]
    close.answers(model, users.history, got, wanted, beam_width=1)
