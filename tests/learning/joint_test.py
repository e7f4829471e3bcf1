"""Algorithm 1 as a whole, on planted worlds."""

import collections
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_file_loader

from jtm_tf.data import interactions
from jtm_tf.data import planted_world
from jtm_tf.data import splits
from jtm_tf.learning import inputs
from jtm_tf.learning import joint
from jtm_tf.learning import model_step
from jtm_tf.learning import settings
from jtm_tf.learning import tree_step
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import diagnosis
from jtm_tf.search import judging
from jtm_tf.tree import clustering
from jtm_tf.tree import initial
from jtm_tf.tree import learning as tree_learning
from jtm_tf.tree import statistics as tree_statistics
from jtm_tf.tree import tree as tree_lib
from tests.support import runs
from tests.support import worlds


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
    return interactions.load(runs.shared(tmp_path_factory)[0])


@pytest.fixture(name="finished", scope="module")
def _finished(data, tmp_path_factory):
    """A finished run: its folder, its metrics, the records it tells of."""
    _, out_dir = runs.shared(tmp_path_factory)
    told = []
    metrics = joint.run(
        runs.TINY, data, out_dir, settings.RunOptions(on_record=told.append)
    )
    return run_folder.RunFolder(out_dir), metrics, told


def test_what_a_run_leaves(data, finished):
    folder, metrics, told = finished
    assert folder.read_metrics() == metrics
    assert metrics["iterations"] == told
    assert (metrics["method"], metrics["seed"]) == ("jtm", 0)
    assert metrics["data_fingerprint"] == data.manifest["fingerprint"]
    cut = {"precision", "recall", "f_measure", "num_results", "beam_width"}
    for number, record in enumerate(told, 1):
        assert record["iteration"] == number
        assert set(record["validation"]) == cut | {"users"}
        assert record["loss"] == pytest.approx(
            sum(record["level_losses"]), abs=1e-4
        )
        assert min(record["seconds_model"], record["seconds_tree"]) >= 0
        assert f"iteration {number}" in joint.format_record(record)
    assert metrics["test"]["users"] == len(data.split_users("test"))
    assert list(folder.tensorboard.iterdir())


def test_trees_and_moves_agree(data, finished):
    folder, _, told = finished
    first, second = (tree_lib.Tree.load(folder.tree(i)) for i in (0, 1))
    assert first.num_items == second.num_items == data.num_items
    assert told[0]["moved_items"] == first.moved_items(second) > 0
    # After the last model step no tree is learned that nobody would use.
    assert told[1]["moved_items"] == 0
    assert not folder.tree(2).exists()


def test_a_record_measures_the_tree_it_trained_on(data, finished):
    folder, _, told = finished
    examples = splits.examples(data)
    for record in told:
        tree = tree_lib.Tree.load(folder.tree(record["iteration"] - 1))
        want = tree_statistics.measures(
            tree, examples.starts, examples.target_items()
        )
        assert record["tree"] == want
        assert len(want["information"]) == len(record["level_losses"])
    assert told[0]["tree"] != told[1]["tree"], "there was a tree step"
    tags = collections.Counter(
        value.tag
        for path in folder.tensorboard.iterdir()
        for event in event_file_loader.EventFileLoader(str(path)).Load()
        for value in event.summary.value
    )
    for name in tree_statistics.MEASURES:
        for level in range(1, 1 + tree.max_level):
            assert tags[f"tree_{name}_by_level/{level:02d}"] == len(told)


def test_the_best_model_is_the_one_that_was_judged(data, finished):
    folder, metrics, told = finished
    recalls = [record["validation"]["recall"] for record in told]
    assert metrics["best_iteration"] == 1 + int(np.argmax(recalls))
    model = keras.saving.load_model(folder.model)
    for split, want in (
        ("validation", told[metrics["best_iteration"] - 1]["validation"]),
        ("test", metrics["test"]),
    ):
        users = splits.held_out_users(data, split, model.max_history)
        got = judging.judge_model(model, users, num_results=5, beam_width=8)
        assert got == want


