"""Reading a network out: the fit against a slow one, and who decides."""

import math

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.search import model_search
from jtm_tf.search import read_out
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD
from tests.support import close
from tests.support import judged
from tests.support import served_models

KIND = {"path_weight": 0.5, "visits": True, "direct": True}


@pytest.fixture(name="model")
def _model():
    return judged.make_model(**KIND)


def slow_fit(model, histories, level):
    """Returns coefficients of one level and R^2, user by user.

    The beam of the fit is wider than the tree: all nodes are candidates.
    """
    nodes = model.tree.occupied(level)
    moments, cross, total = 0.0, 0.0, 0.0
    for history in histories:
        user, of_level = history[None], nodes[None]
        described = model.described(user, [level])
        x = model.readout_features(described, of_level, level).numpy()[0]
        y = model.score(user, of_level, level).numpy()[0].astype(float)
        x, y = x.astype(float) - x.mean(0), y - y.mean()
        moments, cross, total = (
            moments + x.T @ x,
            cross + x.T @ y,
            total + y @ y,
        )
    penalty = np.diag(np.diag(moments)) * 1e-3
    penalty[penalty.diagonal() == 0, penalty.diagonal() == 0] = 1e-3
    found = np.linalg.solve(moments + penalty, cross)
    left = total - 2 * found @ cross + found @ moments @ found
    return found, 1 - left / total


def test_it_is_the_ridge_regression(model):
    users = judged.held_out(0, users=20)
    explained = read_out.fit(model, users.history)
    for level in range(1, model.max_level + 1):
        want, share = slow_fit(model, users.history, level)
        got = model.readout.kernel.numpy()[level - 1]
        np.testing.assert_allclose(
            got, want, rtol=0.02, atol=0.02 * np.abs(want).max()
        )
        assert explained[level - 1] == pytest.approx(share, abs=0.01)


def test_of_a_linear_network_it_is_exact(model):
    """A network that its read-out tells in full walks as it would itself."""
    for kernel in model.scorer.kernels[:-1]:
        kernel.assign(tf.abs(kernel))
    model.scorer.biases[0].assign(tf.fill(model.scorer.biases[0].shape, 1e3))
    users = judged.held_out(1, users=30)
    explained = read_out.fit(model, users.history, width=1.0)
    assert min(explained) > 0.99
    asked = {"num_results": 3, "beam_width": 4}
    found = model_search.recommend_users(model, users, **asked)
    model.readout = None
    want = model_search.recommend_users(model, users, **asked)
    assert np.mean(found == want) > 0.9


@pytest.mark.parametrize(
    "losers,width,tried",
    [
        ({}, 2.0, 1),
        ({2.0: 1}, 2.0, 1),  # one of two hundred users is chance
        ({2.0: 3}, 4.0, 2),  # and three may be, but are too much to lose
        pytest.param({2.0: 50}, 4.0, 2, marks=pytest.mark.slow),
        ({2.0: 200, 4.0: 200}, None, 2),
    ],
)
def test_who_decides(model, monkeypatch, losers, width, tried):
    users = judged.held_out(2, users=200)
    read_out.fit(model, users.history)
    kernel = model.readout.kernel.numpy()

    def recommend(model, users, **asked):
        assert asked == {"num_results": 5, "beam_width": 10}
        items = np.array([users.truth[row][0] for row in range(len(users))])
        walk = model.readout and model.readout.width
        items[: losers.get(walk, 0)] = PAD
        return np.pad(items[:, None], [(0, 0), (0, 4)])

    monkeypatch.setattr(model_search, "recommend_users", recommend)
    asked = {"num_results": 5, "beam_width": 10}
    chosen = read_out.choose(model, users, **asked)
    assert chosen["width"] == width
    assert list(chosen["pruned"]) == ["2.0", "4.0"][:tried]
    assert chosen["exact"] == pytest.approx(
        np.mean(1 / users.truth.counts), abs=1e-6
    )
    if width is not None:
        assert model.readout.width == width
        np.testing.assert_array_equal(model.readout.kernel, kernel)
        return
    assert model.readout is None
    with pytest.raises(ValueError, match="no read-out yet"):
        read_out.choose(model, users, **asked)


def test_nobody_to_fit_on(model):
    with pytest.raises(ValueError, match="there are none"):
        read_out.fit(model, np.zeros([0, model.user_width], np.int32))
    assert model.readout is None


def test_asked_for(model):
    model_search.choose(model, "own")
    with pytest.raises(ValueError, match="search=pruned needs a read-out"):
        model_search.choose(model, "pruned")
    read_out.fit(model, judged.held_out(3).history)
    model_search.choose(model, "pruned")
    assert model.readout is not None
    model_search.choose(model, "exact")
    assert model.readout is None


@pytest.mark.parametrize(
    "beam,settings",
    [
        pytest.param(4, {}, marks=pytest.mark.slow),
        (4, {"branching": 3, "readout": 3.0}),
        pytest.param(4, {"path_weight": 0.0}, marks=pytest.mark.slow),
        (9, {"readout": 1.7}),  # of two levels, and odd
        (16, {}),  # one level alone is pruned
    ],
)
def test_its_search_against_a_walk_in_python(beam, settings):
    """The walk of a pruned search, one user and one node at a time."""
    kind = served_models.KINDS["pruned"] | {"branching": 2} | settings
    model = served_models.untrained(**kind)
    users, results = judged.held_out(4, users=5).history, 5
    search = model_search.beam_search(
        model, num_results=results, beam_width=beam
    )
    found, scores = (x.numpy() for x in search.recommend(users))
    wanted, ranks = slow_walks(model, users, beam, results)
    close.rankings(found, scores, wanted, ranks)
    assert search.levels[-2:] == [model.max_level] * 2


def slow_walks(model, users, beam, results):
    """Returns what a pruned search finds, and ranks: the definition."""
    tree = model.tree
    pruned = [
        x for x in range(1, tree.max_level) if len(tree.occupied(x)) > beam
    ]
    widths = {
        level: beam * (1 + (model.readout.width - 1) * i / (len(pruned) - 1))
        for i, level in enumerate(pruned[:-1])
    }
    widths[tree.max_level - 1] = beam * model.readout.width
    b = tree.branching
    everything = []
    for user in users:
        kept, rank_of = [1], {}
        for level in range(1, tree.max_level + 1):
            nodes = tree_lib.children(np.array(kept), b).ravel()
            nodes = nodes[np.isin(nodes, tree.occupied(level))].astype(np.int32)
            own = model.score_read_out(
                model.read_out(user[None], [level]), nodes[None], level
            ).numpy()[0]
            lean = [
                model.path_weight * rank_of.get(tree_lib.parent(n, b), 0.0)
                for n in nodes
            ]
            rank_of = dict(zip(nodes.tolist(), (own + lean).tolist()))
            leaves = level == tree.max_level
            most = b * beam if leaves else widths.get(level, beam)
            kept = sorted(rank_of, key=rank_of.get, reverse=True)
            kept = kept[: math.ceil(most)]
            leaned = dict(zip(nodes.tolist(), lean))
        own = model.score(
            user[None], np.array([kept], np.int32), tree.max_level
        )
        final = {
            node: float(score) + leaned[node]
            for node, score in zip(kept, own.numpy()[0])
        }
        best = sorted(final, key=final.get, reverse=True)[:results]
        items = tree.leaf_items()[np.array(best) - tree.first_leaf]
        assert np.all(items != PAD)
        everything.append((items, [final[node] for node in best]))
    items, ranks = zip(*everything)
    return np.array(items), np.array(ranks, np.float32)
