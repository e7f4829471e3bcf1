"""Table 1: the arithmetic, what is refused, and the program as a whole."""

import csv
import io
import json
import pathlib
import sys
import threading

import numpy as np
import pytest
from scipy import stats

from experiments.runs import finished as finished_runs
from experiments.runs import launch
from experiments.runs import paper
from experiments.table import compare
from experiments.table import make
from experiments.table import text as table_text
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.runs import folder as run_folder
from tests.support import fake_runs
from tests.support import shell

SEEDS = (0, 1)


def read(tmp_path, methods, data=("toys",), seeds=SEEDS):
    return finished_runs.read_all(tmp_path, data, methods, seeds)


def row_of(rows, method, cut=(200, 400)):
    (row,) = [x for x in rows if (x.method, x.cut) == (method, cut)]
    return row


def test_paper_rows():
    for figures in paper.RECALL_200.values():
        assert list(figures) == list(paper.ROWS)
        assert max(figures, key=figures.get) == "jtm"
    assert paper.RECALL_200.keys() == paper.DATA_SETS.keys()


def test_mean_and_spread_by_hand(tmp_path):
    assert compare.mean_and_spread([2.0, 4.0, 9.0]) == (5.0, 13**0.5)
    assert compare.mean_and_spread([2.0]) == (2.0, None)
    mean, spread = compare.mean_and_spread([[1.0, 5.0], [3.0, 5.0]])
    np.testing.assert_allclose(mean, [2, 5])
    np.testing.assert_allclose(spread, [2**0.5, 0])

    fake_runs.write(tmp_path, "toys", "jtm", 0, recall=[0.2, 0.4])  # 0.3
    fake_runs.write(tmp_path, "toys", "jtm", 1, recall=[0.2, 0.8])  # 0.5
    fake_runs.write(tmp_path, "toys", "dnn", 0, recall=[0.1, 0.3])  # 0.2
    fake_runs.write(tmp_path, "toys", "dnn", 1, recall=[0.1, 0.5])  # 0.3
    methods = ["dnn", "jtm"]
    rows = compare.rows(read(tmp_path, methods), "toys", methods, SEEDS)
    jtm, dnn = row_of(rows, "jtm"), row_of(rows, "dnn")
    np.testing.assert_allclose(jtm.metrics["recall"], [0.4, 0.02**0.5])
    np.testing.assert_allclose(dnn.metrics["recall"], [0.25, 0.005**0.5])
    np.testing.assert_allclose(dnn.metrics["precision"][0], 0.025)
    assert (jtm.users, jtm.minutes, jtm.versus) == (2, 3.0, None)
    assert dnn.versus.lift == pytest.approx(0.6)
    assert dnn.versus.difference == pytest.approx(0.15)
    # Users differ by 0.1 and 0.2 in the mean over seeds.
    assert dnn.versus.interval == pytest.approx((0.1, 0.2))
    # A scan has one figure for both beams.
    for beam in (40, 20):
        at_20 = row_of(rows, "dnn", (20, beam))
        assert at_20.metrics["recall"][0] == pytest.approx(0.125)
        assert at_20.versus.difference == pytest.approx(0.075)


def test_recall_without_what_users_are_known_to_have(tmp_path):
    for method, recall in (("jtm", [0.2, 0.4]), ("dnn", [0.1, 0.2])):
        for seed, filtered in ((0, True), (1, method == "jtm")):
            fake_runs.write(
                tmp_path, "toys", method, seed, recall=recall, filtered=filtered
            )
    methods = ["dnn", "jtm"]

    def told(seeds):
        rows = compare.rows(read(tmp_path, methods), "toys", methods, seeds)
        text = table_text.markdown(rows, compared_with={}, command="", code=[])
        cells = list(csv.DictReader(io.StringIO(table_text.csv_text(rows))))
        return row_of(rows, "dnn"), row_of(rows, "jtm"), text, cells[0]

    dnn, jtm, text, cells = told((0,))
    assert jtm.filtered == pytest.approx((0.075, None), abs=1e-6)
    assert jtm.versus_filtered is None
    assert dnn.versus_filtered.difference == pytest.approx(0.0375)
    assert dnn.versus_filtered.interval == pytest.approx((0.025, 0.05))
    assert "| without known | JTM − row [95 %] | seeds |" in text
    assert "| 3.75 | +3.75 [+2.50, +5.00] | 1 |" in text
    assert float(cells["filtered_recall_mean"]) == pytest.approx(0.0375)
    assert float(cells["jtm_filtered_difference_low"]) == pytest.approx(0.025)
    # A run of before, which was not judged so, is not averaged with others.
    dnn, jtm, text, cells = told(SEEDS)
    assert dnn.filtered is None and jtm.filtered is not None
    assert dnn.versus_filtered.seeds == 1
    assert cells["filtered_recall_mean"] == ""


