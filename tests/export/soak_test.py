"""Tests of `export.soak`: a short one, and what is judged how."""

import copy
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from export import serving
from export.artefact import origin
from export.artefact import publishing
from export.artefact import saved_model
from export.artefact import versions
from export.calling import load
from export.soaking import background
from export.soaking import catalogue
from export.soaking import deaf
from export.soaking import judgement
from export.soaking import tally
from jtm_tf.data import interactions
from tests.support import calls
from tests.support import served_models
from tests.support import shell
from tests.support import worlds

SECONDS = 1800.0
# What a soak of half an hour reports when all is well.
GOOD = {
    "good": {
        "asked": 9,
        "answered": 9,
        "failed": 0,
        "errors": {},
        "misshapen": 0,
    },
    "rubbish": {"sent": 5, "wrong": 0, "wrong_examples": []},
    "versions": {"published": 29, "seen": 28},
    "end_over_warm": {
        "warm_seconds": 300.0,
        "resident_mib": 1.05,
        "handles": 1.0,
        "threads": 0.9,
    },
}


def samples(grows=0.0, handles=16, threads=20):
    """Returns samples, a minute apart, of a server that grows by so much."""
    return [
        {
            "seconds": 60.0 * minute,
            "resident_mib": 1000.0 + grows * minute,
            "handles": handles if minute == 30 else 16,
            "threads": threads if minute == 30 else 20,
        }
        for minute in range(1, 31)
    ]


def test_all_is_well():
    assert judgement.broken(GOOD) == []
    same = {"resident_mib": 1.0, "handles": 1.0, "threads": 1.0}
    found = judgement.ratios(samples(), SECONDS)
    assert found == {"warm_seconds": 300.0, **same}


@pytest.mark.parametrize(
    "held, name",
    [
        ({"grows": 10.0}, "resident_mib"),
        ({"handles": 18}, "handles"),
        ({"threads": 23}, "threads"),
    ],
)
def test_growth_is_refused(held, name):
    grown = judgement.ratios(samples(**held), SECONDS)
    (line,) = judgement.broken({**GOOD, "end_over_warm": grown})
    assert line.startswith(f"{name} grew to {grown[name]:g} times")


def test_what_is_compared():
    """The median of three from five minutes on: one of them is a peak."""
    held = samples(grows=1.0)
    held[4]["resident_mib"] = 3000.0  # of the fifth minute
    found = judgement.ratios(held, SECONDS)
    assert found["resident_mib"] == round(1030 / 1007, 4)
    # Of ten minutes, a sixth.
    found = judgement.ratios(held[:10], 600.0)
    assert found["warm_seconds"] == 120.0
    with pytest.raises(ValueError, match="no sample between 10 s and the end"):
        judgement.ratios(held[:1], 60.0)


@pytest.mark.parametrize(
    "part, change, says",
    [
        ("good", {"failed": 2, "errors": {"UNAVAILABLE": 2}}, "2 of 9 good"),
        ("good", {"failed": 1, "misshapen": 1}, "1 of another shape"),
        ("good", {"asked": 0, "answered": 0}, "0 of 0 good"),
        ("rubbish", {"wrong": 1, "wrong_examples": ["x"]}, "1 of 5 bad"),
        ("versions", {"seen": 0}, "Of 29 new versions none answered"),
        ("end_over_warm", {"resident_mib": float("nan")}, "grew to nan"),
    ],
)
def test_broken_promises(part, change, says):
    report = copy.deepcopy(GOOD)
    report[part].update(change)
    (line,) = judgement.broken(report)
    assert says in line


def answer(ids, version):
    """Returns an answer to one user."""
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = version
    response.outputs["item_ids"].CopyFrom(tf.make_tensor_proto([ids]))
    return response


def test_answers_are_counted():
    counted = tally.Tally(answer([1, 2], 1))
    for place, (given, error) in enumerate(
        [
            (answer([3, 4], 1), None),
            (answer([5, 6], 2), None),
            (answer([7], 2), None),
            (answer(["a", "b"], 2), None),
            (None, "UNAVAILABLE"),
        ]
    ):
        data = None if given is None else given.SerializeToString()
        counted.heed(
            place, load.Result(0, 0.001 * (place + 1), 0.0, 2.0, data, error)
        )
    assert counted.versions == {1: 1, 2: 3}
    found = counted.summary()
    assert (found["asked"], found["answered"], found["failed"]) == (5, 4, 3)
    assert (found["errors"], found["misshapen"]) == ({"UNAVAILABLE": 1}, 2)
    assert found["latency_ms"]["p50"] == 2.5
    assert found["throughput"] == 2.0


def test_turns_go_on_until_the_block_ends():
    turns = []
    with background.Background(turns.append, 0.01, first=0.0):
        while len(turns) < 3:
            time.sleep(0.001)
    assert turns == list(range(len(turns)))
    failing = threading.Event()

    def fail(turn):
        failing.set()
        raise ValueError(f"turn {turn}")

    failed = threading.Event()
    with pytest.raises(ValueError, match="turn 0"):
        with background.Background(fail, 0.01, failed=failed):
            assert failing.wait(60)
            assert failed.wait(60)
    with pytest.raises(KeyError):  # what the block raised comes first
        with background.Background(fail, 0.01):
            time.sleep(0.05)
            raise KeyError


