"""UserBehavior in the paper's own format, from raw file to test metrics."""

import csv
import json

import numpy as np
import pytest

from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.models import saving
from jtm_tf.search import model_search
from tests.support import shell

DATA = shell.ROOT.parent / "shared" / "data"
RAW = DATA / "userbehavior" / "UserBehavior.csv"

pytestmark = pytest.mark.skipif(
    not RAW.is_file(),
    reason=f"needs rows of Tianchi data set 649 as {RAW}",
)


def run(program, *flags):
    """Runs a program; returns what it printed."""
    status, stdout, stderr = shell.run(f"experiments.{program}", *flags)
    assert status == 0, stderr
    return stdout


@pytest.fixture(name="run_dir", scope="module")
def _run_dir(tmp_path_factory):
    """Prepares the data and trains a small JTM in two iterations."""
    folder = tmp_path_factory.mktemp("userbehavior")
    data_dir, run_dir = folder / "data", folder / "run"
    run(
        "prepare",
        "--dataset=userbehavior",
        f"--input={RAW}",
        f"--data_dir={data_dir}",
    )
    run(
        "train",
        "--method=jtm",
        "--as_published",
        f"--data_dir={data_dir}",
        f"--out_dir={run_dir}",
        "--joint_iterations=2",
        "--epochs_per_iteration=1",
        "--samples_per_epoch=2000",
        "--max_samples_per_item=1",
        "--gap=2",
        "--embedding_dim=4",
        "--windows=3,1",
        "--hidden=8",
        "--negatives=20",
        "--num_results=20",
        "--beam_width=20",
        "--seed=3",
    )
    return run_dir


def test_metrics_keep_the_contract(run_dir):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert (metrics["method"], metrics["seed"]) == ("jtm", 3)
    assert [r["iteration"] for r in metrics["iterations"]] == [1, 2]
    for record in metrics["iterations"]:
        assert record["loss"] > 0
        assert record["seconds_model"] > 0 and record["seconds_tree"] >= 0
        assert record["moved_items"] >= 0
        assert {"precision", "recall", "f_measure"} <= set(record["validation"])
    assert metrics["iterations"][0]["moved_items"] > 0
    assert set(metrics["test"]) == {
        "precision",
        "recall",
        "f_measure",
        "num_results",
        "beam_width",
        "users",
    }


def test_evaluate_repeats_the_test_of_the_run(run_dir):
    want = json.loads((run_dir / "metrics.json").read_text())["test"]
    printed = run(
        "evaluate",
        f"--run_dir={run_dir}",
        "--split=test",
        f"--num_results={want['num_results']}",
        f"--beam_width={want['beam_width']}",
    )
    assert json.loads(printed.splitlines()[-1]) == want


def test_raw_ids_survive_to_the_recommendations(run_dir):
    data = interactions.load(run_dir.parent / "data")
    with open(RAW, newline="") as stream:
        rows = {(int(row[0]), int(row[1])) for row in csv.reader(stream)}
    raw_user, raw_item = (
        np.concatenate([[0], table["raw_id"].to_numpy()])
        for table in (data.users, data.items)
    )
    assert raw_user.dtype == raw_item.dtype == np.int64
    prepared = set(zip(raw_user[data.user], raw_item[data.item]))
    assert prepared <= rows
    assert len(prepared) > 0.99 * len(rows)

    model = saving.load(run_dir / "best.keras")
    users = splits.held_out_users(data, "test", model.max_history)
    items = model_search.recommend_users(
        model, users, num_results=20, beam_width=20
    )
    offered = set(raw_item[items].ravel())
    assert offered <= {item for _, item in rows}
