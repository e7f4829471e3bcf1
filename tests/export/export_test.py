"""Tests of `export`: what is evaluated is what is exported."""

import gc
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from export import serving
from export.artefact import origin
from export.artefact import saved_model
from export.artefact import versions
from export.artefact import warmup
from jtm_tf.baselines import run as baselines_run
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.models import frozen
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import trained
from jtm_tf.search import judging
from jtm_tf.search import model_search
from jtm_tf.types import PAD
from tests.support import close
from tests.support import runs
from tests.support import served_models
from tests.support import shell
from tests.support import stock_ops
from tests.support import worlds

HISTORY = served_models.HISTORY

# Runs where no module of this project can be imported.
STRANGER = """
import sys
import numpy as np

class Nothing:
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("jtm_tf", "export", "experiments"):
            raise ImportError(name)

sys.meta_path.insert(0, Nothing())
import tensorflow as tf
try:
    import jtm_tf
except ImportError:
    pass
else:
    raise AssertionError("jtm_tf can be imported")
for folder in sys.argv[1:]:
    inputs = dict(np.load(folder + "/../in.npz", allow_pickle=False))
    inputs = {
        name: tf.constant(x.astype(object) if x.dtype.kind == "U" else x)
        for name, x in inputs.items()
    }
    recommend = tf.saved_model.load(folder).signatures["serving_default"]
    np.save(folder + "/../out.npy", recommend(**inputs)["item_ids"].numpy())
"""


def export(*flags):
    """Runs the program; returns its exit status, stdout and stderr."""
    return shell.run("export.export_model", *flags)


@pytest.fixture(name="data_dir", scope="module")
def _data_dir(tmp_path_factory):
    return runs.shared(tmp_path_factory)[0]


@pytest.fixture(name="data", scope="module")
def _data(data_dir):
    return interactions.load(data_dir)


@pytest.fixture(name="run_dir", scope="module")
def _run_dir(tmp_path_factory):
    """A run of JTM."""
    return runs.shared(tmp_path_factory)[1]


@pytest.fixture(name="exported", scope="module")
def _exported(run_dir, tmp_path_factory):
    """What the program makes of it: BASE, of one version."""
    base = tmp_path_factory.mktemp("served") / "jtm"
    status, stdout, stderr = export(
        f"--run_dir={run_dir}",
        f"--export_dir={base}",
        "--beam_width=8",
        "--num_results=5",
    )
    assert (status, stderr) == (0, "")
    assert json.loads(stdout) == {"version": 1, "path": str(base / "1")}
    return base


def test_a_stranger_gets_what_was_evaluated(data, exported, run_dir, tmp_path):
    model = saving.load(run_folder.RunFolder(run_dir).model)
    users = splits.held_out_users(data, "test", model.max_history)
    raw_ids = np.append(0, data.items["raw_id"].to_numpy())
    with_names = served_models.named(data)
    styled = served_models.untrained(path_weight=0.5, profile_sizes=(3,))
    styled_users = splits.held_out_users(
        with_names, "test", HISTORY, ("taste",)
    )
    names = np.array(["", *with_names.items["raw_id"].to_pylist()])
    tastes = np.array(["", *with_names.profile_values("taste")])
    second = tmp_path / "names" / "1"
    config = saved_model.SearchConfig(beam_width=8, num_results=5)
    saved_model.ServedModel(
        styled, with_names, profile=("taste",), config=config
    ).save(second)

    np.savez(exported / "in.npz", history=raw_ids[users.history])
    np.savez(
        tmp_path / "names" / "in.npz",
        history=names[styled_users.history[:, :HISTORY]],
        profile_taste=tastes[styled_users.history[:, HISTORY]],
    )
    subprocess.run(
        [sys.executable, "-c", STRANGER, str(exported / "1"), str(second)],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        check=True,
    )
    for vocabulary, folder, judged, known in (
        (raw_ids, exported, model, users),
        (names.astype(object), tmp_path / "names", styled, styled_users),
    ):
        want = model_search.recommend_users(
            judged, known, num_results=5, beam_width=8
        )
        assert np.all(want != PAD)
        got = np.load(folder / "out.npy", allow_pickle=True)
        if got.dtype == object:
            got = np.vectorize(bytes.decode, otypes=[object])(got)
        item_of = {raw_id: item for item, raw_id in enumerate(vocabulary)}
        got = np.vectorize(item_of.get)(got)
        close.answers(judged, known.history, got, want, beam_width=8)