def test_bootstrap_against_a_loop():
    differences = np.random.default_rng(0).normal(size=(7, 3))
    got = compare.bootstrap(differences, resamples=50, seed=3)
    generator = np.random.default_rng(3)
    means = []
    for _ in range(50):
        users = [generator.integers(7) for _ in range(7)]
        means.append(
            [sum(differences[u, c] for u in users) / 7 for c in range(3)]
        )
    for column in range(3):
        ends = np.quantile([mean[column] for mean in means], [0.025, 0.975])
        np.testing.assert_allclose(got[column], ends)


def test_bootstrap_against_scipy():
    differences = np.random.default_rng(0).normal(size=(40, 3))
    got = compare.bootstrap(differences, resamples=500, level=0.9, seed=3)
    want = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=500,
        confidence_level=0.9,
        method="percentile",
        random_state=np.random.default_rng(3),
    ).confidence_interval
    np.testing.assert_allclose(got, np.stack([want.low, want.high], axis=1))


def test_bootstrap_in_chunks():
    differences = np.random.default_rng(0).normal(size=(9, 2))
    want = compare.bootstrap(differences, resamples=101)
    for chunk in (1, 10, 9 * 7, 9 * 101):
        got = compare.bootstrap(differences, resamples=101, chunk=chunk)
        np.testing.assert_allclose(got, want)


def test_bootstrap_finds_the_known_interval():
    """The mean of many is normal: 1.96 standard errors on either side."""
    sample = np.random.default_rng(1).normal(0.3, 2.0, size=(2_000, 1))
    low, high = compare.bootstrap(sample)[0]
    error = sample.std() / 2_000**0.5
    np.testing.assert_allclose(low, sample.mean() - 1.96 * error, atol=0.01)
    np.testing.assert_allclose(high, sample.mean() + 1.96 * error, atol=0.01)
    np.testing.assert_allclose(compare.bootstrap(np.full((5, 1), 2.0)), 2.0)
    with pytest.raises(ValueError, match="differences must be"):
        compare.bootstrap(np.zeros((0, 1)))


def test_missing_runs_are_shown_as_missing(tmp_path):
    """JTM has both seeds, TDM one, HSM none, DNN is unfinished."""
    for seed in SEEDS:
        fake_runs.write(tmp_path, "toys", "jtm", seed)
    fake_runs.write(tmp_path, "toys", "tdm", 1)
    fake_runs.write(tmp_path, "toys", "dnn", 0, finished=False)
    methods = ["hsm", "tdm", "dnn", "jtm"]
    runs = read(tmp_path, methods)
    rows = compare.rows(runs, "toys", methods, SEEDS)
    assert row_of(rows, "hsm").metrics == {}
    assert row_of(rows, "hsm").missing == SEEDS
    tdm = row_of(rows, "tdm")
    assert (tdm.seeds, tdm.missing, tdm.versus.seeds) == ((1,), (0,), 1)
    # Compared over the common seed, not over unlike means.
    by_seed = {
        x.seed: x.cut((200, 400))["recall"] for x in runs if x.method == "jtm"
    }
    assert tdm.versus.difference == pytest.approx(
        by_seed[1] - tdm.metrics["recall"][0], abs=1e-5
    )

    text = table_text.markdown(
        rows, compared_with={"toys": "books"}, command="make it", code=["1.0"]
    )
    hsm = [x for x in text.splitlines() if x.startswith("| HSM |")]
    assert hsm[0] == (
        "| HSM | – | – | – | 6.22 | – | +100.2 | – | missing | – |"
    )
    assert hsm[1] == "| HSM | – | – | – | – | – | missing | – |"
    assert "Missing: HSM (seed 0, 1); TDM (seed 0); DNN (seed 0, 1)." in text
    cells = list(csv.DictReader(io.StringIO(table_text.csv_text(rows))))
    assert len(cells) == 3 * len(methods)
    assert cells[0]["method"] == "hsm" and cells[0]["seeds"] == "0"
    for name in ("recall_mean", "recall_spread", "users", "jtm_lift"):
        assert cells[0][name] == ""
    assert cells[1]["recall_spread"] == ""  # one seed has no spread
    assert float(cells[3]["recall_spread"]) >= 0