def test_the_best_model_is_tested_though_training_went_on(
    data, tmp_path, monkeypatch
):
    followed, calls = diagnosis.followed, []

    def ever_worse(*args, **kwargs):
        items, recall = followed(*args, **kwargs)
        calls.append(items)
        return items * (len(calls) == 1), recall  # PAD from then on

    monkeypatch.setattr(diagnosis, "followed", ever_worse)
    metrics = joint.run(runs.TINY, data, tmp_path / "run")
    monkeypatch.undo()
    assert metrics["best_iteration"] == 1
    best = saving.load(run_folder.RunFolder(tmp_path / "run").model)
    users = splits.held_out_users(data, "test", best.max_history)
    for cut in metrics["cuts"]:
        found = {key: cut[key] for key in ("num_results", "beam_width")}
        assert judging.judge_model(best, users, **found) == cut


def test_a_finished_run_is_left_alone(data, finished):
    folder, metrics, told = finished
    before = {p: p.stat().st_mtime_ns for p in folder.path.rglob("*")}
    again = []
    options = settings.RunOptions(on_record=again.append)
    assert joint.run(runs.TINY, data, folder.path, options) == metrics
    assert again == told
    assert before == {p: p.stat().st_mtime_ns for p in folder.path.rglob("*")}


def test_another_run_is_refused(data, finished):
    other = dataclasses.replace(runs.TINY, seed=1)
    with pytest.raises(ValueError, match="config.seed: 0 there, 1 asked"):
        joint.run(other, data, finished[0].path)


def test_eq_2_after_each_half_step(tmp_path_factory):
    _, run_dir = runs.shared(tmp_path_factory)
    metrics = run_folder.RunFolder(run_dir).read_metrics()
    first, last = (r["half_steps"] for r in metrics["iterations"])
    for losses in (*first.values(), *last.values()):
        assert set(losses) == {"train", "validation"}
        assert min(losses.values()) > 0
    # Both half-steps lower it; after the last model step nothing moves.
    assert first["tree_step"]["train"] < first["model_step"]["train"]
    assert last["model_step"]["train"] < first["tree_step"]["train"]
    assert last["tree_step"] == last["model_step"]


@pytest.mark.parametrize(
    "method", ["tdm", pytest.param("jtm_h", marks=pytest.mark.slow)]
)
def test_other_methods_leave_the_tree_alone(data, method, tmp_path):
    config = dataclasses.replace(runs.TINY, method=method)
    metrics = joint.run(config, data, tmp_path / method)
    assert [r["moved_items"] for r in metrics["iterations"]] == [0, 0]
    trees = run_folder.RunFolder(tmp_path / method).tree(0).parent
    assert len(list(trees.iterdir())) == 1


