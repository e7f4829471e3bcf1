"""Tests of `jtm_tf.search.diagnosis`: against sets, and loops over pairs."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.models import hsm
from jtm_tf.models import tree_model
from jtm_tf.search import diagnosis
from jtm_tf.search import judging
from jtm_tf.search import model_search
from jtm_tf.search import rounding
from jtm_tf.tree import initial
from jtm_tf.tree import tree as tree_lib
from tests.support import close
from tests.support import judged
from tests.support import served_models


@pytest.mark.parametrize(
    "beam_width, path_weight",
    [
        (3, 0.5),
        (8, 0.0),
        pytest.param(3, 0.0, marks=pytest.mark.slow),
        pytest.param(8, 0.5, marks=pytest.mark.slow),
    ],
)
def test_level_recall(beam_width, path_weight):
    model = judged.make_model(path_weight=path_weight)
    users, tree = judged.held_out(3), model.tree
    found = diagnosis.level_recall(
        model, users, beam_width=beam_width, batch_size=3
    )
    search = model_search.retriever(
        model, num_results=beam_width, beam_width=beam_width
    )
    for _, ranks in search.walk(users.history):  # here in one batch
        close.edges(ranks, beam_width)
    kept = dict(zip(search.levels, search.beams(users.history)))
    truth = judged.lists(users.truth)
    assert list(found) == list(search.levels)
    for level, share in found.items():
        ancestors = tree.ancestors(level)
        want = np.mean(
            [
                np.mean([ancestors[item] in set(row) for item in items])
                for items, row in zip(truth, kept[level].numpy())
            ]
        )
        assert share == pytest.approx(want)
    shares = list(found.values())
    assert shares == sorted(shares, reverse=True)
    last = judging.judge_model(
        model, users, num_results=beam_width, beam_width=beam_width
    )
    assert shares[-1] == pytest.approx(last["recall"], abs=1e-6)


@pytest.mark.parametrize("num_results", [3, 8, 11])
def test_one_search_finds_and_is_followed(num_results):
    """Fewer items than the beam, as many, and more."""
    model = judged.make_model(path_weight=0.5)
    users = judged.held_out(3)
    items, recall = diagnosis.followed(
        model, users, num_results=num_results, beam_width=8, batch_size=3
    )
    want = model_search.recommend_users(
        model, users, num_results=num_results, beam_width=8
    )
    close.answers(model, users.history, items, want, beam_width=8)
    search = model_search.tree_search(model, 8)
    for _, ranks in search.walk(users.history):
        close.edges(ranks, 8)
    again = diagnosis.level_recall(model, users, beam_width=8)
    assert recall == pytest.approx(again)


def test_a_flat_tree_has_no_levels():
    tree = initial.flat(9)
    model = tree_model.TreeModel(9, 1, 9, embedding_dim=4)
    model.set_tree(tree)
    with pytest.raises(ValueError, match="no levels"):
        diagnosis.level_recall(model, judged.held_out(0), beam_width=3)


@pytest.mark.parametrize(
    "settings",
    [
        {"path_weight": 0.5},
        {"path_weight": 0.0},
        {"model_type": hsm.HSM},
    ],
)
def test_violations(settings):
    model = served_models.untrained(branching=3, seed=1, **settings)
    users, beam_width = judged.held_out(3), 4
    found = diagnosis.violations(
        model, users, beam_width=beam_width, batch_size=3
    )
    search = model_search.retriever(model, num_results=4, beam_width=beam_width)
    assert list(found) == list(search.levels)[:-1]
    walked = [(n.numpy(), r.numpy()) for n, r in search.walk(users.history)]
    for _, ranks in walked:  # here in one batch
        close.edges(ranks, beam_width)
    near = rounding.slack(np.concatenate([r.ravel() for _, r in walked]))
    for index, level in enumerate(found):
        shares = []
        for user in range(len(users)):
            above = dict(zip(*[x[user] for x in walked[index]]))
            below = dict(zip(*[x[user] for x in walked[index + 1]]))
            best = {}
            for child, rank in below.items():
                parent = int(tree_lib.parent(child, 3))
                best[parent] = max(best.get(parent, rank), rank)
            pairs = [(a, b) for a in best for b in best if above[a] > above[b]]
            assert all(above[a] - above[b] > near for a, b in pairs)
            assert all(abs(best[a] - best[b]) > near for a, b in pairs)
            turned = [best[a] < best[b] for a, b in pairs]
            shares.append(sum(turned) / len(pairs))
        assert found[level][1] == pytest.approx(np.mean(shares))
        if not settings.get("path_weight") and not model.siblings:
            assert found[level][0] == found[level][1]
        assert np.isnan(found[level][0]) == model.siblings


def test_own_scores_in_violations():
    """What a rank leans on its parent is taken off again."""
    model = served_models.untrained(branching=2, path_weight=0.5)
    users = judged.held_out(3)
    found = diagnosis.violations(model, users, beam_width=50)
    level = model.max_level - 1
    nodes = model.tree.occupied(level)
    leaves = model.tree.occupied(level + 1)
    wide = np.repeat(nodes[None], len(users), 0)
    above = model.score(users.history, wide, level).numpy()
    wide = np.repeat(leaves[None], len(users), 0)
    below = model.score(users.history, wide, level + 1).numpy()
    shares, near = [], max(rounding.slack(above), rounding.slack(below))
    for high, low in zip(above, below):
        best = [low[tree_lib.parent(leaves, 2) == n].max() for n in nodes]
        pairs = list(itertools.permutations(range(len(nodes)), 2))
        pairs = [(a, b) for a, b in pairs if high[a] > high[b]]
        assert all(high[a] - high[b] > near for a, b in pairs)
        assert all(abs(best[a] - best[b]) > near for a, b in pairs)
        shares.append(np.mean([best[a] < best[b] for a, b in pairs]))
    assert found[level][0] == pytest.approx(np.mean(shares), abs=1e-4)


def test_a_max_heap_violates_nothing():
    model = judged.make_model()
    tree, rng = model.tree, np.random.default_rng(0)
    worth = rng.random(tree.num_codes).astype(np.float32)
    worth[~tree.occupied_codes()] = -1
    for node in range(tree.first_leaf - 1, 0, -1):
        worth[node] = max(worth[2 * node], worth[2 * node + 1])
    model.score_described = lambda users, nodes, level: tf.gather(worth, nodes)
    found = diagnosis.violations(model, judged.held_out(3), beam_width=8)
    assert set(found.values()) == {(0.0, 0.0)}