def test_rivals_of_today_stand_below_without_a_figure_of_the_paper(tmp_path):
    methods = ["tdm", "jtm", "popular", "als", "sasrec"]
    for method in methods:
        fake_runs.write(tmp_path, "toys", method, 0)
    rows = compare.rows(read(tmp_path, methods), "toys", methods, (0,))
    text = table_text.markdown(
        rows, compared_with={"toys": "books"}, command="make it", code=["1.0"]
    )
    tables = [
        part.splitlines() for part in text.split("\n\n") if part[:1] == "|"
    ]
    named = [[line.split(" | ")[0] for line in x[2:]] for x in tables]
    assert named[:3] == [
        ["| TDM", "| JTM"],
        ["| Best-sellers"],
        [
            "| ALS",
            "| SASRec",
        ],
    ]
    assert "paper" in tables[0][0] and "paper" not in tables[2][0]
    at_20 = row_of(rows, "als", (20, 40)).metrics, row_of(rows, "als", (20, 20))
    assert at_20[0] == at_20[1].metrics  # all are scored, there is no beam


def test_without_jtm_or_any_run(tmp_path):
    fake_runs.write(tmp_path, "toys", "tdm", 0)
    methods = ["tdm", "jtm"]
    rows = compare.rows(read(tmp_path, methods), "toys", methods, SEEDS)
    assert row_of(rows, "tdm").versus is None
    rows = compare.rows([], "toys", methods, SEEDS)
    text = table_text.markdown(
        rows, compared_with={}, command="make it", code=[]
    )
    assert "No runs yet." in text and "0.00" not in text


@pytest.mark.parametrize(
    "change, named",
    [
        (
            {"config": {"method": "jtm", "training": {"rate": 0.2}}},
            r"jtm-0 and .*jtm-1: config.training.rate is 0.1 and 0.2; "
            r"config.tree_learning.gap is 7 and None\.",
        ),
        ({"data_fingerprint": "x"}, "data_fingerprint is 'of toys' and 'x'"),
        ({"code": "2.0"}, "code is '1.0.abc' and '2.0'.*--allow_code_ver"),
    ],
)
def test_unlike_runs_are_refused(tmp_path, change, named):
    fake_runs.write(tmp_path, "toys", "jtm", 0)
    fake_runs.write(tmp_path, "toys", "jtm", 1)
    finished_runs.refuse_unlike(read(tmp_path, ["jtm"]))
    fake_runs.write(tmp_path, "toys", "jtm", 1, **change)
    runs = read(tmp_path, ["jtm"])
    with pytest.raises(ValueError, match=named):
        finished_runs.refuse_unlike(runs)
    if "code" in change:
        finished_runs.refuse_unlike(runs, allow_code_versions=True)
        assert finished_runs.code_versions(runs) == ["1.0+abc", "2.0"]


def test_methods_may_differ_in_settings_but_not_in_data(tmp_path):
    fake_runs.write(tmp_path, "toys", "jtm", 0)
    fake_runs.write(tmp_path, "toys", "tdm", 0, config={"method": "tdm"})
    fake_runs.write(tmp_path, "beauty", "jtm", 0, config={"other": 1})
    methods, data = ["tdm", "jtm"], ["toys", "beauty"]
    runs = read(tmp_path, methods, data)
    finished_runs.refuse_unlike(runs, fingerprints={"toys": "of toys"})
    with pytest.raises(ValueError, match="not trained on this toys"):
        finished_runs.refuse_unlike(runs, fingerprints={"toys": "another"})
    fake_runs.write(tmp_path, "toys", "tdm", 0, data_fingerprint="x")
    with pytest.raises(ValueError, match="data_fingerprint"):
        finished_runs.refuse_unlike(read(tmp_path, methods, data))