@pytest.mark.slow
def test_half_as_wide_tables_are_evaluated(data, run_dir, tmp_path):
    base = tmp_path / "jtm"
    status, _, stderr = export(
        f"--run_dir={run_dir}",
        f"--export_dir={base}",
        "--num_results=5",
        "--beam_width=8",
        "--tables=float16",
        "--nowarmup",
    )
    assert (status, stderr) == (0, "")
    assert "are of float16" in (base / "1" / "model_card.md").read_text()
    model = saving.load(run_folder.RunFolder(run_dir).model)
    frozen.round_vectors(model, "float16")
    users = splits.held_out_users(data, "test", model.max_history)
    asked = {"num_results": 5, "beam_width": 8}
    want = model_search.recommend_users(model, users, **asked)
    raw_ids = np.append(0, data.items["raw_id"].to_numpy())
    loaded = tf.saved_model.load(str(base / "1")).signatures["recommend"]
    found = loaded(history=tf.constant(raw_ids[users.history]))["item_ids"]
    item_of = {raw_id: item for item, raw_id in enumerate(raw_ids)}
    got = np.vectorize(item_of.get)(found.numpy())
    close.answers(model, users.history, got, want, beam_width=8)
    status, stdout, stderr = shell.run(
        "experiments.evaluate",
        f"--run_dir={run_dir}",
        "--num_results=5",
        "--beam_width=8",
        "--tables=float16",
    )
    assert (status, stderr) == (0, "")
    judged = judging.judgement(want, users, **asked)
    doubt = close.doubt(model, users.history, **asked)
    assert abs(json.loads(stdout)["recall"] - judged["recall"]) <= 1e-6 + doubt


def test_a_frozen_model_has_the_tables_that_it_has(data):
    model = frozen.FrozenModel(served_models.untrained(), dtype="float16")
    with pytest.raises(ValueError, match="float16 tables; .* float32"):
        saved_model.ServedModel(model, data)
    with pytest.raises(ValueError, match="tables must be one of"):
        saved_model.SearchConfig(tables="int8")


def test_only_stock_ops(exported):
    ops = stock_ops.by_signature(exported / "1")
    for name in ("recommend", "recommend_filtered", "score", "explain"):
        assert "LowerBound" in ops[name], name  # ids are looked up
    assert {"TopKV2", "LowerBound", "Assert"} <= ops["recommend_filtered"]
    assert not stock_ops.foreign(exported / "1")


def test_a_version_goes_as_it_came(exported):
    """Its gradients, if there were any, would stay with TensorFlow."""

    def graphs():
        gc.collect()
        return sum(isinstance(value, tf.Graph) for value in gc.get_objects())

    before = graphs()
    loaded = tf.saved_model.load(str(exported / "1"))
    assert graphs() > before
    del loaded
    assert graphs() == before


def test_a_version_describes_itself(data, exported, run_dir):
    folder = exported / "1"
    assert {path.name for path in folder.iterdir()} >= {
        "saved_model.pb",
        "variables",
        "assets.extra",
        "model_card.json",
        "model_card.md",
    }
    card = json.loads((folder / "model_card.json").read_text())
    assert card["data"]["fingerprint"] == data.manifest["fingerprint"]
    metrics = run_folder.RunFolder(run_dir).read_metrics()
    assert card["metrics"]["test"] == metrics["test"]
    loaded = tf.saved_model.load(str(folder)).signatures
    assert set(card["signatures"]) == set(loaded)
    for name, sides in card["signatures"].items():
        for key, spec in sides["outputs"].items():
            want = loaded[name].structured_outputs[key]
            assert spec["dtype"] == want.dtype.name
            assert spec["shape"] == want.shape.as_list()
        assert sides["inputs"]["history"]["max_columns"] == 1024
    markdown = (folder / "model_card.md").read_text()
    for text in ("# jtm, version 1", "`exclude`", "Empty history", "10,000"):
        assert text in markdown
    nobody = loaded["recommend"](history=tf.zeros([1, 0], tf.int64))
    told = [[card["empty_history"][x]] for x in ("item_ids", "scores")]
    close.rankings(*told, nobody["item_ids"].numpy(), nobody["scores"])

    asked = set()
    for record in tf.data.TFRecordDataset(str(folder / warmup.PATH)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        inputs = {
            name: tf.constant(tf.make_ndarray(proto))
            for name, proto in request.inputs.items()
        }
        assert request.model_spec.name == "jtm"
        loaded[request.model_spec.signature_name](**inputs)
        asked.add(request.model_spec.signature_name)
    assert asked == set(loaded) - {"trace"}


def test_versions(tmp_path):
    assert versions.choose(tmp_path / "new") == 1
    for name in ("2", "10", ".3.11", "draft"):
        (tmp_path / name).mkdir()
    assert versions.existing(tmp_path) == [2, 10]
    assert versions.choose(tmp_path) == 11
    assert versions.choose(tmp_path, 5) == 5
    with pytest.raises(ValueError, match="version 10 already.* write 11"):
        versions.choose(tmp_path, 10)


@pytest.mark.parametrize("name", ["v[1]", "v*", "v?", "a\\b"])
def test_a_folder_that_tensorflow_takes_for_a_pattern(name, tmp_path):
    for _ in range(2):  # missing, then with a version in it
        with pytest.raises(ValueError, match="choose another folder"):
            versions.choose(tmp_path / name)
        (tmp_path / name / "1").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "1" / "saved_model.pb").touch()
    for folder in (tmp_path / name, tmp_path / name / "1"):
        with pytest.raises(ValueError, match="choose another folder"):
            origin.find(folder)
    with pytest.raises(ValueError, match="choose another folder"):
        serving.Server(tmp_path / name, serving.Config()).start()


