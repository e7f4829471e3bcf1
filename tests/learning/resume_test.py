"""Killed at any moment and started again, a run ends as if undisturbed."""

import json
import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.data import interactions
from jtm_tf.learning import joint
from jtm_tf.learning import settings
from jtm_tf.runs import folder as run_folder
from jtm_tf.tree import tree as tree_lib
from tests.support import clocks
from tests.support import runs
from tests.support import shell


def command(data_dir, out_dir):
    """Returns the program, and flags whose settings are `runs.TINY`."""
    return [
        "experiments.train",
        "--method=jtm",
        "--as_published",
        f"--data_dir={data_dir}",
        f"--out_dir={out_dir}",
        "--joint_iterations=2",
        "--epochs_per_iteration=1",
        "--embedding_dim=4",
        "--windows=3,1",
        "--hidden=8",
        "--negatives=12",
        "--batch_size=64",
        "--learning_rate=3e-3",
        "--branching=4",
        "--gap=2",
        "--num_results=5",
        "--beam_width=8",
        "--cuts=5:4",
        "--checkpoint_seconds=0",
    ]


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(tmp_path_factory):
    """A prepared folder and the folder of an undisturbed run."""
    data_dir, run_dir = runs.shared(tmp_path_factory)
    return data_dir, run_folder.RunFolder(run_dir)


def start_and_kill(arguments, *, reached, delay):
    """Starts a run, kills it `delay` seconds after `reached()` holds."""
    program = shell.Program(*arguments)
    deadline = time.monotonic() + 240
    while not reached():
        assert program.process.is_alive(), program.result()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(delay)
    program.process.kill()
    assert program.result()[0] in (-signal.SIGKILL, 0)


def timeless(metrics):
    """Returns metrics without what clock, checkout or options decide."""
    metrics = {key: metrics[key] for key in metrics if key != "code"}
    metrics["iterations"] = [
        {
            key: value
            for key, value in record.items()
            if not key.startswith("seconds_") and key != "half_steps"
        }
        for record in metrics["iterations"]
    ]
    return metrics


def checkpoints(folder):
    """Returns how many checkpoints were finished."""
    names = folder.checkpoints.glob("ckpt-*.index")
    return max((int(p.stem.rpartition("-")[2]) for p in names), default=0)


@pytest.mark.skipif(sys.platform == "win32", reason="There is no SIGKILL.")
def test_sigkill(undisturbed, tmp_path):
    data_dir, want = undisturbed
    # A name that TensorFlow would take for a pattern.
    folder = run_folder.RunFolder(tmp_path / "run[1]\\b*?")
    arguments = command(data_dir, folder.path)
    rng = np.random.default_rng(0)
    for reached, longest in (
        # Inside the first epoch, which has 15 batches.
        (lambda: checkpoints(folder) > 2, 0.1),
        # About the tree step: judging, saving, solving.
        (folder.model.exists, 0.5),
    ):
        start_and_kill(
            arguments, reached=reached, delay=rng.uniform(0, longest)
        )
    status, stdout, stderr = shell.run(*arguments)
    assert status == 0, stderr
    got = folder.read_metrics()
    assert timeless(got) == timeless(want.read_metrics())
    assert json.loads(stdout.splitlines()[-1]) == got["test"]
    assert folder.read_config()["config"] == want.read_config()["config"]
    for iteration in range(2):
        np.testing.assert_array_equal(
            tree_lib.Tree.load(folder.tree(iteration)).pi,
            tree_lib.Tree.load(want.tree(iteration)).pi,
        )
    assert not list(folder.path.rglob(".*"))
    kept = {
        path.name.partition(".")[0] for path in folder.checkpoints.iterdir()
    }
    assert len(kept - {"checkpoint"}) == 1


@pytest.mark.parametrize(
    "name", ["published", pytest.param("default", marks=pytest.mark.slow)]
)
def test_killed_wherever_the_disk_is_touched(
    name, undisturbed, tmp_path, monkeypatch
):
    """Dies after the first, second, .. touch until a run has no more.

    Of the default, whose graphs take seconds to trace, at two fifths of a
    run's touches, and again as many after that.
    """
    data_dir, want = undisturbed
    data = interactions.load(data_dir)
    config, metrics = runs.TINY, want.read_metrics()
    # Within an epoch too: every so often, or however fast the machine is.
    often = {"published": 0.02, "default": 0}[name]
    options = settings.RunOptions(checkpoint_seconds=often)
    touches, deaths = 0, 0

    def mortal(original):
        def touch(*args, **kwargs):
            nonlocal touches
            result = original(*args, **kwargs)
            touches += 1
            if touches == deaths:
                raise runs.Killed
            return result

        return touch

    for owner, method in (
        (os, "replace"),  # JSON, models and trees
        (tf.train.CheckpointManager, "save"),
    ):
        monkeypatch.setattr(owner, method, mortal(getattr(owner, method)))
    apart = 1
    if name == "default":
        config = runs.DEFAULT
        metrics = joint.run(config, data, tmp_path / "want", options)
        apart = 2 * touches // 5
    finished, killed = None, 0
    while finished is None:
        touches, deaths = 0, deaths + 1 if name == "published" else apart
        try:
            finished = joint.run(config, data, tmp_path / "run", options)
        except runs.Killed:
            killed += 1
            assert killed < 60
    assert killed >= 2, "nothing was killed"
    assert timeless(finished) == timeless(metrics)
    assert not (tmp_path / "run" / "factors.npy").exists()


@pytest.mark.slow
def test_a_run_of_before_there_were_measures_goes_on(
    undisturbed, tmp_path, monkeypatch
):
    """And whatever the wall clock does: only durations are taken."""
    clocks.jumping_back(monkeypatch)
    data_dir, want = undisturbed
    data = interactions.load(data_dir)
    folder = run_folder.RunFolder(tmp_path / "run")

    def die_later(record):
        if record["iteration"] == 2:
            raise runs.Killed

    with pytest.raises(runs.Killed):
        joint.run(
            runs.TINY,
            data,
            folder.path,
            settings.RunOptions(on_record=die_later),
        )
    metrics = folder.read_metrics()
    for record in metrics["iterations"]:
        del record["tree"]
    folder.write_metrics(metrics)
    finished = joint.run(runs.TINY, data, folder.path)
    first, second = finished["iterations"]
    assert "tree" not in first
    assert second["tree"] == want.read_metrics()["iterations"][1]["tree"]
    assert finished["test"] == want.read_metrics()["test"]
    assert min(first["seconds_model"], second["seconds_model"]) >= 0


@pytest.fixture(name="begun", scope="module")
def _begun(undisturbed, tmp_path_factory):
    """The folder of a run that died after its first iteration."""
    data, folder = undisturbed[0], tmp_path_factory.mktemp("begun") / "run"

    def die(record):
        raise runs.Killed

    options = settings.RunOptions(on_record=die)
    with pytest.raises(runs.Killed):
        joint.run(runs.TINY, interactions.load(data), folder, options)
    return folder


@pytest.mark.parametrize("part", ["index", "data", "metrics"])
def test_a_damaged_run_is_named(part, undisturbed, begun, tmp_path):
    data = interactions.load(undisturbed[0])
    out_dir = shutil.copytree(begun, tmp_path / "run")
    path, message = {
        "index": (next(out_dir.glob("checkpoints/*.index")), "is damaged"),
        "data": (next(out_dir.glob("checkpoints/*.data-*")), "is damaged"),
        "metrics": (out_dir / "metrics.json", "metrics.json is not valid"),
    }[part]
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match=message):
        joint.run(runs.TINY, data, out_dir)
