"""Tests of `jtm_tf.baselines.sasrec`."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.baselines import rules
from jtm_tf.baselines import sasrec
from jtm_tf.types import PAD
from tests.support import purchases

SMALL = sasrec.SASRecConfig(
    targets=1,
    dim=16,
    heads=2,
    dropout=0.1,
    max_history=6,
    negatives=20,
    batch_size=8,
    learning_rate=1e-2,
    rounds=12,
    patience=3,
)


def with_changes(**changes):
    return dataclasses.replace(SMALL, **changes)


def network(num_items=20, **changes):
    """Returns an untrained network."""
    keras.utils.set_random_seed(0)
    return sasrec.Network(num_items, with_changes(**changes))


def passed(training, config, number=0):
    """Returns the (history, target) pairs of one pass, as lists of items.

    A position of a window is a pair: what it may look back at, and what it
    predicts.
    """
    examples, pairs = purchases.examples_of(training), []
    for histories, targets in sasrec.dataset(examples, config, number=number):
        for history, target in zip(histories.numpy(), targets.numpy()):
            count = np.count_nonzero(history)
            assert np.all(history[count:] == PAD), "padded on the right"
            np.testing.assert_array_equal(history == PAD, target == PAD)
            pairs += [
                (history[: i + 1].tolist(), target[i]) for i in range(count)
            ]
    return pairs


@pytest.mark.parametrize("max_history", [1, 3, 6, 50])
@pytest.mark.parametrize("number", range(4))
def test_each_next_item_is_a_target_once(max_history, number):
    # All items differ, so that an item tells where it stands.
    lengths = [1, 2, 4, 7, 8, 0, 30]
    ends = np.cumsum(lengths)
    training = [list(range(e - n + 1, e + 1)) for n, e in zip(lengths, ends)]
    config = with_changes(max_history=max_history, batch_size=3)
    pairs = passed(training, config, number)
    want = [item for history in training for item in history[1:]]
    assert sorted(target for _, target in pairs) == want
    for history, target in pairs:
        # What it looks back at is the user's own, next to it.
        assert history == list(range(target - len(history), target))
        assert len(history) <= max_history


def test_passes_differ_and_are_the_same_again():
    training = purchases.draw(30, 20, 15, seed=0)
    config = with_changes(max_history=4, targets=3)
    once = passed(training, config, 0)
    assert passed(training, config, 0) == once
    assert passed(training, config, 1) != once
    assert passed(training, with_changes(seed=1, max_history=4), 0) != once


def test_targets_are_among_the_next_ones():
    training = [list(range(1, 40))]
    config = with_changes(targets=5, max_history=50)
    steps = []
    for number in range(40):
        pairs = passed(training, config, number)
        steps.append([target - history[-1] for history, target in pairs])
    steps = np.array(steps)  # [passes, positions]
    assert set(np.unique(steps[:, :30])) == {1, 2, 3, 4, 5}
    shares = [np.mean(steps[:, :30] == step) for step in range(1, 6)]
    np.testing.assert_allclose(shares, 0.2, atol=0.04)
    # Nearer the end there are fewer.
    assert np.all(steps[:, -1] == 1)
    assert set(steps[:, -2]) == {1, 2} and 1.2 < steps[:, -2].mean() < 1.8
    assert set(steps[:, -4]) == {1, 2, 3, 4}


def test_nothing_to_predict():
    with pytest.raises(ValueError, match="No training user has two items"):
        passed([[1], [2]], SMALL)


def test_states_know_the_past_only():
    model = network()
    rng = np.random.default_rng(0)
    history = rng.integers(1, 21, (4, 6)).astype(np.int32)
    states = model(history).numpy()
    for length in range(1, 6):
        # Neither what comes later nor padding changes a state.
        changed = history.copy()
        changed[:, length:] = rng.integers(0, 21, (4, 6 - length))
        np.testing.assert_allclose(
            model(changed).numpy()[:, :length], states[:, :length], atol=1e-5
        )
        scores = model.scores(
            tf.constant(np.where(np.arange(6) < length, history, PAD))
        )
        table = model.items.embeddings.numpy()
        want = states[:, length - 1] @ table.T
        np.testing.assert_allclose(scores, want, atol=1e-4)
        alone = model.scores(tf.constant(history[:, :length]))
        np.testing.assert_allclose(alone, want, atol=1e-4)
    assert not np.any(model.scores(tf.zeros([1, 3], tf.int32)))


def test_the_loss_with_all_items_drawn_is_the_softmax():
    model = network(negatives=1000)
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 21, (5, 6)).astype(np.int32)
    states = rng.normal(size=(5, 6, 16)).astype(np.float32)
    model(targets)
    model.items.embeddings.assign(rng.normal(size=(21, 16)))
    got = model.compute_loss(y=tf.constant(targets), y_pred=states)
    table = model.items.embeddings.numpy().astype(np.float64)
    losses = []
    for row, state in zip(targets, states):
        for item, at in zip(row, state):
            if item != PAD:
                scores = table @ at
                losses.append(np.log(np.exp(scores).sum()) - scores[item])
    assert float(got) == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_guess_among_the_items_drawn():
    targets = tf.random.stateless_uniform([50, 6], [0, 0], 1, 501, tf.int32)
    states = tf.random.stateless_normal([50, 6, 16], [0, 1])
    model = network(num_items=500, negatives=60)
    model(targets)
    model.items.embeddings.assign(tf.zeros([501, 16]))
    loss = float(model.compute_loss(y=targets, y_pred=states))
    # Among 60 and itself, or among 60 that it is one of.
    assert np.log(60) < loss < np.log(61)
    assert loss == pytest.approx(np.log(61), abs=0.01)


def chain(users, length, num_items, seed):
    """Draws users who go from an item to the next but one, mostly."""
    rng = np.random.default_rng(seed)
    items = [rng.integers(0, num_items, users)]
    for _ in range(length - 1):
        astray = rng.random(users) < 0.1
        items.append(
            np.where(
                astray,
                rng.integers(0, num_items, users),
                (items[-1] + 2) % num_items,
            )
        )
    return (np.stack(items, axis=1) + 1).tolist()


def judge_by(known, wanted):
    """Returns a judge that counts hits among the first two."""

    def judge(model):
        items = model.recommend_users(purchases.users_of(known), 2)
        hits = np.any(items == np.array(wanted)[:, None], axis=1)
        return {"recall": hits.mean()}

    return judge


@pytest.mark.slow
def test_a_markov_chain_is_learned():
    examples = purchases.examples_of(chain(150, 8, 20, seed=0))
    later = chain(100, 8, 20, seed=1)
    known = [history[:-1] for history in later]
    wanted = [(history[-2] + 1) % 20 + 1 for history in later]
    judge = judge_by(known, wanted)
    model, rounds = sasrec.SASRec.fit(examples, 20, SMALL, judge)
    popular = rules.Popular.fit(examples, 20)
    assert judge(model)["recall"] > 0.9 > 0.3 > judge(popular)["recall"]
    assert rounds[-1]["loss"] < rounds[0]["loss"]
    # What comes back is the best round's.
    recalls = [record["validation"]["recall"] for record in rounds]
    assert judge(model)["recall"] == max(recalls)

    whole = model.recommend_users(purchases.users_of(known), 4)
    one = [
        model.recommend_users(purchases.users_of([x]), 4)[0] for x in known[:9]
    ]
    np.testing.assert_array_equal(whole[:9], one)
    best = purchases.best_sellers(chain(150, 8, 20, seed=0), 20)
    nobody = model.recommend_users(purchases.users_of([[], [3]]), 25)
    assert nobody[0].tolist() == purchases.filled(best, [], 25)
    assert model.recommend_users(purchases.users_of([[]]), 3).shape == (1, 3)
    again, same = sasrec.SASRec.fit(examples, 20, SMALL, judge)
    assert [x["loss"] for x in same] == [x["loss"] for x in rounds]


def test_the_best_round_is_kept():
    examples = purchases.examples_of(chain(20, 5, 10, seed=0))
    known = purchases.users_of([[3, 5, 7]])
    recalls = iter([0.1, 0.3, 0.3, 0.2, 0.0, 0.9])
    answers = []

    def judge(model):
        answers.append(model.network.get_weights())
        return {"recall": next(recalls)}

    model, rounds = sasrec.SASRec.fit(examples, 10, SMALL, judge)
    # Three rounds without a better one, then it is enough.
    assert [x["validation"]["recall"] for x in rounds] == [
        0.1,
        0.3,
        0.3,
        0.2,
        0.0,
    ]
    for got, want in zip(model.network.get_weights(), answers[1]):
        np.testing.assert_array_equal(got, want)
    assert model.recommend_users(known, 2).shape == (1, 2)


def test_bad_settings():
    for field, value in {
        "targets": 0,
        "dim": 0,
        "dropout": 1.0,
        "learning_rate": 0.0,
        "rounds": 0,
    }.items():
        with pytest.raises(ValueError, match=f"{field} must be"):
            with_changes(**{field: value})
    with pytest.raises(ValueError, match="multiple of heads"):
        with_changes(heads=3)
