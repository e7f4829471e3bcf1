"""One contract for every method: the checkerboard.

Even users have even items, odd users odd ones, so what is right is known
without a reference: a user's recommendations are of the user's own kind.
"""

import csv
import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from jtm_tf.baselines import rivals
from jtm_tf.baselines import run as baselines_run
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.data.preparing import preparation
from jtm_tf.learning import joint
from jtm_tf.learning import settings
from jtm_tf.models import choices
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import model_search
from jtm_tf.types import PAD
from tests.support import close

ITEMS, USERS, ROWS = 16, 240, 8
CUTS = ((6, 12), (4, 8))

SMALL = {
    "joint_iterations": 2,
    "epochs_per_iteration": 2,
    "embedding_dim": 8,
    "windows": (3, 1),
    "hidden": (16,),
    "visits": "no",
    "num_results": 6,
    "beam_width": 6,
    "cuts": CUTS,
    "batch_size": 40,
    "negatives": 20,
    "learning_rate": 1e-2,
    "gap": 2,
}
DEFAULT = settings.from_flat(**SMALL, branching=4, cluster_below=100)
# The same as published, whose graphs are traced in half the time, so that there
# may be as many levels again.
PUBLISHED = settings.from_flat(**settings.AS_PUBLISHED, **SMALL)


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
    """The prepared checkerboard; `taste` is a profile column."""
    folder = tmp_path_factory.mktemp("checkerboard")
    rng = np.random.default_rng(0)
    with open(folder / "raw.csv", "w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["user", "item", "category", "timestamp", "taste"])
        for user in range(USERS):
            items = 2 * rng.permutation(ITEMS // 2)[:ROWS] + user % 2
            for time, item in enumerate(items):
                taste = ("even", "odd")[user % 2]
                rows.writerow([user, item, f"c{item % 3}", time, taste])
    preparation.run(
        preparation.Config(
            dataset="csv",
            input=str(folder / "raw.csv"),
            data_dir=str(folder / "data"),
            profile=("taste",),
            min_interactions=ROWS,
        )
    )
    return interactions.load(folder / "data")


def own_share(data, items, users):
    """Returns the share of recommendations of the user's own parity."""
    raw_item = np.append(-1, data.items["raw_id"].to_numpy())
    raw_user = np.append(-1, data.users["raw_id"].to_numpy())
    assert np.all(items != PAD)
    own = raw_item[items] % 2 == raw_user[users.users][:, None] % 2
    return own.mean()


def check_contract(data, metrics, folder, method):
    """Checks what every method leaves behind."""
    assert (metrics["method"], metrics["seed"]) == (method, 0)
    assert metrics["test"] == metrics["cuts"][0]
    assert folder.read_metrics() == metrics
    table = pq.read_table(folder.path / "test_users.parquet")
    for cut in metrics["cuts"]:
        rows = table.filter(
            (table["num_results"].to_numpy() == cut["num_results"])
            & (
                np.array(table["beam_width"].to_pylist())
                == np.array(cut["beam_width"])
            )
        )
        assert rows.num_rows == cut["users"] == len(data.split_users("test"))
        for name in ("precision", "recall", "f_measure"):
            mean = rows[name].to_numpy().mean()
            assert mean == pytest.approx(cut[name], abs=1e-6)


@pytest.mark.parametrize(
    "method, change",
    [(method, {}) for method in settings.METHODS]
    + [
        pytest.param(
            "dnn",
            {"profile": ("taste",), "scorer": "attention"},
            marks=pytest.mark.slow,
        )
    ]
    + [
        pytest.param("jtm", change, marks=pytest.mark.slow)
        for change in (
            {"visits": "yes", "loss": "bce", "path_weight": 0.0},
            {"profile": ("taste",)},
            {"cross_fit": True},
            {"cold_start": True},
            {"renew_inner": "yes"},
            *({"scorer": scorer} for scorer in choices.SCORERS[1:]),
        )
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_checkerboard(data, method, change, tmp_path):
    default = method in ("jtm", "jtm_h") and change.keys() <= {"profile"}
    config = dataclasses.replace(
        DEFAULT if default else PUBLISHED, method=method, **change
    )
    metrics = joint.run(config, data, tmp_path / "run")
    folder = run_folder.RunFolder(tmp_path / "run")
    check_contract(data, metrics, folder, method)
    scans = config.traits.flat
    assert len(metrics["cuts"]) == (2 if scans else 3)
    assert (metrics["test"]["beam_width"] is None) == scans
    for record in metrics["iterations"]:
        levels = 0 if scans else len(record["level_losses"])
        assert {len(x) for x in record["tree"].values()} == {levels}

    model = saving.load(folder.model)
    users = splits.held_out_users(
        data, "test", model.max_history, config.profile
    )
    items = model_search.recommend_users(
        model, users, num_results=4, beam_width=6
    )
    assert own_share(data, items, users) > 0.95
    recommend = model_search.retriever(
        model, num_results=4, beam_width=6
    ).recommend.get_concrete_function()
    one_by_one = model_search.recommend_all(
        recommend, users.history, batch_size=1
    )
    close.answers(model, users.history, one_by_one, items, beam_width=6)
    nobody = np.zeros((1, model.user_width), np.int32)
    assert np.all(recommend(tf.constant(nobody))[0] != PAD)
    if config.traits.learner == "none":
        assert not any(r["moved_items"] for r in metrics["iterations"])


# A setting or two of the rivals, for data as small.
TRIES = {
    "als": {"factors": (2,), "regularization": (1.0, 4.0), "alpha": (10.0,)},
    "ease": {"regularization": (1.0, 10.0)},
    "sasrec": {
        "targets": (1, 3),
        "dim": (8,),
        "learning_rate": (0.02,),
        "rounds": (4,),
    },
}


def baseline(method):
    """Returns the configuration of a method without a tree."""
    settings = {"num_results": 6, "cuts": CUTS}
    if method in baselines_run.COUNTING:
        return baselines_run.CountingConfig(method, **settings)
    return rivals.RivalConfig(method, **settings, tries=TRIES[method])


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=[pytest.mark.slow] * (method == "sasrec"))
        for method in baselines_run.METHODS
    ],
)
def test_checkerboard_without_a_tree(data, method, tmp_path):
    if method == "als":
        pytest.importorskip("implicit", reason="needs the extra `rivals`")
    config = baseline(method)
    metrics = baselines_run.run(config, data, tmp_path / "run")
    folder = run_folder.RunFolder(tmp_path / "run")
    check_contract(data, metrics, folder, method)
    assert [cut["beam_width"] for cut in metrics["cuts"]] == [None, None]
    assert baselines_run.run(config, data, tmp_path / "run") == metrics
    if method not in ("popular", "repeat"):
        # What is known and what is left are of a user's own kind.
        assert metrics["test"]["recall"] > 0.4
        # Without the four that are known, four more are left than asked for.
        assert metrics["filtered"][0]["recall"] > 0.9
    for cut, filtered in zip(metrics["cuts"], metrics["filtered"]):
        assert cut.keys() == filtered.keys()
    if method in rivals.METHODS:
        recalls = [tried["recall"] for tried in metrics["tuned"]]
        best = metrics["tuned"][np.argmax(recalls)]
        assert metrics["chosen"].items() <= best.items()
        record = metrics["iterations"][metrics["best_iteration"] - 1]
        assert record["validation"]["recall"] == max(recalls)
    other = "repeat" if method == "popular" else "popular"
    with pytest.raises(ValueError, match="config.method: "):
        baselines_run.run(baseline(other), data, tmp_path / "run")


def test_unknown_methods_and_columns(data, tmp_path):
    with pytest.raises(ValueError, match="must be one of .* got 'svd'"):
        baselines_run.CountingConfig("svd")
    config = dataclasses.replace(PUBLISHED, profile=("shoe_size",))
    with pytest.raises(ValueError, match="no profile column 'shoe_size'"):
        joint.run(config, data, tmp_path / "run")
