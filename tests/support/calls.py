"""Clients of both protocols, for tests of serving."""

import contextlib
import json
import socket
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc


def predict_request(name, inputs, *, signature="", version=None):
    """Returns a request; lists of integers are sent as int64."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(np.asarray(value)))
    return request


class Client:
    """Speaks to a server that runs.

    Args:
        ports: {"grpc": port, "rest": port}.
    """

    def __init__(self, ports):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{ports['grpc']}")
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(
            self.channel
        )
        self.url = f"http://127.0.0.1:{ports['rest']}"

    def close(self):
        self.channel.close()

    def predict(self, request, timeout=30):
        """Returns model_spec and outputs as arrays."""
        response = self.stub.Predict(request, timeout=timeout)
        outputs = {
            name: tf.make_ndarray(value)
            for name, value in response.outputs.items()
        }
        return response.model_spec, outputs

    def http(self, path, body=None, timeout=30):
        """Returns status, headers and the body's JSON; POSTs a body."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, body)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.headers, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, json.load(error)

    def metric(self, name):
        """Returns a number that the server tells Prometheus."""
        url = f"{self.url}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            text = answer.read().decode()
        return float(text.partition(f"\n{name} ")[2].split()[0])


def free_ports(count):
    """Returns numbers of ports that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        open_now = [stack.enter_context(socket.socket()) for _ in range(count)]
        for there in open_now:
            there.bind(("127.0.0.1", 0))
        return [there.getsockname()[1] for there in open_now]


def get_json(url, *, patience):
    """Returns what an address says, once somebody there says something."""
    until = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                if found := json.load(answer):
                    return found
        except OSError:
            if time.monotonic() > until:
                raise
        assert time.monotonic() < until, f"{url} says nothing"
        time.sleep(0.2)


def refusal(call):
    """Returns the status of a gRPC call that must fail, and its message."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError(f"not refused: {answer}")
