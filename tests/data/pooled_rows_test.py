"""Tests of files read by a pool: the same folder as one process makes."""

import contextlib
import gzip
import json

import pyarrow.parquet as pq
import pytest

from jtm_tf.data import interactions
from jtm_tf.data.preparing import pooled_rows
from jtm_tf.data.preparing import preparation
from jtm_tf.data.preparing import tables
from jtm_tf.pools import ray_pool
from jtm_tf.pools import serial
from tests.support import rays

FILES = 5


def written(folder):
    """Writes a log in several files, of several kinds, with broken rows."""
    folder.mkdir()
    for part in range(FILES):
        lines = [
            f"u{(7 * i + part) % 23},{(5 * i) % 19},{100 + i},a|b{i % 3}"
            for i in range(60)
        ]
        lines[10 + part] = f"u1,2,no time,a|b{part}"
        text = "\n".join(["user,item,timestamp,category", *lines, ""])
        if part == 1:
            with gzip.open(folder / "part-1.csv.gz", "wt") as out:
                out.write(text)
        elif part == 2:
            records = [
                {"user": f"u{i % 11}", "item": i % 13, "timestamp": i}
                | {"category": "c" if i < 20 else None}
                for i in range(40)
            ]
            (folder / "part-2.json").write_text(
                "\n".join(map(json.dumps, records))
            )
        else:
            (folder / f"part-{part}.csv").write_text(text)
    return folder


def prepare(source, data_dir, pool=None):
    config = preparation.Config(
        "csv",
        str(data_dir),
        str(source),
        min_interactions=2,
        max_bad_share=0.1,
    )
    return preparation.run(config, pool=pool)


def tables_of(data_dir):
    """Returns the tables of a folder."""
    return {
        path.name: pq.read_table(path) for path in data_dir.glob("*.parquet")
    }


def told(manifest):
    """Returns what a manifest says beside how long it took."""
    return {k: v for k, v in manifest.items() if k != "timings"}


@pytest.mark.parametrize(
    "pool",
    [serial.Pool, pytest.param(ray_pool.Pool, marks=pytest.mark.slow)],
)
def test_the_folder_is_the_same(pool, tmp_path, monkeypatch):
    """Rows, ids, what was skipped and the first lines of it."""
    block = contextlib.nullcontext()
    if pool is ray_pool.Pool:
        block = rays.apart(monkeypatch)
    source = written(tmp_path / "log")
    want, _ = prepare(source, tmp_path / "here")
    with block:
        got, done = prepare(source, tmp_path / "pooled", pool())
        assert not prepare(source, tmp_path / "pooled", pool())[1]
    assert done and told(got) == told(want)
    assert got["counts"]["skipped"] == {"bad_timestamp": FILES - 1}
    mine, other = (tables_of(tmp_path / x) for x in ("here", "pooled"))
    assert len(mine) == 3 and mine.keys() == other.keys()
    for name, table in mine.items():
        assert table.equals(other[name]), name
        first, second = (
            (tmp_path / x / name).read_bytes() for x in ("here", "pooled")
        )
        assert first == second, name
    assert not (tmp_path / "pooled" / pooled_rows._FOLDER).exists()


def test_a_killed_run_reads_no_file_twice(tmp_path, monkeypatch):
    source, data_dir = written(tmp_path / "log"), tmp_path / "data"
    read, file_rows = [], tables.Csv.file_rows

    def counted(self, path, skipped):
        read.append(path.name)
        if len(read) == 4:
            raise KeyboardInterrupt
        return file_rows(self, path, skipped)

    monkeypatch.setattr(tables.Csv, "file_rows", counted)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, data_dir, serial.Pool())
    manifest, _ = prepare(source, data_dir, serial.Pool())
    assert len(read) == FILES + 1 and read[3] == read[4]
    want, _ = prepare(source, tmp_path / "whole")
    assert told(manifest) == told(want)
    assert interactions.load(data_dir).num_items == want["counts"]["items"]


def test_a_file_that_changed_is_read_again(tmp_path):
    source, data_dir = written(tmp_path / "log"), tmp_path / "data"
    last = source / f"part-{FILES - 1}.csv"
    good = last.read_bytes()
    last.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        prepare(source, data_dir, serial.Pool())
    first = source / "part-0.csv"
    first.write_text(first.read_text() + "u1,18,900,a|b0\n")
    last.write_bytes(good)
    manifest, _ = prepare(source, data_dir, serial.Pool())
    want, _ = prepare(source, tmp_path / "whole")
    assert told(manifest) == told(want)


def test_files_of_other_columns_are_refused(tmp_path):
    source = written(tmp_path / "log")
    (source / "part-9.csv").write_text("user,item,timestamp\nu1,1,1\n")
    for pool in (None, serial.Pool()):
        with pytest.raises(ValueError, match="part-9.csv has columns for"):
            prepare(source, tmp_path / "data", pool)
    assert interactions.read_manifest(tmp_path / "data") is None


@pytest.mark.slow
def test_an_error_of_an_actor_is_told_as_it_was(tmp_path, monkeypatch):
    source = written(tmp_path / "log")
    (source / "part-0.csv").write_text("some,thing\n1,2\n")
    with rays.apart(monkeypatch), pytest.raises(ValueError) as said:
        prepare(source, tmp_path / "data", ray_pool.Pool(actors=1))
    assert "part-0.csv has no column for ['user'" in str(said.value)
    assert "Traceback" not in str(said.value)


def test_one_file_is_not_shared_out(tmp_path):
    config = preparation.Config(
        "planted", str(tmp_path / "data"), num_items=50, num_rows=2000
    )
    with pytest.raises(ValueError, match="Leave --pool out"):
        preparation.run(config, pool=serial.Pool())
