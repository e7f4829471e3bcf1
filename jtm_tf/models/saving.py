"""A model in a file, with the tree that it was trained on.

For ten million items, whose table of nodes is 3 GiB. The optimiser stays out:
a run goes on from its checkpoint, and the slots of Adam are 6 GiB that nobody
would read. Weights go through a file of their own: Keras's archive, written
and read by itself, would hold them twice more in memory.
"""

import contextlib
import json
import pathlib
import tempfile
import zipfile

import keras

from jtm_tf import files
from jtm_tf.models import hsm
from jtm_tf.models import tree_model

_WEIGHTS = "model.weights.h5"  # In the archive that Keras writes.

# What a saved model may be. Keras knows a class by name once it is imported.
MODELS = (tree_model.TreeModel, hsm.HSM)


def save(model: tree_model.TreeModel, path: pathlib.Path) -> None:
    """Writes a model with its tree, whole or not at all.

    The file is one that `keras.saving.load_model` reads.
    """
    config = json.dumps(keras.saving.serialize_keras_object(model))
    metadata = json.dumps({"keras_version": keras.version()})
    with tempfile.TemporaryDirectory() as scratch:
        weights = pathlib.Path(scratch) / _WEIGHTS
        with _without_optimizer(model):
            model.save_weights(weights)
        with files.replacing(path) as temporary:
            with zipfile.ZipFile(temporary, "w") as archive:
                archive.writestr("metadata.json", metadata)
                archive.writestr("config.json", config)
                archive.write(weights, _WEIGHTS)


def load(path: files.Path) -> tree_model.TreeModel:
    """Reads a model with its tree.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    with _opened(path) as archive:
        config = json.loads(archive.read("config.json"))
        model = keras.saving.deserialize_keras_object(config)
        _restore(model, archive)
        return model


def restore(model: tree_model.TreeModel, path: files.Path) -> None:
    """Gives a model the weights and the tree of one that was saved.

    Of ten million items, 24 GiB do not hold a second model beside one that
    has been trained.

    Raises:
        ValueError: there is none, it is damaged, or of another shape.
    """
    with _opened(path) as archive:
        _restore(model, archive)


@contextlib.contextmanager
def _opened(path):
    """Yields the archive; a `ValueError` if it is no such thing."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (ValueError, KeyError, zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"{path} is missing or damaged: {error} Train again, into "
            "another folder."
        ) from error


def _restore(model, archive):
    """Reads the weights of a model, block by block."""
    with tempfile.TemporaryDirectory() as scratch:
        weights = archive.extract(_WEIGHTS, scratch)
        with _without_optimizer(model):
            model.load_weights(weights)


@contextlib.contextmanager
def _without_optimizer(model):
    """Hides a model's optimiser from Keras."""
    optimizer = getattr(model, "optimizer", None)
    model.optimizer = None
    try:
        yield
    finally:
        model.optimizer = optimizer
