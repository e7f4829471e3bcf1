"""Tests of `experiments.online_test`: a day of it, and a week that stopped."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest

from experiments.online import served
from experiments.online import week
from jtm_tf.data import interactions
from jtm_tf.tree import tree as tree_lib
from tests.support import shell

SMALL = week.Config(
    people=300,
    items=200,
    days=2,
    slots=2,
    past=8.0,
    bucket_share=0.3,
    buckets=("item_cf", "item_cf_again"),
)


def test_a_week_that_was_stopped_ends_as_if_undisturbed(tmp_path, monkeypatch):
    want = week.Week(SMALL, tmp_path / "want").run()
    for name in SMALL.buckets:
        days = want["buckets"][name]["days"]
        assert len(days) == SMALL.days
        assert all(0 < day["ctr"] < 1 for day in days)
    assert want["buckets"]["item_cf"]["clicks"] > 0
    assert want["failed_requests"] == {} == want["nights"]

    class Stopped(BaseException):
        pass

    day, calls = week.Week._day, []

    def stopping(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise Stopped
        return day(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(week.Week, "_day", stopping)
        with pytest.raises(Stopped):
            week.Week(SMALL, tmp_path / "got").run()
    assert week.Week(SMALL, tmp_path / "got").run() == want
    other = dataclasses.replace(SMALL, seed=1)
    with pytest.raises(ValueError, match="a week of other settings"):
        week.Week(other, tmp_path / "got")


class Fake:
    """A service that finds nothing, and counts what it is asked."""

    made: list[int] = []

    def __init__(self, folder, flags, stack, workers):
        self.failed = 0

    def night(self, day, data_dir, newest, train_flags):
        assert interactions.load(data_dir).num_items
        Fake.made.append(day)
        return {"day": day, "seconds": {}, "error": None, "requests": 1}

    def serve(self):
        pass

    def retrieve(self, newest, count):
        self.failed += 1
        return np.zeros((len(newest), count), np.int32)


def test_a_week_with_nights_goes_on_after_them(tmp_path, monkeypatch):
    """A night that is done is not done again; failures are not forgotten."""
    monkeypatch.setattr(served, "Served", Fake)
    config = dataclasses.replace(SMALL, buckets=("item_cf", "jtm"))
    want = week.Week(config, tmp_path / "want").run()
    assert [night["day"] for night in want["nights"]["jtm"]] == [1, 2]
    assert want["failed_requests"]["jtm"] > 0
    Fake.made.clear()
    day, calls = week.Week._day, []

    class Stopped(BaseException):
        pass

    def stopping(self, *args):
        calls.append(args)
        if len(calls) in (2, 4):
            raise Stopped
        return day(self, *args)

    monkeypatch.setattr(week.Week, "_day", stopping)
    for _ in range(2):
        with pytest.raises(Stopped):
            week.Week(config, tmp_path / "got").run()
    assert week.Week(config, tmp_path / "got").run() == want
    assert Fake.made == [1, 2]


def test_few_people_and_items(tmp_path):
    with pytest.raises(ValueError, match="none is in the buckets of"):
        week.Week(dataclasses.replace(SMALL, people=2), tmp_path)
    few = dataclasses.replace(SMALL, people=20, items=50, days=1)
    report = week.Week(few, tmp_path).run()
    assert set(report["buckets"]) == set(few.buckets)


def test_new_items_come_and_old_ones_go(tmp_path):
    one = week.Week(SMALL, tmp_path)
    first, last = (one._available(day)[1:] for day in (0, SMALL.days))
    assert np.mean(~first) == pytest.approx(SMALL.late)
    assert np.mean(first & ~last) == pytest.approx(SMALL.gone)
    assert np.mean(last & ~first) == pytest.approx(SMALL.late)


@pytest.mark.slow
@pytest.mark.parametrize("days", [1, 2])
def test_a_day_of_it(days, tmp_path):
    """JTM is trained, served and asked; then continued, and swapped."""
    status, stdout, stderr = shell.run(
        "experiments.online_test",
        f"--out_dir={tmp_path / 'shop'}",
        f"--out={tmp_path / 'week'}",
        "--people=300",
        "--items=200",
        f"--days={days}",
        "--buckets=item_cf,jtm",
        "--bucket_share=0.3",
        "--first_flags=--joint_iterations=1",
        "--train_flags=--as_published --embedding_dim=4 --windows=3,1 "
        "--hidden=8 --negatives=16 --samples_per_epoch=500 --gap=3 "
        "--num_results=50 --beam_width=60 --cuts=",
    )
    assert status == 0, stderr
    report = json.loads((tmp_path / "week.json").read_text())
    nights = report["nights"]["jtm"]
    assert [night["error"] for night in nights] == [None] * days
    assert report["failed_requests"] == {"jtm": 0}
    assert report["buckets"]["jtm"]["clicks"] > 0
    assert "| JTM |" in stdout and stdout.strip() in (
        (tmp_path / "week.md").read_text()
    )
    assert (tmp_path / "week.svg").stat().st_size > 1000
    if days == 1:
        return
    assert nights[1]["requests"] > 0 == nights[1]["failed"]
    run = tmp_path / "shop/jtm/runs/2"
    carried = json.loads((run / "metrics.json").read_text())["carried"]
    assert carried["items_kept"] > 0
    data = interactions.load(tmp_path / "shop/data/2")
    tree = tree_lib.Tree.load(run / "trees/iteration_000.npz")
    assert tree.num_items == data.num_items


@pytest.mark.slow
def test_a_night_that_fails_leaves_yesterdays_version(tmp_path, monkeypatch):
    """And says so; but the first has none to leave."""
    one = served.Served(
        tmp_path / "jtm", "--method=jtm", contextlib.ExitStack()
    )
    newest = np.zeros((3, 4), np.int64)
    with pytest.raises(ValueError, match="experiments.train failed"):
        one.night(1, tmp_path / "nowhere", newest, "")

    class Client:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def recommend(self, histories):
            raise OSError("nobody is there")

    one._client = Client()
    monkeypatch.setattr(served.Served, "_new_client", lambda self: Client())
    record = one.night(2, tmp_path / "nowhere", newest, "")
    assert "experiments.train failed" in record["error"]
    assert record["failed"] == record["requests"] == one.failed > 0
    assert not one.retrieve(newest, 5).any()


def test_the_noise_of_some_seeds(tmp_path):
    flags = [
        f"--out_dir={tmp_path / 'weeks'}",
        f"--out={tmp_path / 'noise.json'}",
        "--items=200",
        "--days=1",
        "--bucket_share=0.3",
    ]
    run = ("experiments.online_noise", *flags, "--seeds=2")
    status, stdout, stderr = shell.run(*run, "--people=300")
    assert status == 0, stderr
    report = json.loads((tmp_path / "noise.json").read_text())
    assert report == json.loads(stdout)
    one, other = report["lifts"]
    assert one != other
    for name in ("ctr", "rpm"):
        inside = [
            low <= 0 <= high
            for low, high in (x[name]["interval"] for x in (one, other))
        ]
        found = report[name]
        assert found["hold_zero"] == sum(inside)
        low, high = found["coverage"]
        assert 0 <= low <= sum(inside) / 2 <= high <= 1
        squares = one[name]["lift"] ** 2 + other[name]["lift"] ** 2
        assert found["root_mean_square"] ** 2 == pytest.approx(
            squares / 2, rel=1e-3
        )
    error = shell.the_error(shell.run(*run, "--people=301"))
    assert "holds a week of other settings" in error
