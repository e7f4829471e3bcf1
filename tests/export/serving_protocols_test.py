"""Tests of both protocols against direct calls of the SavedModel."""

import concurrent.futures
import dataclasses
import json
import socket
import time

import grpc
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from google.protobuf import json_format
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2

from export import serving
from export.fuzzing import attack
from export.fuzzing import cases
from jtm_tf.data import interactions
from tests.support import calls
from tests.support import close
from tests.support import served_models
from tests.support import worlds

LIMITS = serving.Config(
    max_rows=32, max_length=100, max_request_mb=0.1, client_seconds=1.0
)


def by_name(data):
    """Returns the data with strings as ids, one of them beyond ASCII."""
    ids = ["größe", *(f"item-{i}" for i in range(2, data.num_items + 1))]
    items = data.items.set_column(1, "raw_id", pa.array(ids))
    return dataclasses.replace(data, items=items)


@pytest.fixture(name="bases", scope="module")
def _bases(tmp_path_factory):
    """Two exported models: one speaks integers, one strings."""
    folder = tmp_path_factory.mktemp("served")
    data = interactions.load(worlds.prepare(folder / "world"))
    served_models.publish(folder / "numbers", data, 4)
    served_models.publish(folder / "names", by_name(data), 7, warm=False)
    return folder


@pytest.fixture(name="direct", scope="module")
def _direct(bases):
    """The signatures of both, called without a server."""
    return {
        "numbers": tf.saved_model.load(str(bases / "numbers" / "4")),
        "names": tf.saved_model.load(str(bases / "names" / "7")),
    }


@pytest.fixture(name="clients", scope="module")
def _clients(bases):
    """A client of a server of each."""
    with serving.Server(bases / "numbers", LIMITS) as numbers:
        with serving.Server(bases / "names", LIMITS) as names:
            made = {
                server.name: calls.Client(
                    {"grpc": server.grpc_port, "rest": server.rest_port}
                )
                for server in (numbers, names)
            }
            yield made
            for client in made.values():
                client.close()


@pytest.fixture(name="client")
def _client(clients):
    return clients["numbers"]


HISTORIES = [[3, 9, 0, 4], [0, 0, 0, 0], [99, 1, 0, 12]]


def as_ids(model, items):
    """Returns ids as a model has them: integers, or bytes."""
    if model == "numbers":
        return np.array(items, np.int64)
    names = {0: b"", 1: "größe".encode()}
    ids = np.vectorize(
        lambda i: names.get(i, f"item-{i}".encode()), otypes=[object]
    )
    return ids(np.array(items))


def as_json(array):
    """Returns an array as the REST API has it."""
    text = np.vectorize(
        lambda x: x.decode() if isinstance(x, bytes) else x, otypes=[object]
    )
    return text(array).tolist() if array.size else array.tolist()


def requests(model):
    """Yields a signature and inputs for each thing that can be asked."""
    history = as_ids(model, HISTORIES)
    yield "", {"history": history}
    yield "recommend", {"history": history[:1, :1]}
    yield (
        "recommend_filtered",
        {
            "history": history,
            "exclude": as_ids(model, [[3, 1, 7]] * 3),
            "allow_categories": np.array([[b""]] * 3, object),
        },
    )
    yield (
        "score",
        {
            "history": history,
            "candidates": as_ids(model, [[1, 2, 77]] * 3),
        },
    )
    yield "explain", {"history": history}
    yield "recommend", {"history": history[:0, :0]}
    yield "recommend", {"history": history[:, :0]}


@pytest.mark.parametrize("model", ["numbers", "names"])
def test_answers_are_those_of_the_saved_model(direct, clients, model):
    version = {"numbers": 4, "names": 7}[model]
    for signature, inputs in requests(model):
        function = direct[model].signatures[signature or "serving_default"]
        want = {
            name: value.numpy()
            for name, value in function(
                **{name: tf.constant(x) for name, x in inputs.items()}
            ).items()
        }
        spec, got = clients[model].predict(
            calls.predict_request(model, inputs, signature=signature)
        )
        assert (spec.name, spec.version.value) == (model, version)
        assert spec.signature_name == signature or "serving_default"
        assert_same(got, want)

        columns = {name: as_json(x) for name, x in inputs.items()}
        body = {"signature_name": signature, "inputs": columns}
        path = f"/v1/models/{model}:predict"
        status, headers, answer = clients[model].http(path, body)
        assert (status, headers["Model-Version"]) == (200, str(version))
        outputs = answer["outputs"]
        if len(want) == 1:
            outputs = {next(iter(want)): outputs}
        assert_same(from_json(outputs, want), want)

        rows = [dict(zip(columns, x)) for x in zip(*columns.values())]
        if not rows:
            continue
        body = {"signature_name": signature, "instances": rows}
        path = f"/v1/models/{model}/versions/{version}:predict"
        status, _, answer = clients[model].http(path, body)
        assert status == 200
        predictions = answer["predictions"]
        outputs = {
            name: [x if len(want) == 1 else x[name] for x in predictions]
            for name in want
        }
        assert_same(from_json(outputs, want), want)


