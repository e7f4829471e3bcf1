"""Tests of `benchmarks.items`."""

import json

from tests.support import shell


def test_it_tells_time_and_memory():
    status, stdout, stderr = shell.run(
        "benchmarks.items", "--items=2000", "--words=100"
    )
    assert status == 0, stderr
    report = json.loads(stdout.splitlines()[-1])
    assert report["items"] == 2000
    assert min(report["milliseconds"].values()) > 0
    assert len(report["milliseconds"]) == 6
    # MiB, rounded; the names alone are larger than nothing.
    assert report["index_mib"] >= report["names_mib"] >= 0
