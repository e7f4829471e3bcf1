"""Tests of the prepared folder: its content against a loop, its loading."""

import collections
import json
import shutil

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.data.preparing import csv_rows
from jtm_tf.data.preparing import encoding
from jtm_tf.data.preparing import preparation


def random_rows(seed, *, rows=300):
    """Returns (user, item, time, category, age) strings full of traps."""
    rng = np.random.default_rng(seed)
    return [
        (
            f"u{rng.integers(0, 40) ** 2 // 40:02d}",
            str(rng.integers(1, 60)),
            str(rng.integers(0, 8)),  # many ties
            rng.choice(["", "a|b", "a|c", "d"]),
            rng.choice(["", "20", "30"]),
        )
        for _ in range(rows)
    ]


def write_csv(path, rows, header="user,item,timestamp,category,age"):
    """Writes rows of strings below a header."""
    path.write_text("\n".join([header, *map(",".join, rows)]) + "\n")
    return str(path)


def most_frequent(values):
    """Returns the most frequent value but "", the first seen of equals."""
    counts = collections.Counter(value for value in values if value)
    return max(counts, key=counts.get) if counts else None


def prepare(tmp_path, rows, **settings):
    """Prepares rows and loads the folder."""
    config = preparation.Config(
        dataset="csv",
        data_dir=str(tmp_path / "prepared"),
        input=write_csv(tmp_path / "rows.csv", rows),
        profile=("age",),
        **settings,
    )
    preparation.run(config)
    return interactions.load(config.data_dir)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("block_bytes", [1 << 24, 500])
def test_content_against_a_loop(tmp_path, monkeypatch, seed, block_bytes):
    monkeypatch.setattr(csv_rows, "_BLOCK_BYTES", block_bytes)
    rows = random_rows(seed)
    got = prepare(tmp_path, rows, min_interactions=8)

    count = collections.Counter(row[0] for row in rows)
    kept = [row for row in rows if count[row[0]] >= 8]
    users = sorted({row[0] for row in kept})
    items = sorted({int(row[1]) for row in kept})
    want = sorted(
        (
            (users.index(u) + 1, items.index(int(i)) + 1, int(t))
            for u, i, t, _, _ in kept
        ),
        key=lambda row: (row[0], row[2]),  # stable, as the source has ties
    )
    found = zip(got.user.tolist(), got.item.tolist(), got.timestamp.tolist())
    assert list(found) == want
    assert got.user.dtype == got.item.dtype == np.int32
    assert got.timestamp.dtype == np.int64

    assert got.users["raw_id"].to_pylist() == users
    assert got.items["raw_id"].to_pylist() == items  # int64: all were
    assert got.items["item"].to_pylist() == list(range(1, len(items) + 1))
    assert got.users["user"].to_pylist() == list(range(1, len(users) + 1))
    categories = {
        i: [row[3] for row in kept if int(row[1]) == i] for i in items
    }
    assert got.categories().tolist() == [
        most_frequent(categories[i]) for i in items
    ]
    assert got.users["age"].to_pylist() == [
        most_frequent(row[4] for row in kept if row[0] == u) for u in users
    ]

    counts = got.manifest["counts"]
    split = dict(zip(users, got.users["split"].to_pylist()))
    trained = {row[1] for row in kept if split[row[0]] == "train"}
    assert counts["rows_read"] == len(rows)
    assert counts["rows_kept"] == len(kept)
    assert counts["users_below_threshold"] == len(count) - len(users)
    assert counts["items_without_training"] == len(items) - len(trained)
    assert counts["items_with_changed_category"] == sum(
        len(set(values) - {""}) > 1 for values in categories.values()
    )
    assert counts["items_without_category"] == sum(
        not any(values) for values in categories.values()
    )
    assert counts["split_users"] == collections.Counter(split.values())
    assert counts["split_interactions"] == collections.Counter(
        split[row[0]] for row in kept
    )


