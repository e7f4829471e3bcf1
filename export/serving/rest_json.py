"""JSON as TensorFlow Serving's REST API has it, to arrays and back.

Row format: `instances`, a list with an entry for each row: an object of named
inputs, or a plain value where the signature has one input. Answered by
`predictions`, in the same way. Column format: `inputs`, an object of named
inputs or a plain value; answered by `outputs`. Bytes are {"b64": ".."}.

Facts taken from that API: a list's first elements tell its shape; integers
are never rounded and strings never parsed; NaN and Infinity are literals; no
rows are an error; string outputs whose name ends in `_bytes` are sent as
base64. Here, those that are not UTF-8 are as well.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from export.serving import errors
from export.serving import signature as signature_lib
from export.serving.config import Config

# The next bracket, past numbers and whole strings.
_BRACKET = re.compile(rb'(?:[^][{}"]|"(?:[^"\\]|\\.)*+")*+([][{}])', re.DOTALL)
# Deeper than any tensor. Python's parser recurses as deep as it is told, and
# a garbage collection that falls into its last steps cannot finish.
_MAX_DEPTH = 32


def parse(body: bytes) -> dict[str, Any]:
    """Returns the object that a request's body is.

    Raises:
        ServingError: it is none.
    """
    if _is_deep(body):
        raise errors.invalid(
            f"JSON Parse error: nested more than {_MAX_DEPTH} deep."
        )
    try:
        value = json.loads(body)
    except ValueError as error:
        raise errors.invalid(f"JSON Parse error: {error}") from error
    if not isinstance(value, dict):
        raise errors.invalid(f"The body must be an object; got {_kind(value)}.")
    if not isinstance(value.get("signature_name", ""), str):
        raise errors.invalid("'signature_name' key must be a string value.")
    if ("instances" in value) == ("inputs" in value):
        raise errors.invalid(
            "The body must have one of the keys 'instances' and 'inputs'."
        )
    return value


def decode(
    body: Mapping[str, Any],
    signature: signature_lib.Signature,
    config: Config,
) -> signature_lib.Arrays:
    """Returns the inputs of a signature as arrays.

    Raises:
        ServingError: names, types, shapes or limits do not fit.
    """
    if "inputs" in body:
        columns = _columns(body["inputs"], signature)
    else:
        columns = _rows(body["instances"], signature)
    return {
        name: _array(columns[name], spec, config)
        for name, spec in signature.inputs.items()
    }


def encode(outputs: signature_lib.Arrays, *, rows: bool) -> bytes:
    """Returns the body of an answer, in row format or in column format.

    Raises:
        ServingError: the outputs have no rows in common.
    """
    columns = {name: _values(name, x) for name, x in outputs.items()}
    names = list(columns)
    answer: Any
    if not rows:
        answer = columns if len(names) > 1 else columns[names[0]]
        return json.dumps({"outputs": answer}).encode()
    if len({x.shape[:1] or None for x in outputs.values()}) > 1 or any(
        not x.ndim for x in outputs.values()
    ):
        raise errors.invalid(
            "The outputs have no dimension 0 in common; use the column "
            "format, 'inputs'."
        )
    if len(names) == 1:
        answer = columns[names[0]]
    else:
        answer = [dict(zip(names, row)) for row in zip(*columns.values())]
    return json.dumps({"predictions": answer}).encode()


def _is_deep(body):
    """Tells whether brackets nest too deep, without nesting calls."""
    depth = position = 0
    while found := _BRACKET.match(body, position):
        depth += 1 if found[1] in b"[{" else -1
        if depth > _MAX_DEPTH:
            return True
        position = found.end()
    return False


def _columns(value, signature):
    """Returns the JSON value of each input, from column format."""
    if not isinstance(value, dict) or _is_bytes(value):
        value = {_only(signature, "inputs"): value}
    signature.check_names(value)
    return value


def _rows(rows, signature):
    """Returns the JSON value of each input, from row format."""
    if not isinstance(rows, list):
        raise errors.invalid(f"'instances' must be a list; got {_kind(rows)}.")
    if not rows:
        raise errors.invalid("No values in 'instances'.")
    named = [isinstance(row, dict) and not _is_bytes(row) for row in rows]
    if not any(named):
        return {_only(signature, "instances"): rows}
    if not all(named):
        raise errors.invalid(
            "'instances' must be all objects or all plain values."
        )
    for row in rows:
        signature.check_names(row)
    return {name: [row[name] for row in rows] for name in signature.inputs}


def _only(signature, key):
    """Returns the name of the one input that needs no name."""
    if len(signature.inputs) != 1:
        raise errors.invalid(
            f"'{key}' has plain values; signature {signature.name} takes "
            f"objects with {', '.join(signature.inputs)}."
        )
    return next(iter(signature.inputs))


def _array(value, spec, config):
    """Converts one input; all lists of a depth must be of one length."""
    shape, leaves = [], [value]
    while isinstance(leaves[0] if leaves else None, list):
        shape.append(len(leaves[0]))
        for part in leaves:
            if not isinstance(part, list) or len(part) != shape[-1]:
                raise errors.invalid(
                    f"Input {spec.name} is ragged: at depth {len(shape)} "
                    f"lists of {shape[-1]} values are expected."
                )
        leaves = [x for part in leaves for x in part]
    if not leaves and spec.shape is not None:
        # Nothing tells the dimensions inside an empty list.
        shape += [0] * (len(spec.shape) - len(shape))
    spec.check(tuple(shape), config)
    flat = np.empty(len(leaves), spec.numpy_dtype)
    convert = _converter(spec)
    for i, leaf in enumerate(leaves):
        flat[i] = convert(leaf)
    return flat.reshape(shape)


def _converter(spec):
    """Returns what checks and converts a value for an input's dtype."""

    def wrong(value):
        text = json.dumps(value)[:100]
        return errors.invalid(
            f"Input {spec.name}: JSON value {text}, {_kind(value)}, is not of "
            f"expected type {spec.dtype.name}."
        )

    def as_bytes(value):
        if isinstance(value, str):
            try:
                return value.encode()
            except UnicodeEncodeError as error:
                raise wrong(value) from error
        if not _is_bytes(value):
            raise wrong(value)
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise errors.invalid(
                f"Input {spec.name}: unable to decode base64."
            ) from error

    def as_bool(value):
        if not isinstance(value, bool):
            raise wrong(value)
        return value

    def as_integer(value):
        if type(value) is not int or not spec.dtype.min <= value <= (
            spec.dtype.max
        ):
            raise wrong(value)
        return value

    def as_float(value):
        if type(value) not in (int, float):
            raise wrong(value)
        if type(value) is int or math.isfinite(value):
            if not spec.dtype.min <= value <= spec.dtype.max:
                raise wrong(value)
        return value

    if spec.dtype is tf.string:
        return as_bytes
    if spec.dtype is tf.bool:
        return as_bool
    if spec.dtype.is_integer:
        return as_integer
    if spec.dtype.is_floating:
        return as_float
    raise errors.ServingError(
        errors.Code.UNIMPLEMENTED,
        f"Input {spec.name} is {spec.dtype.name}, which JSON has no form for.",
    )


def _values(name, array):
    """Returns an output as JSON values."""
    if array.dtype == np.float32:
        # The shortest digits that read back as the same float32.
        array = array.astype("U").astype(np.float64)
    if array.dtype != object:
        return array.tolist()
    flat = np.empty(array.size, object)
    for i, value in enumerate(array.flat):
        flat[i] = _string(value, binary=name.endswith("_bytes"))
    return flat.reshape(array.shape).tolist()


def _string(value, *, binary):
    """Returns bytes as a JSON string, as base64 where they are no text."""
    if not binary:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(value).decode()}


def _is_bytes(value):
    """Tells {"b64": ".."} from other objects."""
    return (
        isinstance(value, dict)
        and list(value) == ["b64"]
        and isinstance(value["b64"], str)
    )


def _kind(value):
    """Names the JSON type of a value."""
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")
