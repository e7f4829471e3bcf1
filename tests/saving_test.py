"""A model in a file: the network and its tree, and nothing else."""

import zipfile

import keras
import numpy as np
import pytest

from jtm_tf import optimizers
from jtm_tf.models import saving
from tests import served_models


def test_what_is_saved_and_what_is_not(tmp_path):
    model = served_models.untrained()
    saving.save(model, tmp_path / "without.keras")
    optimizer = optimizers.RowSparseAdam(1e-3)
    optimizer.build(model.trainable_variables)
    model.optimizer = optimizer
    saving.save(model, tmp_path / "with.keras")
    assert model.optimizer is optimizer
    for load in (saving.load, keras.saving.load_model):
        copy = load(tmp_path / "with.keras")
        np.testing.assert_array_equal(copy.tree.pi, model.tree.pi)
        for mine, theirs in zip(model.variables, copy.variables, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    sizes = [
        (tmp_path / name).stat().st_size
        for name in ("without.keras", "with.keras")
    ]
    assert sizes[0] == sizes[1]


def test_another_model_becomes_the_saved_one(tmp_path):
    model, other = served_models.untrained(), served_models.untrained(seed=1)
    saving.save(model, tmp_path / "best.keras")
    saving.restore(other, tmp_path / "best.keras")
    for mine, theirs in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    larger = served_models.untrained(branching=3)
    with pytest.raises(ValueError, match="best.keras is missing or damaged"):
        saving.restore(larger, tmp_path / "best.keras")


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
    model, path = served_models.untrained(), tmp_path / "best.keras"
    saving.save(model, path)
    before = path.read_bytes()
    model.optimizer = optimizer = optimizers.RowSparseAdam(1e-3)

    def fail(archive, weights, name):
        archive.writestr(name, weights.read_bytes()[:100])
        raise OSError("no space")

    monkeypatch.setattr(zipfile.ZipFile, "write", fail)
    with pytest.raises(OSError, match="no space"):
        saving.save(model, path)
    assert model.optimizer is optimizer
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, b"", b"PK", b"not a model"])
def test_no_model(tmp_path, content):
    path = tmp_path / "best.keras"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="missing or damaged"):
        saving.load(path)


def test_half_a_model(tmp_path):
    path = tmp_path / "best.keras"
    saving.save(served_models.untrained(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="missing or damaged"):
        saving.load(path)
    assert not zipfile.is_zipfile(path)
