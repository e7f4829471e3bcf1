"""Users searched for in parts: the same as all at once."""

import json

import numpy as np
import pytest

from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.models import saving
from jtm_tf.pools import serial
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import model_search
from jtm_tf.search import pooled
from tests.support import runs
from tests.support import shell


@pytest.fixture(name="shared", scope="module")
def _shared(tmp_path_factory):
    """A prepared folder and a run on it."""
    return runs.shared(tmp_path_factory)


@pytest.mark.parametrize("filter_history", [False, True])
def test_parts_are_the_whole(shared, filter_history, monkeypatch):
    data, folder = interactions.load(shared[0]), run_folder.RunFolder(shared[1])
    model = saving.load(folder.model)
    users = splits.held_out_users(data, "test", model.max_history)
    asked = {
        "num_results": 5,
        "beam_width": 8,
        "filter_history": filter_history,
    }
    want = model_search.recommend_users(model, users, **asked)
    monkeypatch.setattr(pooled, "_USERS", 2)
    assert len(users) > 4
    got = pooled.recommend_users(
        serial.Pool(), model, folder.path, users, **asked
    )
    assert not list(folder.path.glob(".*"))
    # But for ties: a batch of another size adds in another order.
    assert np.mean(got == want) > 0.95


@pytest.mark.parametrize(
    "pool", ["serial", pytest.param("ray", marks=pytest.mark.slow)]
)
def test_the_program(shared, pool):
    command = [
        "experiments.evaluate",
        f"--run_dir={shared[1]}",
        f"--data_dir={shared[0]}",
        "--num_results=5",
        "--beam_width=8",
    ]
    results = []
    for more in ([], [f"--pool={pool}"]):
        if pool == "ray":
            pytest.importorskip("ray", reason="needs the extra `cluster`")
        status, stdout, stderr = shell.run(*command, *more)
        assert status == 0, stderr
        results.append(json.loads(stdout.splitlines()[-1]))
    want, got = results
    for key, value in want.items():
        assert got[key] == pytest.approx(value, rel=0.02), key
