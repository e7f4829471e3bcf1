"""Tests of which versions serve: swaps under load, and broken versions."""

import concurrent.futures
import contextlib
import gc
import pathlib
import shutil
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf

from export import serving
from export.serving import loaded
from export.serving import watcher
from tests.support import calls
from tests.support import clocks
from tests.support import served_models

POLL = 0.05


@pytest.fixture(name="warnings")
def _warnings(monkeypatch):
    """Collects what the watcher warns of."""
    said = []
    monkeypatch.setattr(
        watcher.logging, "warning", lambda text, *x: said.append(text % x)
    )
    return said


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory):
    """Versions 1 to 3, each in a folder to copy from."""
    base = tmp_path_factory.mktemp("made")
    for version in (1, 2, 3):
        served_models.publish_numbered(
            base, version, warmup_inputs={"history": [[1, 2]]}
        )
    return base


@pytest.fixture(name="base")
def _base(made, tmp_path):
    """A folder that serves version 1."""
    put(made, tmp_path / "numbered", 1)
    return tmp_path / "numbered"


def put(made, base, version):
    """Adds a version to a folder, by one rename."""
    hidden = base / f".{version}"
    shutil.copytree(made / str(content(version)), hidden)
    hidden.rename(base / str(version))


@contextlib.contextmanager
def running(base, **settings):
    """Yields a server and a client of it."""
    config = serving.Config(poll_seconds=POLL, **settings)
    with serving.Server(base, config) as server:
        client = calls.Client(
            {"grpc": server.grpc_port, "rest": server.rest_port}
        )
        with contextlib.closing(client):
            yield server, client


def content(number):
    """Returns which of the made versions a number is a copy of."""
    return 1 + (number - 1) % 3


def ask(client, history=((1, 2),), **to):
    """Returns the version that answered, by header and by all its rows."""
    request = calls.predict_request(
        "numbered", {"history": np.array(history, np.int64)}, **to
    )
    spec, outputs = client.predict(request)
    assert outputs["sums"].tolist() == [sum(row) for row in history]
    assert set(outputs["version"]) == {content(spec.version.value)}
    return spec.version.value


def wait_for(condition):
    """Waits until something holds; fails if it does not within 20 s."""
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.01)


def state(server, version):
    """Returns the state of a version and its error, None if unknown."""
    found = {number: rest for number, *rest in server.watcher.states()}
    return found.get(version)


def test_memory_is_settled_once_a_look(made, base, monkeypatch):
    """A look through all objects stops requests, so not one a version."""
    settled = []
    monkeypatch.setattr(watcher, "_settle", lambda: settled.append(1))
    put(made, base, 2)
    with running(base) as (_, client):
        assert len(settled) == 1
        put(made, base, 3)
        wait_for(lambda: ask(client) == 3)
        wait_for(lambda: len(settled) > 1)


def test_the_process_is_as_it_was(made, base, monkeypatch):
    """While a version is loaded, and after the server has gone."""
    before = gc.get_threshold(), sys.getswitchinterval()
    turns, load = [], loaded.LoadedVersion

    def noted(*args):
        turns.append(sys.getswitchinterval())
        return load(*args)

    monkeypatch.setattr(loaded, "LoadedVersion", noted)
    with running(base):
        assert gc.get_threshold()[:2] == before[0][:2]
        assert gc.get_threshold()[2] > before[0][2]
        assert sys.getswitchinterval() == before[1]
    assert turns and max(turns) < before[1]
    assert (gc.get_threshold(), sys.getswitchinterval()) == before
    assert gc.get_freeze_count() == 0


def test_a_version_rests_between_its_steps_if_another_answers(
    made, base, monkeypatch
):
    rests = []

    def warm_up(self, rest):
        began = time.monotonic()
        rest(0.15)
        rests.append(time.monotonic() - began)
        return 1

    monkeypatch.setattr(loaded.LoadedVersion, "warm_up", warm_up)
    put(made, base, 2)
    with running(base) as (server, _):
        first = len(rests)
        assert rests[0] < 0.1, "nobody waits for the processors"
        put(made, base, 3)
        wait_for(lambda: len(rests) > first)
        assert state(server, 3) is not None
    assert min(rests[first:]) >= 0.3


def test_a_version_that_fails_late_is_freed(made, base, monkeypatch):
    """It was in memory when its warm-up failed."""
    settled = []
    put(made, base, 2)

    def fails(self, rest):
        raise ValueError("a bad request")

    with running(base) as (server, _):
        monkeypatch.setattr(watcher, "_settle", lambda: settled.append(1))
        monkeypatch.setattr(loaded.LoadedVersion, "warm_up", fails)
        put(made, base, 3)
        wait_for(lambda: settled)
        assert "a bad request" in state(server, 3)[1]


def test_a_clock_that_jumps_back_hides_no_version(made, base, monkeypatch):
    """Asked by HTTP: the deadlines of gRPC's client are times of day."""
    clocks.jumping_back(monkeypatch)

    def serving_now():
        _, _, answer = client.http(
            "/v1/models/numbered:predict", {"inputs": {"history": [[1, 2]]}}
        )
        (version,) = answer["outputs"]["version"]
        return version

    with running(base) as (_, client):
        assert serving_now() == 1
        put(made, base, 2)
        wait_for(lambda: serving_now() == 2)


