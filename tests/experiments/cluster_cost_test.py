"""Tests of `experiments.cluster_cost`: counted, and as it was computed."""

import json

import numpy as np
import pytest

from experiments.rehearsal import cost
from jtm_tf.data import splits
from jtm_tf.learning import samples
from jtm_tf.tree import initial
from jtm_tf.tree import tree as tree_lib
from tests.support import shell

RATES = cost.Rates(nodes=2e5, rows=1e6, pairs=7e5)


@pytest.mark.parametrize("nodes, draws", [(10, 3), (100, 100), (50, 1000)])
def test_distinct(nodes, draws):
    rng = np.random.default_rng(0)
    met = [len(set(rng.integers(0, nodes, draws))) for _ in range(2000)]
    assert cost.distinct(draws, nodes) == pytest.approx(np.mean(met), rel=0.01)
    assert cost.distinct(5, 1) == 1


def test_rows_of_a_step_are_those_of_a_stream():
    """Users who take anything meet what the model says, level by level."""
    items, rows, history, negatives, batch = 500, 40, 16, 40, 64
    rng = np.random.default_rng(0)
    users = 100
    starts = np.repeat(np.arange(users) * rows, rows)
    taken = rng.integers(1, items + 1, users * rows).astype(np.int32)
    late = np.flatnonzero(np.arange(users * rows) % rows >= history)
    examples = splits.Examples(taken, starts, np.arange(users * rows))
    examples = examples.take(late)  # whose histories are full
    tree = initial.random(items, branching=2, seed=0)
    stream = samples.dataset(
        examples,
        tree,
        max_history=history,
        negatives=negatives,
        batch_size=batch,
    )
    counted = []
    for inputs in stream.take(5):
        leaves = tree.pi[inputs["history"].numpy()]
        count = 0
        for level, nodes in enumerate(inputs["nodes"], 1):
            lifted = tree_lib.ancestor(
                leaves,
                from_level=tree.max_level,
                to_level=level,
                branching=2,
            )
            count += len(np.unique(lifted)) + len(np.unique(nodes))
        counted.append(count)
    job = cost.Job(
        items=items,
        samples=1,
        hosts=1,
        history=history,
        negatives=negatives,
        batch=batch,
    )
    told = cost.estimate(job, RATES).step_rows
    assert told == pytest.approx(np.mean(counted), rel=0.05)


def test_a_hundred_million_items():
    job = cost.Job(items=10**8, samples=10**10, hosts=64)
    found = cost.estimate(job, RATES)
    assert job.levels == 27
    assert found.table_bytes == pytest.approx(77.3e9, rel=0.01)
    assert found.server_bytes == pytest.approx(found.table_bytes / 64)
    assert 1e15 < found.epoch_bytes < 4e15
    twice = cost.estimate(
        cost.Job(items=10**8, samples=10**10, hosts=128), RATES
    )
    for name in ("worker_hours", "wire_hours", "server_hours", "tree_hours"):
        assert getattr(twice, name) == pytest.approx(getattr(found, name) / 2)
    assert found.epoch_hours >= max(found.wire_hours, found.worker_hours)


def test_the_program():
    status, stdout, stderr = shell.run(
        "experiments.cluster_cost",
        "--items=1000000",
        "--samples=20000000",
        "--hosts=4",
        "--rates=nodes=200000,rows=1000000,pairs=700000",
    )
    assert status == 0, stderr
    *lines, last = stdout.splitlines()
    assert any(
        line.startswith("table bytes") and "MB" in line for line in lines
    )
    told = json.loads(last)
    want = cost.estimate(
        cost.Job(items=10**6, samples=2 * 10**7, hosts=4), RATES
    )
    assert told["epoch_hours"] == pytest.approx(want.epoch_hours, rel=1e-3)


@pytest.mark.slow
def test_rates_are_measured():
    status, stdout, stderr = shell.run("experiments.cluster_cost", "--measure")
    assert status == 0, stderr
    rates = dict(
        pair.split("=")
        for pair in stdout.strip().removeprefix("--rates=").split(",")
    )
    assert rates.keys() == {"nodes", "rows", "pairs"}
    assert all(float(rate) > 1000 for rate in rates.values())


@pytest.mark.parametrize(
    "flags, error",
    [
        (["--items=10"], "--items and --samples say what is to be trained"),
        (
            ["--items=10", "--samples=10", "--rates=nodes=1,rows=1"],
            "--rates takes nodes=NUMBER,rows=NUMBER,pairs=NUMBER",
        ),
        (
            ["--items=10", "--samples=10", "--rates=nodes=1,rows=1,pairs=x"],
            "--rates takes nodes=NUMBER,rows=NUMBER,pairs=NUMBER",
        ),
    ],
)
def test_refusals(flags, error):
    assert error in shell.the_error(
        shell.run("experiments.cluster_cost", *flags)
    )
