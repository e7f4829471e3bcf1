"""Requests that a server must survive, each with the answers it may get.

A case is a function of a random generator and a `World`; it sends one request
and returns what came back: the name of a gRPC status, or an HTTP status, or
"closed" where the server hung up.
"""

import json
import socket
import struct
import urllib.parse
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

PREDICT = "/tensorflow.serving.PredictionService/Predict"


class World:
    """What is attacked, and what is known of it.

    Args:
        name: of the model.
        ports: {"grpc": port, "rest": port}.
        dtype: of its ids, tf.string or tf.int64.
        limits: the server's, by flag name.
        seconds: how long to wait for an answer.
    """

    def __init__(
        self,
        name: str,
        ports: dict[str, int],
        dtype: tf.DType,
        limits: dict[str, float],
        seconds: float = 60.0,
    ):
        self.name, self.ports, self.dtype = name, ports, dtype
        self.limits, self.seconds = limits, seconds
        self._channel = grpc.insecure_channel(f"127.0.0.1:{ports['grpc']}")
        # Bytes in, bytes out: what is sent need not be a message.
        self._predict = self._channel.unary_unary(PREDICT)

    def close(self) -> None:
        self._channel.close()

    def ids(self, rng: np.random.Generator, shape: Any) -> np.ndarray:
        """Draws ids, known and unknown ones; shape as NumPy has it."""
        numbers = rng.integers(0, 100_000, shape)
        if self.dtype is tf.int64:
            return numbers
        return np.vectorize(lambda i: f"{i}".encode(), otypes=[object])(numbers)

    def request(
        self, inputs: dict[str, Any], **spec: Any
    ) -> predict_pb2.PredictRequest:
        """Returns a request; `spec` are fields of its model_spec."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.name
        for name, value in spec.items():
            if name == "version":
                request.model_spec.version.value = value
            else:
                setattr(request.model_spec, name, value)
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return request

    def rpc(self, request: Any, seconds: float | None = None) -> str:
        """Sends a message, or bytes, by gRPC; returns the status."""
        if not isinstance(request, bytes):
            request = request.SerializeToString()
        try:
            self._predict(request, timeout=seconds or self.seconds)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    def post(self, body: Any, path: str | None = None) -> str:
        """Posts JSON, or bytes; returns the HTTP status."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.raw(self.head(len(body), path) + body)

    def head(self, length: int, path: str | None = None) -> bytes:
        """Returns what comes before a body that is posted."""
        path = path or f"/v1/models/{self.name}:predict"
        lines = f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}"
        return "\r\n".join([*lines, "", ""]).encode()

    def raw(self, data: bytes, port: str = "rest", *, end: bool = True) -> str:
        """Sends bytes; returns the HTTP status, or "closed" without one.

        `end` tells the server that nothing more will come; without it, it
        has to lose patience.
        """
        address = "127.0.0.1", self.ports[port]
        with socket.create_connection(address, self.seconds) as plug:
            try:
                plug.sendall(data)
                if end and port == "grpc":
                    plug.shutdown(socket.SHUT_WR)
                if end and not data:
                    return "closed"
                answer = plug.recv(4096)
            except (ConnectionError, BrokenPipeError):
                return "closed"
        if port == "grpc" or not answer.startswith(b"HTTP/1.1 "):
            return "closed"
        return answer[9:12].decode()


def _good(rng, world):
    return {"history": world.ids(rng, rng.integers(1, 9, 2))}


def grpc_good(rng, world):
    return world.rpc(world.request(_good(rng, world)))


def grpc_wrong_dtype(rng, world):
    kinds = (np.float32, np.float64, np.int32, np.uint8, np.bool_, np.complex64)
    value = np.ones([2, 3], kinds[rng.integers(len(kinds))])
    return world.rpc(world.request({"history": value}))


def grpc_nan(rng, world):
    value = np.full([2, 3], (np.nan, np.inf)[rng.integers(2)], np.float32)
    return world.rpc(world.request({"history": value}))


def grpc_wrong_rank(rng, world):
    shape = [1] * (0, 1, 3, 4, 9)[rng.integers(5)]
    return world.rpc(world.request({"history": world.ids(rng, shape)}))


