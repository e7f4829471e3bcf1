"""Tests of `experiments.runs.launch`: what becomes of processes together."""

import os
import sys
import time

import pytest

from experiments.runs import launch


def test_whoever_is_stopped_stops_what_it_started(tmp_path):
    """And starts no more, though the queue has some."""
    wait = [sys.executable, "-c", "import time; time.sleep(600)"]
    logs = [tmp_path / name for name in "123"]
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        with launch.together(2) as pool:
            ends = [
                pool.submit(launch.start, wait, log, os.environ) for log in logs
            ]
            while not (logs[0].exists() and logs[1].exists()):
                time.sleep(0.01)
            raise KeyboardInterrupt
    assert time.monotonic() - began < 300
    assert [end.result() < 0 for end in ends[:2]] == [True, True]
    assert ends[2].cancelled() and not logs[2].exists()


def test_each_process_has_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    assert "TF_NUM_INTRAOP_THREADS" not in launch.environment(1)
    for workers, threads in ((2, "3"), (4, "1"), (9, "1")):
        found = launch.environment(workers)
        assert found["TF_NUM_INTRAOP_THREADS"] == threads