def from_json(outputs, like):
    """Returns arrays of the dtypes and empty shapes that are expected."""
    assert set(outputs) == set(like)
    found = {}
    for name, value in outputs.items():
        array = np.array(value, "U" if like[name].dtype == object else None)
        if array.dtype.kind == "U":
            array = np.vectorize(str.encode, otypes=[object])(array)
        found[name] = array.astype(like[name].dtype).reshape(like[name].shape)
    return found


def assert_same(got, want):
    """Asserts that outputs differ by rounding only, and answers by ties."""
    assert set(got) == set(want)
    for name, value in want.items():
        assert got[name].shape == value.shape
        if value.dtype == np.float32:
            close.scores(got[name], value)
    if "item_ids" in want and len(want["scores"]):
        close.rankings(
            *(x[key] for x in (got, want) for key in ("item_ids", "scores"))
        )
    if "path_nodes" in want:
        np.testing.assert_array_equal(got["path_nodes"], want["path_nodes"])


def test_bytes_as_base64(clients):
    plain = {"instances": [["größe", "item-4"]]}
    coded = {"instances": [[{"b64": "Z3LDtsOfZQ=="}, {"b64": "aXRlbS00"}]]}
    path = "/v1/models/names:predict"
    assert (
        clients["names"].http(path, plain)[2]
        == (clients["names"].http(path, coded)[2])
    )


def test_an_output_filter(client):
    request = calls.predict_request("numbers", {"history": HISTORIES})
    request.output_filter.append("scores")
    assert set(client.predict(request)[1]) == {"scores"}
    request.output_filter.append("secrets")
    code, text = calls.refusal(lambda: client.predict(request))
    assert code == "INVALID_ARGUMENT" and "secrets" in text


def test_answers_do_not_depend_on_company(client):
    """Requests at the same time get what they get alone."""
    rng = np.random.default_rng(0)
    asked = [
        calls.predict_request(
            "numbers",
            {"history": rng.integers(0, 60, [*rng.integers(1, 6, 2)])},
        )
        for _ in range(60)
    ]
    alone = [client.predict(request)[1] for request in asked]
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        together = threads.map(client.predict, asked)
        for (_, got), want in zip(together, alone):
            assert_same(got, want)
    rows = client.metric("serving_batch_rows_sum")
    assert rows > client.metric("serving_batch_rows_count") > 0


def port(client):
    return int(client.url.rpartition(":")[2])