def grpc_rows_differ(rng, world):
    rows = rng.permutation(8)[:2] + 1
    inputs = {
        "history": world.ids(rng, (rows[0], 3)),
        "candidates": world.ids(rng, (rows[1], 3)),
    }
    return world.rpc(world.request(inputs, signature_name="score"))


def grpc_wrong_names(rng, world):
    inputs = _good(rng, world)
    if rng.integers(2):
        inputs["extra"] = inputs["history"]
    else:
        inputs = {}
    return world.rpc(world.request(inputs))


def grpc_extreme_ids(rng, world):
    if world.dtype is tf.string:
        size = rng.integers(0, 1000)
        value = np.array([[rng.bytes(size), b"\0", b""]], object)
    else:
        ends = np.iinfo(np.int64)
        value = np.array([[ends.min, ends.max, -1, 0]])
    return world.rpc(world.request({"history": value}))


def grpc_unknown_signature(rng, world):
    name = rng.bytes(rng.integers(1, 50)).hex()
    return world.rpc(world.request(_good(rng, world), signature_name=name))


def grpc_unknown_model(rng, world):
    name = rng.bytes(rng.integers(1, 3000)).hex()
    return world.rpc(world.request(_good(rng, world), name=name))


def grpc_unknown_version(rng, world):
    number = int(rng.integers(1000, 2**62)) * int(rng.choice([-1, 1]))
    return world.rpc(world.request(_good(rng, world), version=number))


def grpc_label(rng, world):
    return world.rpc(world.request(_good(rng, world), version_label="stable"))


def grpc_unknown_output(rng, world):
    request = world.request(_good(rng, world))
    request.output_filter.append(rng.bytes(8).hex())
    return world.rpc(request)


def grpc_too_many(rng, world):
    shape = [1, 1]
    axis = rng.integers(2)
    limit = world.limits[("max_rows", "max_length")[axis]]
    shape[axis] = int(limit) + 1
    return world.rpc(world.request({"history": world.ids(rng, shape)}))


def grpc_claimed_shape(rng, world):
    """A few bytes that claim a shape: one value stands for all."""
    request = world.request({"history": world.ids(rng, (1, 1))})
    shape = request.inputs["history"].tensor_shape
    sizes = (2**20, 2**62, -1, -(2**40))
    shape.dim[rng.integers(2)].size = sizes[rng.integers(4)]
    return world.rpc(request)


def grpc_broken_content(rng, world):
    request = world.request({"history": world.ids(rng, (2, 3))})
    request.inputs["history"].tensor_content = rng.bytes(rng.integers(1, 40))
    return world.rpc(request)


