"""Tests of `export.load_test`: `load`, `load_questions`, `swaps`."""

import time
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from export.artefact import versions
from export.calling import load
from export.calling import swaps
from export.calling import wire
from tests.support import shell


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers one at a time: what `history` says, by version 7."""

    def __init__(self):
        self.pause = 0.0
        self.asked = []

    def Predict(self, request, context):
        time.sleep(self.pause)
        number = int(tf.make_ndarray(request.inputs["history"])[0, 0])
        self.asked.append(number)
        if number < 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return answer(7, [number])


def answer(version, ids, scores=None):
    """Returns a `PredictResponse` to one user."""
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = version
    scores = np.zeros([1, len(ids)], "f4") if scores is None else [scores]
    for name, value in (("item_ids", [ids]), ("scores", scores)):
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return response


def question(number):
    """Returns a request whose history is one number."""
    request = predict_pb2.PredictRequest()
    request.inputs["history"].CopyFrom(tf.make_tensor_proto([[number]]))
    return request


@pytest.fixture(name="service", scope="module")
def _service():
    service = Service()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        service, server
    )
    service.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield service
    server.stop(None).wait()


@pytest.fixture(autouse=True)
def _fast(service):
    service.pause = 0.0
    service.asked.clear()


def test_arrivals():
    due = load.arrivals(rate=50.0, seconds=100.0, seed=1)
    assert np.all(np.diff(due) >= 0) and due[0] >= 0 and due[-1] <= 100
    assert abs(len(due) - 5000) < 5 * np.sqrt(5000)
    gaps = np.diff(due)  # of a Poisson process: as wide as they vary
    assert 0.9 < gaps.std() / gaps.mean() < 1.1
    np.testing.assert_array_equal(due, load.arrivals(50.0, 100.0, 1))
    assert len(load.arrivals(0.001, 0.1, 0)) == 0


def test_each_is_asked_in_turn_and_answered(service):
    asked = [question(number) for number in (3, 1, 2)]
    with load.Generator(service.target, asked) as generator:
        results = generator.open_loop(np.zeros(7))
        in_turn = generator.in_turn()
    assert [result.question for result in results] == [0, 1, 2, 0, 1, 2, 0]
    for result in results:
        want = (3, 1, 2)[result.question]
        ids = tf.make_ndarray(result.response().outputs["item_ids"])
        assert ids.tolist() == [[want]]
    assert load.versions(results) == {7: 7}
    for got, want in zip(in_turn, (3, 1, 2), strict=True):
        assert tf.make_ndarray(got.outputs["item_ids"]).tolist() == [[want]]


def test_a_slow_server_cannot_hide(service):
    """Six are due at once and take turns: the last waits for all others."""
    service.pause = 0.05
    with load.Generator(service.target, [question(1)]) as generator:
        open_loop = generator.open_loop(np.zeros(6))
        closed = generator.closed_loop(1, 0.3)
    waits = sorted(result.seconds for result in open_loop)
    for place, seconds in enumerate(waits, 1):
        assert seconds >= 0.95 * place * service.pause
    # Who waits for the answer first sees a fast server.
    assert min(r.seconds for r in closed) < waits[-1] / 2


def test_errors_are_counted(service):
    asked = [question(1), question(-1)]
    with load.Generator(service.target, asked) as generator:
        results = generator.open_loop(np.linspace(0.0, 0.1, 10))
        with pytest.raises(ValueError, match="RESOURCE_EXHAUSTED"):
            load.find_capacity(generator, seconds=0.05)
        with pytest.raises(wire.RefusedError, match="RESOURCE_EXHAUSTED: full"):
            generator.in_turn()
    found = load.summary(results, 0.1)
    assert found["errors"] == {"RESOURCE_EXHAUSTED": 5}
    assert (found["requests"], found["answers"]) == (10, 5)
    assert found["versions"] == {"7": 5}

    with load.Generator("127.0.0.1:9", [question(1)], 2.0) as generator:
        results = generator.open_loop(np.zeros(1))
    found = load.summary(results, 0.1)
    assert list(found["errors"]) in (["UNAVAILABLE"], ["DEADLINE_EXCEEDED"])
    assert (found["latency_ms"], found["p99_over_p50"]) == ({}, None)


def test_percentiles():
    results = [
        load.Result(
            0, seconds, 0.0, 2.0, answer(v, [1]).SerializeToString(), None
        )
        for v, seconds in enumerate(np.arange(1, 1002) / 1000)
    ]
    found = load.summary(results, 4.0)
    assert found["latency_ms"] == {
        "p50": 501.0,
        "p90": 901.0,
        "p99": 991.0,
        "p99.9": 1000.0,
        "max": 1001.0,
    }
    assert found["p99_over_p50"] == round(991 / 501, 2)
    assert found["throughput"] == round(1001 / 4.0, 2)


def test_capacity(service):
    """One at a time and 20 ms each: 50 a second, however many callers."""
    service.pause = 0.02
    with load.Generator(service.target, [question(1)]) as generator:
        found = load.find_capacity(generator, seconds=0.4)
    assert 1 < found["rate"] <= 50
    assert len(found["tried"]) >= 3
    assert found["rate"] == max(one["rate"] for one in found["tried"])


@pytest.mark.parametrize(
    "target", ["example.com:80", "10.0.0.1:80", "127.0.0.1", "x", "0.0.0.0:1"]
)
def test_only_loopback(target):
    for near in ("localhost:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1"):
        load.require_loopback(near)
    with pytest.raises(ValueError, match="this machine only"):
        load.require_loopback(target)
    with pytest.raises(ValueError, match="this machine only"):
        load.Generator(target, [question(1)])


def result_of(response):
    """Returns the result of question 0."""
    return load.Result(0, 0.0, 0.0, 0.0, response.SerializeToString(), None)


def test_a_mixture_is_found():
    """Versions 1 and 2 differ; 3 is a copy of 1."""
    one, two = [1.0, 0.5], [1.5, 0.5]
    expected = {
        1: [answer(1, [10, 11], one)],
        2: [answer(2, [20, 11], two)],
    }
    rounded = [1.0 + 1e-6, 0.5]
    for response, kind in (
        (answer(1, [10, 11], one), "identical"),
        (answer(3, [10, 11], one), "identical"),
        (answer(2, [20, 11], two), "identical"),
        (answer(3, [10, 11], rounded), "rounded"),
        (answer(3, [11, 10], rounded), "mixed"),
        (answer(2, [10, 11], one), "mixed"),  # of 1, by the name of 2
        (answer(3, [10, 11], two), "mixed"),  # the scores of 2
        (answer(3, [20, 11], one), "mixed"),
        (answer(3, [10], one[:1]), "mixed"),
        (answer(4, [10, 11], one), "mixed"),  # nobody knows 4
    ):
        found = swaps.check([result_of(response)], {3: 1}, expected)
        assert found[kind] == found["answers"] == found["telling"] == 1
    assert found["unseen"] == [3]
    same = {1: expected[1], 2: [answer(2, [10, 11], one)]}
    found = swaps.check([result_of(answer(1, [10, 11], one))], {}, same)
    assert (found["telling"], found["unseen"]) == (0, [])


def test_publisher(tmp_path):
    """A server that is always up to date sees the copies, in turns."""
    for version in (1, 2):
        with versions.publishing(tmp_path, version) as folder:
            (folder / "saved_model.pb").write_text(str(version))
    publisher = swaps.Publisher(
        str(tmp_path), 3, lambda: versions.existing(tmp_path)
    )
    assert publisher.sources == [1, 2]
    publisher.start(0.2)
    publisher.wait()
    assert publisher.published == {3: 1, 4: 2, 5: 1}
    assert len(publisher.seconds) == 3
    for version, source in publisher.published.items():
        copy = tmp_path / str(version) / "saved_model.pb"
        assert copy.read_text() == str(source)

    stuck = swaps.Publisher(str(tmp_path), 1, lambda: [5], patience=0.1)
    stuck.start(0.01)
    with pytest.raises(TimeoutError, match="not taken up version 6"):
        stuck.wait()
    with pytest.raises(ValueError, match="none to copy"):
        swaps.Publisher(str(tmp_path / "x"), 1, lambda: [1])


def test_a_look_that_is_refused_is_not_yet(monkeypatch):
    """But a server that never answers has gone."""
    looks = iter([[1], OSError("refused"), OSError("refused"), [1, 2]])

    def available():
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    assert 0 < swaps.wait_until_answers(2, available) < 10
    assert not list(looks)

    def nobody():
        raise OSError("nobody listens")

    monkeypatch.setattr(swaps, "_SILENCE", 0.1)
    with pytest.raises(OSError, match="nobody listens"):
        swaps.wait_until_answers(2, nobody)


def test_the_program_refuses():
    error = shell.the_error(
        shell.run(
            "export.load_test",
            "--target=example.com:80",
            "--model=m",
            "--rate=1",
        )
    )
    assert "this machine only" in error