ODD = ("20231125081446123457", "9223372036854775808", "012", "١٢", "²", " 3")


def test_what_looks_like_a_version_is_passed_over(tmp_path, caplog):
    for name in (*ODD, "9223372036854775806", "-1", "1.0"):
        (tmp_path / name).mkdir()
    assert versions.existing(tmp_path) == [2**63 - 2]
    (told,) = caplog.messages
    assert all(repr(name) in told for name in ODD) and "'-1'" not in told
    assert versions.existing(tmp_path) and len(caplog.messages) == 1
    assert versions.choose(tmp_path) == 2**63 - 1
    (tmp_path / str(2**63 - 1)).mkdir()
    for version in (None, 2**63):
        with pytest.raises(ValueError, match=f"0 to {2**63 - 1}; got {2**63}"):
            versions.choose(tmp_path, version)


def test_a_crash_leaves_no_version(tmp_path):
    with pytest.raises(RuntimeError):
        with versions.publishing(tmp_path, 3) as folder:
            (folder / "saved_model.pb").write_bytes(b"half")
            assert not versions.existing(tmp_path)
            raise RuntimeError
    assert not list(tmp_path.iterdir())

    with versions.publishing(tmp_path, 3) as folder:
        (folder / "whole").touch()
    with pytest.raises(OSError):  # somebody else was faster
        with versions.publishing(tmp_path, 3) as folder:
            (folder / "late").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["3", "whole"]

    killed = (
        "import os, sys\nfrom export.artefact import versions\n"
        "with versions.publishing(sys.argv[1], 4) as folder:\n"
        "    (folder / 'saved_model.pb').write_bytes(b'half')\n"
        "    os._exit(9)\n"
    )
    command = [sys.executable, "-c", killed, str(tmp_path)]
    assert subprocess.run(command, cwd=shell.ROOT, check=False).returncode == 9
    assert versions.existing(tmp_path) == [3]

    # The next export removes it, and neither what is being written nor what
    # is none of its own.
    (left,) = tmp_path.glob(".*")
    samples = tmp_path / ".1.samples"  # of an update
    for name in (samples.name, ".1.notes"):
        (tmp_path / name).mkdir()
    with versions.publishing(tmp_path, 5) as folder:
        assert not left.exists() and not samples.exists()
        with versions.publishing(tmp_path, 6):
            assert folder.is_dir()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".1.notes", "3", "5", "6"]


def test_refusals(data, exported, run_dir, data_dir, tmp_path):
    there = f"--export_dir={exported}"
    error = shell.the_error(
        export(f"--run_dir={run_dir}", there, "--version=1")
    )
    assert "has a version 1 already; leave --version out" in error

    other = worlds.prepare(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="not trained on these data"):
        trained.load(run_dir, other)

    folder = run_folder.RunFolder(tmp_path / "run")
    config = run_folder.RunFolder(run_dir).read_config()["config"]
    header = folder.check(config, data_fingerprint="x")
    folder.claim(header, data_dir=str(data_dir))
    with pytest.raises(FileNotFoundError, match="has no model yet"):
        trained.load(folder.path)

    counted = tmp_path / "counted"
    baselines_run.run(baselines_run.CountingConfig("popular"), data, counted)
    with pytest.raises(ValueError, match="has no model: popular has no tree"):
        trained.load(counted)
    assert versions.existing(exported) == [1]
