"""Tensors as gRPC carries them: `TensorProto` to arrays and back."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from export.serving import errors
from export.serving import signature as signature_lib
from export.serving.config import Config


def decode(
    protos: Mapping[str, tensor_pb2.TensorProto],
    signature: signature_lib.Signature,
    config: Config,
) -> signature_lib.Arrays:
    """Returns the inputs of a signature as arrays.

    Raises:
        ServingError: names, dtypes, shapes or contents do not fit.
    """
    signature.check_names(protos)
    return {
        name: _array(protos[name], spec, config)
        for name, spec in signature.inputs.items()
    }


def encode(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Returns an array as a message."""
    return tf.make_tensor_proto(array)


def _array(proto, spec, config):
    """Converts one input; its shape is checked before memory is taken."""
    if proto.dtype != spec.dtype.as_datatype_enum:
        try:
            got = tf.as_dtype(proto.dtype).name
        except TypeError:
            got = f"type {proto.dtype}"
        raise errors.invalid(
            f"Input {spec.name} must be {spec.dtype.name}; got {got}."
        )
    if proto.tensor_shape.unknown_rank:
        raise errors.invalid(f"Input {spec.name} has no shape.")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    spec.check(shape, config)
    try:
        array = tf.make_ndarray(proto)
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        raise errors.invalid(
            f"Input {spec.name} of shape {list(shape)} cannot be read: {error}"
        ) from error
    return array
