"""Tests of `models.frozen`: laid out for search, a model scores as before."""

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.models import frozen
from jtm_tf.search import model_search
from jtm_tf.tree import tree as tree_lib
from tests.support import close
from tests.support import served_models

# Nobody, one pad, all known.
USERS = tf.constant([[0] * served_models.HISTORY, [0, 3, 3, 50], [9, 1, 30, 2]])


@pytest.fixture(name="pair", scope="module", params=served_models.KINDS)
def _pair(request):
    """A model of every kind, and what is frozen of it."""
    model = served_models.untrained(**served_models.KINDS[request.param])
    return model, frozen.FrozenModel(model)


def test_scores_are_the_model_s(pair):
    model, cold = pair
    levels = range(1, model.max_level + 1)
    users = cold.described(USERS, levels)
    for level in levels:
        families = tree_lib.children(
            model.tree.occupied(level - 1), model.branching
        ).ravel()
        if level == model.max_level:  # other leaves have no vector
            whole = np.isin(families, model.tree.occupied(level))
            if not model.siblings:
                families = families[whole]
        nodes = tf.tile(families[None], [len(USERS), 1])
        want = model.score(USERS, nodes, level).numpy()
        for got in (
            cold.score(USERS, nodes, level),
            cold.score_described(users, nodes, level),
        ):
            close.scores(got, want)


def test_a_search_finds_the_same(pair):
    found = []
    for model in pair:
        search = model_search.retriever(model, num_results=9, beam_width=12)
        items, scores = search.recommend(USERS)
        assert np.all(items.numpy() > 0)
        found += [items.numpy(), scores.numpy()]
    close.rankings(*found[2:], *found[:2])


def test_another_tree_for_the_same_network():
    model = served_models.untrained(branching=2)
    order = np.random.default_rng(5).permutation(served_models.ITEMS) + 1
    tree = tree_lib.Tree.from_order(order)
    table = model.embedding.numpy() * 2
    cold = frozen.FrozenModel(model, (tree, table))
    model.set_tree(tree)
    model.embedding.assign(table)
    nodes = tf.constant([tree.pi[1:]] * len(USERS))
    close.scores(
        cold.score(USERS, nodes, tree.max_level),
        model.score(USERS, nodes, tree.max_level),
    )
    # All that a graph may read is there to be saved.
    names = {variable.shape[0] for variable in cold.theta}
    assert {served_models.ITEMS + 1, tree.num_leaves} <= names


@pytest.mark.parametrize("kind", served_models.KINDS)
def test_half_as_wide_tables(kind):
    """All is computed in float32, of vectors that are rounded once."""
    model = served_models.untrained(**served_models.KINDS[kind])
    half = frozen.FrozenModel(model, dtype="float16")
    tables = [half.embedding.inner, half.embedding.items]
    assert {table.dtype for table in tables} == {tf.float16}
    exact = model.embedding.numpy()
    frozen.round_vectors(model, "float16")
    rounded = model.embedding.numpy()
    assert 0 < np.abs(rounded - exact).max() < 1e-3 * np.abs(exact).max()
    found = []
    for one in (model, half):
        search = model_search.retriever(one, num_results=9, beam_width=12)
        items, scores = search.recommend(USERS)
        assert scores.dtype == tf.float32
        found += [items.numpy(), scores.numpy()]
    close.rankings(*found[2:], *found[:2])


def test_vectors_beyond_half_precision():
    model = served_models.untrained()
    model.embedding.assign(model.embedding.numpy() * 1e7)
    for refused in (
        lambda: frozen.FrozenModel(model, dtype="float16"),
        lambda: frozen.round_vectors(model, "float16"),
    ):
        with pytest.raises(ValueError, match="Use tables of float32"):
            refused()


def test_thawed_as_it_was_frozen():
    model = served_models.untrained()
    half = frozen.FrozenModel(model, dtype="float16")
    theta = [variable.numpy() for variable in half.theta]
    frozen.round_vectors(model, "float16")
    want = model.embedding.numpy()
    frozen.thaw(model, theta)
    used = np.append(np.arange(model.tree.first_leaf), model.tree.pi[1:])
    got = model.embedding.numpy()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[used[1:]], want[used[1:]])
