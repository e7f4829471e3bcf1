"""Tests of `learning.model_step`: what becomes of theta when pi changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.data import splits
from jtm_tf.learning import model_step
from jtm_tf.learning import settings
from jtm_tf.models import hsm
from jtm_tf.models import scorers
from jtm_tf.models import tree_model
from jtm_tf.tree import initial
from jtm_tf.tree import tree as tree_lib

ITEMS = 21


def make_trainer(network=tree_model.TreeModel):
    """Returns a trainer after an epoch, so that slots are not empty."""
    keras.utils.set_random_seed(0)
    tree = initial.random(ITEMS, branching=3, seed=0)
    model = network(
        ITEMS, tree.max_level, 3, embedding_dim=4, windows=(2, 1), hidden=(6,)
    )
    model.set_tree(tree)
    rng = np.random.default_rng(0)
    examples = splits.Examples(
        rng.integers(1, ITEMS + 1, 60).astype(np.int32),
        np.arange(60) // 6 * 6,
        np.arange(60),
    )
    trainer = model_step.Trainer(
        model,
        examples,
        settings.TrainingConfig(batch_size=20, negatives=10),
        seed=0,
    )
    trainer.train_epoch()
    return trainer


def table_and_slots(trainer):
    table = trainer.model.embedding.tables[0]
    return [v.numpy() for v in (table.value, *trainer.optimizer.slots(table))]


def test_vectors_and_slots_move_with_their_items():
    trainer = make_trainer()
    old, new = trainer.model.tree, initial.random(ITEMS, branching=3, seed=1)
    before = table_and_slots(trainer)
    trainer.set_tree(new)
    inner = np.arange(old.first_leaf)
    for was, now in zip(before, table_and_slots(trainer)):
        assert np.any(was)
        np.testing.assert_array_equal(now[new.pi], was[old.pi])
        np.testing.assert_array_equal(now[inner], was[inner])
    np.testing.assert_array_equal(trainer.model.tree.pi, new.pi)


def test_vectors_may_stay_with_their_codes():
    trainer = make_trainer()
    before = table_and_slots(trainer)
    trainer.set_tree(initial.random(ITEMS, branching=3, seed=1), carry=False)
    for was, now in zip(before, table_and_slots(trainer)):
        np.testing.assert_array_equal(now, was)


def test_inner_nodes_may_start_from_the_mean_of_their_items():
    trainer = make_trainer()
    new = initial.random(ITEMS, branching=3, seed=1)
    trainer.set_tree(new, inner="yes")
    table, *slots = table_and_slots(trainer)
    for level in range(1, new.max_level):
        for node in new.occupied(level):
            items = np.flatnonzero(new.ancestors(level) == node)
            want = table[new.pi[items]].mean(axis=0)
            np.testing.assert_allclose(table[node], want, atol=1e-6)
            assert not any(np.any(slot[node]) for slot in slots)


def test_inner_nodes_may_move_as_their_items_mean_does():
    trainer = make_trainer()
    old, new = trainer.model.tree, initial.random(ITEMS, branching=3, seed=1)
    before = table_and_slots(trainer)
    trainer.set_tree(new, inner="shift")
    table, *slots = table_and_slots(trainer)
    for level in range(1, new.max_level):
        for node in new.occupied(level):
            was, now = (
                leaves[tree.pi[np.flatnonzero(tree.ancestors(level) == node)]]
                for tree, leaves in ((old, before[0]), (new, table))
            )
            want = before[0][node] + now.mean(axis=0) - was.mean(axis=0)
            np.testing.assert_allclose(table[node], want, atol=1e-6)
    inner = np.arange(old.first_leaf)
    for was, now in zip(before[1:], slots):
        np.testing.assert_array_equal(now[inner], was[inner])
    # And so there is a way back.
    trainer.set_tree(old, inner="shift")
    for was, now in zip(before, table_and_slots(trainer)):
        np.testing.assert_allclose(now, was, atol=1e-6)


@pytest.mark.parametrize("inner", ["no", "shift", "yes"])
def test_a_visit_leaves_all_as_it_was(inner):
    """Though a block fails; in it all is as after going over."""
    trainer, other = make_trainer(), make_trainer()
    old, new = trainer.model.tree, initial.random(ITEMS, branching=3, seed=1)
    before = table_and_slots(trainer)
    other.set_tree(new, inner=inner)
    with pytest.raises(KeyError):
        with trainer.visit(new, inner=inner):
            np.testing.assert_array_equal(trainer.model.tree.pi, new.pi)
            there = table_and_slots(trainer)[0]
            raise KeyError
    np.testing.assert_allclose(there, table_and_slots(other)[0], atol=1e-6)
    assert np.any(there != before[0])
    np.testing.assert_array_equal(trainer.model.tree.pi, old.pi)
    for was, now in zip(before, table_and_slots(trainer)):
        np.testing.assert_array_equal(now, was)


@pytest.mark.parametrize("network", [tree_model.TreeModel, hsm.HSM])
def test_a_cold_start_is_as_good_as_new(network):
    trainer = make_trainer(network)
    keras.utils.set_random_seed(0)
    new = initial.random(ITEMS, branching=3, seed=1)
    fresh = network(
        ITEMS, new.max_level, 3, embedding_dim=4, windows=(2, 1), hidden=(6,)
    )
    fresh.set_tree(new)
    trainer.restart(fresh)
    for mine, other in zip(trainer.model.variables, fresh.variables):
        np.testing.assert_array_equal(mine, other)
    assert not any(np.any(v) for v in trainer.optimizer.variables[2:])
    assert trainer.optimizer.iterations == 3


def test_hsm_is_a_distribution_over_items():
    trainer = make_trainer(hsm.HSM)
    model, tree = trainer.model, trainer.model.tree
    history = np.array([[1, 2, 3], [0, 0, 7]], np.int32)
    path = np.zeros((2, ITEMS))
    for level in range(1, tree.max_level + 1):
        first, end = (tree_lib.first_code(x, 3) for x in (level, level + 1))
        nodes = np.tile(np.arange(first, end, dtype=np.int32), (2, 1))
        scores = model.score(history, nodes, level).numpy()
        path += scores[:, tree.ancestors(level)[1:] - first]
    np.testing.assert_allclose(np.exp(path).sum(axis=1), 1.0, atol=1e-4)


def test_a_diverged_loss_is_named():
    trainer = make_trainer()
    trainer.model.embedding.assign(trainer.model.embedding.numpy() * np.nan)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        trainer.train_epoch()


def beam_trainer(vectors=None, **options):
    """Returns a trainer under the beam, of a model that begins with factors."""
    keras.utils.set_random_seed(0)
    tree = initial.random(ITEMS, branching=3, seed=0)
    model = tree_model.TreeModel(
        ITEMS,
        tree.max_level,
        3,
        embedding_dim=4,
        windows=(2, 1),
        whole_history=5,
        hidden=(6,),
        loss="beam",
        train_beam=3,
        direct=True,
    )
    model.set_tree(tree)
    rng = np.random.default_rng(0)
    examples = splits.Examples(
        rng.integers(1, ITEMS + 1, 60).astype(np.int32),
        np.arange(60) // 6 * 6,
        np.arange(60),
    )
    config = settings.TrainingConfig(batch_size=20, **options)
    return model_step.Trainer(
        model, examples, config, seed=0, epochs=2, vectors=vectors
    )


def test_an_epoch_under_the_beam_has_as_many_targets():
    trainer = beam_trainer(
        targets=4, stratum=2, learning_rate=1e-2, final_rate=1.0
    )
    steps = []
    before = trainer.measure(trainer.examples)
    trainer.train_epoch(steps.append)
    # 60 targets, 4 a history, 5 histories a batch.
    assert len(steps) == trainer.batches_per_epoch == 3
    assert np.shape(steps[0]) == (trainer.model.max_level,)
    for _ in range(8):
        trainer.train_epoch()
    # Of the same draws: those of an epoch vary more than it learns.
    assert trainer.measure(trainer.examples) < before


@pytest.mark.parametrize(
    "samples", [1, 30, pytest.param(60, marks=pytest.mark.slow), 100]
)
def test_an_epoch_takes_the_steps_that_it_announces(samples):
    """Of more samples than there are, those that there are."""
    trainer = beam_trainer(targets=4, samples_per_epoch=samples)
    steps = []
    trainer.train_epoch(steps.append)
    assert len(steps) == trainer.batches_per_epoch
    assert len(steps) == -(-min(samples, 60) // 20)


@pytest.mark.parametrize(
    "cold", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_another_tree_may_use_other_nodes(cold):
    """The graph of a step holds the nodes in use; it is made anew."""
    trainer = beam_trainer()
    trainer.train_epoch()
    tree = trainer.model.tree
    pi = tree.pi.copy()
    free = np.setdiff1d(
        np.arange(tree.first_leaf, tree.num_codes),
        tree.occupied(tree.max_level),
    )
    pi[1 : 1 + len(free)] = free
    other = tree.replace_pi(pi)
    if cold:
        fresh = tree_model.TreeModel.from_config(trainer.model.get_config())
        fresh.set_tree(other)
        trainer.restart(fresh)
    else:
        trainer.set_tree(other)
    occupied = trainer.model.beam_loss._occupied.numpy()
    np.testing.assert_array_equal(occupied, other.occupied_codes())
    trainer.train_epoch()
    assert np.isfinite(trainer.mean_loss).all()


def test_a_start_from_vectors():
    trainer = beam_trainer()
    model, tree = trainer.model, trainer.model.tree
    vectors = np.random.default_rng(3).normal(0, 2, (ITEMS + 1, 4))
    vectors = vectors.astype(np.float32)
    vectors[[0, 5]] = 0
    before = model.embedding.numpy()
    trainer.vectors = vectors[None]
    trainer.start_from_vectors()
    table = model.embedding.numpy()
    known = np.setdiff1d(np.arange(ITEMS + 1), [0, 5])
    scale = table[tree.pi[1], 0] / vectors[1, 0]
    np.testing.assert_allclose(
        table[tree.pi[known]], vectors[known] * scale, rtol=1e-5
    )
    assert table[tree.pi[known]].std() == pytest.approx(0.1, rel=1e-3)
    np.testing.assert_array_equal(table[tree.pi[5]], before[tree.pi[5]])
    for level in range(1, tree.max_level):
        for node in tree.occupied(level):
            below = np.flatnonzero(tree.ancestors(level) == node)
            np.testing.assert_allclose(
                table[node], table[tree.pi[below]].mean(axis=0), atol=1e-6
            )
    # What is scored is the products of the vectors as they came, in chances.
    history = np.array([[0] * (model.max_history - 2) + [7, 9]], np.int32)
    leaves = tree.pi[None, 1:]
    got = model.score(history, leaves, tree.max_level)[0].numpy()
    products = vectors[1:] @ (vectors[7] + vectors[9]) / 2**0.5
    known = np.any(vectors[1:], axis=1)
    want = scorers.likely(products.astype(np.float32) / 1e-3).numpy()
    np.testing.assert_allclose(got[known], want[known], rtol=1e-4, atol=1e-3)


def test_a_fold_is_trained_from_the_vectors_of_the_others():
    folds = 3
    vectors = np.random.default_rng(4).normal(size=(1 + folds, ITEMS + 1, 4))
    vectors = vectors.astype(np.float32)
    vectors[:, 0] = 0
    # Hardly learning, so that what is in the table is what was put there.
    trainer = beam_trainer(vectors, targets=4, learning_rate=1e-9)
    tree = trainer.model.tree
    trainer.start_from_vectors()
    scale = 0.1 / vectors[0, 1:].std()
    fold = trainer.examples.fold_of(folds, seed=0)
    assert len(set(fold)) == folds

    def check(of):
        table = trainer.model.embedding.numpy()
        want = scale * vectors[of]
        np.testing.assert_allclose(table[tree.pi[1:]], want[1:], atol=1e-6)
        for level in range(1, tree.max_level):
            for node in tree.occupied(level):
                below = np.flatnonzero(tree.ancestors(level) == node)
                np.testing.assert_allclose(
                    table[node], want[below].mean(axis=0), atol=1e-6
                )

    seen, stream = [], trainer._stream

    def watched(examples, **position):
        check(1 + len(seen) % folds)
        seen.append(examples)
        return stream(examples, **position)

    trainer._stream = watched
    steps = []
    for _ in range(2):
        trainer.train_epoch(steps.append)
        check(0)
    assert len(steps) == 2 * trainer.batches_per_epoch
    for part, examples in enumerate(seen):
        want = trainer.examples.targets[fold == part % folds]
        np.testing.assert_array_equal(examples.targets, want)
    # What training makes of a vector stays when the tables are changed.
    learned = np.full((1, 4), 3, np.float32)
    trainer.model.embedding.tables[0].value.scatter_add(
        tf.IndexedSlices(learned, [tree.pi[7]])
    )
    trainer._begin_from(2)
    trainer._begin_from(0)
    np.testing.assert_allclose(
        trainer.model.embedding.numpy()[tree.pi[7]],
        scale * vectors[0, 7] + 3,
        atol=1e-5,
    )


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_rate_falls_evenly_to_its_end(share):
    trainer = beam_trainer(learning_rate=0.01, final_rate=share)
    rates = [float(trainer.optimizer.learning_rate)]
    for _ in range(2):  # epochs, as it was told
        trainer.train_epoch(
            lambda _: rates.append(float(trainer.optimizer.learning_rate))
        )
    want = np.linspace(0.01, share * 0.01, len(rates))
    np.testing.assert_allclose(rates, want, rtol=1e-4)
