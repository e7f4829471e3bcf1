"""A model in a file, with the tree that it was trained on.

For ten million items, whose table of nodes is 3 GiB. The optimiser stays out:
a run goes on from its checkpoint, and the slots of Adam are 6 GiB that nobody
would read. Weights go through a file of their own: Keras's archive, written
and read by itself, would hold them twice more in memory.
"""

import gc
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
    optimizer = getattr(model, "optimizer", None)
    model.optimizer = None
    try:
        with tempfile.TemporaryDirectory() as scratch:
            weights = pathlib.Path(scratch) / _WEIGHTS
            model.save_weights(weights)
            with files.replacing(path) as temporary:
                with zipfile.ZipFile(temporary, "w") as archive:
                    archive.writestr("metadata.json", metadata)
                    archive.writestr("config.json", config)
                    archive.write(weights, _WEIGHTS)
    finally:
        model.optimizer = optimizer


def load(path: files.Path) -> tree_model.TreeModel:
    """Reads a model with its tree.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    # A model refers to itself, so one that went stays until it is collected;
    # of ten million items, 24 GiB do not hold two.
    gc.collect()
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            model = keras.saving.deserialize_keras_object(config)
            with tempfile.TemporaryDirectory() as scratch:
                model.load_weights(archive.extract(_WEIGHTS, scratch))
            return model
    except (ValueError, KeyError, zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"{path} is missing or damaged: {error} Train again, into "
            "another folder."
        ) from error
