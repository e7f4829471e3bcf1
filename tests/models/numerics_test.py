"""A model is of float32, whatever the process or the machine is set to."""

import dataclasses
import os
import subprocess
import sys

import keras
import pytest

from jtm_tf.data import interactions
from jtm_tf.learning import joint
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder
from tests.support import runs
from tests.support import shell


@pytest.fixture(name="policy")
def _policy():
    """Sets what the process computes in, and afterwards what it was."""
    before = keras.config.dtype_policy(), keras.config.floatx()

    def choose(policy, floatx):
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)

    yield choose
    choose(*before)


@pytest.mark.parametrize("name, floatx", [("mixed_float16", "float64")])
def test_a_run_is_the_same_under_any_policy(
    policy, name, floatx, tmp_path_factory, tmp_path
):
    data_dir, usual = runs.shared(tmp_path_factory)
    wanted = run_folder.RunFolder(usual).read_metrics()["iterations"][0]
    policy(name, floatx)
    found = joint.run(
        dataclasses.replace(runs.TINY, joint_iterations=1),
        interactions.load(data_dir),
        tmp_path,
    )
    # Kernels differ with what else runs, so to some digits.
    assert found["iterations"][0]["loss"] == pytest.approx(
        wanted["loss"], rel=1e-3
    )
    model = saving.load(run_folder.RunFolder(tmp_path).model)
    kinds = {weight.dtype for weight in model.trainable_weights}
    assert (
        kinds == {"float32"} == {layer.compute_dtype for layer in all_of(model)}
    )


def all_of(model):
    """Returns a model's layers, those inside of layers too."""
    return [
        layer
        for layer in model._flatten_layers()
        if not isinstance(layer, keras.metrics.Metric)
    ]


@pytest.mark.parametrize("where", ["environment", "keras.json"])
@pytest.mark.parametrize("package", ["experiments.train", "export.serve"])
def test_another_backend_is_told_in_a_line(where, package, tmp_path):
    env = {**os.environ, "KERAS_HOME": str(tmp_path)}
    env.pop("KERAS_BACKEND", None)
    if where == "environment":
        env["KERAS_BACKEND"] = "jax"
    else:
        path = tmp_path / "keras.json"
        path.write_text('{"backend": "jax", "floatx": "float32"}')
    ended = subprocess.run(
        [sys.executable, "-m", package],
        cwd=shell.ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1 and "says 'jax'" in ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
