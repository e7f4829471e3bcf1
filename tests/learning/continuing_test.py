"""Tests of `jtm_tf.learning.continuing`: a run on the data of another day."""

import dataclasses
import functools
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import jtm_tf
from jtm_tf.learning import inputs
from jtm_tf.learning import joint
from jtm_tf.learning import settings
from jtm_tf.learning import state
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder
from jtm_tf.tree import tree as tree_lib
from tests.support import runs
from tests.support import worlds

# Traced in seconds, but from factors in folds, as the default is, and slow
# enough that vectors are still like them.
SETTINGS = dataclasses.replace(
    runs.TINY,
    profile=("age",),
    initial_vectors="factors",
    factor_folds=2,
    training=dataclasses.replace(runs.TINY.training, learning_rate=1e-3),
)
NEXT = dataclasses.replace(SETTINGS, joint_iterations=1)


def log(items=44, shift=0):
    """Returns the log of a shop that sells items shift + 1..shift + items."""
    world = worlds.draw(items=60)
    table = world.table()
    ids = world.item
    ages = pa.array([f"{20 + 10 * (user % 3)}" for user in world.user])
    table = table.append_column("age", ages)
    names = pa.array([f"sku{999 - int(item)}" for item in ids])
    table = table.set_column(table.column_names.index("item"), "item", names)
    kept = (ids > shift) & (ids <= shift + items)
    return table.filter(pa.array(kept))


def prepare(table, folder):
    return jtm_tf.prepare(table, folder, profile=["age"], min_interactions=2)


@pytest.fixture(name="yesterday", scope="module")
def _yesterday(tmp_path_factory):
    """Data and the folder of a run whose last round is its best."""
    base = tmp_path_factory.mktemp("yesterday")
    data = prepare(log(), base / "data")
    options = settings.RunOptions(data_dir=str(base / "data"))
    metrics = joint.run(SETTINGS, data, base / "run", options)
    folder = run_folder.RunFolder(base / "run")
    # Whichever round it was: what a checkpoint has is the last one's.
    metrics["best_iteration"] = len(metrics["iterations"])
    folder.write_metrics(metrics)
    last = state.State(
        SETTINGS, inputs.take(SETTINGS, data, folder), folder, options
    )
    last.begin()
    saving.save(last.model, folder.model)
    folder.factors.unlink()
    return data, folder, last


def begun(yesterday, data, out_dir, **changes):
    """Returns a continued run that has not trained yet."""
    config = dataclasses.replace(
        NEXT, continue_from=str(yesterday[1].path), **changes
    )
    folder = run_folder.RunFolder(out_dir)
    taken = inputs.take(config, data, folder)
    run = state.State(config, taken, folder, settings.RunOptions())
    run.begin()
    return run, taken.earlier


def raw_ids(data):
    return data.items["raw_id"].to_pylist()


def leaves(data, tree):
    """Returns the leaf of each raw id."""
    return dict(zip(raw_ids(data), tree.pi[1:].tolist()))


@pytest.mark.parametrize("shape", [(44, 0), (40, 4), (50, 8), (60, 0)], ids=str)
def test_what_is_carried(yesterday, tmp_path, shape):
    """By raw id: leaves, vectors and moments; all items are seated."""
    was, _, last = yesterday
    data = prepare(log(*shape), tmp_path / "data")
    run, earlier = begun(yesterday, data, tmp_path / "run")
    tree, old = run.model.tree, last.model.tree
    assert len(np.unique(tree.pi)) == data.num_items + 1, "one leaf an item"
    stays = set(raw_ids(was)) & set(raw_ids(data))
    record = earlier.record
    counts = [record[f"items_{x}"] for x in ("kept", "new", "gone")]
    assert counts == [
        len(stays),
        data.num_items - len(stays),
        was.num_items - len(stays),
    ]
    assert sum(record["placed"].values()) == record["items_new"]
    levels = tree.max_level - old.max_level
    assert levels == (1 if data.num_items > old.num_leaves else 0)
    before, now = leaves(was, old), leaves(data, tree)
    for _ in range(levels):
        before = {x: 2 * (n - 1) + 2 for x, n in before.items()}
    assert {x: now[x] for x in stays} == {x: before[x] for x in stays}

    # Vectors and moments: of items by raw id, of all old nodes by code.
    mine = [run.model.embedding.rows, *slots(run)]
    theirs = [last.model.embedding.rows, *slots(last)]
    here = [now[x] for x in stays]
    there = [leaves(was, old)[x] for x in stays]
    inner = np.flatnonzero(old.occupied_codes()[: old.first_leaf])
    for index, (ours, others) in enumerate(zip(mine, theirs)):
        ours, others = ours.numpy(), others.numpy()
        assert np.any(others[there] != 0)
        if index == 0:  # they have moved on as their factors have
            ours = ours.copy()
            undo(run, earlier, ours)
            same = functools.partial(np.testing.assert_allclose, atol=1e-5)
        else:
            same = np.testing.assert_array_equal
        same(ours[here], others[there])
        same(ours[inner], others[inner])
    new = [now[x] for x in set(now) - stays]
    for moment in mine[1:]:
        assert not np.any(moment.numpy()[new])
    taken = run._trainer.optimizer.iterations.numpy()
    assert taken == last._trainer.optimizer.iterations.numpy() > 0
    for name in ("scorer", "user_representation"):
        for a, b in zip(
            getattr(run.model, name).variables,
            getattr(last.model, name).variables,
            strict=True,
        ):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def undo(run, earlier, rows):
    """Takes back, node by node, what factors of today have moved them by."""
    tree, stay = run.model.tree, np.flatnonzero(earlier.item_before)
    change = np.zeros_like(earlier.factors)
    change[stay] = run.inputs.first_vectors[0][stay] - earlier.factors[stay]
    change *= earlier.scale
    for level in range(1, tree.max_level + 1):
        above = tree.ancestors(level)[1:]
        for node in np.unique(above):
            rows[node] -= change[1:][above == node].mean(0)