def test_the_folder_of_another_run_is_refused(tmp_path):
    folder = fake_runs.write(tmp_path, "toys", "tdm", 0)
    folder.rename(tmp_path / "toys" / "jtm-0")
    with pytest.raises(ValueError, match="jtm-0 must hold method 'jtm'"):
        read(tmp_path, ["jtm"])
    folder = fake_runs.write(tmp_path, "toys", "jtm", 4)
    (tmp_path / "toys" / "jtm-0").rename(tmp_path / "away")
    folder.rename(tmp_path / "toys" / "jtm-0")
    with pytest.raises(ValueError, match="must hold seed 0; got 4"):
        read(tmp_path, ["jtm"])


def test_users_must_be_the_same(tmp_path):
    methods = ["tdm", "jtm"]
    fake_runs.write(tmp_path, "toys", "tdm", 0, recall=[0.5, 0.5])
    fake_runs.write(tmp_path, "toys", "jtm", 0, recall=[0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="the same users; got 3 and 2"):
        compare.rows(read(tmp_path, methods), "toys", methods, SEEDS)
    # Another run's table of users.
    fake_runs.write(tmp_path, "toys", "jtm", 0, recall=[0.5, 0.6])
    other = tmp_path / "toys" / "tdm-0" / "test_users.parquet"
    other.rename(tmp_path / "toys" / "jtm-0" / "test_users.parquet")
    with pytest.raises(ValueError, match="mean recall 0.55; got 2 rows"):
        compare.rows(read(tmp_path, ["jtm"]), "toys", ["jtm"], SEEDS)
    (run,) = read(tmp_path, ["tdm"])
    with pytest.raises(FileNotFoundError, match="no test_users.parquet"):
        run.user_recall(paper.CUTS)


def test_an_entry_of_runs_json_has_figures_and_no_users(tmp_path):
    fake_runs.write(tmp_path, "toys", "jtm", 0)
    (run,) = read(tmp_path, ["jtm"])
    assert run.where == str(tmp_path / "toys" / "jtm-0")
    finished_runs.write_summaries(tmp_path / "runs.json", [run])
    (kept,) = finished_runs.read_summaries(tmp_path / "runs.json")
    assert kept.cut((20, 20)) == run.cut((20, 20))
    with pytest.raises(FileNotFoundError, match="toys/jtm/0 of runs.json"):
        kept.user_recall(paper.CUTS)


def test_a_cut_that_was_not_tested(tmp_path):
    fake_runs.write(tmp_path, "toys", "jtm", 0, cuts=[])
    (run,) = read(tmp_path, ["jtm"])
    with pytest.raises(ValueError, match="not tested at M = 200, beam 400"):
        run.cut((200, 400))


def test_schedule():
    jobs = launch.schedule(
        {"toys": "d/t", "ta_feng": "d/f"},
        ["tdm", "jtm"],
        [0, 1],
        "runs",
        ["ta_feng:--a=1 --b=2", "ta_feng/jtm:--a=3", "*/tdm:--c=4"],
    )
    names = [job.name for job in jobs]
    assert names[:4] == [
        "toys/tdm-0",
        "toys/jtm-0",
        "ta_feng/tdm-0",
        "ta_feng/jtm-0",
    ]
    assert names[4:] == [name[:-1] + "1" for name in names[:4]]
    extra = [job.extra for job in jobs[:4]]
    assert extra == [
        ("--c=4",),
        (),
        ("--a=1", "--b=2", "--c=4"),
        ("--a=1", "--b=2", "--a=3"),
    ]
    assert jobs[3].command[1:] == [
        "-m",
        "experiments.train",
        "--method=jtm",
        "--data_dir=d/f",
        "--out_dir=runs/ta_feng/jtm-0",
        "--seed=0",
        "--a=1",
        "--b=2",
        "--a=3",
    ]
    assert str(jobs[3].log) == "runs/ta_feng/jtm-0.log"


@pytest.mark.parametrize("text", ["no:--a=1", "toys/no:--a=1", "toys:a", ""])
def test_flags_for_nothing(text):
    with pytest.raises(ValueError, match="--train_flags takes DATA"):
        launch.schedule({"toys": "d"}, ["jtm"], [0], "runs", [text])


class FakeTrain:
    """Stands for the process: writes the run, or fails as it is told."""

    def __init__(self, failing=()):
        self.failing, self.started, self.environments = failing, [], []
        self._lock = threading.Lock()

    def __call__(self, command, log, environment):
        values = dict(flag.lstrip("-").split("=", 1) for flag in command[3:])
        folder = pathlib.Path(values["out_dir"])
        with self._lock:
            self.started.append(f"{folder.parent.name}/{folder.name}")
            self.environments.append(environment)
        log.parent.mkdir(parents=True, exist_ok=True)
        if values["method"] in self.failing:
            log.write_text("Traceback\nError: out of luck\n")
            return 1
        log.write_text("fine\n")
        fake_runs.write(
            folder.parents[1],
            folder.parent.name,
            values["method"],
            int(values["seed"]),
            code=run_folder.code_version(),
        )
        return 0


@pytest.fixture(name="world")
def _world(tmp_path, monkeypatch):
    """Makes the table of two data sets with a fake train."""
    for name in ("toys", "beauty"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(
            json.dumps(
                {
                    "format_version": interactions.FORMAT_VERSION,
                    "fingerprint": f"of {name}",
                }
            )
        )

    def run(train, **changes):
        monkeypatch.setattr(launch, "start", train)
        asked = {
            "data_dirs": {x: tmp_path / x for x in ("toys", "beauty")},
            "runs_dir": tmp_path / "runs",
            "out_dir": tmp_path / "out",
            "methods": ["jtm", "tdm", "item_cf"],
            "seeds": (0, 1),
            "compared_with": {"toys": "books"},
        }
        config = make.TableConfig(**(asked | changes))
        return make.make(config, command="python -m make\nit")

    return run, tmp_path


def test_the_whole_table(world):
    run, tmp_path = world
    train = FakeTrain()
    assert run(train) == []
    assert train.started == [
        f"{data}/{method}-{seed}"
        for seed in (0, 1)
        for data in ("toys", "beauty")
        for method in ("item_cf", "tdm", "jtm")
    ]
    text = (tmp_path / "out" / "table1.md").read_text()
    assert text.count("| JTM |") == 6  # two data sets, three cuts
    # The paper's columns only where asked, and only at M = 200.
    assert text.count("paper's recall") == 1 and "| 8.18 |" in text
    assert "6 test users. Beside: the paper's Recall@200 on Amazon" in text
    assert "\n    python -m make\n    it\n" in text
    assert text.endswith(f"Code: {run_folder.code_version()}.\n")
    assert "Missing" not in text
    kept = json.loads((tmp_path / "out" / "runs.json").read_text())
    assert [x["id"] for x in kept][:2] == ["toys/item_cf/0", "toys/item_cf/1"]
    assert str(tmp_path) not in json.dumps(kept)
    jtm = kept[-1]
    assert jtm["config"]["training"] == {"rate": 0.1}
    assert len(jtm["iterations"]) == 3
    assert set(jtm["iterations"][0]) == {
        "iteration",
        "loss",
        "validation",
        "seconds_model",
        "seconds_tree",
        "moved_items",
    }

    train = FakeTrain()
    run(train)
    assert train.started == []
    assert (tmp_path / "out" / "table1.md").read_text() == text


def test_resume_skips_the_finished(world):
    run, tmp_path = world
    code = run_folder.code_version()
    fake_runs.write(tmp_path / "runs", "toys", "jtm", 0, code=code)
    fake_runs.write(
        tmp_path / "runs", "toys", "tdm", 0, code=code, finished=False
    )
    train = FakeTrain()
    run(train, data_dirs={"toys": tmp_path / "toys"}, seeds=(0,))
    assert train.started == ["toys/item_cf-0", "toys/tdm-0"]


def test_a_failing_run_does_not_stop_the_others(world, caplog):
    run, tmp_path = world
    train = FakeTrain(failing=["tdm"])
    failed = run(train, seeds=(0,), jobs=2)
    assert sorted(job.name for job in failed) == ["beauty/tdm-0", "toys/tdm-0"]
    assert len(train.started) == 6
    threads = {x["TF_NUM_INTRAOP_THREADS"] for x in train.environments}
    assert len(threads) == 1 and int(threads.pop()) >= 1
    text = (tmp_path / "out" / "table1.md").read_text()
    assert text.count("Missing: TDM (seed 0).") == 2
    assert "exit status 1" in caplog.text and "out of luck" in caplog.text


def test_collect_only(world):
    run, tmp_path = world
    train = FakeTrain()
    # The runs may have been made elsewhere: neither data nor code is asked.
    fake_runs.write(tmp_path / "runs", "toys", "jtm", 0)
    run(train, collect_only=True, data_dirs={"toys": "no/such/folder"})
    assert train.started == []
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "Missing: Item-CF (seed 0, 1); TDM (seed 0, 1); JTM (se" in text
    assert text.endswith("Code: 1.0+abc.\n")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"methods": ["jtm", "magic"]}, "--methods takes item_cf"),
        ({"methods": []}, "--methods takes item_cf"),
        ({"seeds": (0, 0)}, "--seeds takes each seed once"),
        ({"compared_with": {"toys": "music"}}, "--paper takes a name"),
        ({"compared_with": {"no": "books"}}, "--paper takes a name"),
        ({"data_dirs": {"toys": "no"}}, "no is not prepared data"),
        ({"train_flags": ["all:--a=1"]}, "--train_flags takes"),
    ],
)
def test_mistakes(world, changes, message):
    run, _ = world
    train = FakeTrain()
    with pytest.raises((ValueError, OSError), match=message):
        run(train, **changes)
    assert train.started == []


