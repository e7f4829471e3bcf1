"""Tests of `jtm_tf.learning.replay`: what is new, and how much of the old."""

import collections
import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import jtm_tf
from jtm_tf.data import splits
from jtm_tf.learning import joint
from jtm_tf.learning import replay
from jtm_tf.learning import settings
from jtm_tf.runs import folder as run_folder
from tests.support import runs
from tests.support import worlds

# The last rows of a user are today's; yesterday some users were not there.
ROWS, LATE = 3, 7


@pytest.fixture(name="logs", scope="module")
def _logs(tmp_path_factory):
    """The prepared logs of yesterday and of today."""
    folder = tmp_path_factory.mktemp("logs")
    table = worlds.draw().table()
    user = table["user"].to_numpy()
    left = np.zeros(len(user), int)
    for index in pc.sort_indices(table["timestamp"]).to_numpy()[::-1]:
        left[index] = 1 + np.count_nonzero(left[user == user[index]])
    before = table.filter(pa.array((left > ROWS) & (user % LATE != 0)))
    return [
        jtm_tf.prepare(x, folder / name, min_interactions=2)
        for x, name in ((before, "yesterday"), (table, "today"))
    ]


def trained_on(data):
    """Returns (raw user, time) of all rows that a run is trained on, slowly."""
    users = set(data.split_users("train").tolist())
    raw = [None, *data.users["raw_id"].to_pylist()]
    return {
        (raw[user], time)
        for user, time in zip(data.user.tolist(), data.timestamp.tolist())
        if user in users
    }


def of(examples, data):
    """Returns (raw user, time) of each sample's target."""
    rows = splits.rows_of(splits.sampled(data, "train"))[examples.targets]
    raw = [None, *data.users["raw_id"].to_pylist()]
    return [(raw[data.user[row]], int(data.timestamp[row])) for row in rows]


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("least", [None, 0, 100, 10**6])
def test_all_that_is_new_and_some_of_the_old(logs, share, least):
    was, now = logs
    until = replay.known_until(was, now)
    examples = splits.examples(now)
    found, counts = replay.choose(
        examples, now, until, share=share, least=least, seed=0
    )
    known = trained_on(was)
    every, got = of(examples, now), of(found, now)
    new = [x for x in every if x not in known]
    assert collections.Counter(x for x in got if x not in known) == (
        collections.Counter(new)
    )
    old = len(got) - len(new)
    if least is None:
        least = -(-len(every) // 10)
    wanted = max(-(-len(new) * (1 - share) // share), least - len(new))
    assert old == min(wanted, len(every) - len(new))
    assert counts == {"samples_new": len(new), "samples_old": old}
    assert 100 < len(new) < len(every) - 100
    again, _ = replay.choose(
        examples, now, until, share=share, least=least, seed=0
    )
    np.testing.assert_array_equal(found.targets, again.targets)
    if old and len(got) < len(every):
        other, _ = replay.choose(
            examples, now, until, share=share, least=least, seed=1
        )
        assert of(other, now) != got


def test_nothing_is_new(logs):
    _, now = logs
    examples = splits.examples(now)
    found, counts = replay.choose(
        examples,
        now,
        replay.known_until(now, now),
        share=0.5,
        least=None,
        seed=0,
    )
    assert counts["samples_new"] == 0
    assert len(found) == counts["samples_old"] == -(-len(examples) // 10)


def test_ids_of_another_type_are_other_users(logs):
    was, now = logs
    ids = pa.array([f"u{x}" for x in now.users["raw_id"].to_pylist()])
    users = now.users.set_column(1, "raw_id", ids)
    until = replay.known_until(was, dataclasses.replace(now, users=users))
    assert np.all(until == np.iinfo(np.int64).min)


@pytest.mark.slow
def test_a_run_learns_from_them_however_often_it_is_killed(logs, tmp_path):
    was, now = logs
    config = dataclasses.replace(runs.TINY, joint_iterations=1)
    options = settings.RunOptions(data_dir=str(was.folder))
    joint.run(config, was, tmp_path / "was", options)
    config = dataclasses.replace(
        config, joint_iterations=2, continue_from=str(tmp_path / "was")
    )

    def run(name, on_record=lambda record: None):
        return joint.run(
            config,
            now,
            tmp_path / name,
            settings.RunOptions(data_dir=str(now.folder), on_record=on_record),
        )

    want = run("whole")
    carried = want["carried"]
    known = trained_on(was)
    every = of(splits.examples(now), now)
    assert carried["samples_new"] == sum(x not in known for x in every)
    assert carried["samples_new"] <= carried["samples_old"] < len(every) / 2

    def die(record):
        raise runs.Killed

    with pytest.raises(runs.Killed):
        run("killed", die)
    folder = run_folder.RunFolder(tmp_path / "killed")
    assert folder.known_until.exists()
    got = run("killed")
    assert not folder.known_until.exists()
    for name in ("loss", "validation"):
        assert [x[name] for x in got["iterations"]] == [
            x[name] for x in want["iterations"]
        ]
    assert got["carried"] == carried