def test_another_tools_model_is_served(tmp_path):
    """It has no card, no vocabulary, no warm-up of ours."""
    base = tmp_path / "doubler"
    module = tf.Module()
    module.twice = tf.function(
        lambda x: {"y": 2 * x},
        input_signature=[tf.TensorSpec([None], tf.float32, name="x")],
    )
    tf.saved_model.save(
        module, str(base / "1"), {"serving_default": module.twice}
    )
    with running(base) as (_, client):
        status, _, answer = client.http(
            "/v1/models/doubler:predict", {"instances": [1.0, 2.5]}
        )
    assert (status, answer) == (200, {"predictions": [2.0, 5.0]})


def test_swaps_under_load(made, base):
    """No request fails, and no answer is of two versions."""
    stop, seen = threading.Event(), set()

    def load(seed):
        rng, count = np.random.default_rng(seed), 0
        while not stop.is_set():
            rows, length = rng.integers(1, 5, 2)
            seen.add(ask(client, rng.integers(1, 99, [rows, length])))
            count += 1
        return count

    with running(base) as (server, client):
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            loads = [threads.submit(load, seed) for seed in range(8)]
            try:
                for number in range(2, 8):
                    put(made, base, number)
                    wait_for(lambda n=number: n in seen)
            finally:
                stop.set()
            assert all(one.result() > 5 for one in loads)
        assert seen == set(range(1, 8))
        wait_for(lambda: [x[0] for x in server.watcher.states()] == [7, 6])


def test_the_newest_are_kept(made, base, warnings):
    for version in (2, 3):
        put(made, base, version)
    for name in ("draft", "20231125081446123457", "٩", "007"):
        (base / name).mkdir()
    with running(base, keep_versions=2) as (server, client):
        assert ask(client) == 3
        time.sleep(4 * POLL)
        (told,) = warnings  # once, not at every look
        assert "'007', '20231125081446123457', '٩'" in told
        assert [number for number, *_ in server.watcher.states()] == [3, 2]
        assert ask(client, version=2) == 2
        code, text = calls.refusal(lambda: ask(client, version=1))
        assert code == "NOT_FOUND" and "[2, 3]" in text
        shutil.rmtree(base / "3")  # a rollback
        wait_for(lambda: ask(client) == 2)
        assert ask(client, version=1) == 1
        base.rename(base.parent / "lost")  # an old answer is better than none
        time.sleep(4 * POLL)
        assert ask(client) == 2


@pytest.mark.parametrize(
    "damage", ["empty", "half a graph", "no variables", "warm-up"]
)
def test_a_broken_version_is_skipped(made, base, damage, warnings):
    """The old one serves on; mended, the new one takes over."""
    whole = made / "2"
    hidden = base / ".2"
    shutil.copytree(whole, hidden)
    warmup = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"
    if damage == "empty":
        shutil.rmtree(hidden)
        hidden.mkdir()
    elif damage == "half a graph":
        graph = (whole / "saved_model.pb").read_bytes()
        (hidden / "saved_model.pb").write_bytes(graph[: len(graph) // 2])
    elif damage == "no variables":
        shutil.rmtree(hidden / "variables")
    else:
        bad = served_models.publish_numbered(
            base.parent / "bad", 9, warmup_inputs={"history": [[1, -13]]}
        )
        shutil.copy(bad / warmup, hidden / warmup)
    with running(base) as (server, client):
        hidden.rename(base / "2")
        wait_for(lambda: state(server, 2) is not None and state(server, 2)[1])
        assert state(server, 2)[0] == watcher.State.END
        assert ask(client) == 1
        time.sleep(6 * POLL)
        assert len(warnings) == 1 and "Skipped version 2" in warnings[0]
        status, _, answer = client.http("/v1/models/numbered/versions/2")
        told = answer["model_version_status"][0]["status"]
        assert status == 200 and told["error_message"]

        shutil.copytree(whole, base / "2", dirs_exist_ok=True)
        wait_for(lambda: ask(client) == 2)


def test_a_version_drains_before_it_goes(made, base):
    with running(base, keep_versions=1) as (server, client):
        held = server.watcher.acquire()
        put(made, base, 2)
        wait_for(lambda: ask(client) == 2)
        assert state(server, 1)[0] == watcher.State.UNLOADING
        inputs = {"history": np.array([[4]], np.int64)}
        answer = held.signatures["serving_default"].run(inputs)
        assert answer["version"].tolist() == [1]
        held.release()
        assert state(server, 1) is None and not held.signatures


def test_nothing_to_serve(tmp_path):
    with pytest.raises(ValueError, match="no version that can be served"):
        serving.Server(tmp_path / "nowhere").start()


def test_a_taken_port(base):
    with running(base) as (server, _):
        for name in ("port", "rest_port"):
            taken = {"port": server.grpc_port, "rest_port": server.rest_port}
            config = serving.Config(**{name: taken[name]})
            with pytest.raises(OSError, match="Cannot listen on 127.0.0.1"):
                serving.Server(base, config).start()


def test_stopping_answers_what_is_under_way(base):
    with running(base) as (server, client):
        request = calls.predict_request(
            "numbered",
            {"history": np.array([[40, 5]], np.int64)},
            signature="slow",
        )
        slow = client.stub.Predict.future(request, timeout=60)
        rest = concurrent.futures.ThreadPoolExecutor(1).submit(
            client.http,
            "/v1/models/numbered:predict",
            {"signature_name": "slow", "instances": [[40, 5]]},
            60,
        )
        wait_for(lambda: server._rest.busy)
        time.sleep(0.1)
        assert not slow.done() and not rest.done()
        server.stop()
        assert slow.result().model_spec.version.value == 1
        assert rest.result()[0] == 200
        with pytest.raises(grpc.RpcError):
            ask(client)
