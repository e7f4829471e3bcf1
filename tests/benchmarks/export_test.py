"""Tests of `benchmarks.export`: it measures what it says, on tiny models."""

import json

import numpy as np
import pytest

from benchmarks import export as export_benchmark
from tests.support import shell

WANTED = {
    "roofline_batch32",
    "roofline_batch1",
    "scan_ratio",
    "growth_2_24_over_2_20",
    "filtered_ratio",
    "load_seconds_10m",
    "resident_gib_10m",
}


@pytest.mark.slow
def test_prints_all_figures():
    status, stdout, stderr = shell.run(
        "benchmarks.export",
        "--json",
        "--items=500",
        "--large_items=1000",
        "--rounds=1",
        "--batch=2",
    )
    assert (status, stderr) == (0, "")
    figures = json.loads(stdout.splitlines()[-1])
    assert WANTED <= set(figures)
    assert all(figures[name] > 0 for name in WANTED)
    assert figures["resident_gib_10m"] <= figures["peak_gib_10m"]


def test_ids_do_not_repeat():
    ids = export_benchmark.raw_ids(np.arange(1, 100_000))
    assert len(np.unique(ids)) == len(ids) and np.all(ids > 0)