def test_rows_and_splits_of_users(tmp_path):
    got = prepare(tmp_path, random_rows(0), min_interactions=2)
    offsets = got.user_rows()
    assert len(offsets) == got.num_users + 2
    assert offsets[0] == offsets[1] == 0  # PAD has no rows
    for user in range(1, got.num_users + 1):
        rows = slice(offsets[user], offsets[user + 1])
        np.testing.assert_array_equal(
            np.flatnonzero(got.user == user), np.arange(len(got.user))[rows]
        )
    names = got.users["split"].to_pylist()
    for split in set(names):
        users = got.split_users(split)
        assert [names[user - 1] for user in users] == [split] * len(users)
        assert len(users) == names.count(split)


def test_ids_stay_text_unless_all_are_integers(tmp_path, monkeypatch):
    # A block is five rows or so, so that the exception comes late.
    monkeypatch.setattr(csv_rows, "_BLOCK_BYTES", 50)
    rows = [(str(u), str(9 - i), "1", "", "") for u in range(4) for i in (1, 2)]
    got = prepare(tmp_path, rows, min_interactions=2)
    assert got.users["raw_id"].to_pylist() == [0, 1, 2, 3]
    assert got.items["raw_id"].to_pylist() == [7, 8]
    for other in ("007", "-0", "+7", "7.5", "0x7", "9" * 19):
        again = prepare(
            tmp_path,
            [*rows, ("3", other, "2", "", "")],
            min_interactions=2,
            overwrite=True,
        )
        assert again.items["raw_id"].type == pa.string(), other
        assert again.items["raw_id"].to_pylist() == sorted(["7", "8", other])
        assert again.users["raw_id"].type == pa.int64()


def test_one_rule_for_ids_of_every_format(tmp_path):
    """Whatever the format, an id is what `identity` says."""
    odd = ["7", "7.0", " 7", "8", "8e0", "NULL", "\\N", "", "nan", "9.", "9"]
    rows = [
        (str(u), x, str(t), "", "") for u in range(4) for t, x in enumerate(odd)
    ]
    (tmp_path / "csv").mkdir()
    options = {"min_interactions": 2, "max_bad_share": 0.5}
    got = prepare(tmp_path / "csv", rows, **options)
    assert got.users["raw_id"].to_pylist() == [0, 1, 2, 3]
    assert got.items["raw_id"].to_pylist() == [7, 8, 9]
    assert got.manifest["counts"]["skipped"] == {"empty_item": 16}
    assert got.manifest["counts"]["rows_read"] == 44
    told = " ".join(got.manifest["odd_ids"]["item"])
    assert "4 rows had spaces" in told and "' 7'" in told
    assert "12 rows had a word for missing, 'NULL', '\\\\N', 'nan'" in told
    assert "12 rows wrote an integer as a float" in told

    numbers = pa.array([7.0, 8.0, None, float("nan"), 9.0] * 4)
    users = pa.array([2**63 + u for u in range(4)] * 5, pa.uint64())
    table = {"user": users, "item": numbers, "timestamp": list(range(20))}
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    config = preparation.Config(
        dataset="parquet",
        input=str(tmp_path / "log.parquet"),
        data_dir=str(tmp_path / "parquet"),
        **options,
    )
    preparation.run(config)
    again = interactions.load(tmp_path / "parquet")
    assert again.items["raw_id"].to_pylist() == [7, 8, 9]
    assert again.users["raw_id"].to_pylist() == [
        str(2**63 + u) for u in range(4)
    ]
    assert again.manifest["counts"]["skipped"] == {"empty_item": 8}
    for data in (got, again):
        for form in (8, "8", " 8", "8.0", 8.0, "8e0", np.float32(8)):
            assert data.item_ids.number(form) == 2
        assert not any(data.item_ids.number(x) for x in ("8.5", "NULL", True))


def test_what_made_ids_text_is_said(tmp_path):
    rows = [(str(u), str(i), "1") for u in range(3) for i in range(40)]
    rows += [("1", "nan", "1"), ("2", "A", "1"), ("2", "7.0", "1")]
    rows = [(*row, "", "") for row in rows]
    got = prepare(tmp_path, rows, min_interactions=2)
    assert got.items["raw_id"].type == pa.string() and len(got.items) == 43
    assert got.manifest["odd_ids"] == {
        "item": [
            "2 ids of 43 are no integer of 64 bits: 'nan', 'A'; so all are "
            "strings",
            "1 row had what may be a word for missing, 'nan', and it was "
            "taken as an id, since not all others are integers",
            "1 id differs from another only in how a number is written, such "
            "as '7.0'",
        ]
    }
    assert got.item_ids.number(7) and got.item_ids.number("7.0") != (
        got.item_ids.number("7")
    )


