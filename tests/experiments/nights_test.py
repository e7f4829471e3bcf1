"""Tests of `experiments.nights`: the log of yesterday, and who is compared."""

import json

import numpy as np
import pyarrow as pa
import pytest

import jtm_tf
from experiments.trials import nights
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.runs import trained
from jtm_tf.search import judging
from jtm_tf.search import model_search
from tests.support import runs
from tests.support import shell
from tests.support import worlds

FLAGS = (
    "--as_published --embedding_dim=4 --windows=3,1 --hidden=8 --negatives=12 "
    "--batch_size=64 --branching=4 --gap=2 --num_results=5 --beam_width=8 "
    "--cuts="
)


@pytest.fixture(name="today", scope="module")
def _today(tmp_path_factory):
    """A log of 20 days of which the last four are two periods."""
    folder = tmp_path_factory.mktemp("today") / "data"
    table = worlds.draw().table()
    # Items 1..5 are sold from the last days but two on.
    late = np.asarray(table["item"]) <= 5
    kept = ~late | (np.asarray(table["timestamp"]) >= 17)
    return jtm_tf.prepare(
        table.filter(pa.array(kept)),
        folder,
        min_interactions=2,
        split="time",
        test_from=18,
    )


def raw_rows(data):
    """Returns the rows of data, (user, item, time), by raw ids."""
    return set(
        zip(
            data.users["raw_id"].take(pa.array(data.user - 1)).to_pylist(),
            data.items["raw_id"].take(pa.array(data.item - 1)).to_pylist(),
            data.timestamp.tolist(),
        )
    )


def test_yesterdays_log(today, tmp_path):
    assert (today.periods.validation_from, today.periods.test_from) == (16, 18)
    before = nights.as_of_yesterday(today, tmp_path / "data")
    periods = before.periods
    assert (periods.validation_from, periods.test_from) == (14, 16)
    assert raw_rows(before) == {row for row in raw_rows(today) if row[2] < 18}
    plain = jtm_tf.prepare(worlds.draw().table(), tmp_path / "plain")
    with pytest.raises(ValueError, match="not cut by time: prepare them"):
        nights.as_of_yesterday(plain, tmp_path / "before")


def test_a_model_left_alone_is_judged_as_it_judges_itself(tmp_path_factory):
    """On its own data there is nothing that it does not know."""
    _, run_dir = runs.shared(tmp_path_factory)
    run = trained.load(run_dir)
    users = splits.held_out_users(run.data, "test", run.model.max_history)
    recall = nights.left_alone(run, run.data, [(5, 8), (5, 4)])
    for column, (results, beam) in zip(recall.T, [(5, 8), (5, 4)]):
        want = judging.judge_model(
            run.model, users, num_results=results, beam_width=beam
        )
        assert column.mean() == pytest.approx(want["recall"], abs=1e-6)


def test_other_numbers_of_the_same_items_change_nothing(
    tmp_path_factory, tmp_path
):
    """Two items that sort first, and are unknown, shift all others' numbers."""
    _, run_dir = runs.shared(tmp_path_factory)
    run = trained.load(run_dir)
    table = worlds.draw().table()
    at = table.column_names.index("item")
    two = pa.array([-2, -1], table["item"].type)
    new = table.slice(0, 2).set_column(at, "item", two)
    data = jtm_tf.prepare(pa.concat_tables([table, new]), tmp_path / "data")
    assert data.items["raw_id"].to_pylist()[:2] == [-2, -1]
    ours = splits.held_out_users(data, "test", run.model.max_history)
    found, same = nights.left_alone(run, data, [(5, 8)])[:, 0], []
    for user, recall in zip(ours.users.tolist(), found):
        raw = data.users["raw_id"][user - 1].as_py()
        items = data.history(raw)
        known = [x for x in items[: len(items) // 2] if x > 0]
        later = set(items[len(items) // 2 :])
        row = np.zeros([1, run.model.max_history], np.int32)
        numbers = run.data.item_ids.numbers(known)[-row.shape[1] :]
        row[0, row.shape[1] - len(numbers) :] = numbers
        best = model_search.tree_search(run.model, 8, num_results=5)
        got = set(run.data.item_ids.of(best.recommend(row)[0].numpy()[0]))
        same.append(abs(recall - len(got & later) / len(later)) < 1e-6)
    assert np.mean(same) > 0.8, "more than ties can change"
    assert found.mean() > 0


@pytest.mark.slow
def test_the_program(today, tmp_path):
    status, stdout, stderr = shell.run(
        "experiments.nights",
        f"--data_dir={today.folder}",
        f"--runs_dir={tmp_path / 'runs'}",
        f"--out={tmp_path / 'nights.json'}",
        f"--train_flags={FLAGS} --joint_iterations=2",
        "--jobs=2",
    )
    assert status == 0, stderr
    report = json.loads((tmp_path / "nights.json").read_text())
    assert report == json.loads(stdout.splitlines()[-1])
    ways = report["ways"]
    assert list(ways) == list(nights.WAYS)
    (carried,) = report["carried"]
    new = report["rows"]["today"] - report["rows"]["yesterday"]
    assert new > 0 and carried["items_kept"] > 40
    for way, found in ways.items():
        (cut,) = found["cuts"]
        metrics = tmp_path / "runs/0" / way / "metrics.json"
        if way != "yesterday":
            test = json.loads(metrics.read_text())["test"]
            assert cut["recall"] == pytest.approx(test["recall"], abs=1e-5)
        if way != "anew":
            first = ways["anew"]["cuts"][0]["recall"]
            assert cut["more"] == pytest.approx(cut["recall"] - first, abs=1e-5)
            assert cut["share"] == pytest.approx(cut["recall"] / first, 0.01)
    assert ways["yesterday"]["minutes"] == 0
    data = interactions.load(tmp_path / "runs/data")
    assert data.num_items <= today.num_items
