"""Files as other programs write them: read where it can be known, else told."""

import csv
import dataclasses
import io
import json
import os

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

import jtm_tf
from jtm_tf.data import interactions
from jtm_tf.data.preparing import csv_rows
from jtm_tf.data.preparing import json_rows
from jtm_tf.data.preparing import preparation
from jtm_tf.data.preparing import reader as reader_lib
from jtm_tf.data.preparing import skip_log
from jtm_tf.data.preparing import texts

HEADER = ("user", "item", "timestamp")
ROWS = [(f"u{i % 7}", f"i{i % 5}", str(1_700_000_000 + i)) for i in range(70)]


def read(dataset, path, **options):
    """Returns the good rows as tuples of strings, and the log of others."""
    path = [str(x) for x in path] if isinstance(path, list) else str(path)
    reader = preparation.READERS[dataset](reader_lib.Options(path, **options))
    skipped = skip_log.SkipLog()
    got = []
    for block in reader.rows(skipped):
        columns = (block[name].to_pylist() for name in HEADER)
        got += [tuple(map(str, row)) for row in zip(*columns)]
    return got, skipped


def text_of(rows, delimiter=",", end="\n"):
    return "".join(delimiter.join(row) + end for row in rows)


@pytest.mark.parametrize("block_bytes", [60, 64, 100, 1 << 24])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_breaks_in_quotes_wherever_a_block_ends(
    tmp_path, monkeypatch, block_bytes, end
):
    monkeypatch.setattr(csv_rows, "_BLOCK_BYTES", block_bytes)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=end)
    writer.writerow([*HEADER, "the\r\nrest"])
    rows = [(u, f'{i}{end}"x",', t, end) for u, i, t in ROWS]
    rows[7:7] = [("short", "1")]
    writer.writerows(rows)
    path = tmp_path / "a.csv"
    path.write_bytes(out.getvalue().encode())
    got, skipped = read("csv", path)
    assert got == [row[:3] for row in rows if len(row) == 4]
    assert skipped.counts == {"wrong_column_count": 1}
    assert skipped.examples["wrong_column_count"] == ["line 9: short,1"]


def test_a_quote_that_is_not_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_rows, "_BLOCK_BYTES", 100)
    rows = [HEADER, ROWS[0], ('"u', "i", "5"), *ROWS]
    (tmp_path / "a.csv").write_text(text_of(rows), "utf-8")
    with pytest.raises(ValueError, match="is a quote not closed"):
        read("csv", tmp_path / "a.csv")


# Of small odd files: what breaks the readers of others. Many of them:
#     FUZZED_FILES=100000 python -m pytest tests/data/odd_files_test.py -k slow
FIELD = st.text(st.sampled_from('ab1 ,;|:\t"\n\r\0é👤\x85'), max_size=4)


