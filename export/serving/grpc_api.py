"""TensorFlow Serving's gRPC services, and the standard health service.

Predict, GetModelMetadata and GetModelStatus are answered; of the rest the
client learns that they are not implemented.
"""

import time
from collections.abc import Awaitable
from typing import Any

import grpc
from google.protobuf import message
from grpc_health.v1 import health
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from export.serving import engine as engine_lib
from export.serving import errors
from export.serving import metrics as metrics_lib
from export.serving import tensors

# Calls that may be open for each request in the queue, so that the queue
# refuses, by a message, before gRPC does.
_OPEN_CALLS = 2

_SERVING = health_pb2.HealthCheckResponse.SERVING


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata."""

    def __init__(self, engine: engine_lib.Engine, metrics: metrics_lib.Metrics):
        self._engine, self._metrics = engine, metrics

    async def Predict(self, request, context):
        return await _answered(
            "Predict", self._predict(request, context), context, self._metrics
        )

    async def GetModelMetadata(self, request, context):
        return await _answered(
            "GetModelMetadata", self._metadata(request), context, self._metrics
        )

    async def _predict(self, request, context):
        ticket = self._engine.submit(
            _target(request),
            lambda signature: tensors.decode(
                request.inputs, signature, self._engine.config
            ),
            request.output_filter,
        )
        outputs = await self._engine.answer(ticket, context.time_remaining())
        response = predict_pb2.PredictResponse(
            model_spec=_model_spec(request, ticket.version, ticket.signature)
        )
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tensors.encode(value))
        return response

    async def _metadata(self, request):
        return metadata(
            self._engine, _target(request), list(request.metadata_field)
        )


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus."""

    def __init__(self, engine: engine_lib.Engine, metrics: metrics_lib.Metrics):
        self._engine, self._metrics = engine, metrics

    async def GetModelStatus(self, request, context):
        return await _answered(
            "GetModelStatus", self._status(request), context, self._metrics
        )

    async def _status(self, request):
        return status(self._engine, _target(request))


def metadata(
    engine: engine_lib.Engine, target: engine_lib.Target, fields: list[str]
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Returns what a version's signatures take and give.

    Raises:
        ServingError: no such version, or another field is asked for.
    """
    if fields != ["signature_def"]:
        raise errors.invalid(
            "metadata_field must be signature_def; got "
            f"{', '.join(fields) or 'none'}."
        )
    version = engine.acquire(target)
    try:
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in version.signatures.items():
            signatures.signature_def[name].CopyFrom(signature.describe())
    finally:
        version.release()
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = target.name
    response.model_spec.version.value = version.number
    response.metadata["signature_def"].Pack(signatures)
    return response


def status(
    engine: engine_lib.Engine, target: engine_lib.Target
) -> get_model_status_pb2.GetModelStatusResponse:
    """Returns the state of the versions asked for.

    Raises:
        ServingError: there are none.
    """
    response = get_model_status_pb2.GetModelStatusResponse()
    for number, state, reason in engine.states(target):
        one = response.model_version_status.add(version=number, state=state)
        one.status.error_message = reason
        if reason:
            one.status.error_code = errors.Code.UNKNOWN.value[0]
    return response


class GrpcServer:
    """Both services and health, on the event loop that runs.

    Args:
        engine: answers the requests.
        metrics: counts them.

    Attributes:
        port: where it listens, once started.
    """

    def __init__(self, engine: engine_lib.Engine, metrics: metrics_lib.Metrics):
        self._config = config = engine.config
        milliseconds = int(1000 * config.client_seconds)
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", config.max_request_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", _OPEN_CALLS * config.max_queue),
                # Else a second server would share the port in silence.
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", milliseconds),
                ("grpc.keepalive_timeout_ms", milliseconds),
                ("grpc.server_handshake_timeout_ms", milliseconds),
            ],
            interceptors=[_Unreadable()],
            maximum_concurrent_rpcs=_OPEN_CALLS * config.max_queue,
        )
        self._health = health.aio.HealthServicer()
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(engine, metrics), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(engine, metrics), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port = 0

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: the port is taken.
        """
        host = self._config.host
        host = f"[{host}]" if ":" in host else host
        address = f"{host}:{self._config.port}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"Cannot listen on {address}: {error}") from error
        for service in _SERVICES:
            await self._health.set(service, _SERVING)
        await self._server.start()

    async def stop(self, seconds: float) -> None:
        """Refuses new calls; those under way have `seconds` to finish."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(seconds)


class _Unreadable(grpc.aio.ServerInterceptor):
    """Refuses bytes that are no message as other gRPC servers do.

    Left to itself, grpc.aio calls them unknown errors and logs a trace each.
    """

    async def intercept_service(self, continuation, handler_call_details):
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler

        def parse(data):
            try:
                return handler.request_deserializer(data)
            except message.DecodeError as error:
                return error

        async def answer(request, context):
            if isinstance(request, message.DecodeError):
                await context.abort(errors.Code.INTERNAL, str(request))
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer, parse, handler.response_serializer
        )


_SERVICES = (
    "",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
)


def _target(request) -> engine_lib.Target:
    """Returns what a request is for."""
    if not request.HasField("model_spec"):
        raise errors.invalid("Missing ModelSpec.")
    spec = request.model_spec
    asked = spec.HasField("version")
    return engine_lib.Target(
        spec.name,
        spec.version.value if asked else None,
        spec.version_label,
        spec.signature_name,
    )


def _model_spec(request, version, signature) -> model_pb2.ModelSpec:
    """Returns who answered."""
    spec = model_pb2.ModelSpec(
        name=request.model_spec.name, signature_name=signature
    )
    spec.version.value = version
    return spec


async def _answered(
    method: str,
    work: Awaitable[Any],
    context: grpc.aio.ServicerContext,
    metrics: metrics_lib.Metrics,
) -> Any:
    """Awaits an answer; what goes wrong becomes the status of the call."""
    started, code = time.monotonic(), errors.Code.CANCELLED
    try:
        answer = await work
        code = errors.Code.OK
        return answer
    except Exception as error:  # pylint: disable=broad-except
        told = errors.from_exception(error)
        code = told.code
        await context.abort(code, told.message)
    finally:
        seconds = time.monotonic() - started
        metrics.request("grpc", method, code.name, seconds)
