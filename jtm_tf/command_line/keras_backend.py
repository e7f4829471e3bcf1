"""Which backend Keras runs on, told before anything is imported from it."""

import json
import os
import pathlib
import sys

NEEDED = "tensorflow"


def check() -> None:
    """Raises an `ImportError` of one line unless Keras runs on TensorFlow."""
    name, where = _chosen()
    if name != NEEDED:
        raise ImportError(
            f"jtm_tf needs Keras on {NEEDED}; {where} says {name!r}. Set the "
            f"environment variable KERAS_BACKEND={NEEDED} before Keras is "
            "imported."
        )


def _chosen():
    """Returns Keras's backend and who says so, as Keras decides it."""
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "config"):
        return keras.config.backend(), "the imported Keras"
    if name := os.environ.get("KERAS_BACKEND"):
        return name, "KERAS_BACKEND"
    home = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
    path = pathlib.Path(home, "keras.json")
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):  # Keras passes over what it cannot read
        return NEEDED, "nobody"
    name = found.get("backend") if isinstance(found, dict) else None
    return name or NEEDED, str(path)
