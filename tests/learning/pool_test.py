"""Tests of tree steps by a pool: the same weights, whoever sums them."""

import dataclasses
import functools
import math
import os
import signal
import sys

import numpy as np
import pytest

from jtm_tf.data import splits
from jtm_tf.learning import pooled_weights
from jtm_tf.models import log_prob
from jtm_tf.models import tree_model
from jtm_tf.pools import ray_pool
from jtm_tf.pools import serial
from jtm_tf.tree import edge_weights
from jtm_tf.tree import initial
from jtm_tf.tree import learning as tree_learning
from tests.support import rays

ITEMS = 60
CONFIG = tree_learning.TreeLearningConfig(
    gap=3, max_samples_per_item=9, histories_per_user=4, kin_strength=0.0
)


@pytest.fixture(name="world", scope="module")
def _world():
    """A model, its samples, and who of the users is in which part."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, 50)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = 1 + (rng.random(lengths.sum()) ** 2 * ITEMS).astype(np.int32)
    samples = splits.Examples(items, starts, np.arange(len(items)))
    tree = initial.random(ITEMS, branching=2, seed=0)
    model = tree_model.TreeModel(
        ITEMS, tree.max_level, embedding_dim=4, windows=(3, 1), hidden=(8,)
    )
    model.set_tree(tree)
    return model, samples, samples.fold_of(3, seed=0)


def change(model, part):
    """Makes the model that of a part of the users."""
    model.embedding.assign(
        np.random.default_rng(part)
        .normal(size=(model.embedding.num_codes, 4))
        .astype(np.float32)
    )


def folds_of(world):
    model, _, fold = world
    return edge_weights.Folds(fold, 3, lambda part: change(model, part))


def directly(world, config, folds):
    """Returns who weighs from memory."""
    model, samples, _ = world
    described, history_of = samples.shared_histories(config.histories_per_user)
    weighed = log_prob.LogProb(model)
    return edge_weights.EdgeWeights(
        model.tree,
        samples.target_items(),
        lambda chosen: described.histories(chosen, model.max_history),
        weighed,
        describe=weighed.describe,
        history_of=history_of,
        batch_samples=config.batch_samples,
        batch_nodes=config.batch_nodes,
        score_leaves=config.score_leaves,
        max_samples_per_item=config.max_samples_per_item,
        seed=config.seed,
        informative=config.weights == "information",
        folds=folds,
    )


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("weights", ["likelihood", "information"])
def test_files_weigh_as_memory_does(
    folded, weights, world, tmp_path, monkeypatch
):
    """Of any items and any block, and in as many files as there are."""
    monkeypatch.setattr(pooled_weights, "_FILE_SAMPLES", 40)
    config = dataclasses.replace(CONFIG, weights=weights)
    model, samples, _ = world
    change(model, 9)
    folds = folds_of(world) if folded else None
    mine = directly(world, config, folds)
    rng = np.random.default_rng(1)
    asked = [(6, 3, np.arange(ITEMS)), (5, 2, rng.permutation(ITEMS)[:20])]
    want = []
    for level, gap, items in asked:
        nodes = model.tree.ancestors(level - gap)[1:][items]
        want.append(mine(items, nodes, level, gap))
    change(model, 9)
    with pooled_weights.pooled(
        serial.Pool(), tmp_path, model, samples, config, folds
    ) as pooled:
        assert len(list(tmp_path.glob("*/*.parquet"))) > 3 * (1 + 2 * folded)
        np.testing.assert_array_equal(pooled.counts, mine.counts)
        for (level, gap, items), weights_of in zip(asked, want):
            nodes = model.tree.ancestors(level - gap)[1:][items]
            np.testing.assert_allclose(
                pooled(items, nodes, level, gap), weights_of, atol=1e-4
            )
            assert pooled.pairs_of(level, gap) == mine.pairs_of(level, gap)
        assert pooled.pairs == mine.pairs
    assert not list(tmp_path.glob("model-*"))


def test_the_same_tree(world, tmp_path):
    model, samples, _ = world
    change(model, 9)
    learned = tree_learning.solve(
        model.tree, directly(world, CONFIG, None), CONFIG
    )
    with pooled_weights.pooled(
        serial.Pool(), tmp_path, model, samples, CONFIG
    ) as pooled:
        again = tree_learning.solve(model.tree, pooled, CONFIG)
    np.testing.assert_array_equal(again.tree.pi, learned.tree.pi)
    assert again.moved_items > 0


def test_samples_are_written_once(world, tmp_path):
    model, samples, _ = world
    folder = tmp_path / "samples"
    written = [
        pooled_weights.write(
            folder, samples, ITEMS, CONFIG, max_history=4, file_samples=40
        )
        for _ in range(2)
    ]
    assert written[0] == written[1] and len(written[0]) > 3
    bounds = [(part.first, part.last) for part in written[0]]
    assert bounds[0][0] == 0 and bounds[-1][1] == ITEMS
    assert all(a[1] == b[0] for a, b in zip(bounds, bounds[1:]))


class _Dying:
    """Doubles numbers; the first to get a 3 is killed by it."""

    def __init__(self, mark):
        self._mark = mark

    def __call__(self, number):
        if number == 3 and not os.path.exists(self._mark):
            open(self._mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * number


@pytest.mark.slow
def test_an_actor_is_lost(tmp_path, monkeypatch, capsys):
    """Its piece of work is done by another; the results keep their order."""
    make = functools.partial(_Dying, str(tmp_path / "died"))
    with rays.apart(monkeypatch), ray_pool.Pool(actors=2).workers(make) as do:
        assert list(do(range(8))) == [2 * number for number in range(8)]
    assert (tmp_path / "died").exists()
    assert not capsys.readouterr().out


def _telling(what):
    """Returns who tells who works, on what."""
    return lambda piece: (os.getpid(), what, piece)


@pytest.mark.slow
def test_actors_are_kept(monkeypatch):
    """From one kind of work to the next, and to one that failed."""
    seen = set()
    with rays.apart(monkeypatch), (pool := ray_pool.Pool(actors=1)).kept():
        for what in ("a", "b", "a"):
            with pool.workers(functools.partial(_telling, what)) as do:
                for (process, told, piece), want in zip(do(range(3)), range(3)):
                    assert (told, piece) == (what, want)
                    seen.add(process)
            with pool.workers(lambda: math.sqrt) as do:
                with pytest.raises(ValueError, match="math domain|nonneg"):
                    list(do([4.0, -1.0, 9.0]))
    assert len(seen) == 1


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'jtm_tf\[cluster\]'"):
        ray_pool.Pool()
