"""Tests of `experiments.paired`: kinds of runs, by test user."""

import json

import pytest

from tests.support import fake_runs
from tests.support import shell


@pytest.fixture(name="runs")
def _runs(tmp_path):
    """Two seeds of JTM and of a scan, a third of which has other users."""
    for method, seed, recall in (
        ("jtm", 0, [0.2, 0.4]),
        ("jtm", 1, [0.2, 0.8]),
        ("jtm", 2, [0.2, 0.4]),
        ("dnn", 0, [0.1, 0.3]),
        ("dnn", 1, [0.1, 0.5]),
        ("dnn", 2, [0.1, 0.5, 0.5]),
    ):
        fake_runs.write(tmp_path, "toys", method, seed, recall=recall)
    return tmp_path / "toys"


def compare(runs, **kinds):
    """Runs the program; returns its exit status, stdout and stderr."""
    flags = [
        f"--runs={name}={','.join(str(runs / path) for path in paths)}"
        for name, paths in kinds.items()
    ]
    return shell.run("experiments.paired", f"--out={runs / 'out.json'}", *flags)


def test_differences_are_of_the_same_users(runs):
    """A scan counts at every beam."""
    status, stdout, stderr = compare(
        runs, ours=["jtm-0", "jtm-1"], scan=["dnn-0", "dnn-1"]
    )
    assert (status, stderr) == (0, "")
    report = json.loads((runs / "out.json").read_text())
    assert report["command"].startswith("python -m experiments.paired \\\n")
    ours, scan = report["kinds"]["ours"], report["kinds"]["scan"]
    assert ours["recall"]["200@400"] == pytest.approx([0.3, 0.5])
    assert scan["recall"]["20@40"] == scan["recall"]["20@20"]
    # Of two users the means over seeds differ by 0.1 and 0.2.
    assert scan["versus"]["200@400"] == pytest.approx([0.15, 0.1, 0.2])
    assert "versus" not in ours
    assert ours["validation"][0] and len(ours["validation"]) == 2
    assert scan["settings"]["method"] == "dnn" and not ours["settings"]
    assert "| ours | 40.00 ± 14.14 |" in stdout
    assert "| scan | 25.00 ± 7.07 (+15.00 [+10.00, +20.00]) |" in stdout


def test_what_cannot_be_compared(runs):
    for kinds, message in (
        (
            {"ours": ["jtm-0", "jtm-1"], "scan": ["dnn-0"]},
            "scan has runs of the seeds [0], ours of [0, 1]; give the same",
        ),
        ({"ours": ["jtm-2"], "scan": ["dnn-2"]}, "was tested on other users"),
        ({"ours": ["none"]}, "none is not a finished run"),
        ({"": ["jtm-0"]}, "--runs takes NAME=RUN,RUN,.., each name once"),
    ):
        assert message in shell.the_error(compare(runs, **kinds))
        assert not (runs / "out.json").exists()
