"""Tests of `models.beam_loss`: against all nodes of a level, and the search."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.models import beam_loss
from jtm_tf.search import model_search
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD
from tests.support import judged

USERS = 6


def a_model(**settings):
    """Returns a model whose scores lie apart."""
    model = judged.make_model(loss="beam", path_weight=0.5, **settings)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.3, variable.shape))
    return model


def targets_of(rng, most=4):
    """Returns [USERS, most] items, padded; one twice, and a row of none."""
    targets = rng.integers(1, judged.ITEMS + 1, (USERS, most))
    targets[0, 1] = targets[0, 0]
    targets[1, 1:] = PAD
    targets[2] = PAD
    return targets.astype(np.int32)


def far_of(rng, model, loss, stratum, users=USERS):
    """Draws nodes of each level that the beam prunes, some far oftener."""
    far, logs = [], []
    for level in range(1, model.max_level + 1):
        nodes = model.tree.occupied(level)
        drawn = stratum if loss.prunes(level) else 0
        share = np.arange(1, len(nodes) + 1) / np.arange(len(nodes) + 2).sum()
        share /= share.sum()
        places = rng.choice(len(nodes), (users, drawn), p=share)
        far.append(nodes[places].astype(np.int32))
        logs.append(-np.log(drawn * share[places]).astype(np.float32))
    return {"far": tuple(far), "far_logs": tuple(logs)}


def whole_losses(model, history, targets):
    """Returns Eq. 2 by level with all nodes of each level, by plain loops."""
    losses, users = np.zeros(model.max_level), len(history)
    for level in range(1, model.max_level + 1):
        nodes = model.tree.occupied(level)
        scores = model.score(history, np.tile(nodes, (users, 1)), level).numpy()
        ancestors = model.tree.ancestors(level)
        for row, items in zip(scores.astype(np.float64), targets):
            of = dict(zip(nodes, row))
            log_z = np.log(np.exp(row).sum())
            wanted = [item for item in items if item != PAD]
            found = [log_z - of[ancestors[item]] for item in wanted]
            losses[level - 1] += np.sum(found) / max(1, len(found)) / users
    return losses


@pytest.mark.parametrize("settings", [{}, {"direct": True, "whole_history": 4}])
def test_a_wide_beam_is_the_whole_softmax(settings):
    model = a_model(train_beam=judged.ITEMS, **settings)
    rng = np.random.default_rng(0)
    history, targets = judged.held_out(3, USERS).history, targets_of(rng)
    loss = model.beam_loss
    assert not any(loss.prunes(x) for x in range(1, model.max_level + 1))
    found = model.level_losses(
        {
            "history": history,
            "targets": targets,
            **far_of(rng, model, loss, 3),
        }
    )
    want = whole_losses(model, history, targets)
    np.testing.assert_allclose(found, want, rtol=1e-4)


def test_the_normaliser_is_unbiased():
    """Over the draws, the mean of Z is that of all nodes of the level."""
    model = a_model(train_beam=3)
    rng = np.random.default_rng(0)
    history, targets = judged.held_out(3, USERS).history, targets_of(rng)
    # One target each, so that a level's loss gives away its log Z.
    targets = np.where(targets[:, :1] == PAD, 7, targets[:, :1])
    levels = range(1, model.max_level + 1)
    run = tf.function(model.level_losses)
    for user in range(3):
        one, same = history[user : user + 1], targets[user : user + 1]
        whole = whole_losses(model, one, same)
        draws = 400
        z = np.zeros([draws, len(levels)])
        for draw in range(draws):
            far = far_of(rng, model, model.beam_loss, 2, users=1)
            inputs = {"history": one, "targets": same, **far}
            z[draw] = np.exp(run(inputs))  # Z / e^s(positive)
        for place, level in enumerate(levels):
            want = np.exp(whole[place])
            if not model.beam_loss.prunes(level):
                np.testing.assert_allclose(z[:, place], want, rtol=1e-4)
                continue
            error = z[:, place].std() / draws**0.5
            assert abs(z[:, place].mean() - want) < 4 * error + 1e-3 * want


@pytest.mark.parametrize("path_weight", [0.0, 0.5])
def test_it_scores_what_the_search_scores(path_weight):
    model = a_model(train_beam=3)
    model.path_weight = path_weight
    history = judged.held_out(3, USERS).history
    scored = {}

    class Spy:
        """The model, which notes what it is asked."""

        def __getattr__(self, name):
            return getattr(model, name)

        def score_described(self, users, nodes, level):
            scored[level] = nodes.numpy()
            return model.score_described(users, nodes, level)

    rng = np.random.default_rng(0)
    inputs = {
        "history": history,
        "targets": targets_of(rng),
        **far_of(rng, model, model.beam_loss, 2),
    }
    model.beam_loss(Spy(), inputs)
    search = model_search.tree_search(model, 3)
    for level, (nodes, ranks) in zip(search.levels, search.walk(history)):
        for row, found, rank in zip(scored[level], nodes, ranks):
            live = set(found.numpy()[rank.numpy() > tf.float32.min])
            assert live <= set(row)


def _leads(model, scores, wanted, node, level):
    """Tells whether the best path down from a node ends at a wanted leaf."""
    while level < model.max_level:
        of = scores[level]
        below = [x for x in tree_lib.children(node, model.branching) if x in of]
        node, level = max(below, key=of.get), level + 1
    return node in wanted


def counting(model, history, targets):
    """Returns the targets that count by user and level, by plain loops."""
    tree = model.tree
    scores = []
    for level in range(1, model.max_level + 1):
        nodes = tree.occupied(level)
        row = model.score(history, np.tile(nodes, (len(history), 1)), level)
        scores.append([dict(zip(nodes, x)) for x in row.numpy()])
    leads = functools.partial(_leads, model)
    found = [
        [
            [
                item != PAD
                and leads(
                    [of[user] for of in scores],
                    {tree.pi[x] for x in items if x != PAD},
                    tree.ancestors(level)[item],
                    level,
                )
                for item in items
            ]
            for level in range(1, model.max_level + 1)
        ]
        for user, items in enumerate(targets)
    ]
    return np.array(found).swapaxes(1, 2)  # [users, targets, levels]


@pytest.mark.parametrize("branching", [2, 4])
def test_a_target_counts_as_far_up_as_it_is_found(branching):
    rng = np.random.default_rng(0)
    order = rng.permutation(judged.ITEMS) + 1
    tree = tree_lib.Tree.from_order(order, branching=branching)
    model = a_model(train_beam=judged.ITEMS, tree=tree)
    history, targets = judged.held_out(3, USERS).history, targets_of(rng)
    # What the model likes best, so that some are found.
    best = model_search.tree_search(model, 4, num_results=2)
    targets[3:, :2] = best.recommend(history)[0].numpy()[3:]
    counts = counting(model, history, targets)
    inputs = {
        "history": history,
        "targets": targets,
        **far_of(rng, model, model.beam_loss, 3),
    }
    got = model.beam_loss(model, inputs, pseudo=True).numpy()
    plain = model.level_losses(inputs).numpy()
    want = np.zeros(model.max_level)
    for level in range(1, model.max_level + 1):
        nodes = model.tree.occupied(level)
        scores = model.score(history, np.tile(nodes, (USERS, 1)), level).numpy()
        ancestors = model.tree.ancestors(level)
        for user, items in enumerate(targets):
            of = dict(zip(nodes, scores[user].astype(np.float64)))
            log_z = np.log(np.exp(list(of.values())).sum())
            real = max(1, np.count_nonzero(items))
            for place in np.flatnonzero(counts[user, :, level - 1]):
                lost = log_z - of[ancestors[items[place]]]
                want[level - 1] += lost / real / USERS
    np.testing.assert_allclose(got, want, rtol=1e-4)
    assert got[-1] == pytest.approx(plain[-1]), "leaves count all"
    above = counts[..., :-1].mean()
    assert 0 < above < counts[..., -1].mean()


def test_gradients_reach_every_weight_and_no_choice():
    model = a_model(train_beam=3, direct=True, whole_history=4)
    rng = np.random.default_rng(0)
    inputs = {
        "history": judged.held_out(3, USERS).history,
        "targets": targets_of(rng),
        **far_of(rng, model, model.beam_loss, 2),
    }
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.level_losses(inputs))
    gradients = tape.gradient(
        loss, [v.value for v in model.trainable_variables]
    )
    assert all(gradient is not None for gradient in gradients)
    for gradient in gradients:
        values = getattr(gradient, "values", gradient).numpy()
        assert np.isfinite(values).all() and np.any(values)


def test_a_flat_tree_has_no_beam():
    tree = tree_lib.Tree.from_order(np.arange(1, 9), branching=8)
    with pytest.raises(ValueError, match="no beam to train under"):
        beam_loss.BeamLoss(tree, 4)
