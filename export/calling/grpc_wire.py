"""TensorFlow Serving's gRPC protocol, by its official messages and stubs.

The messages refer to TensorFlow's own, and those can only be imported with
the whole of TensorFlow: a gRPC client needs seconds to start.
"""

from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from export.calling import wire

# gRPC stops at 4 MiB, which is 600 users of 200 long string ids.
_OPTIONS = [("grpc.max_receive_message_length", 256 * 2**20)]


def connect(target: str) -> grpc.Channel:
    """Returns a channel; nothing is sent yet."""
    return grpc.insecure_channel(target, options=_OPTIONS)


def unpack(response: predict_pb2.PredictResponse) -> dict[str, Any]:
    """Returns the outputs as nested lists, strings decoded."""
    outputs = {}
    for name, proto in response.outputs.items():
        values = tf.make_ndarray(proto)
        if proto.dtype == tf.string.as_datatype_enum:
            values = np.vectorize(bytes.decode, otypes=[object])(values)
        outputs[name] = values.tolist()
    return outputs


def request(
    model: str,
    signature: str,
    inputs: dict[str, wire.Tensor],
    version: int | None = None,
) -> predict_pb2.PredictRequest:
    """Returns the message that asks a model; see `wire.Transport.predict`."""
    message = predict_pb2.PredictRequest()
    message.model_spec.name = model
    message.model_spec.signature_name = signature
    if version is not None:
        message.model_spec.version.value = version
    for name, tensor in inputs.items():
        message.inputs[name].CopyFrom(
            tf.make_tensor_proto(tensor.values, tensor.dtype)
        )
    return message


class GrpcTransport:
    """A `wire.Transport` over gRPC.

    Args:
        target: HOST:PORT.
        model: the model's name on the server.
        timeout: seconds that a request may take.
    """

    def __init__(self, target: str, model: str, timeout: float):
        self._target, self._model, self._timeout = target, model, timeout
        self._channel = connect(target)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(
            self._channel
        )
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def signatures(self) -> dict[str, dict[str, wire.Input]]:
        """Returns the inputs of each signature, by name."""
        asked = get_model_metadata_pb2.GetModelMetadataRequest(
            metadata_field=["signature_def"]
        )
        asked.model_spec.name = self._model
        response = self._call(self._predictions.GetModelMetadata, asked)
        found = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(found)
        return {
            name: {
                key: wire.Input(
                    tf.as_dtype(info.dtype).name, len(info.tensor_shape.dim)
                )
                for key, info in signature.inputs.items()
            }
            for name, signature in found.signature_def.items()
            if signature.inputs
        }

    def available(self) -> list[int]:
        """Returns the versions that answer, ascending."""
        asked = get_model_status_pb2.GetModelStatusRequest()
        asked.model_spec.name = self._model
        response = self._call(self._models.GetModelStatus, asked)
        ready = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        return sorted(
            status.version
            for status in response.model_version_status
            if status.state == ready
        )

    def predict(
        self,
        signature: str,
        inputs: dict[str, wire.Tensor],
        version: int | None = None,
    ) -> tuple[dict[str, Any], int]:
        """Returns the outputs as nested lists, and the version's number."""
        response = self._call(
            self._predictions.Predict,
            request(self._model, signature, inputs, version),
        )
        return unpack(response), response.model_spec.version.value

    def _call(self, method, message):
        try:
            return method(message, timeout=self._timeout)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
        if code is grpc.StatusCode.UNAVAILABLE:
            raise ConnectionError(wire.nobody_listens(self._target, details))
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise TimeoutError(wire.too_late(self._target, self._timeout))
        raise wire.RefusedError(
            code.name, f"model {self._model} at {self._target}: {details}"
        )
