"""What workers read: plain arrays in files, whole or not there at all.

A worker runs a graph that another process made, so that it reads by
TensorFlow's own operations; a file is an array's bytes and nothing else.
"""

import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from jtm_tf import files

# An array's dtype, and its sizes but the first.
Layout = dict[str, tuple[tf.DType, tuple[int, ...]]]


def write(folder: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> Layout:
    """Writes arrays, those that are there already left as they are.

    Args:
        folder: of these arrays alone.
        arrays: by name, each [n, ...].

    Returns:
        What `read` needs to know of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        if not (folder / name).exists():
            with files.replacing(folder / name) as temporary:
                np.ascontiguousarray(array).tofile(temporary)
    return {
        name: (tf.as_dtype(array.dtype), array.shape[1:])
        for name, array in arrays.items()
    }


def read(folder: tf.Tensor, layout: Layout) -> dict[str, tf.Tensor]:
    """Returns the arrays of a folder, a string tensor, in a graph."""
    arrays = {}
    for name, (dtype, sizes) in layout.items():
        data = tf.io.read_file(tf.strings.join([folder, "/", name]))
        arrays[name] = tf.reshape(tf.io.decode_raw(data, dtype), [-1, *sizes])
    return arrays
