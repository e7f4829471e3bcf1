"""A model in a file, with the tree that it was trained on.

For ten million items, whose table of nodes is 3 GiB. The optimiser stays out:
a run goes on from its checkpoint, and the slots of Adam are 6 GiB that nobody
would read. Weights go through a file of their own, beside the model's: Keras's
archive, written and read by itself, would hold them twice more in memory.
"""

import contextlib
import json
import pathlib
import shutil
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import keras
import numpy as np

from jtm_tf import files
from jtm_tf.models import hsm
from jtm_tf.models import tree_model

# What a saved model may be. Keras knows a class by name once it is imported.
MODELS = (tree_model.TreeModel, hsm.HSM)

# As Keras names them.
_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_TABLE = "embedding/vars/0"
_BLOCK_BYTES = 1 << 20

# What reading an archive may raise that is none, or is broken.
_DAMAGED = (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile)


def save(model: tree_model.TreeModel, path: files.Path) -> None:
    """Writes a model with its tree, whole or not at all.

    The file is one that `keras.saving.load_model` reads.
    """
    path = pathlib.Path(path)
    config = _to_read(model)
    metadata = {"keras_version": keras.version()}
    with (
        files.replacing(path) as temporary,
        files.scratch(path.with_name(_WEIGHTS)) as weights,
    ):
        _write_weights(model, weights)
        with zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr("metadata.json", json.dumps(metadata))
            archive.writestr(_CONFIG, json.dumps(config))
            archive.write(weights, _WEIGHTS)


def config_of(model: tree_model.TreeModel) -> dict[str, Any]:
    """Returns what a model is, but for its weights, as JSON values."""
    return keras.saving.serialize_keras_object(model)


def from_config(config: dict[str, Any]) -> tree_model.TreeModel:
    """Returns a new model of a `config_of`."""
    return keras.saving.deserialize_keras_object(config)


def load(path: files.Path, *, mapped: bool = False) -> tree_model.TreeModel:
    """Reads a model with its tree.

    Args:
        path: of what `save` wrote.
        mapped: leaves the vectors of nodes in a file, as `load_unpacked` does:
            a copy of `path`'s, which goes with the process.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    return _read(path, _from_mapped if mapped else from_config)


def unpack(model: tree_model.TreeModel, folder: files.Path) -> None:
    """Writes a model with its tree into a folder, for `load_unpacked`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with files.replacing(folder / _WEIGHTS) as weights:
        _write_weights(model, weights)
    files.write_json(folder / _CONFIG, _to_read(model))


def load_unpacked(folder: files.Path) -> tree_model.TreeModel:
    """Reads a model whose vectors of nodes stay in the file, by rows.

    However many processes of a machine load it, its memory has them once. The
    model is to be read: it has no vectors to train.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    folder = pathlib.Path(folder)
    with _blamed_on(folder, OSError):
        model = _from_mapped(files.read_json(folder / _CONFIG))
        _read_weights(model, folder / _WEIGHTS)
    return model


def _to_read(model):
    """Returns the configuration of a model that is not to be trained."""
    return {**config_of(model), "compile_config": None}


def _from_mapped(config):
    """Returns a new model whose vectors of nodes will stay in a file."""
    inner = {**config["config"], "table_shards": 0}
    return from_config({**config, "config": inner})


def restore(model: tree_model.TreeModel, path: files.Path) -> None:
    """Gives a model the weights and the tree of one that was saved.

    Of ten million items, 24 GiB do not hold a second model beside one that
    has been trained.

    Raises:
        ValueError: there is none, it is damaged, or of another shape.
    """
    _read(path, lambda config: model)


def _write_weights(model, path):
    """Writes a model's weights, as Keras does; the table block by block."""
    table = model.embedding
    with _without_optimizer(model), table.apart():
        model.save_weights(path)
    with h5py.File(path, "a") as weights:
        table.write(
            weights.create_dataset(
                _TABLE, (table.num_codes, table.dim), np.float32
            )
        )


def _read_weights(model, path):
    """Reads what `_write_weights`, or Keras, wrote."""
    table = model.embedding
    with _without_optimizer(model), table.apart():
        model.load_weights(path)
    with h5py.File(path) as weights:
        if table.shards:
            table.read(weights[_TABLE])
            return
        place = _place_of(weights[_TABLE])
    table.read(np.memmap(path, np.float32, mode="r", **place))


def _place_of(table):
    """Returns where the numbers of a data set lie in its file."""
    start, shape, dtype = table.id.get_offset(), table.shape, table.dtype
    if start is None or dtype != np.float32:
        raise ValueError(
            "expected the vectors of nodes one after the other, as float32; "
            f"got {dtype}" + (", in pieces" if start is None else "")
        )
    return {"offset": start, "shape": shape}


def _read(
    path: files.Path, make: Callable[[dict[str, Any]], tree_model.TreeModel]
) -> tree_model.TreeModel:
    """Returns the model that `make` makes of a configuration, restored."""
    path = pathlib.Path(path)
    with _blamed_on(path, OSError):
        archive = zipfile.ZipFile(path)
    with archive, files.scratch(path.with_name(_WEIGHTS)) as weights:
        with _blamed_on(path):
            config = json.loads(archive.read(_CONFIG))
            with archive.open(_WEIGHTS) as saved, open(weights, "wb") as copy:
                shutil.copyfileobj(saved, copy, _BLOCK_BYTES)
        with _blamed_on(path, OSError):
            # Of a compiled model, which would build its optimiser too.
            model = make({**config, "compile_config": None})
            # Who maps the file keeps it, though it has no name any more.
            _read_weights(model, weights)
    return model


@contextlib.contextmanager
def _blamed_on(path, *more):
    """Turns what a damaged file may raise into an error that says so."""
    try:
        yield
    except (*_DAMAGED, *more) as error:
        raise ValueError(
            f"{path} is missing or damaged: {str(error).rstrip('.')}. Train "
            "again, into another folder."
        ) from error


@contextlib.contextmanager
def _without_optimizer(model):
    """Hides a model's optimiser from Keras."""
    optimizer = getattr(model, "optimizer", None)
    model.optimizer = None
    try:
        yield
    finally:
        model.optimizer = optimizer
