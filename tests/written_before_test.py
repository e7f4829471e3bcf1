"""What earlier code wrote still loads: data, runs, a version for serving."""

import json
import tarfile

import pytest
import tensorflow as tf

from export import serving
from export.calling import agreement
from export.calling import clients
from jtm_tf.data import splits
from jtm_tf.runs import trained
from jtm_tf.search import judging
from tests.support import close
from tests.support import shell

ARCHIVE = shell.ROOT / "tests" / "written_before" / "99d241a.tar.xz"
RUNS = ("jtm", "hsm", "youtube_dnn", "attention")
# Of runs/jtm, as README.md beside the archive has it.
FLAGS = (
    "--as_published",
    "--method=jtm",
    "--joint_iterations=2",
    "--epochs_per_iteration=1",
    "--embedding_dim=4",
    "--windows=3,1",
    "--hidden=8",
    "--negatives=12",
    "--batch_size=64",
    "--gap=3",
    "--num_results=5",
    "--beam_width=8",
)


@pytest.fixture(name="before", scope="module")
def _before(tmp_path_factory):
    """The folder of what was written before."""
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def run(program, *flags):
    """Runs a program; returns the JSON that it printed last."""
    status, stdout, stderr = shell.run(program, *flags)
    assert (status, stderr) == (0, "")
    return json.loads(stdout.splitlines()[-1])


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_judged_as_it_was(before, name):
    loaded = trained.load(before / "runs" / name, before / "data")
    model = loaded.model
    users = splits.held_out_users(loaded.data, "test", model.max_history)
    assert len(loaded.metrics["cuts"]) == (2 if model.flat else 3)
    for cut in loaded.metrics["cuts"]:
        asked = {
            "num_results": cut["num_results"],
            "beam_width": cut["beam_width"] or cut["num_results"],
        }
        found = judging.judge_model(model, users, **asked)
        assert found.keys() == cut.keys()
        tied = close.doubt(model, users.history, **asked)
        assert tied < 0.5
        assert list(found.values()) == pytest.approx(
            list(cut.values()), abs=1e-6 + tied
        )


def test_a_finished_run_is_evaluated_and_left_alone(before):
    folder = before / "runs" / "jtm"
    where = f"--data_dir={before / 'data'}"
    files = {path: path.read_bytes() for path in folder.rglob("*.*")}
    want = json.loads((folder / "metrics.json").read_text())["test"]
    assert want == run(
        "experiments.evaluate",
        where,
        f"--run_dir={folder}",
        "--num_results=5",
        "--beam_width=8",
    )
    again = where, f"--out_dir={folder}", *FLAGS
    status, stdout, stderr = shell.run("experiments.train", *again)
    assert status == 0 and json.loads(stdout) == want
    assert "is finished; nothing to do" in stderr
    error = shell.the_error(shell.run("experiments.train", *again, "--gap=2"))
    assert "config.tree_learning.gap: 3 there, 2 asked" in error
    assert files == {path: path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.slow
def test_a_run_is_exported(before, tmp_path):
    said = run(
        "export.export_model",
        f"--run_dir={before / 'runs' / 'jtm'}",
        f"--data_dir={before / 'data'}",
        f"--export_dir={tmp_path / 'jtm'}",
        "--num_results=5",
        "--beam_width=8",
    )
    assert said["version"] == 1
    asked = answers(tmp_path / "jtm" / "1")
    close.rankings(*asked, *answers(before / "served" / "jtm" / "1"))


def answers(folder):
    """Returns the ids and the scores for some histories, by a SavedModel."""
    recommend = tf.saved_model.load(str(folder)).signatures["recommend"]
    history = tf.constant([[0, 0], [3, 9], [40, 17]], tf.int64)
    answer = recommend(history=history)
    return [answer[name].numpy() for name in ("item_ids", "scores")]


def test_a_version_answers(before):
    base = before / "served" / "jtm"
    card = json.loads((base / "1" / "model_card.json").read_text())
    nobody = [[card["empty_history"][name]] for name in ("item_ids", "scores")]
    found = answers(base / "1")
    close.rankings(*(side[:1] for side in found), *nobody)
    with serving.Server(base) as server:
        target = f"127.0.0.1:{server.grpc_port}"
        with clients.Client(target=target, model="jtm") as client:
            result = agreement.compare(
                trained.load(before / "runs" / "jtm", before / "data"),
                client.recommend,
                num_results=5,
                beam_width=8,
            )
    assert (result["users"], result["different"]) == (6, 0)


@pytest.mark.slow
def test_a_version_is_updated(before, tmp_path):
    (tmp_path / "new.csv").write_text("raw_id,category\n41,c0|f1\n")
    (tmp_path / "gone.csv").write_text("raw_id\n3\n")
    said = run(
        "export.update_items",
        f"--model_dir={before / 'served' / 'jtm'}",
        f"--export_dir={tmp_path / 'jtm'}",
        f"--add={tmp_path / 'new.csv'}",
        f"--remove={tmp_path / 'gone.csv'}",
    )
    assert (said["added"], said["removed"], said["updated"]) == (1, 1, 1)
    made = tf.saved_model.load(str(tmp_path / "jtm" / "1"))
    scores = made.signatures["score"](
        history=tf.constant([[9, 17]], tf.int64),
        candidates=tf.constant([[3, 41, 40]], tf.int64),
    )["scores"].numpy()
    assert (scores[0] > tf.float32.min).tolist() == [False, True, True]
