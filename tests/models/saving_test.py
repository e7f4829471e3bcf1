"""A model in a file: the network and its tree, and nothing else."""

import zipfile

import h5py
import keras
import numpy as np
import pytest

from jtm_tf.learning import optimizer as optimizer_lib
from jtm_tf.models import attention
from jtm_tf.models import embedding
from jtm_tf.models import frozen
from jtm_tf.models import log_prob
from jtm_tf.models import rows as rows_lib
from jtm_tf.models import saving
from jtm_tf.models import scorers
from jtm_tf.models import user_representation
from jtm_tf.models import visits
from tests.support import served_models


def test_what_is_saved_and_what_is_not(tmp_path):
    model = served_models.untrained()
    saving.save(model, tmp_path / "without.keras")
    optimizer = optimizer_lib.RowSparseAdam(1e-3)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer)
    saving.save(model, tmp_path / "with.keras")
    assert model.optimizer is optimizer
    model.save(tmp_path / "by_keras.keras")  # as runs once were
    for load, name in (
        (saving.load, "with.keras"),
        (keras.saving.load_model, "with.keras"),
        (saving.load, "by_keras.keras"),
    ):
        copy = load(tmp_path / name)
        assert getattr(copy, "optimizer", None) is None
        assert_equal(copy, model)
    assert len(list(tmp_path.iterdir())) == 3
    sizes = [
        (tmp_path / name).stat().st_size
        for name in ("without.keras", "with.keras")
    ]
    assert sizes[0] == sizes[1]


def assert_equal(model, other):
    np.testing.assert_array_equal(model.tree.pi, other.tree.pi)
    for mine, theirs in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_another_model_becomes_the_saved_one(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_lib, "_BLOCK_ROWS", 7)
    model, other = served_models.untrained(), served_models.untrained(seed=1)
    saving.save(model, tmp_path / "best.keras")
    saving.restore(other, tmp_path / "best.keras")
    assert_equal(other, model)
    larger = served_models.untrained(branching=3)
    with pytest.raises(ValueError, match="best.keras is missing or damaged"):
        saving.restore(larger, tmp_path / "best.keras")


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
    model, path = served_models.untrained(), tmp_path / "best.keras"
    saving.save(model, path)
    before = path.read_bytes()
    model.optimizer = optimizer = optimizer_lib.RowSparseAdam(1e-3)

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


def test_no_room_is_not_a_damaged_model(tmp_path, monkeypatch):
    saving.save(served_models.untrained(), tmp_path / "best.keras")

    def fail(saved, copy, length):
        copy.write(saved.read(length)[:10])
        raise OSError("no space")

    monkeypatch.setattr(saving.shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="no space"):
        saving.load(tmp_path / "best.keras")
    assert len(list(tmp_path.iterdir())) == 1


def scores(model):
    """Returns what a model says of some users and nodes."""
    rng = np.random.default_rng(0)
    users = rng.integers(1, model.num_items + 1, (5, model.user_width))
    nodes = np.tile(model.tree.occupied(3), (5, 1))
    weigh = log_prob.LogProb(model)
    return weigh(weigh.describe(users, [3]), nodes, 3)


@pytest.mark.parametrize("unpacked", [True, False])
def test_vectors_may_stay_in_their_file(unpacked, tmp_path):
    """Scores, what is served and what is saved again are the same."""
    model = served_models.untrained()
    if unpacked:
        saving.unpack(model, tmp_path / "open")
        mapped = saving.load_unpacked(tmp_path / "open")
    else:
        saving.save(model, tmp_path / "best.keras")
        mapped = saving.load(tmp_path / "best.keras", mapped=True)
        assert len(list(tmp_path.iterdir())) == 1
    table = mapped.embedding.numpy()
    assert isinstance(table, np.memmap)
    np.testing.assert_array_equal(table, model.embedding.numpy())
    np.testing.assert_allclose(scores(mapped), scores(model), rtol=1e-5)
    np.testing.assert_array_equal(
        frozen.FrozenModel(mapped).embedding.items,
        frozen.FrozenModel(model).embedding.items,
    )
    with pytest.raises(ValueError, match="cannot be changed there"):
        mapped.embedding.assign(table)


def test_nobody_holds_the_table_once_more(tmp_path, monkeypatch):
    """It is written and read some rows at a time."""
    model = served_models.untrained()
    table = model.embedding.numpy()
    monkeypatch.setattr(rows_lib, "_BLOCK_ROWS", 7)
    with monkeypatch.context() as patched:
        patched.setattr(embedding.NodeEmbedding, "numpy", None)
        saving.save(model, tmp_path / "best.keras")
        read = saving.load(tmp_path / "best.keras")
        saving.unpack(read, tmp_path / "open")
    again = saving.load_unpacked(tmp_path / "open")
    np.testing.assert_array_equal(again.embedding.numpy(), table)
    by_keras = keras.saving.load_model(tmp_path / "best.keras")
    np.testing.assert_array_equal(by_keras.embedding.numpy(), table)


def test_an_unpacked_model_that_is_damaged(tmp_path):
    with pytest.raises(ValueError, match="is missing or damaged"):
        saving.load_unpacked(tmp_path / "nothing")
    model = served_models.untrained()
    saving.unpack(model, tmp_path)
    with h5py.File(tmp_path / "model.weights.h5", "a") as weights:
        table = weights["embedding/vars/0"][:]
        del weights["embedding/vars/0"]
        weights.create_dataset("embedding/vars/0", data=table, chunks=True)
    with pytest.raises(ValueError, match="expected the vectors .* in pieces"):
        saving.load_unpacked(tmp_path)
    with h5py.File(tmp_path / "model.weights.h5", "a") as weights:
        del weights["embedding/vars/0"]
        weights["embedding/vars/0"] = table[1:]
    with pytest.raises(ValueError, match="Expected one table of shape"):
        saving.load_unpacked(tmp_path)


def test_half_a_model(tmp_path):
    path = tmp_path / "best.keras"
    saving.save(served_models.untrained(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="missing or damaged"):
        saving.load(path)
    assert not zipfile.is_zipfile(path)


@pytest.mark.parametrize(
    "layer",
    [
        embedding.NodeEmbedding(9, 4, stddev=0.5),
        user_representation.UserRepresentation((3, 1)),
        user_representation.UserSequence(),
        visits.Visits((3, 1)),
        user_representation.Profile((3, 4)),
        scorers.NodeScorer(6, 3, (5, 4), 2, 1),
        attention.AttentionScorer((3, 1), 3, (5, 4), 2, 1, unit=4),
        scorers.ProductScorer(6, 3, (5, 4)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