def slots(run):
    """Returns the moments of the table of nodes."""
    table = run.model.embedding.tables
    return run._trainer.optimizer.slot_rows(table)


def test_profile_values_keep_their_vectors(yesterday, tmp_path):
    was, _, last = yesterday
    table = log()
    ages = pc.replace_substring(table["age"], "30", "25")  # 20, 25, 40
    at = table.column_names.index("age")
    data = prepare(table.set_column(at, "age", ages), tmp_path / "data")
    run, _ = begun(yesterday, data, tmp_path / "run")
    assert was.profile_values("age") == ["20", "30", "40"]
    assert data.profile_values("age") == ["20", "25", "40"]
    (mine,), (theirs,) = (x.model.profile.tables for x in (run, last))
    np.testing.assert_array_equal(mine.numpy(), theirs.numpy()[[0, 1, 0, 3]])


def test_new_items_start_from_their_factors(yesterday, tmp_path):
    """Turned to the vectors that the model has, and as long as those were."""
    data = prepare(log(50, 4), tmp_path / "data")
    run, earlier = begun(yesterday, data, tmp_path / "run")
    vectors = run.inputs.first_vectors[0]
    new = earlier.new[np.any(vectors[earlier.new] != 0, axis=1)]
    assert len(new)
    got = run.model.embedding.numpy()[run.model.tree.pi[new]]
    ratio = got / vectors[new]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    stay = np.flatnonzero(earlier.item_before)
    there = run.model.embedding.numpy()[run.model.tree.pi[stay]]
    cosine = np.sum(there * vectors[stay]) / (
        np.linalg.norm(there) * np.linalg.norm(vectors[stay])
    )
    assert cosine > 0.8


def test_items_move_on_as_their_factors_do(yesterday, tmp_path):
    """By little where the log is the same, and no further by another night."""
    was, folder, last = yesterday
    run, earlier = begun(yesterday, was, tmp_path / "same")
    rows = run.model.embedding.numpy()
    before = last.model.embedding.numpy()
    leaves_of = run.model.tree.pi[1:]
    np.testing.assert_allclose(rows[leaves_of], before[leaves_of], atol=1e-5)
    # Products of what they began from mean what they did.
    stddev = last.model.embedding.stddev
    first = last.inputs.first_vectors[0]
    spread = first[np.any(first != 0, axis=1)].std()
    assert earlier.scale == pytest.approx(stddev / spread, rel=1e-4)
    # A log of twice as many people of another taste moves the vectors there.
    data = prepare(log(44, 4), tmp_path / "data")
    run, earlier = begun(yesterday, data, tmp_path / "run")
    stay = np.flatnonzero(earlier.item_before)
    now = run.model.embedding.numpy()[run.model.tree.pi[stay]]
    moved = now - before[last.model.tree.pi[earlier.item_before[stay]]]
    told = run.inputs.first_vectors[0][stay] - earlier.factors[stay]
    np.testing.assert_allclose(moved, earlier.scale * told, atol=1e-5)
    assert np.abs(told).max() > 1e-4


def test_the_rate_begins_anew(yesterday, tmp_path):
    """Though the optimiser counts on."""
    data = prepare(log(50, 4), tmp_path / "data")
    training = dataclasses.replace(NEXT.training, final_rate=0.1)
    run, earlier = begun(yesterday, data, tmp_path / "run", training=training)
    rate = run._trainer.optimizer._learning_rate
    first = training.learning_rate
    assert float(rate(earlier.steps)) == pytest.approx(first)
    steps = run._trainer.batches_per_epoch
    assert float(rate(earlier.steps + steps)) == pytest.approx(
        first * training.final_rate
    )