def read_all(plug):
    """Reads until the other side closes."""
    parts = []
    while part := plug.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_status_metadata_and_health(clients, direct):
    client = clients["names"]
    status_request = get_model_status_pb2.GetModelStatusRequest()
    status_request.model_spec.name = "names"
    models = model_service_pb2_grpc.ModelServiceStub(client.channel)
    status = models.GetModelStatus(status_request).model_version_status
    assert [(x.version, x.state) for x in status] == [(7, 30)]
    _, _, answer = client.http("/v1/models/names")
    assert answer == {
        "model_version_status": [
            {
                "version": "7",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }

    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "names"
    code, text = calls.refusal(lambda: client.stub.GetModelMetadata(request))
    assert code == "INVALID_ARGUMENT" and "metadata_field" in text
    request.metadata_field.append("signature_def")
    response = client.stub.GetModelMetadata(request)
    assert response.model_spec.version.value == 7
    found = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(found)
    assert set(found.signature_def) == set(direct["names"].signatures)
    history = found.signature_def["score"].inputs["history"]
    assert history.dtype == tf.string.as_datatype_enum
    assert [dim.size for dim in history.tensor_shape.dim] == [-1, -1]
    _, _, answer = client.http("/v1/models/names/metadata")
    assert answer["model_spec"]["version"] == "7"
    again = json_format.ParseDict(
        answer["metadata"]["signature_def"],
        get_model_metadata_pb2.SignatureDefMap(),
    )
    assert again == found

    health = health_pb2_grpc.HealthStub(client.channel)
    for service in ("", "tensorflow.serving.PredictionService"):
        request = health_pb2.HealthCheckRequest(service=service)
        assert health.Check(request).status == 1
    assert client.http("/healthz")[::2] == (200, {"status": "serving"})


def spoilt(**changes):
    """Returns a good request of `numbers`, and changes it."""
    request = calls.predict_request("numbers", {"history": HISTORIES})
    for name, value in changes.items():
        if name == "history":
            proto = tf.make_tensor_proto(np.asarray(value))
            request.inputs["history"].CopyFrom(proto)
        elif name == "version":
            request.model_spec.version.value = value
        else:
            setattr(request.model_spec, name, value)
    return request


def huge_shape():
    """A few bytes that claim 2^40 values: one of them is repeated."""
    request = spoilt()
    tensor = request.inputs["history"]
    tensor.Clear()
    tensor.dtype = tf.int64.as_datatype_enum
    tensor.int64_val.append(1)
    for size in (2**20, 2**20):
        tensor.tensor_shape.dim.add(size=size)
    return request


def test_no_message_at_all(client):
    """Bytes that are none are refused, in one line."""
    call = client.channel.unary_unary(cases.PREDICT)
    code, text = calls.refusal(lambda: call(b"\xff" * 9))
    assert code == "INTERNAL" and "PredictRequest" in text


def short_content():
    """A tensor with fewer bytes than its shape wants."""
    request = spoilt()
    request.inputs["history"].tensor_content = b"short"
    return request


@pytest.mark.parametrize(
    "request_, code, says",
    [
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing Model"),
        (spoilt(name=""), "INVALID_ARGUMENT", "no name"),
        (spoilt(name="other"), "NOT_FOUND", "has numbers"),
        (spoilt(version=9), "NOT_FOUND", "Version 9"),
        (spoilt(version_label="stable"), "INVALID_ARGUMENT", "label: stable"),
        (spoilt(signature_name="x"), "FAILED_PRECONDITION", "explain"),
        (spoilt(signature_name="score"), "INVALID_ARGUMENT", "candidates"),
        (spoilt(history=[[1.5]]), "INVALID_ARGUMENT", "must be int64"),
        (spoilt(history=[1, 2]), "INVALID_ARGUMENT", r"shape [any, any]"),
        (spoilt(history=[[1]] * 33), "INVALID_ARGUMENT", "33 rows"),
        (spoilt(history=[[1] * 101]), "INVALID_ARGUMENT", "100 values"),
        (huge_shape(), "INVALID_ARGUMENT", "1048576 rows"),
        (short_content(), "INVALID_ARGUMENT", "cannot be read"),
        (spoilt(history=[[1] * 20_000]), "RESOURCE_EXHAUSTED", "message"),
    ],
)
def test_grpc_refusals(client, request_, code, says):
    got, text = calls.refusal(lambda: client.predict(request_))
    assert got == code and says in text


def test_what_is_not_served(client):
    request = classification_pb2.ClassificationRequest()
    code, _ = calls.refusal(lambda: client.stub.Classify(request))
    assert code == "UNIMPLEMENTED"
    assert client.http("/v1/models/numbers:classify", {})[0] == 501


@pytest.mark.parametrize(
    "path, body, status, says",
    [
        ("", b"", 400, "JSON Parse error"),
        ("", b'{"instances": [[1', 400, "JSON Parse error"),
        ("", b"\xff\xfe\x00", 400, "JSON Parse error"),
        ("", b"[" * 50_000, 400, "more than 32 deep"),
        ("", b'{"a":' * 33, 400, "more than 32 deep"),
        ("", {"[[": "[" * 40 + '"'}, 400, "'instances' and 'inputs'"),
        ("", [1], 400, "must be an object"),
        ("", {}, 400, "'instances' and 'inputs'"),
        ("", {"instances": [[1]], "inputs": [[1]]}, 400, "one of the keys"),
        ("", {"instances": 5}, 400, "a list"),
        ("", {"instances": []}, 400, "No values"),
        ("", {"instances": [1]}, 400, "shape [any, any]"),
        ("", {"instances": [[1], {"history": [1]}]}, 400, "all objects"),
        ("", {"instances": [{"x": [1]}]}, 400, "unknown: x"),
        ("", {"instances": [[1, 2], [3]]}, 400, "ragged"),
        ("", {"instances": [[1, [2]]]}, 400, "not of expected type int64"),
        ("", {"instances": [["1"]]}, 400, "not of expected type int64"),
        ("", {"instances": [[True]]}, 400, "not of expected type int64"),
        ("", {"instances": [[None]]}, 400, "not of expected type int64"),
        ("", {"instances": [[2**63]]}, 400, "not of expected type int64"),
        ("", b'{"instances": [[NaN]]}', 400, "not of expected type int64"),
        ("", {"instances": [[1]], "signature_name": 3}, 400, "a string"),
        ("", {"instances": [[1]], "signature_name": "x"}, 400, "not found"),
        ("", {"instances": [[1]] * 33}, 400, "33 rows"),
        ("/v1/models/other:predict", {"instances": [[1]]}, 404, "has numbers"),
        ("/v1/models/numbers/versions/9:predict", {"inputs": [[1]]}, 404, "9"),
        ("/v1/models/numbers/versions/9", None, 404, "any versions 9"),
        ("/v1/models/numbers/versions/" + "9" * 30, None, 400, "version"),
        ("/v1/models/numbers/labels/a:predict", {"inputs": [[1]]}, 400, "a;"),
        ("/v1/models/numbers:guess", {}, 400, "Malformed request"),
        ("/v1/models/numbers", {}, 400, "Malformed request"),
        ("/v2", None, 404, "Not found"),
        ("", b" " * 200_000, 413, "200000 bytes"),
    ],
)
def test_rest_refusals(client, path, body, status, says):
    path = path or "/v1/models/numbers:predict"
    if status == 413:  # as a whole, the answer may be lost on the way
        with socket.create_connection(("127.0.0.1", port(client))) as plug:
            text = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: "
            plug.sendall(f"{text}{len(body)}\r\n\r\n".encode())
            answer = read_all(plug).decode()
        assert answer.startswith("HTTP/1.1 413") and says in answer
        return
    got, _, answer = client.http(path, body)
    assert got == status and says in answer["error"]


def test_strings_that_are_none(clients):
    for bad in ({"b64": "?"}, {"b64": 1}, {"a": "b"}, 1, "\ud800"):
        body = json.dumps({"inputs": {"history": [["a", bad]]}}).encode()
        status, _, answer = clients["names"].http(
            "/v1/models/names:predict", body
        )
        assert status == 400 and "history" in answer["error"]


def test_slow_clients_are_cut_off(client):
    """They are, and the others do not notice."""
    path = b"POST /v1/models/numbers:predict HTTP/1.1\r\n"
    halves = [
        b"",
        path + b"Conte",
        path + b"Host: x\r\nContent-Length: 100\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",  # and then nothing
    ]
    plugs = [
        socket.create_connection(("127.0.0.1", port(client))) for _ in halves
    ]
    started = time.monotonic()
    try:
        for plug, half in zip(plugs, halves):
            plug.settimeout(20)
            plug.sendall(half)
        assert client.http("/v1/models/numbers")[0] == 200
        for plug in plugs:
            read_all(plug)
    finally:
        for plug in plugs:
            plug.close()
    assert time.monotonic() - started > LIMITS.client_seconds / 2


def test_deadlines(client):
    request = calls.predict_request("numbers", {"history": HISTORIES})
    with pytest.raises(grpc.RpcError) as caught:
        client.predict(request, timeout=1e-6)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert client.predict(request)[1]["item_ids"].shape == (3, 5)


@pytest.mark.parametrize("model", ["numbers", "names"])
def test_a_short_fuzz(bases, model):
    """As `python -m export.fuzz`, which was run with 10,000 requests."""
    limits = {**attack.LIMITS, "client_seconds": 1.0}
    config = serving.Config(**limits)
    with serving.Server(bases / model, config) as server:
        ports = {"grpc": server.grpc_port, "rest": server.rest_port}
        found = attack.attack(model, ports, requests=150, seed=1)
    assert (found["wrong"], found["differed"]) == (0, 0), found
    assert found["known_good"] == 9
    assert len(found["answers"]) > 0.8 * len(cases.CASES)
