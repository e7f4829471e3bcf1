"""Tests of what is measured of many machines, on tiny jobs."""

import json

import numpy as np
import pytest

from tests.support import shell


@pytest.mark.slow
def test_pieces():
    status, stdout, stderr = shell.run("benchmarks.pieces", "--items=3000")
    assert status == 0, stderr
    found = json.loads(stdout.splitlines()[-1])
    assert found["prepare"]["items"] == found["place"]["items"] == 3000
    assert found["place"]["new"] == 30
    assert found["decide"]["levels"] == 1
    assert 0 < found["decide"]["moved_items"] < 3000
    # A sample is scored on 2 + 4 + 8 + 16 nodes.
    assert found["weigh"]["pairs"] == 30 * found["weigh"]["samples"] == 90_000
    for part in ("prepare", "decide", "weigh", "place", "freeze"):
        assert found[part]["peak_gib"] > 0.1


def test_pieces_that_are_none():
    error = shell.the_error(shell.run("benchmarks.pieces", "--parts=train"))
    assert "--parts takes prepare, decide" in error and "got train" in error


@pytest.mark.slow
def test_what_sharing_out_costs(monkeypatch):
    pytest.importorskip("ray", reason="needs the extra `cluster`")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # no token in HOME
    status, stdout, stderr = shell.run(
        "benchmarks.cluster",
        "--turns=1",
        "--num_items=2000",
        "--few_samples=256",
        "--many_samples=5120",
        "--loss=softmax",
    )
    assert status == 0, stderr
    found = json.loads(stdout.splitlines()[-1])
    # Processor time of so few samples is lost in that of starts.
    assert np.isfinite(found["ps_over_single"])
    assert found["ray_over_serial"] > 0.5
    # The model is of the most rows that there can be.
    bytes_of_rows = found["network_kib_a_step"]
    assert 0.2 < bytes_of_rows / found["network_kib_a_step_model"] < 1.5