@pytest.mark.slow
def test_a_continued_run_goes_on_after_a_kill(yesterday, tmp_path, monkeypatch):
    """Also when what it began from is gone."""
    data = prepare(log(50, 4), tmp_path / "data")
    kept = tmp_path / "kept"
    kept.symlink_to(yesterday[1].path)
    config = dataclasses.replace(
        NEXT, joint_iterations=2, continue_from=str(kept)
    )
    want = joint.run(config, data, tmp_path / "want")
    assert want["carried"]["items_new"] == 10
    assert (
        json.loads((tmp_path / "want" / "carried.json").read_text())
        == want["carried"]
    )

    def die(*args, **kwargs):
        raise runs.Killed

    with monkeypatch.context() as patch:
        patch.setattr(state.State, "tree_step", die)
        with pytest.raises(runs.Killed):
            joint.run(config, data, tmp_path / "got")
    kept.unlink()
    got = joint.run(config, data, tmp_path / "got")
    assert got["test"] == want["test"]
    assert got["carried"] == want["carried"]
    first = tree_lib.Tree.load(tmp_path / "got" / "trees/iteration_000.npz")
    assert first.num_items == data.num_items


def test_without_its_moments(yesterday, tmp_path):
    """Where the best round was not the last, and where they are deleted."""
    was, folder, _ = yesterday
    metrics = folder.read_metrics()
    try:
        folder.write_metrics(metrics | {"best_iteration": 1})
        run, earlier = begun(yesterday, was, tmp_path / "run")
    finally:
        folder.write_metrics(metrics)
    assert earlier.record["slots"] is False
    assert earlier.steps == 0 == run._trainer.optimizer.iterations.numpy()
    assert not any(np.any(x.numpy()) for x in slots(run))


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"method": "tdm"}, "method 'jtm' there, 'tdm' asked"),
        ({"embedding_dim": 8}, "embedding_dim 4 there, 8 asked"),
        ({"windows": (2, 2)}, r"windows \(3, 1\) there, \(2, 2\) asked"),
        ({"branching": 2}, "branching 4 there, 2 asked"),
        ({"profile": ()}, r"profile \('age',\) there, \(\) asked"),
        ({"visits": "no"}, "visits 'yes' there, 'no' asked"),
        ({"method": "dnn"}, "method dnn has none: train it anew"),
        (
            {"continue_from": "nowhere"},
            "nowhere cannot be continued: nowhere is",
        ),
    ],
    ids=str,
)
def test_another_shape_is_refused(yesterday, tmp_path, changes, says):
    data, folder, _ = yesterday
    config = {"continue_from": str(folder.path), **changes}
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        joint.run(dataclasses.replace(NEXT, **config), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unfinished_run_is_refused(yesterday, tmp_path):
    """Its checkpoint may be of another round than its model."""
    data, folder, _ = yesterday
    metrics = folder.read_metrics()
    config = dataclasses.replace(NEXT, continue_from=str(folder.path))
    try:
        folder.write_metrics({k: v for k, v in metrics.items() if k != "test"})
        with pytest.raises(ValueError, match="run is not finished, so it"):
            joint.run(config, data, tmp_path / "run")
    finally:
        folder.write_metrics(metrics)


def test_without_its_factors_it_does_not_go_on(
    yesterday, tmp_path, monkeypatch
):
    data = prepare(log(50, 4), tmp_path / "data")
    config = dataclasses.replace(
        NEXT, joint_iterations=2, continue_from=str(yesterday[1].path)
    )

    def die(*args, **kwargs):
        raise runs.Killed

    with monkeypatch.context() as patch:
        patch.setattr(state.State, "tree_step", die)
        with pytest.raises(runs.Killed):
            joint.run(config, data, tmp_path / "run")
    (tmp_path / "run" / "factors.npy").unlink()
    with pytest.raises(ValueError, match="Delete its checkpoints"):
        joint.run(config, data, tmp_path / "run")


def test_other_ids_are_refused(yesterday, tmp_path):
    table = log()
    at = table.column_names.index("item")
    numbers = pc.cast(pc.utf8_slice_codeunits(table["item"], 3), pa.int64())
    others = pc.binary_join_element_wise("x", table["item"], "")
    config = dataclasses.replace(NEXT, continue_from=str(yesterday[1].path))
    for name, ids, says in (
        ("numbers", numbers, "ids of string, those of the data int64"),
        ("others", others, "no item of .*, such as 'sku"),
    ):
        data = prepare(table.set_column(at, "item", ids), tmp_path / name)
        with pytest.raises(ValueError, match=says):
            joint.run(config, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
