"""A model in a file, with the tree that it was trained on.

The optimiser stays out: a run goes on from its checkpoint, and at ten million
items the slots of Adam are 6 GiB that nobody would read.
"""

import pathlib
import zipfile

import keras

from jtm_tf import files
from jtm_tf.models import hsm
from jtm_tf.models import tree_model

# What a saved model may be. Keras knows a class by name once it is imported.
MODELS = (tree_model.TreeModel, hsm.HSM)


def save(model: tree_model.TreeModel, path: pathlib.Path) -> None:
    """Writes a model with its tree, whole or not at all."""
    optimizer = getattr(model, "optimizer", None)
    model.optimizer = None
    try:
        with files.replacing(path) as temporary:
            model.save(temporary)
    finally:
        model.optimizer = optimizer


def load(path: files.Path) -> tree_model.TreeModel:
    """Reads a model with its tree.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    try:
        return keras.saving.load_model(path)
    except (ValueError, zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"{path} is missing or damaged: {error} Train again, into "
            "another folder."
        ) from error
