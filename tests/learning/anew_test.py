"""Tests of `rounds_anew`: a model begins anew from the learned tree."""

import dataclasses

import numpy as np
import pytest

from jtm_tf.data import interactions
from jtm_tf.learning import joint
from jtm_tf.learning import settings
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import trained
from jtm_tf.tree import tree as tree_lib
from tests.support import runs

ANEW = dataclasses.replace(runs.TINY, rounds_anew=2)


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
    return interactions.load(runs.shared(tmp_path_factory)[0])


@pytest.fixture(name="whole", scope="module")
def _whole(data, tmp_path_factory):
    """The folder of a run with two rounds anew."""
    folder = tmp_path_factory.mktemp("anew") / "run"
    joint.run(ANEW, data, folder)
    return run_folder.RunFolder(folder)


def told(record):
    """Returns what of a record is no matter of time, nor of tree steps."""
    return {name: record[name] for name in ("loss", "validation", "tree")}


@pytest.mark.slow
def test_it_is_a_run_from_the_learned_tree(data, whole, tmp_path):
    metrics = whole.read_metrics()
    records = metrics["iterations"]
    assert [x["iteration"] for x in records] == [1, 2, 3, 4]
    # The last round before has a tree step too, since its tree is used.
    assert [x["moved_items"] > 0 for x in records] == [True, True, False, False]
    last = whole.tree(2)
    assert last.exists() and not whole.tree(3).exists()
    other = dataclasses.replace(
        runs.TINY, method="jtm_h", initial_tree=str(last)
    )
    want = joint.run(other, data, tmp_path / "other")["iterations"]
    for mine, theirs in zip(records[2:], want, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert mine["tree"] == theirs["tree"]
        assert mine["validation"]["recall"] == pytest.approx(
            theirs["validation"]["recall"], abs=0.02
        )
    best = trained.load(whole.path, data.folder).model
    recalls = [x["validation"]["recall"] for x in records]
    assert metrics["best_iteration"] == 1 + int(np.argmax(recalls))
    trees = [tree_lib.Tree.load(whole.tree(i)) for i in range(3)]
    of_best = trees[min(metrics["best_iteration"] - 1, 2)]
    np.testing.assert_array_equal(best.tree.pi, of_best.pi)


@pytest.mark.slow
def test_killed_before_and_behind_the_beginning(data, whole, tmp_path):
    def until(last):
        def die(record):
            if record["iteration"] == last:
                raise runs.Killed

        return settings.RunOptions(on_record=die, checkpoint_seconds=0)

    for last in (2, 3):
        with pytest.raises(runs.Killed):
            joint.run(ANEW, data, tmp_path / "run", until(last))
    found = joint.run(ANEW, data, tmp_path / "run")
    want = whole.read_metrics()
    assert list(map(told, found["iterations"])) == (
        list(map(told, want["iterations"]))
    )
    assert found["test"] == want["test"]


@pytest.mark.slow
def test_what_continues_another_run_begins_anew_without_it(
    data, tmp_path, tmp_path_factory
):
    """The rate falls from its beginning again, after a kill too."""
    config = dataclasses.replace(
        ANEW,
        joint_iterations=1,
        continue_from=str(runs.shared(tmp_path_factory)[1]),
        training=dataclasses.replace(ANEW.training, final_rate=0.05),
    )

    def die(record):
        if record["iteration"] == 2:
            raise runs.Killed

    def run(name, on_record=lambda record: None):
        options = settings.RunOptions(
            data_dir=str(data.folder), on_record=on_record
        )
        return joint.run(config, data, tmp_path / name, options)

    want = run("whole")
    with pytest.raises(runs.Killed):
        run("killed", die)
    assert list(map(told, run("killed")["iterations"])) == (
        list(map(told, want["iterations"]))
    )


def test_what_learns_no_tree_has_none():
    with pytest.raises(ValueError, match="jtm_h learns none"):
        dataclasses.replace(ANEW, method="jtm_h")
    with pytest.raises(ValueError, match="rounds_anew must be >= 0"):
        dataclasses.replace(ANEW, rounds_anew=-1)
