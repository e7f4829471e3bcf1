"""Tests of machines that hold the whole model, each."""

import json
import socket
import threading

import pytest

from jtm_tf.learning import hosts

HEADER = {"method": "jtm", "config": {"gap": 7}, "code": "1"}


@pytest.fixture(name="address")
def _address():
    """Somebody who listens, as a chief does."""
    with socket.create_server(("127.0.0.1", 0)) as chief:
        yield f"127.0.0.1:{chief.getsockname()[1]}"


def never():
    return False


def test_orders_are_followed_once_and_in_turn(tmp_path, address):
    file = tmp_path / "run" / "chief.json"
    chief, other = (hosts.Note(file, 5, address) for _ in range(2))
    finished = threading.Event()
    orders = other.orders(finished.is_set)
    chief.lead(HEADER)
    other.check(HEADER, never)
    for checkpoint in ("ckpt-1", "ckpt-4"):
        chief.order(checkpoint)
        assert next(orders) == checkpoint
    finished.set()
    assert list(orders) == []


def test_what_an_earlier_chief_said_is_not_heard(tmp_path, address):
    """It is still to be seen while the new one has not yet said anything."""
    file = tmp_path / "chief.json"
    before = hosts.Note(file, 4, address)
    before.lead(HEADER | {"method": "tdm"})
    before.order("ckpt-9")
    other = hosts.Note(file, 5, address)
    chief = hosts.Note(file, 5, address)

    def late():
        chief.lead(HEADER)
        chief.order("ckpt-2")

    timer = threading.Timer(0.5, late)
    timer.start()
    other.check(HEADER, never)
    assert next(other.orders(never)) == "ckpt-2"
    timer.join()


def test_another_run_is_refused(tmp_path, address):
    file = tmp_path / "chief.json"
    hosts.Note(file, 5, address).lead(HEADER)
    own = HEADER | {"config": {"gap": 6}, "code": "2"}
    with pytest.raises(ValueError) as told:
        hosts.Note(file, 5, address).check(own, never)
    assert "code: '1' there, '2' here; config.gap: 7 there, 6 here" in str(
        told.value
    )


def test_a_chief_that_is_gone_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("jtm_tf.learning.cluster._PATIENCE", 0.3)
    file = tmp_path / "chief.json"
    file.write_text("{")  # half a note
    with pytest.raises(OSError, match="has gone before its run ended"):
        list(hosts.Note(file, 5, "127.0.0.1:1").orders(never))


def test_there_are_no_parameter_servers(monkeypatch, tmp_path):
    found = {
        "cluster": {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]},
        "task": {"type": "chief", "index": 0},
    }
    monkeypatch.setenv("TF_CONFIG", json.dumps(found))
    with pytest.raises(ValueError, match="TF_CONFIG, such as") as told:
        hosts.join(tmp_path / "chief.json")
    assert '"ps": ["HOST' not in str(told.value)