@pytest.fixture(name="numbered", scope="module")
def _numbered(tmp_path_factory):
    """A server that has little patience, and its ports."""
    base = tmp_path_factory.mktemp("served") / "numbered"
    served_models.publish_numbered(base, 1)
    with serving.Server(base, serving.Config(client_seconds=1.0)) as server:
        yield {"grpc": server.grpc_port, "rest": server.rest_port}


def test_who_is_told_to_end_ends_its_server(tmp_path):
    base = tmp_path / "numbered"
    served_models.publish_numbered(base, 1)
    start = (
        "import pathlib, sys, time\n"
        "from export.calling import server_process\n"
        "base = pathlib.Path(sys.argv[1])\n"
        "with server_process.running(base, {}) as server:\n"
        "    print(server.ports['grpc'], flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", start, str(base)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), 60):
            pass
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 60)


def test_who_has_enough_asks_no_more(numbered):
    """What is on its way is heeded still; an hour of questions is not asked."""
    request = calls.predict_request(
        "numbered", {"history": np.ones([1, 2], np.int64)}
    )
    enough, heeded = threading.Event(), []

    def heed(index, result):
        heeded.append((index, result.error))
        enough.set()

    target = f"127.0.0.1:{numbered['grpc']}"
    with load.Generator(target, [request], 60) as asker:
        due = np.concatenate([np.zeros(3), np.full(5, 3600.0)])
        asker.send_when_due(due, heed, enough)
    assert heeded and {error for _, error in heeded} <= {None}
    assert sorted(index for index, _ in heeded) == list(range(len(heeded)))


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_the_deaf_are_cut_off(numbered, protocol):
    """They are, again and again, and the others are answered meanwhile."""
    history = np.ones([100, 2], np.int64)
    request = calls.predict_request("numbered", {"history": history})
    asking = {
        "grpc": deaf.by_grpc(request.SerializeToString()),
        # Long answers, as the system holds many short ones for them.
        "rest": deaf.by_rest(
            "/v1/models/numbered:predict",
            {"inputs": {"history": [[10**18]] * 250}},
        ),
    }[protocol]
    client = calls.Client(numbered)
    one = deaf.DeafClient(numbered[protocol], asking)
    try:
        until = time.monotonic() + 60
        while one.connections < 2:
            assert time.monotonic() < until
            for turn in range(50 if protocol == "rest" else 1):
                one.ask(turn)
            client.predict(request)
            time.sleep(0.02)
    finally:
        one.close()
        client.close()


def test_nobody_listens():
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]
    one = deaf.DeafClient(port, deaf.by_grpc(b""))
    one.ask(0)
    assert (one.asked, one.connections) == (0, 0)


@pytest.fixture(name="base", scope="module")
def _base(tmp_path_factory):
    """BASE of one version that can be updated."""
    data = interactions.load(worlds.prepare(tmp_path_factory.mktemp("world")))
    made = served_models.origin_of(
        data,
        served_models.untrained(branching=4, path_weight=0.5),
        saved_model.SearchConfig(beam_width=8, num_results=5),
    )
    base = tmp_path_factory.mktemp("served") / "tiny"
    publishing.publish(made, base, 1)
    return base


@pytest.mark.slow
def test_items_leave_and_return(base, tmp_path, monkeypatch):
    def at_once(command, **_):  # in a process that has TensorFlow already
        module = command.index("-m") + 1
        status, *said = shell.run(command[module], *command[module + 1 :])
        return subprocess.CompletedProcess(command, status, *said)

    monkeypatch.setattr(subprocess, "run", at_once)
    copied = tmp_path / "tiny"
    shutil.copytree(base, copied)
    made = catalogue.Catalogue(
        copied, lambda: versions.existing(copied)[-2:], share=0.1, seed=0
    )

    def raw_ids(version):
        return set(origin.read_items(copied / version)["raw_id"].to_pylist())

    all_items = raw_ids("1")
    made.turn()
    assert raw_ids("2") < all_items and len(all_items - raw_ids("2")) == 5
    made.turn()
    assert raw_ids("3") == all_items
    assert versions.existing(copied) == [2, 3]  # 1 is asked no more
    assert (made.removed, made.added, made.published) == (5, 5, [2, 3])
    with pytest.raises(ValueError, match="no items that can be read"):
        origin.read_items(tmp_path)


@pytest.mark.slow
def test_a_short_soak(base, tmp_path):
    status, stdout, stderr = shell.run(
        "export.soak",
        f"--model_base={base}",
        "--seconds=10",
        "--fraction=0.1",
        "--capacity_seconds=0.2",
        "--version_seconds=1",
        "--sample_seconds=0.5",
        "--client_seconds=1",
        f"--json={tmp_path / 'soak.json'}",
    )
    report = json.loads((tmp_path / "soak.json").read_text())
    assert report == json.loads(stdout)
    # Nothing fails; so short a soak may meet no version, or none but new ones.
    for line in report["broken"]:
        assert "grew to" in line or "none answered" in line, line
    assert status == (1 if report["broken"] else 0)
    assert report["versions"]["published"] >= 1
    assert report["good"]["answered"] == report["good"]["asked"] > 0
    assert report["rubbish"]["sent"] > 10
    assert all(one["asked"] > 5 for one in report["never_read"].values())
    assert report["samples"][-1]["seconds"] > 10
    assert versions.existing(base) == [1]


def test_the_program_refuses(tmp_path):
    error = shell.the_error(
        shell.run("export.soak", f"--model_base={tmp_path}")
    )
    assert "has no version" in error
