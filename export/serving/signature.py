"""A signature of a SavedModel: what it takes, and how to call it.

Requests are checked against it before they meet others in a batch, and before
memory is set aside for them: a few bytes on the wire can claim a huge shape.
"""

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from export.serving import errors
from export.serving.config import Config

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Spec:
    """A named input or output.

    dtype: of its values.
    shape: sizes, None where any will do; None if the rank is free as well.
    """

    name: str
    dtype: tf.DType
    shape: tuple[int | None, ...] | None

    @classmethod
    def of(cls, name: str, info: meta_graph_pb2.TensorInfo) -> "Spec":
        shape = tf.TensorShape(info.tensor_shape)
        return cls(
            name,
            tf.as_dtype(info.dtype),
            None if shape.rank is None else tuple(shape),
        )

    @property
    def batched(self) -> bool:
        """Whether dimension 0 is there and of any size."""
        return bool(self.shape and self.shape[0] is None)

    @property
    def numpy_dtype(self) -> Any:
        """The dtype of its arrays; strings are objects, bytes each."""
        return np.dtype(self.dtype.as_numpy_dtype)

    def check(self, shape: tuple[int, ...], config: Config) -> None:
        """Checks a shape before an array of it is made.

        Raises:
            ServingError: it does not fit the signature or the limits.
        """
        want = self.shape
        fits = want is None or (
            len(shape) == len(want)
            and all(b is None or a == b for a, b in zip(shape, want))
        )
        if not fits or any(size < 0 for size in shape):
            wanted = ["any" if n is None else n for n in want or ["any"]]
            raise errors.invalid(
                f"Input {self.name} must have shape {_text(wanted)}; got "
                f"{_text(shape)}."
            )
        if shape and shape[0] > config.max_rows:
            raise errors.invalid(
                f"Input {self.name} has {shape[0]} rows; at most "
                f"{config.max_rows} are served in one request, send several."
            )
        if any(size > config.max_length for size in shape[1:]):
            raise errors.invalid(
                f"Input {self.name} has shape {_text(shape)}; after the rows "
                f"a dimension may have {config.max_length} values at most."
            )
        if np.prod([float(n) for n in shape]) > (
            config.max_rows * config.max_length
        ):
            raise errors.invalid(
                f"Input {self.name} of shape {_text(shape)} is too large."
            )


class Signature:
    """One signature of a loaded version.

    Args:
        name: clients ask for it by this.
        definition: what goes in and comes out.
        function: takes arrays of the inputs and returns arrays of the outputs,
            both in the order of their names.

    Attributes:
        inputs, outputs: what goes in and comes out, by name.
        batched: whether requests can be joined along dimension 0.
    """

    def __init__(
        self,
        name: str,
        definition: meta_graph_pb2.SignatureDef,
        function: Callable[..., list[Any]],
    ):
        self.name = name
        self._function = function
        self.inputs = _specs(definition.inputs)
        self.outputs = _specs(definition.outputs)
        both = [*self.inputs.values(), *self.outputs.values()]
        self.batched = bool(self.inputs) and all(x.batched for x in both)

    def check_names(self, names: Mapping[str, Any]) -> None:
        """Raises `ServingError` unless exactly the inputs are given."""
        extra = sorted(set(names) - set(self.inputs))
        missing = sorted(set(self.inputs) - set(names))
        if extra or missing:
            raise errors.invalid(
                f"Signature {self.name} takes the inputs "
                f"{', '.join(self.inputs)}. Missing: "
                f"{', '.join(missing) or 'none'}; unknown: "
                f"{', '.join(extra) or 'none'}."
            )

    def rows(self, inputs: Arrays) -> int:
        """Returns the rows of a request, 1 where there is no batch.

        Raises:
            ServingError: its inputs differ in dimension 0.
        """
        if not self.batched:
            return 1
        counts = {name: len(value) for name, value in inputs.items()}
        if len(set(counts.values())) > 1:
            raise errors.invalid(
                "All inputs must have the same number of rows; got "
                + ", ".join(f"{name}: {n}" for name, n in counts.items())
                + "."
            )
        return next(iter(counts.values()))

    def run(self, inputs: Arrays) -> Arrays:
        """Calls the graph; all inputs have been checked."""
        return dict(
            zip(self.outputs, self._function(*(inputs[x] for x in self.inputs)))
        )

    def describe(self) -> meta_graph_pb2.SignatureDef:
        """Returns it as TensorFlow Serving's metadata do."""
        definition = meta_graph_pb2.SignatureDef(
            method_name="tensorflow/serving/predict"
        )
        for specs, infos in (
            (self.inputs, definition.inputs),
            (self.outputs, definition.outputs),
        ):
            for name, spec in specs.items():
                shape = tf.TensorShape(spec.shape).as_proto()
                infos[name].name = name
                infos[name].dtype = spec.dtype.as_datatype_enum
                infos[name].tensor_shape.CopyFrom(shape)
        return definition


def _specs(infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, Spec]:
    return {name: Spec.of(name, infos[name]) for name in sorted(infos)}


def _text(shape) -> str:
    return f"[{', '.join(map(str, shape))}]"