def same_as_the_slow_reader(rows, delimiter, folder, block_bytes, patch):
    """Compares the rows of a written file with those of Python's reader."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows)
    path = folder / "odd.csv"
    path.write_bytes(out.getvalue().encode())
    text = io.StringIO(out.getvalue(), newline="")
    wanted = [row for row in csv.reader(text, delimiter=delimiter) if row][1:]
    # A NUL is no text.
    wanted = [[x.replace("\0", texts.SUBSTITUTE) for x in y] for y in wanted]
    patch.setattr(csv_rows, "_BLOCK_BYTES", block_bytes)
    raw = csv_rows.CsvRows(
        path,
        HEADER,
        columns=HEADER,
        skip_rows=1,
        delimiter=delimiter,
        skipped=(skipped := skip_log.SkipLog()),
    )
    got = [
        list(row)
        for block, _ in raw
        for row in zip(*block.to_pydict().values())
    ]
    assert got == [row for row in wanted if len(row) == 3]
    wrong = sum(len(row) != 3 for row in wanted)
    assert skipped.counts.get("wrong_column_count", 0) == wrong


@pytest.mark.parametrize("block_bytes", range(26, 58))
def test_a_nul_in_quotes_at_a_block_s_end(tmp_path, monkeypatch, block_bytes):
    """It made a carriage return behind it end the row."""
    rows = [["", "", '111"', '11""'], ["", '1"\0"', '1"\r']]
    same_as_the_slow_reader(rows, ",", tmp_path, block_bytes, monkeypatch)


def test_a_row_with_a_nul_is_counted(tmp_path):
    text = text_of([HEADER, *ROWS[:20], ("u\0", "i1", "5")], ",")
    (tmp_path / "a.csv").write_text(text, newline="")
    rows, skipped = read("csv", tmp_path / "a.csv")
    assert rows == ROWS[:20]
    assert skipped.counts == {"not_utf8": 1}


@hypothesis.given(
    rows=st.lists(st.lists(FIELD, min_size=2, max_size=4), max_size=12),
    delimiter=st.sampled_from([",", "\t", ";", "|"]),
    block_bytes=st.sampled_from([80, 97, 1 << 20]),
)
@hypothesis.settings(
    max_examples=int(os.environ.get("FUZZED_FILES", 150)), deadline=None
)
def test_rows_are_those_of_the_slow_reader(
    tmp_path_factory, rows, delimiter, block_bytes
):
    with pytest.MonkeyPatch.context() as patch:
        same_as_the_slow_reader(
            rows, delimiter, tmp_path_factory.getbasetemp(), block_bytes, patch
        )


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "::"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("block_bytes", [64, 1 << 24])
def test_delimiters_and_encodings(
    tmp_path, monkeypatch, delimiter, encoding, block_bytes
):
    monkeypatch.setattr(csv_rows, "_BLOCK_BYTES", block_bytes)
    rows = [(u, f"{i}:é👤", t) for u, i, t in ROWS]
    text = text_of([HEADER, *rows], delimiter)
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert read("csv", tmp_path / "a.csv")[0] == rows


@pytest.mark.parametrize(
    "first, match",
    [
        ("1::39::5::1700885440", "looks like a row, not like a header"),
        ("196\t2023-11-25T12:10:40Z\t30.2\t9", "such as 'user.titem.tcol"),
        ("a,b,c", "no column for .*'a', 'b', 'c'"),
        ("userId,movieId,rating,timestamp", "looks like --dataset=movielens"),
        ("{not json", "no column for"),
    ],
)
def test_what_is_no_header_is_told_apart(tmp_path, first, match):
    (tmp_path / "log").write_text(first + "\n" + first + "\n", "utf-8")
    with pytest.raises(ValueError, match=match):
        read("csv", tmp_path / "log")


@pytest.mark.parametrize("block_bytes", [200, 1 << 24])
def test_json_lines(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr(json_rows, "_BLOCK_BYTES", block_bytes)
    records = [
        {"user": u, "item": int(i[1:]), "timestamp": int(t), "images": [{}]}
        for u, i, t in ROWS
    ]
    lines = [json.dumps(record) for record in records]
    lines[40:40] = ["", "{broken", "[1]"]
    lines.append(json.dumps({**records[0], "item": "x"}))
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines), "utf-8")
    got, skipped = read("csv", path)
    assert got == [
        *((u, i[1:], t) for u, i, t in ROWS),
        ("u0", "x", ROWS[0][2]),
    ]
    assert skipped.examples == {
        "no_record": ["line 42: {broken", "line 43: [1]"]
    }


def test_recbole(tmp_path):
    header = (
        "user_id:token",
        "item_id:token",
        "rating:float",
        "timestamp:float",
    )
    rows = [(u, i, "4.0", t + ".0") for u, i, t in ROWS]
    path = tmp_path / "log.inter"
    path.write_text(text_of([header, *rows], "\t"), "utf-8")
    for dataset in ("recbole", "csv"):
        assert read(dataset, path)[0] == ROWS
    path.write_text(text_of([HEADER, *ROWS], "\t"), "utf-8")
    with pytest.raises(ValueError, match="expected a header with types"):
        read("recbole", path)


FILMS = {
    "movies.csv": 'movieId,title,genres\n1,"Léon, the",Action|Crime\n2,B,'
    "(no genres listed)\n",
    "movies.dat": "1::Léon, the::Action|Crime\n2::B::\n",
    "u.item": "1|Léon, the|1994||url|0|1|0|0|0|0|1\n2|B|1994||url|0|0\n",
}


@pytest.mark.parametrize(
    "name, delimiter, films",
    [
        ("ratings.csv", ",", "movies.csv"),
        ("ratings.dat", "::", "movies.dat"),
        ("u.data", "\t", "u.item"),
    ],
)
def test_movielens(tmp_path, name, delimiter, films):
    rows = [
        (str(i % 7 + 1), str(i % 2 + 1), "4.5", t)
        for i, (*_, t) in enumerate(ROWS)
    ]
    header = [("userId", "movieId", "rating", "timestamp")]
    text = text_of([*header * (name == "ratings.csv"), *rows], delimiter)
    (tmp_path / name).write_text(text, "utf-8")
    encoding = "utf-8" if films == "movies.csv" else "latin-1"
    (tmp_path / films).write_text(FILMS[films], encoding)
    got, skipped = read("movielens", tmp_path / name)
    assert got == [(u, i, t) for u, i, _, t in rows] and not skipped.counts
    config = preparation.Config(
        "movielens",
        str(tmp_path / "data"),
        str(tmp_path / name),
        metadata=str(tmp_path / films),
    )
    preparation.run(config)
    items = interactions.load(tmp_path / "data").items
    assert items["raw_id"].to_pylist() == [1, 2]
    assert items["name"].to_pylist() == ["Léon, the", "B"]
    assert items["category"].to_pylist() == ["Action|Crime", None]
    (tmp_path / name).write_text("a,b\n", "utf-8")
    with pytest.raises(ValueError, match="expected user, film, rating"):
        read("movielens", tmp_path / name)


@pytest.mark.parametrize("form", ["json lines", "csv"])
def test_amazon_2023(tmp_path, form):
    rows = [(u, f"00{i}", t + "123") for u, i, t in ROWS]
    names = ("user_id", "parent_asin", "timestamp")
    path = tmp_path / "reviews"
    if form == "csv":
        path.write_text(text_of([names, *rows]), "utf-8")
    else:
        records = [
            {
                "rating": 5.0,
                "images": [],
                **dict(zip(names, row)),
                "timestamp": int(row[2]),
            }
            for row in rows
        ]
        path.write_text("\n".join(map(json.dumps, records)), "utf-8")
    meta = [
        {
            "parent_asin": f"00i{i}",
            "title": f"T{i}",
            "categories": ["A", str(i)],
        }
        for i in range(5)
    ]
    (tmp_path / "meta").write_text("\n".join(map(json.dumps, meta)), "utf-8")
    preparation.run(
        preparation.Config(
            "amazon_2023",
            str(tmp_path / "data"),
            str(path),
            metadata=str(tmp_path / "meta"),
        )
    )
    data = interactions.load(tmp_path / "data")
    assert data.items["raw_id"].to_pylist() == [f"00i{i}" for i in range(5)]
    assert data.items["category"].to_pylist() == [f"A|{i}" for i in range(5)]
    assert int(data.timestamp.min()) == 1_700_000_000
    with pytest.raises(ValueError, match="needs each .*parent_asin"):
        path.write_text(text_of([HEADER, *ROWS]), "utf-8")
        read("amazon_2023", path)


def as_table(rows):
    """Returns rows as Arrow has them, times as integers."""
    user, item, time = zip(*rows)
    return pa.table(
        {"user": user, "item": item, "timestamp": list(map(int, time))}
    )


@pytest.mark.parametrize("dataset", ["csv", "parquet"])
def test_folders_patterns_and_lists(tmp_path, dataset):
    folder = tmp_path / "log"
    for number in range(3):
        part = folder / f"day=2023-11-1{number}" / f"part-{number}.x"
        part.parent.mkdir(parents=True)
        rows = ROWS[number::3]
        if dataset == "csv":
            part.write_text(text_of([HEADER, *rows]), "utf-8")
        else:
            pq.write_table(as_table(rows), part)
    (folder / "_SUCCESS").touch()
    (folder / ".part.crc").write_bytes(b"crc")
    wanted = [row for number in range(3) for row in ROWS[number::3]]
    parts = sorted(folder.rglob("part-*"))
    for given in (folder, f"{folder}/*/part-[0-9].x", parts):
        assert read(dataset, given)[0] == wanted
        data = jtm_tf.prepare(
            given, tmp_path / "data", min_interactions=2, overwrite=True
        )
        assert len(data.users) == 7 and len(data.manifest["source"]) == 3
    # What Hive put into the names of folders is a column too.
    got, _ = read(dataset, folder, columns={"timestamp": "day"})
    assert [time for *_, time in got] == [
        str(1699574400 + 86400 * day) for day in range(3) for _ in ROWS[day::3]
    ]
    with pytest.raises(FileNotFoundError, match="named as"):
        read(dataset, f"{folder}/*.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has no file in it"):
        read(dataset, tmp_path / "empty")
    other = folder / "day=2023-11-19" / "part"
    other.parent.mkdir()
    if dataset == "csv":
        other.write_text(text_of([(*HEADER, "name"), ("u", "i", "5", "n")]))
    else:
        pq.write_table(
            as_table(ROWS).append_column("name", [["n"] * 70]), other
        )
    with pytest.raises(ValueError, match="day=2023-11-19.* All files need"):
        read(dataset, folder)


@pytest.mark.parametrize(
    "name, values, profile, match",
    [
        ("category", [{"a": 1}], (), "'category' holds struct<a: int64>"),
        ("category", [[["a"]]], (), "'category' holds list<.*coarse to fine"),
        ("name", [["a"]], (), "'name' holds list<.*; a name is a string"),
        ("tags", [["a"]], ("tags",), "'tags' holds list<.*a property of"),
        ("tags", [{"a": 1}], ("tags",), "'tags' holds struct"),
        ("timestamp", [[5]], (), "'timestamp' holds list"),
        ("item", [[5]], (), "'item' holds list<.*; ids are integers or str"),
        ("item", [5.5], (), "'item' holds a number|item_no_integer"),
    ],
)
def test_types_that_mean_nothing_are_told(
    tmp_path, name, values, profile, match
):
    table = {"user": ["u"], "item": ["i"], "timestamp": [5], name: values}
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table(table), path)
    config = preparation.Config(
        "parquet", str(tmp_path / "data"), str(path), profile=profile
    )
    with pytest.raises(ValueError, match=match) as told:
        preparation.run(config)
    assert str(path) in str(told.value) and "\n" not in str(told.value)


def test_a_list_of_parts_is_a_path(tmp_path):
    lists = [["a", None, "b|c"], [], None, ["d", ""]]
    for kind in (pa.list_(pa.string()), pa.large_list(pa.large_string())):
        table = as_table(ROWS[:4]).append_column(
            "category", pa.array(lists, kind)
        )
        pq.write_table(table, tmp_path / "log.parquet")
        reader = preparation.READERS["parquet"](
            reader_lib.Options(str(tmp_path / "log.parquet"))
        )
        (block,) = reader.rows(skip_log.SkipLog())
        assert block["category"].to_pylist() == ["a|b/c", "", "", "d"]


def test_nan_is_no_property(tmp_path):
    table = as_table(ROWS).append_column(
        "age", pa.array([np.nan, 20.0, 30.0, None, 20.0, 30.0, 20.0] * 10)
    )
    data = jtm_tf.prepare(table, tmp_path / "data", profile=["age"])
    ages = dict(zip(*(data.users[x].to_pylist() for x in ("raw_id", "age"))))
    assert ages["u0"] is ages["u3"] is None and ages["u1"] == 20
    users = data.users.set_column(
        3, "age", pa.array([np.nan, 20.0] * 3 + [5.0])
    )
    older = dataclasses.replace(data, users=users)
    assert older.profile_values("age") == [5, 20]


def test_frames(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = as_table(ROWS).to_pandas()
    numbered = frame.set_axis([0, 1, 2], axis=1)
    named = {"user": 0, "item": 1, "timestamp": 2}
    data = jtm_tf.prepare(numbered, tmp_path / "numbered", columns=named)
    assert len(data.items) == 5
    mixed = frame.astype({"item": object})
    mixed.loc[3, "item"] = 7
    twice = pandas.concat([frame, frame[["item"]]], axis=1)
    for bad, match in ((mixed, "column item .*mixed"), (twice, "Duplicate")):
        with pytest.raises(ValueError, match=match) as told:
            jtm_tf.prepare(bad, tmp_path / "bad")
        assert "\n" not in str(told.value)
