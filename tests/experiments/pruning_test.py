"""The pruned search of a trained run, beside its exact one."""

import json

import numpy as np
import pytest

from experiments.trials import pruned
from jtm_tf.data import splits
from jtm_tf.runs import trained
from jtm_tf.search import judging
from tests.support import runs
from tests.support import shell

CUTS = ((3, 2),)


@pytest.fixture(name="run_dir", scope="module")
def _run_dir(tmp_path_factory):
    return runs.shared(tmp_path_factory)[1]


@pytest.mark.slow
def test_what_is_told(run_dir, tmp_path):
    status, stdout, _ = shell.run(
        "experiments.pruning",
        f"--runs={run_dir},{run_dir}",
        "--cuts=" + ",".join(f"{m}:{k}" for m, k in CUTS),
        "--widths=1",
        f"--out={tmp_path / 'pruning.json'}",
    )
    assert status == 0
    report = json.loads((tmp_path / "pruning.json").read_text())
    assert report == json.loads(stdout.splitlines()[-1])
    assert (report["method"], report["seeds"]) == ("jtm", 2)
    assert list(report["searches"]) == ["exact", "1.0"]
    run = trained.load(run_dir)
    assert len(report["explained"][0]) == run.model.max_level
    users = splits.held_out_users(run.data, "test", run.model.max_history)
    for (m, k), exact, narrow in zip(
        CUTS, report["searches"]["exact"], report["searches"]["1.0"]
    ):
        want = judging.judge_model(
            run.model, users, num_results=m, beam_width=k
        )["recall"]
        assert exact["recall"] == pytest.approx(want, abs=0.01)  # ties
        more = narrow["recall"] - exact["recall"]
        assert narrow["more"] == pytest.approx(more, abs=1e-5)
        low, high = narrow["interval"]
        assert low <= narrow["more"] <= high
        assert narrow["scored"] <= 2 * k < exact["scored"]


def test_seeds_are_averaged():
    rng = np.random.default_rng(0)
    found = [
        {
            "chosen": None,
            "explained": [],
            "recall": {x: rng.random((9, 1)) for x in ("exact", "2.0")},
            "scored": {"exact": [30], "2.0": [4]},
        }
        for _ in range(3)
    ]
    report = pruned.report(found, [(5, 8)])
    means = {
        name: np.mean([x["recall"][name] for x in found])
        for name in ("exact", "2.0")
    }
    (point,) = report["searches"]["2.0"]
    assert point["recall"] == pytest.approx(means["2.0"], abs=1e-6)
    assert point["more"] == pytest.approx(
        means["2.0"] - means["exact"], abs=1e-6
    )
    assert point["interval"][0] < point["interval"][1]