def grpc_too_large(rng, world):
    size = int(world.limits["max_request_mb"] * 2**20) + 1
    return world.rpc(world.request({"history": np.zeros([size // 8 + 1])}))


def grpc_random_bytes(rng, world):
    return world.rpc(rng.bytes(rng.integers(1, 300)))


def grpc_mutated(rng, world):
    data = bytearray(world.request(_good(rng, world)).SerializeToString())
    for _ in range(rng.integers(1, 6)):
        data[rng.integers(len(data))] = rng.integers(256)
    if rng.integers(2):
        data = data[: rng.integers(1, len(data))]
    return world.rpc(bytes(data))


def grpc_no_time(rng, world):
    return world.rpc(world.request(_good(rng, world)), seconds=1e-4)


def grpc_no_http2(rng, world):
    return world.raw(rng.bytes(rng.integers(1, 300)), "grpc")


def grpc_half_preface(rng, world):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    frame = struct.pack(">I", int(rng.integers(2**24)))[1:] + rng.bytes(6)
    whole = preface + frame + rng.bytes(20)
    return world.raw(whole[: rng.integers(1, len(whole))], "grpc")


def _row(rng, world):
    ids = world.ids(rng, rng.integers(1, 9)).tolist()
    return [x.decode() if isinstance(x, bytes) else x for x in ids]


def rest_good_rows(rng, world):
    return world.post({"instances": [_row(rng, world)]})


def rest_good_columns(rng, world):
    return world.post({"inputs": {"history": [_row(rng, world)]}})


def rest_wrong_type(rng, world):
    other = "1" if world.dtype is tf.int64 else 1
    bad = (None, True, 1.5, {"b64": 1}, {}, other)[rng.integers(6)]
    return world.post({"instances": [[*_row(rng, world), bad]]})


def rest_no_numbers(rng, world):
    text = ("NaN", "-Infinity", "1e999", "9" * 5000, "9" * 19)
    value = text[rng.integers(len(text))]
    return world.post(f'{{"instances": [[{value}]]}}'.encode())


def rest_ragged(rng, world):
    row = _row(rng, world)
    return world.post({"instances": [row, [*row, row[0]]]})


def rest_deep(rng, world):
    depth = int(rng.integers(3, 30_000))
    body = b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"
    return world.post(body)


def rest_wrong_keys(rng, world):
    good = {"history": [_row(rng, world)]}
    bodies = (
        {},
        [],
        1,
        None,
        "x",
        {"instances": []},
        {"instances": good},
        {"inputs": {**good, "x": 1}},
        {"inputs": good, "instances": [good]},
        {"inputs": good, "signature_name": 5},
        {"inputs": None},
    )
    return world.post(bodies[rng.integers(len(bodies))])


def rest_unknown_signature(rng, world):
    name = rng.bytes(8).hex()
    return world.post({"signature_name": name, "instances": [_row(rng, world)]})


def rest_unknown_model(rng, world):
    name = rng.bytes(rng.integers(1, 200)).hex()
    return world.post({"instances": [[]]}, f"/v1/models/{name}x:predict")


def rest_unknown_version(rng, world):
    number = rng.integers(1000, 2**62)
    path = f"/v1/models/{world.name}/versions/{number}:predict"
    return world.post({"instances": [_row(rng, world)]}, path)


def rest_wrong_path(rng, world):
    start = f"/v1/models/{world.name}"
    ends = (
        "",
        ":",
        ":guess",
        "/versions/x:predict",
        "/versions/" + "9" * 40,
        "/labels/a:predict",
        "//",
        "/versions/1/2",
    )
    return world.post({"instances": [[]]}, start + ends[rng.integers(8)])


def _look_up(world, **arguments):
    """Looks items up; returns the HTTP status."""
    query = urllib.parse.urlencode(arguments)
    lines = f"GET /v1/models/{world.name}/items?{query} HTTP/1.1", "Host: x"
    return world.raw("\r\n".join([*lines, "", ""]).encode())


def rest_items(rng, world):
    # Letters of all scripts, marks, controls, half surrogates, bytes.
    texts = (
        "".join(map(chr, rng.integers(1, 0xD7FF, rng.integers(1, 60)))),
        rng.bytes(rng.integers(1, 60)),
        "../" * 5 + "etc/passwd",
        "(.*)+[" + "a" * 50,
        "",
    )
    return _look_up(world, query=texts[rng.integers(len(texts))])


def rest_items_wrong(rng, world):
    wrong = (
        {},
        {"query": "a" * int(rng.integers(201, 9000))},
        {"query": "a", "count": int(rng.integers(101, 2**60))},
        {"query": "a", "count": rng.bytes(5)},
        {"query": "a", "version": 1},
    )
    return _look_up(world, **wrong[rng.integers(len(wrong))])


def rest_items_named(rng, world):
    ids = [rng.bytes(int(rng.integers(1, 40))) for _ in range(3)]
    return _look_up(world, id=ids[rng.integers(3)])


def _get(world, path):
    """Asks for a path as it is; returns the HTTP status."""
    return world.raw(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")


def rest_page(rng, world):
    paths = b"/", b"/page/main.js", b"/page/page.css", b"/page/about.json"
    return _get(world, paths[rng.integers(len(paths))])


def rest_page_wrong(rng, world):
    ends = (
        b"../page.py",
        b"../" * 9 + b"etc/passwd",
        b"%2e%2e/page.py",
        b"main.js%00",
        b"." + rng.bytes(9).hex().encode(),
        b"a" * int(rng.integers(100, 9000)) + b".js",
    )
    return _get(world, b"/page/" + ends[rng.integers(len(ends))])


def rest_truncated(rng, world):
    body = json.dumps({"instances": [_row(rng, world)]}).encode()
    return world.post(body[: rng.integers(len(body))])


def rest_random_bytes(rng, world):
    return world.post(rng.bytes(rng.integers(1, 300)))


def rest_too_large(rng, world):
    size = int(world.limits["max_request_mb"] * 2**20)
    return world.post(b" " * (size + int(rng.integers(1, size))))


def rest_claimed_size(rng, world):
    size = 10 ** int(rng.integers(9, 30))
    return world.raw(world.head(size) + b"{")


def rest_no_http(rng, world):
    return world.raw(rng.bytes(rng.integers(1, 300)) + b"\r\n\r\n")


def rest_large_header(rng, world):
    size = int(rng.integers(20_000, 100_000))
    head = f"GET /v1/models/{world.name} HTTP/1.1\r\nHost: x\r\nX: "
    return world.raw(head.encode() + b"x" * size + b"\r\n\r\n")


def rest_half(rng, world):
    """Half a request, then silence: the server must hang up by itself."""
    body = json.dumps({"instances": [_row(rng, world)]}).encode()
    whole = world.head(len(body)) + body
    return world.raw(whole[: rng.integers(1, len(whole))], end=False)


def rest_gone(rng, world):
    """Half a request, then gone."""
    body = json.dumps({"instances": [_row(rng, world)]}).encode()
    address = "127.0.0.1", world.ports["rest"]
    with socket.create_connection(address, world.seconds) as plug:
        plug.sendall(world.head(len(body) + 9) + body)
    return "closed"


_INVALID = frozenset({"INVALID_ARGUMENT"})
_BAD = frozenset({"400"})
# What is no message or half of one; it may still be a good request by chance.
_ANY = frozenset(
    {
        "OK",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        "INTERNAL",
        "RESOURCE_EXHAUSTED",
    }
)
_TOO_LARGE = frozenset({"413", "closed"})

Case = Callable[[np.random.Generator, World], str]

# Each case, and the answers that are right.
CASES: dict[Case, frozenset[str]] = {
    grpc_good: frozenset({"OK"}),
    grpc_wrong_dtype: _INVALID,
    grpc_nan: _INVALID,
    grpc_wrong_rank: _INVALID,
    grpc_rows_differ: _INVALID,
    grpc_wrong_names: _INVALID,
    grpc_extreme_ids: frozenset({"OK"}),
    grpc_unknown_signature: frozenset({"FAILED_PRECONDITION"}),
    grpc_unknown_model: frozenset({"NOT_FOUND"}),
    grpc_unknown_version: frozenset({"NOT_FOUND"}),
    grpc_label: _INVALID,
    grpc_unknown_output: _INVALID,
    grpc_too_many: _INVALID,
    grpc_claimed_shape: _INVALID,
    grpc_broken_content: _INVALID,
    grpc_too_large: frozenset({"RESOURCE_EXHAUSTED"}),
    grpc_random_bytes: _ANY,
    grpc_mutated: _ANY,
    grpc_no_time: frozenset({"OK", "DEADLINE_EXCEEDED"}),
    grpc_no_http2: frozenset({"closed"}),
    grpc_half_preface: frozenset({"closed"}),
    rest_good_rows: frozenset({"200"}),
    rest_good_columns: frozenset({"200"}),
    rest_wrong_type: _BAD,
    rest_no_numbers: _BAD,
    rest_ragged: _BAD,
    rest_deep: _BAD,
    rest_wrong_keys: _BAD,
    rest_unknown_signature: _BAD,
    rest_unknown_model: frozenset({"404"}),
    rest_unknown_version: frozenset({"404"}),
    rest_wrong_path: _BAD,
    # 404 of a version that keeps no items, 503 while many are indexed.
    rest_items: frozenset({"200", "404", "503"}),
    rest_items_wrong: _BAD,
    rest_items_named: frozenset({"200", "404", "503"}),
    rest_page: frozenset({"200"}),
    rest_page_wrong: frozenset({"404"}),
    rest_truncated: _BAD,
    rest_random_bytes: _BAD,
    rest_too_large: _TOO_LARGE,
    rest_claimed_size: _TOO_LARGE,
    rest_no_http: frozenset({"400", "closed"}),
    rest_large_header: frozenset({"400", "431", "closed"}),
    rest_half: frozenset({"closed"}),
    rest_gone: frozenset({"closed"}),
}

# These take as long as the server is patient, so few of them are drawn.
SLOW = (rest_half,)
_QUICK = [case for case in CASES if case not in SLOW]
_SLOW_SHARE = 0.002


def draw(rng: np.random.Generator) -> Case:
    """Draws a case."""
    pool = SLOW if rng.random() < _SLOW_SHARE else _QUICK
    return pool[rng.integers(len(pool))]