@pytest.mark.parametrize(
    "change, message",
    [
        ({"method": "svd"}, "method must be one of .* got 'svd'"),
        ({"initial_tree": "best"}, r"'random'\] or a file \*.npz; got 'best'"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"joint_iterations": 0}, "joint_iterations must be >= 1; got 0"),
        ({"epochs_per_iteration": 0}, "epochs_per_iteration must be >= 1"),
        ({"tree_steps": -1}, "tree_steps must be >= 0; got -1"),
        ({"branching": 1}, "branching must be >= 2; got 1"),
        ({"beam_width": 0}, "beam_width must be >= 1; got 0"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(runs.TINY, **change)


def test_a_refused_run_leaves_its_folder_free(data, tmp_path):
    bare = dataclasses.replace(data, items=data.items.drop(["category"]))
    by_category = dataclasses.replace(runs.TINY, initial_tree="category")
    few_negatives = dataclasses.replace(
        runs.TINY,
        training=dataclasses.replace(runs.TINY.training, negatives=(1, 2)),
    )
    for config, source, message in (
        (
            dataclasses.replace(runs.TINY, cuts=((20, 1),)),
            data,
            "num_results=20",
        ),
        (by_category, bare, "initial_tree=factors"),
        (few_negatives, data, "levels below its root: give one total or"),
    ):
        with pytest.raises(ValueError, match=message):
            joint.run(config, source, tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_data_without_categories(data, tmp_path):
    bare = dataclasses.replace(data, items=data.items.drop(["category"]))
    by_category = dataclasses.replace(runs.TINY, initial_tree="category")
    folder = run_folder.RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="use initial_tree=factors"):
        joint.run(by_category, bare, folder.path)
    # By itself it begins with what factors tell, else with categories.
    trees = {
        (first, source is bare): inputs.take(
            dataclasses.replace(runs.TINY, initial_tree=first), source, folder
        ).first_tree.pi.tolist()
        for first, source in (
            ("auto", bare),
            ("auto", data),
            ("factors", bare),
            ("category", data),
        )
    }
    assert trees["auto", True] == trees["factors", True]
    assert trees["auto", False] == trees["category", False]


def test_a_run_starts_from_a_saved_tree(data, finished, tmp_path):
    """That of another run, with levels to spare too."""
    learned = finished[0].tree(1)
    deep = tmp_path / "deep.npz"
    tree = tree_lib.Tree.load(learned)
    first, below = (
        tree_lib.first_code(level, tree.branching)
        for level in (tree.max_level, tree.max_level + 1)
    )
    # Every item is a first child.
    spread = np.append(0, below + tree.branching * (tree.pi[1:] - first))
    tree_lib.Tree(spread, tree.max_level + 1, tree.branching).save(deep)
    for path in (learned, deep):
        config = dataclasses.replace(
            runs.TINY,
            method="jtm_h",
            initial_tree=str(path),
            joint_iterations=1,
        )
        out_dir = tmp_path / path.stem
        metrics = joint.run(config, data, out_dir)
        folder = run_folder.RunFolder(out_dir)
        want = tree_lib.Tree.load(path)
        for found in (
            tree_lib.Tree.load(folder.tree(0)),
            saving.load(folder.model).tree,
        ):
            np.testing.assert_array_equal(found.pi, want.pi)
            assert found.max_level == want.max_level
        (first,) = metrics["iterations"]
        assert len(first["tree"]["entropy"]) == want.max_level
    assert metrics == joint.run(config, data, out_dir)


def test_a_tree_of_other_items_is_refused(data, finished, tmp_path):
    fewer, missing = tmp_path / "fewer.npz", tmp_path / "missing.npz"
    initial.random(49).save(fewer)
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK")
    learned = finished[0].tree(1)
    for change, error, message in (
        ({"initial_tree": str(fewer)}, ValueError, r"\(49, 2\); the run has"),
        ({"initial_tree": str(broken)}, ValueError, "holds no valid tree"),
        ({"initial_tree": str(missing)}, FileNotFoundError, "missing.npz"),
        (
            {"initial_tree": str(learned), "branching": 3},
            ValueError,
            r"\(50, 4\); the run has \(50, 3\)",
        ),
    ):
        config = dataclasses.replace(runs.TINY, **change)
        with pytest.raises(error, match=message):
            joint.run(config, data, tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("first", ["random", "factors"])
def test_a_random_start_knows_nothing_of_a_planted_world(data, first, tmp_path):
    """Though the world was drawn from the same seed."""
    bare = dataclasses.replace(data, items=data.items.drop(["category"]))
    config = dataclasses.replace(runs.TINY, seed=0, initial_tree=first)
    hidden = worlds.draw(seed=0).true_tree
    assert np.all(initial.random(50, seed=0).pi == hidden.pi)
    folder = run_folder.RunFolder(tmp_path / "run")
    taken = inputs.take(config, bare, folder)
    moved = taken.first_tree.moved_items(hidden)
    assert moved > 40


def test_settings_that_do_less_than_they_look_are_told(
    data, tmp_path, caplog, monkeypatch
):
    folder = run_folder.RunFolder(tmp_path / "run")

    def told(**changes):
        caplog.clear()
        training = dataclasses.replace(runs.DEFAULT.training, **changes)
        config = dataclasses.replace(
            runs.DEFAULT, cuts=((4, 8),), training=training
        )
        inputs.take(config, data, folder)
        return caplog.text

    assert not told(train_beam=4, targets=5)
    assert "train_beam=3 is below the fewest results that are judged, 4" in (
        told(train_beam=3)
    )
    assert "targets=1000 is more than any training user has rows" in (
        told(train_beam=4, targets=1000)
    )
    monkeypatch.setattr(tf.config, "functions_run_eagerly", lambda: True)
    assert "run_functions_eagerly(False)" in told(train_beam=4)
    assert not folder.path.exists()


def test_coarser_categories(data):
    paths = data.categories()
    coarse = inputs.categories(
        dataclasses.replace(runs.TINY, category_parts=1), data
    )
    assert [path.split("|")[0] for path in paths] == list(coarse)
    assert list(inputs.categories(runs.TINY, data)) == list(paths)
    with pytest.raises(ValueError, match="category_parts must be >= 1"):
        dataclasses.replace(runs.TINY, category_parts=0)


def first_round(config, data, path):
    """Returns the folder of a run, broken off behind its first round."""

    def stop(record):
        raise StopIteration

    with pytest.raises(StopIteration):
        joint.run(config, data, path, settings.RunOptions(on_record=stop))
    return run_folder.RunFolder(path)


def test_a_tree_step_lowers_eq_2_or_is_taken_back(data, tmp_path, monkeypatch):
    """A learner that mixes the items, less so the larger the margin."""
    asked = []

    def mix(config, model, *_, **__):
        asked.append(config.tree_learning.margin)
        tree = model.tree
        if asked[-1] >= helps:
            return tree
        return initial.random(
            tree.num_items, branching=tree.branching, seed=len(asked)
        )

    monkeypatch.setattr(tree_step, "next_tree", mix)
    config = dataclasses.replace(runs.TINY, tree_tries=3)
    with pytest.raises(ValueError, match="tree_tries must be >= 0"):
        dataclasses.replace(config, tree_tries=-1)
    for helps, margins in ((0.4, [0, 0.1, 0.4]), (9, [0, 0.1, 0.4])):
        asked.clear()
        folder = first_round(config, data, tmp_path / str(helps))
        (first,) = folder.read_metrics()["iterations"]
        assert asked == pytest.approx(margins)
        found = first["tree_step"]
        assert found["after"] == pytest.approx(found["before"], abs=1e-4)
        assert found["margin"] == (pytest.approx(0.4) if helps < 9 else None)
        assert first["moved_items"] == 0
        trees = [tree_lib.Tree.load(folder.tree(i)).pi for i in (0, 1)]
        np.testing.assert_array_equal(*trees)


def test_a_tree_step_begins_where_eq_2_is_lowest(data, tmp_path, monkeypatch):
    """From pi and from clusters; theta and pi are as before in between."""
    seen = []

    def learn(config, model, *_, **__):
        del config
        seen.append((model.tree.pi.copy(), model.embedding.numpy()))
        return model.tree

    def loss(trainer, *args, **kwargs):
        del args, kwargs
        new = seen and np.any(trainer.model.tree.pi != seen[0][0])
        return of_clusters if new else 2.0

    monkeypatch.setattr(tree_step, "next_tree", learn)
    monkeypatch.setattr(model_step.Trainer, "measure", loss)
    config = dataclasses.replace(runs.TINY, tree_tries=1, clusters_first="auto")
    for of_clusters, start in ((2.0, "pi"), (1.0, "clusters"), (3.0, "pi")):
        seen.clear()
        folder = first_round(config, data, tmp_path / str(of_clusters))
        (old, theta), (clusters, moved) = seen
        assert np.any(old != clusters)
        np.testing.assert_array_equal(np.sort(old), np.sort(clusters))
        # Leaves carry their vectors; inner nodes are worth what is below.
        np.testing.assert_array_equal(theta[old], moved[clusters])
        top = tree_lib.Tree.load(folder.tree(0)).replace_pi(clusters)
        for node in top.occupied(1):
            below = moved[clusters[top.ancestors(1) == node]]
            np.testing.assert_allclose(moved[node], below.mean(0), atol=1e-5)
        (first,) = folder.read_metrics()["iterations"]
        assert first["tree_step"]["start"] == start
        now = tree_lib.Tree.load(folder.tree(1)).pi
        np.testing.assert_array_equal(now, seen[start == "clusters"][0])


def test_clusters_end_a_tree_step(data, tmp_path, monkeypatch):
    """Below the level that Algorithm 2 comes to, of the vectors of all users;
    a margin keeps what is below a node of the same items.
    """
    asked, cluster = [], clustering.cluster

    def spied(tree, vectors, *, level, **kwargs):
        # In one piece: vectors lie in the order of the leaves.
        got = cluster(tree, vectors, level=level, **kwargs)
        asked.append((tree, vectors, level, got))
        return got

    monkeypatch.setattr(clustering, "cluster", spied)
    trees = {}
    for margin in (0.0, 1e6):
        asked.clear()
        config = dataclasses.replace(
            runs.DEFAULT,
            tree_tries=0,
            clusters_first="no",
            tree_learning=dataclasses.replace(
                runs.DEFAULT.tree_learning, cluster_below=100, margin=margin
            ),
        )
        folder = first_round(config, data, tmp_path / str(margin))
        first, trees[margin] = (
            tree_lib.Tree.load(folder.tree(i)) for i in (0, 1)
        )
        ((before, vectors, level, got),) = asked
        assert 0 < level < first.max_level
        np.testing.assert_array_equal(
            got.ancestors(level), before.ancestors(level)
        )
        assert got.moved_items(before) > 0
        # What the best model has, which begins from all: it was saved before.
        table = saving.load(folder.model).embedding.numpy()
        np.testing.assert_allclose(
            *(np.sort(x, axis=0) for x in (vectors[1:], table[first.pi[1:]])),
            atol=1e-6,
        )
        np.testing.assert_array_equal(
            np.sort(first.pi), np.sort(trees[margin].pi)
        )
    assert trees[0.0].moved_items(first) > 0
    assert trees[1e6].moved_items(first) == 0


@pytest.mark.slow
def test_joint_training_beats_the_tree_left_alone(tmp_path, seed=0):
    """From a random tree only Algorithm 2 can bring alike items together."""
    shape = {"users": 400, "items": 128, "rows": 20, "seed": seed}
    data = interactions.load(worlds.prepare(tmp_path, **shape))
    config = dataclasses.replace(
        settings.from_flat(**settings.AS_PUBLISHED),
        seed=seed,
        initial_tree="random",
        joint_iterations=3,
        epochs_per_iteration=1,
        embedding_dim=8,
        windows=(10, 5, 2, 1, 1),
        hidden=(32, 16),
        num_results=8,
        beam_width=4,
        training=settings.TrainingConfig(
            batch_size=256, learning_rate=5e-3, negatives=28, row_rate=5.0
        ),
        tree_learning=tree_learning.TreeLearningConfig(gap=2),
    )
    recall = {}
    for method in ("jtm", "jtm_h"):
        metrics = joint.run(
            dataclasses.replace(config, method=method), data, tmp_path / method
        )
        recall[method] = metrics["test"]["recall"]
    assert recall["jtm"] > 1.1 * recall["jtm_h"]
    hidden = worlds.draw(**shape).true_tree
    folder = run_folder.RunFolder(tmp_path / "jtm")
    before, after = (
        planted_world.shared_pairs(
            tree_lib.Tree.load(folder.tree(iteration)), hidden, level=5
        )
        for iteration in (0, 2)
    )
    assert after > 4 * before