def test_no_category_no_column(tmp_path):
    rows = [(str(u), str(i), "1") for u in range(3) for i in range(2)]
    config = preparation.Config(
        dataset="csv",
        data_dir=str(tmp_path / "prepared"),
        input=write_csv(tmp_path / "a.csv", rows, "user_id,item_id,timestamp"),
        min_interactions=2,
    )
    manifest, _ = preparation.run(config)
    got = interactions.load(config.data_dir)
    assert got.categories() is None
    assert got.items.column_names == ["item", "raw_id"]
    assert manifest["counts"]["items_without_category"] == 2


def test_the_fingerprint_is_of_the_content(tmp_path):
    # No ties between categories, which the order of rows would break.
    rows = [(*row[:3], f"c{row[1]}", "") for row in random_rows(1)]
    first = prepare(tmp_path, rows)
    again = prepare(tmp_path, rows, overwrite=True)
    # Users one after the other: another file, the same content.
    same = prepare(
        tmp_path, sorted(rows, key=lambda row: row[0]), overwrite=True
    )
    other = prepare(tmp_path, rows, overwrite=True, seed=1)
    prints = [x.manifest["fingerprint"] for x in (first, again, same, other)]
    assert prints[0] == prints[1] == prints[2] != prints[3]
    assert same.manifest["source"] != first.manifest["source"]


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
    prepare(tmp_path, random_rows(2))
    return tmp_path / "prepared"


@pytest.mark.parametrize("name", ["interactions", "items", "users"])
def test_a_damaged_table_is_named(folder, name):
    path = folder / f"{name}.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=f"{name}.parquet is missing or dam"):
        interactions.load(folder)
    path.unlink()
    with pytest.raises(ValueError, match=f"{name}.parquet is missing or dam"):
        interactions.load(folder)


def test_a_table_of_another_folder_is_noticed(tmp_path, folder):
    (tmp_path / "other").mkdir()
    prepare(tmp_path / "other", random_rows(3, rows=250))
    shutil.copy(tmp_path / "other/prepared/items.parquet", folder)
    shutil.copy(tmp_path / "other/prepared/interactions.parquet", folder)
    with pytest.raises(ValueError, match="is damaged: the manifest counts"):
        interactions.load(folder)


def test_a_folder_without_a_readable_manifest(tmp_path, folder):
    path = folder / interactions.MANIFEST
    manifest = files.read_json(path)
    files.write_json(path, {**manifest, "format_version": 99})
    with pytest.raises(ValueError, match="version 99; this program reads 1"):
        interactions.load(folder)
    path.write_text(json.dumps(manifest)[:-9])
    with pytest.raises(ValueError, match="not valid JSON"):
        interactions.load(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="is not finished"):
        interactions.load(folder)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        interactions.load(tmp_path / "nowhere")


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(-1, 3)), min_size=1)
)
def test_majority_against_a_loop(pairs):
    owner, codes = np.array(pairs, np.int32).T
    got, several = encoding.majority(owner, codes, pa.array(list("abcd")), 5)
    for number in range(1, 6):
        values = ["abcd"[c] for o, c in pairs if o == number and c >= 0]
        assert got[number - 1].as_py() == most_frequent(values)
        assert several[number - 1] == (len(set(values)) > 1)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(
    st.lists(
        st.tuples(
            st.integers(1, 2**31 - 2),
            st.one_of(st.integers(0, 3), st.integers(0, 10**18 - 1)),
        ),
        min_size=1,
    )
)
def test_row_order_is_a_stable_sort(pairs):
    user, timestamp = np.array(pairs, np.int64).T
    order = encoding.row_order(user.astype(np.int32), timestamp)
    want = sorted(range(len(pairs)), key=pairs.__getitem__)
    assert np.arange(len(pairs))[order].tolist() == want