def test_other_code_is_refused_before_the_training(world):
    run, tmp_path = world
    fake_runs.write(tmp_path / "runs", "toys", "jtm", 0, code="0.0+old")
    train = FakeTrain()
    with pytest.raises(ValueError, match="made by code 0.0.old; this is"):
        run(train)
    assert train.started == []
    run(train, allow_code_versions=True)
    assert len(train.started) == 11
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "Code: 0.0+old, " in text


def test_the_process_itself(tmp_path):
    """What it says on either stream is in the log, after its command."""
    script = "import os, sys; print(1); sys.exit(os.environ['WHY'])"
    log = tmp_path / "toys" / "jtm-0.log"
    command = [sys.executable, "-c", script]
    assert launch.start(command, log, {"WHY": "no luck"}) == 1
    lines = log.read_text().splitlines()
    assert lines[0].startswith("$ ") and set(lines[1:]) == {"1", "no luck"}


def test_pairs():
    assert program.pairs("data", ["a=b", "c-1=d/e=f"]) == {
        "a": "b",
        "c-1": "d/e=f",
    }
    for values in (["a"], ["a="], ["a/b=c"], ["..=c"], ["a=b", "a=c"]):
        with pytest.raises(ValueError, match="--data takes NAME=VALUE"):
            program.pairs("data", values)


def test_seeds_begin_at_zero():
    assert program.integers("seeds", ["0", "2"], allow_zero=True) == (0, 2)
    with pytest.raises(ValueError, match="--seeds takes non-negative"):
        program.integers("seeds", ["-1"], allow_zero=True)


def test_the_program(tmp_path):
    """Flags in, table out; nothing is trained."""
    fake_runs.write(tmp_path / "runs", "toys", "jtm", 0)
    flags = [
        "--data=toys=no/such/folder",
        f"--runs_dir={tmp_path / 'runs'}",
        f"--out_dir={tmp_path / 'out'}",
        "--seeds=0",
        "--collect_only",
        "--paper=toys=books",
    ]
    status, stdout, stderr = shell.run("experiments.table1", *flags)
    assert (status, stderr) == (0, "")
    assert stdout == f"{tmp_path / 'out' / 'table1.md'}\n"
    text = (tmp_path / "out" / "table1.md").read_text()
    shown = " \\\n        ".join(flags)
    assert f"    python -m experiments.table1 \\\n        {shown}\n" in text
    assert "| JTM | " in text
