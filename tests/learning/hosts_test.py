"""Tests of machines that hold the whole model, each."""

import dataclasses
import json
import socket
import threading
import types

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.data import interactions
from jtm_tf.learning import hosts
from jtm_tf.learning import inputs as inputs_lib
from jtm_tf.learning import joint
from jtm_tf.learning import settings
from jtm_tf.learning import state as state_lib
from jtm_tf.runs import folder as run_folder
from tests.support import runs

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
    timer = threading.Timer(0.5, finished.set)
    timer.start()  # till then the last order is looked at again and again
    assert list(orders) == []
    timer.join()


def test_who_followed_a_chief_leaves_when_it_begins_anew(tmp_path, address):
    """Though somebody listens at its address."""
    file = tmp_path / "chief.json"
    chief, other = (hosts.Note(file, 5, address) for _ in range(2))
    chief.lead(HEADER)
    chief.order("ckpt-1")
    orders = other.orders(never)
    assert next(orders) == "ckpt-1"
    hosts.Note(file, 6, address).lead(HEADER)
    with pytest.raises(OSError, match="has begun anew"):
        next(orders)


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


def _roomy(config):
    """Returns settings of which a tree step has other leaves in use."""
    learning = dataclasses.replace(
        config.tree_learning, slack=2.0, cluster_below=0, lazy=False
    )
    return dataclasses.replace(
        config, tree_learning=learning, tree_tries=0, clusters_first="no"
    )


@pytest.mark.slow
@pytest.mark.parametrize("config", [runs.TINY, _roomy(runs.DEFAULT)])
def test_who_follows_begins_where_the_chief_does(
    config, tmp_path, tmp_path_factory
):
    """From its checkpoint, tree and all; and writes nothing."""
    data = interactions.load(runs.shared(tmp_path_factory)[0])
    folder = run_folder.RunFolder(tmp_path / "run")
    strategy = tf.distribute.get_strategy()  # of one device

    def options(**who):
        found = types.SimpleNamespace(**who)
        return settings.RunOptions(mirrored=strategy, hosts=found)

    follower = state_lib.State(
        config,
        inputs_lib.take(config, data, folder),
        folder,
        options(leads=False, note=None),
    )
    trees, tables = [], []

    class Note:
        """Of whose orders each is followed at once."""

        def lead(self, header):
            assert header["method"] == "jtm"

        def order(self, checkpoint):
            before = {*folder.checkpoints.iterdir()}
            follower.follow(checkpoint)
            assert {*folder.checkpoints.iterdir()} == before
            trees.append(follower.model.tree)
            tables.append(follower.model.embedding.numpy())

    made = []

    class State(state_lib.State):
        """The chief's, to be looked at."""

        def tree_step(self):
            made.append(self.model.embedding.numpy())
            return super().tree_step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_lib, "State", State)
        metrics = joint.run(
            config, data, folder.path, options(leads=True, note=Note())
        )
    assert metrics["iterations"][0]["moved_items"] > 0
    before, after = trees
    assert before.moved_items(after) > 0
    if config.tree_learning.slack > 1:
        first, last = (set(tree.pi) for tree in trees)
        assert first != last
    for mine, chiefs in zip(tables, made, strict=True):
        np.testing.assert_allclose(mine, chiefs, atol=1e-6)
    assert np.abs(tables[0] - tables[1]).max() > 1e-3


def test_there_are_no_parameter_servers(monkeypatch, tmp_path):
    found = {
        "cluster": {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]},
        "task": {"type": "chief", "index": 0},
    }
    monkeypatch.setenv("TF_CONFIG", json.dumps(found))
    with pytest.raises(ValueError, match="TF_CONFIG, such as") as told:
        hosts.join(tmp_path / "chief.json")
    assert '"ps": ["HOST' not in str(told.value)
