"""Accuracy against cost: indexes against the scan, and the whole program."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest

from experiments.search_cost import nearest
from experiments.search_cost import points
from jtm_tf.baselines import run as baselines_run
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import joint
from jtm_tf.learning import settings
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import model_search
from tests.support import close
from tests.support import shell
from tests.support import worlds

RESULTS = 6
TRAINED = ("youtube_dnn", "dnn", "jtm_h", "jtm")

pytest.importorskip("faiss", reason="needs faiss-cpu, of the extra `cost`")
needs_hnswlib = pytest.mark.skipif(
    importlib.util.find_spec("hnswlib") is None,
    reason="needs hnswlib, of the extra `cost`",
)


@pytest.fixture(name="runs", scope="module")
def _runs(tmp_path_factory):
    """Tiny runs of seed 3; that of jtm_j has not ended."""
    folder = tmp_path_factory.mktemp("cost")
    data_dir = worlds.prepare(folder)
    data = interactions.load(data_dir)
    config = dataclasses.replace(
        settings.from_flat(**settings.AS_PUBLISHED),
        seed=3,
        joint_iterations=1,
        embedding_dim=8,
        windows=(3, 1),
        hidden=(16,),
        visits="no",
        num_results=RESULTS,
        beam_width=RESULTS,
        cuts=(),
        training=settings.TrainingConfig(batch_size=64, negatives=10),
    )
    for method in TRAINED:
        joint.run(
            dataclasses.replace(
                config,
                method=method,
                search="pruned" if method == "jtm" else "exact",
            ),
            data,
            folder / "runs" / f"{method}-3",
            settings.RunOptions(data_dir=str(data_dir)),
        )
    baselines_run.run(
        baselines_run.CountingConfig(
            "item_cf", seed=3, num_results=RESULTS, cuts=()
        ),
        data,
        folder / "runs" / "item_cf-3",
        data_dir=str(data_dir),
    )
    (folder / "runs" / "jtm_j-3").mkdir()
    return folder / "runs"


@pytest.fixture(name="product")
def _product(runs):
    """The product model, the test users and what its own scan gives them."""
    folder = run_folder.RunFolder(runs / "youtube_dnn-3")
    data = interactions.load(folder.read_config()["data_dir"])
    model = saving.load(folder.model)
    users = splits.held_out_users(data, "test", model.max_history)
    items = model_search.recommend_users(
        model, users, num_results=RESULTS, beam_width=RESULTS
    )
    return folder, data, model, users, items


@pytest.mark.slow
def test_the_exact_index_is_the_scan_item_for_item(product):
    folder, data, model, users, want = product
    lines, _ = points.lines(folder, data, num_results=RESULTS, threads=1)
    exact = {line.name: line for line in lines}["youtube_dnn/flat"]
    got = exact.searches[None](users)
    close.answers(model, users.history, got, want, beam_width=1)
    assert exact.knob is None and exact.build_seconds > 0


@pytest.mark.parametrize(
    "key", ["flat", "ivf", pytest.param("hnsw", marks=needs_hnswlib)]
)
def test_an_index_is_exact_at_its_last_setting(key):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(101, 8)).astype(np.float32)
    users = rng.normal(size=(40, 8)).astype(np.float32)
    scores = users @ vectors.T
    want = 1 + np.argsort(-scores[:, 1:], axis=1)[:, :20]
    index = nearest.INDEXES[key](vectors, threads=1)
    found = [index.search(users, 20, x) for x in index.settings(20)]
    right = [
        np.mean([len(set(a) & set(b)) for a, b in zip(items, want)])
        for items in found
    ]
    assert right == sorted(right)
    if key == "ivf":  # eight of ten lists at last, one at first
        assert np.any(found[0] == 0) and right[-1] > 17
    else:
        close.rankings(
            *(
                side
                for items in (found[-1], want)
                for side in (items, np.take_along_axis(scores, items, axis=1))
            )
        )


def doubt(folder):
    """Returns the share of a run's test users whom ties leave open."""
    data = interactions.load(folder.read_config()["data_dir"])
    model = saving.load(folder.model)
    users = splits.held_out_users(data, "test", model.max_history)
    return close.doubt(
        model, users.history, num_results=RESULTS, beam_width=RESULTS
    )


def run(*flags):
    """Runs the program; returns its exit status, stdout and stderr."""
    return shell.run("experiments.cost", "--seed=3", *flags)


@pytest.mark.slow
def test_the_program(runs, tmp_path):
    out = tmp_path / "results" / "cost"
    status, stdout, stderr = run(
        f"--runs={runs}",
        f"--num_results={RESULTS}",
        f"--out={out}",
        "--batch_size=4",
        "--timed_batches=1",
        "--rounds=1",
    )
    assert status == 0, stderr
    assert stdout.splitlines() == [f"{out}.json", f"{out}.svg"]
    report = json.loads(out.with_suffix(".json").read_text())
    lines = {line["name"]: line for line in report["lines"]}
    indexes = {f"youtube_dnn/{key}" for key in nearest.INDEXES}
    absent = dict.fromkeys(("hsm", "tdm", "tdm_cluster"), "not trained")
    absent["jtm_j"] = "unfinished"
    if importlib.util.find_spec("hnswlib") is None:
        indexes.remove("youtube_dnn/hnsw")
        absent["youtube_dnn/hnsw"] = "hnswlib is not installed"
    assert set(lines) == {"item_cf", "jtm/exact", *TRAINED[1:]} | indexes
    assert lines["jtm"]["title"] == f"{lines['jtm/exact']['title']}, pruned"
    assert report["missing"] == absent
    for name, why in absent.items():
        assert f"{name} is left out: {why}." in stderr
    assert (report["batch_size"], report["threads"]) == (4, 1)
    assert report["num_items"] == 50

    # A run's own test recall is found again, at its own beam; here users come
    # in other batches than in the run, so that ties may turn out otherwise.
    for name, line in lines.items():
        at = {point["setting"]: point for point in line["points"]}
        method, _, index = name.partition("/")
        folder = run_folder.RunFolder(runs / f"{method}-3")
        test = folder.read_metrics()["test"]
        if index in ("", "flat"):
            got = at[test["beam_width"]]["recall"]
            tied = doubt(folder) if method in TRAINED else 0.0
            assert abs(got - test["recall"]) <= 1e-6 + tied, name
        assert all(p["milliseconds"] > 0 for p in line["points"])
    assert [p["setting"] for p in lines["jtm"]["points"]] == [3, 6, 12, 24]
    (scan,) = lines["dnn"]["points"]
    assert scan["relative_to_dnn"] == 1
    for point in lines["jtm"]["points"]:
        ratio = point["milliseconds"] / scan["milliseconds"]
        assert point["relative_to_dnn"] == pytest.approx(ratio, rel=1e-2)
    assert "<svg" in out.with_suffix(".svg").read_text()


def test_without_runs(tmp_path):
    status, _, stderr = run(f"--runs={tmp_path}", f"--out={tmp_path}/cost")
    assert status == 1
    assert "has no finished run METHOD-3" in stderr
    assert not list(tmp_path.iterdir())
