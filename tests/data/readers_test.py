"""Tests of the raw formats: `reader`, `tables`, `published` and below."""

import datetime
import decimal
import gzip
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jtm_tf.data.preparing import csv_rows
from jtm_tf.data.preparing import preparation
from jtm_tf.data.preparing import reader as reader_lib
from jtm_tf.data.preparing import skip_log
from jtm_tf.data.preparing import times

# Inside UserBehavior's nine days.
NOON = 1511582400


def read(dataset, path, **options):
    """Returns all good rows as {column: list}, and the log of the others."""
    reader = preparation.READERS[dataset](
        reader_lib.Options(input=None if path is None else str(path), **options)
    )
    skipped = skip_log.SkipLog()
    table = pa.Table.from_batches(reader.rows(skipped))
    return table.to_pydict(), skipped


def write(path, text, packing="plain"):
    """Writes text as it is, in gzip, or as the one file of a zip."""
    data = text.encode()
    if packing == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inside.csv", data)
    else:
        path.write_bytes(gzip.compress(data) if packing == "gzip" else data)
    return path


@pytest.mark.parametrize("packing", ["plain", "gzip", "zip"])
@pytest.mark.parametrize("start", ["", "\N{BYTE ORDER MARK}"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_csv_in_every_packing(tmp_path, packing, start, end, delimiter):
    lines = ["user_id,item_id,category,timestamp", "u1,007,a|b,5", "u2,8,,6"]
    text = start + end.join(lines).replace(",", delimiter) + end
    rows, skipped = read("csv", write(tmp_path / "any.bin", text, packing))
    assert rows == {
        "user": ["u1", "u2"],
        "item": ["007", "8"],
        "timestamp": [5, 6],
        "category": ["a|b", ""],
    }
    assert not skipped.counts


def test_csv_columns_can_be_named(tmp_path):
    text = 'when,who,"what, sold",kind,age,note\n9,"a, b",x,k,30,n\n'
    rows, _ = read(
        "csv",
        write(tmp_path / "log.csv", text),
        columns={
            "user": "who",
            "item": "what, sold",
            "timestamp": "when",
            "category": "kind",
            "name": "note",
        },
        profile=("age",),
    )
    assert rows == {
        "user": ["a, b"],
        "item": ["x"],
        "timestamp": [9],
        "category": ["k"],
        "name": ["n"],
        "age": ["30"],
    }


def test_bad_rows_are_counted_with_their_lines(tmp_path):
    lines = [
        "user,item,timestamp",
        "u,1,5",
        "u,1",  # line 3
        ",2,5",
        "u,,5",
        "u,1,-5",
        "u,1,five",
        "u,1,5,7",  # line 8
        "u,1,",
        "u,1,0x10",
        "u,1,5.5",
        "u,1,99999999999999999999",
        ",,",  # line 13, counted once
        "u,3,6",
    ]
    rows, skipped = read("csv", write(tmp_path / "a.csv", "\n".join(lines)))
    assert rows["item"] == ["1", "1", "3"]
    assert rows["timestamp"] == [5, 5, 6]
    assert skipped.counts == {
        "wrong_column_count": 2,
        "empty_user": 2,
        "empty_item": 1,
        "before_1970": 1,
        "bad_timestamp": 4,
    }
    assert skipped.malformed == 7  # who has no id is not broken
    assert skipped.examples["wrong_column_count"] == [
        "line 3: u,1",
        "line 8: u,1,5,7",
    ]
    assert skipped.examples["empty_user"] == ["line 4: ,2,5", "line 13: ,,"]
    assert skipped.examples["before_1970"] == ["line 6: u,1,-5"]
    assert skipped.examples["bad_timestamp"] == [
        "line 7: u,1,five",
        "line 9: u,1,",
        "line 10: u,1,0x10",
        "line 12: u,1,99999999999999999999",
    ]


def test_line_numbers_hold_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_rows, "_BLOCK_BYTES", 64)
    lines = ["user,item,timestamp"]
    for number in range(2, 200):
        broken = {0: "u,1", 1: "u,1,bad"}.get(number % 50, "u,1,5")
        lines.append(broken)
    _, skipped = read("csv", write(tmp_path / "a.csv", "\n".join(lines)))
    assert skipped.examples == {
        "wrong_column_count": [f"line {n}: u,1" for n in (50, 100, 150)],
        "bad_timestamp": [f"line {n}: u,1,bad" for n in (51, 101, 151)],
    }


@pytest.mark.parametrize("block_bytes", [25, 26, 27, 28, 1 << 20])
def test_what_is_not_utf8_is_skipped(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr(csv_rows, "_BLOCK_BYTES", block_bytes)
    good = "h\u00e9,\u20ac,5\n\U0001f4da,2,5\n".encode()
    latin = b"\xe9,1,5\n\xe9\xe8\n1,\x82\xac,5\n"
    path = tmp_path / "a.csv"
    path.write_bytes(b"user,item,timestamp\n" + good + latin + good)
    rows, skipped = read("csv", path)
    assert rows["user"] == ["h\u00e9", "\U0001f4da"] * 2
    assert rows["item"] == ["\u20ac", "2"] * 2
    assert skipped.counts == {"not_utf8": 2, "wrong_column_count": 1}
    assert [text[:6] for text in skipped.examples["not_utf8"]] == [
        "line 4",
        "line 6",
    ]


def test_characters_survive_any_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_rows, "_BLOCK_BYTES", 25)
    rng = np.random.default_rng(0)
    users = ["".join(rng.choice(list("aé€📚\ufffd"), 3)) for _ in range(200)]
    lines = "".join(f"{user},1,5\n" for user in users)
    path = write(tmp_path / "a.csv", "user,item,timestamp\n" + lines)
    rows, skipped = read("csv", path)
    assert rows["user"] == users
    assert not skipped.counts


@pytest.mark.parametrize(
    "text, options, match",
    [
        ("", {}, "is empty"),
        ("\n\n", {}, "starts with an empty line"),
        ("a,b\n1,2\n", {}, r"no column for \['user', 'item', 'timestamp'\]"),
        (
            "user,item,timestamp\n",
            {"columns": {"category": "kind"}},
            r"needs each of the columns \['kind'\] once; got \['user'",
        ),
        (
            "user,item,timestamp\n",
            {"columns": {"price": "p"}},
            r"names \['price'\]; expected roles",
        ),
        ("user,item,timestamp\n", {"profile": ("age",)}, r"\['age'\]"),
        ("user,item,timestamp\n", {"profile": ("user",)}, "reserved name"),
        ("user,user,item,timestamp\n", {}, r"\['user'\] once"),
        ("user,item,timestamp\n", {"metadata": "m"}, "means nothing"),
        ("PAR1", {}, "use --dataset=parquet"),
    ],
)
def test_unusable_csv_is_refused(tmp_path, text, options, match):
    with pytest.raises(ValueError, match=match):
        read("csv", write(tmp_path / "a.csv", text), **options)


def test_truncated_and_broken_packings_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    text = "user,item,timestamp\n" + "".join(
        f"{u},1,5\n" for u in rng.integers(0, 1 << 60, 5000)
    )
    path = write(tmp_path / "a.gz", text, "gzip")
    for packing in ("gzip", "zip"):
        path = write(tmp_path / packing, text, packing)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(ValueError, match=f"{packing}.*cannot be"):
            read("csv", path)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", text)
        archive.writestr("b.csv", text)
    with pytest.raises(ValueError, match="exactly one file"):
        read("csv", tmp_path / "two.zip")
    (tmp_path / "binary").write_bytes(rng.bytes(100_000))
    with pytest.raises(ValueError, match="binary"):
        read("csv", tmp_path / "binary")
    with pytest.raises(FileNotFoundError, match="no file .*nowhere"):
        read("csv", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="stands for .* one file"):
        read("userbehavior", tmp_path)


@pytest.mark.parametrize(
    "times",
    [
        pa.array([3, 4, None], pa.int32()),
        pa.array([3.0, 4.0, float("nan")]),
        pa.array([3.0, 4.0, float("inf")]),
        pa.array(["3", "4", "x"]),
        pa.array([3 * 10**9, 4 * 10**9 + 1, None], pa.timestamp("ns")),
    ],
)
def test_parquet_times(tmp_path, times):
    table = pa.table({"user": [1, 2, 3], "item": ["a"] * 3, "timestamp": times})
    pq.write_table(table, tmp_path / "a.parquet")
    rows, skipped = read("parquet", tmp_path / "a.parquet")
    assert rows == {"user": [1, 2], "item": ["a"] * 2, "timestamp": [3, 4]}
    assert skipped.counts == {"bad_timestamp": 1}
    assert skipped.examples["bad_timestamp"][0].startswith("line 3: 3,a,")


# 2023-11-18 17:42:37 in UTC.
SOME_TIME = 1700329357
ISO = {
    "2023-11-18": 1700265600,
    "2023-11-18 17:42:37": SOME_TIME,
    "2023-11-18T17:42:37.25Z": SOME_TIME,
    "2023-11-18 17:42:37,9 UTC": SOME_TIME,
    "2023-11-18T23:12:37+05:30": SOME_TIME,
    "2023-11-18 23:12:37+0530": SOME_TIME,
    "2023-11-18 12:42:37-05": SOME_TIME,
    "2023-11-18 17:42:37+00:00": SOME_TIME,
    "2023-11-18 17:42": SOME_TIME - 37,
    "2023-11-18T19:42+02": SOME_TIME - 37,
}
NUMBERS = {
    "17": 17,
    "17.9": 17,
    "17.": 17,
    "1.7e3": 1700,
    " 17 ": 17,
    "0": 0,
    "1700885440.25": 1700885440,
}
BAD_TIMES = ("2023-13-01", "18.11.2023", "x", "", "nan", "inf", "1e300", None)
EARLY = ("-1", "-0.5", "1969-12-31", "1970-01-01T00:00+01:00")


def test_times_written_as_text():
    good = {**ISO, **NUMBERS}
    seconds, bad = times.parse_seconds(pa.array([*good, *BAD_TIMES, *EARLY]))
    assert seconds.to_pylist()[: len(good)] == list(good.values())
    assert np.flatnonzero(bad["bad_timestamp"]).tolist() == [
        len(good) + i for i in range(len(BAD_TIMES))
    ]
    assert np.flatnonzero(bad["before_1970"]).tolist() == [
        len(good) + len(BAD_TIMES) + i for i in range(len(EARLY))
    ]


@pytest.mark.parametrize(
    "kind",
    [
        pa.float32(),
        pa.float64(),
        pa.decimal128(30, 3),
        pa.int8(),
        pa.string(),
        pa.timestamp("ms"),
        pa.timestamp("ns", "Asia/Kolkata"),
    ],
)
def test_a_number_is_a_number_in_every_type(kind):
    if pa.types.is_timestamp(kind):
        numbers = pa.array([5000, -1, None]).cast(pa.timestamp("ms"))
    else:
        numbers = pa.array([5, -1, None])
    seconds, bad = times.parse_seconds(pc.cast(numbers, kind))
    assert seconds.to_pylist() == [5, 0, 0]
    assert bad["before_1970"].tolist() == [False, True, False]
    assert bad["bad_timestamp"].tolist() == [False, False, True]


def test_fractions_of_seconds_are_cut_alike():
    late = datetime.datetime(1970, 1, 1, 0, 0, 5, 900_000)
    for column in (
        pa.array([5.9]),
        pa.array(["5.9"]),
        pa.array([decimal.Decimal("5.9")]),
        pa.array([late], pa.timestamp("us")),
        pa.array([late], pa.timestamp("ns")),
        pa.array([late.isoformat()]),
    ):
        assert times.parse_seconds(column)[0].to_pylist() == [5]
    for column in (pa.array([True]), pa.array([[1]]), pa.array([b"5"])):
        with pytest.raises(ValueError, match="holds .* A time is a number"):
            times.parse_seconds(column)


def test_parquet_keeps_the_types_of_ids(tmp_path):
    table = pa.table(
        {
            "user": pa.array(["1", "2", None]),
            "item": pa.array([7, 8, 9], pa.uint16()),
            "timestamp": [datetime.date(1970, 1, 2)] * 3,
            "category": pa.array(["a", "b", "a"]).dictionary_encode(),
            "age": [20, None, 30],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    rows, skipped = read("parquet", tmp_path / "a.parquet", profile=("age",))
    assert rows == {
        "user": ["1", "2"],
        "item": [7, 8],
        "timestamp": [86400] * 2,
        "category": ["a", "b"],
        "age": [20, None],
    }
    assert skipped.counts == {"empty_user": 1}


def test_unusable_parquet_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"user": [True], "item": [1], "timestamp": [1]})
    pq.write_table(table, path)
    with pytest.raises(ValueError, match="'user' holds bool; ids are integers"):
        read("parquet", path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read("parquet", path)


def test_userbehavior(tmp_path):
    lines = [
        f"1,2,3,pv,{NOON}",
        f"1,4,3,buy,{NOON - 86400}",  # the day before
        "1,4,3,fav,1512316800",  # midnight after the last day, in China
        "1,4,3,cart,1512316799",
        f"1,4,3,sold,{NOON}",
        f"1,4,3,{NOON}",
    ]
    rows, skipped = read(
        "userbehavior", write(tmp_path / "u.csv", "\n".join(lines))
    )
    assert rows == {
        "user": ["1", "1"],
        "item": ["2", "4"],
        "category": ["3", "3"],
        "timestamp": [NOON, 1512316799],
    }
    assert skipped.counts == {
        "wrong_column_count": 1,
        "unknown_behaviour": 1,
        "outside_period": 2,
    }
    assert skipped.malformed == 2


def test_userbehavior_recognises_a_header(tmp_path):
    row = f"1,2,3,pv,{NOON}\n"
    header = "user_id,item_id,category_id,behavior,timestamp\n"
    path = write(tmp_path / "u.csv", header + row + "1,2\n")
    rows, skipped = read("userbehavior", path)
    assert rows["item"] == ["2"]
    assert skipped.examples == {
        "header": ["line 1: " + header.strip()],
        "wrong_column_count": ["line 3: 1,2"],
    }
    assert skipped.malformed == 1
    path = write(path, "item_id,user_id,category,behavior,time\n" + row)
    with pytest.raises(ValueError, match="another order.*--columns"):
        read("userbehavior", path)
    path = write(path, "user,item,timestamp\n1,2,3\n")
    with pytest.raises(ValueError, match="first line has 3.*tianchi"):
        read("userbehavior", path)
    with pytest.raises(ValueError, match="--input is missing.*tianchi"):
        read("userbehavior", None)


RECORDS = {
    "older": [
        "{'asin': '01', 'title': \"Bob's &amp; Co\", 'related': {'also': ["
        "'02']}, 'categories': [['Books'], ['Books', 'Art | Craft']]}",
        "{'asin': '02', 'price': 3.5}",
    ],
    "newer": [
        json.dumps(
            {
                "category": ["Books", "Art | Craft"],
                "title": "Bob's & Co",
                "asin": "01",
            }
        ),
        json.dumps({"asin": "02", "category": [], "title": ""}),
    ],
    "newest": [
        json.dumps(
            {
                "parent_asin": "01",
                "title": "Bob's & Co",
                "categories": ["Books", "Art | Craft"],
            }
        )
    ],
}


@pytest.mark.parametrize("form", RECORDS)
@pytest.mark.parametrize("packing", ["plain", "gzip"])
def test_amazon_books(tmp_path, form, packing):
    ratings = write(tmp_path / "r.csv", "A1,01,5.0,9\nA2,02,1.0,8\nA2,03,1,8")
    lines = [*RECORDS[form], "{'asin': '03', broken", "", "{'asin': 'other'"]
    metadata = write(tmp_path / "m.json", "\n".join(lines), packing)
    rows, skipped = read("amazon_books", ratings, metadata=str(metadata))
    assert rows == {
        "user": ["A1", "A2", "A2"],
        "item": ["01", "02", "03"],
        "timestamp": [9, 8, 8],
    }
    reader = preparation.READERS["amazon_books"](
        reader_lib.Options(str(ratings), str(metadata))
    )
    found = reader.describe_items(pa.array(["01", "02", "03"]), skipped)
    assert found.to_pydict() == {
        "category": ["Books|Art / Craft", None, None],
        "name": ["Bob's & Co", None, None],
    }
    assert skipped.counts == {"metadata_line": 1}  # of a wanted item
    with pytest.raises(ValueError, match="describes none of the 1 items"):
        reader.describe_items(pa.array(["A1"]), skipped)


def test_ta_feng(tmp_path):
    text = (
        '\N{BYTE ORDER MARK}"TRANSACTION_DT","CUSTOMER_ID","AGE_GROUP",'
        '"PIN_CODE","PRODUCT_SUBCLASS","PRODUCT_ID","AMOUNT"\r\n'
        '"11/1/2000","01104905","45-49","115","110411","4710199010372","2"\r\n'
        '"1/31/2001","01104905","","Unknown","9","4710199010372","2"\r\n'
        '"13/1/2001","01104905","","Unknown","9","4710199010372","2"\r\n'
    )
    rows, skipped = read("ta_feng", write(tmp_path / "t", text, "zip"))
    days = [datetime.date(2000, 11, 1), datetime.date(2001, 1, 31)]
    epoch = datetime.date(1970, 1, 1)
    assert rows == {
        "user": ["01104905"] * 2,
        "item": ["4710199010372"] * 2,
        "timestamp": [(day - epoch).days * 86400 for day in days],
        "category": ["110411", "9"],
        "age_group": ["45-49", ""],
        "pin_code": ["115", ""],
    }
    assert skipped.counts == {"bad_timestamp": 1}
    reader = preparation.READERS["ta_feng"](
        reader_lib.Options(str(tmp_path / "t"))
    )
    paths = reader.category_path(pa.array(["110411", "9", None]))
    assert paths.to_pylist() == ["11|1104|110411", "9", None]
    with pytest.raises(ValueError, match="CUSTOMER_ID.*[Kk]aggle"):
        read("ta_feng", write(tmp_path / "t", "user,item\n1,2\n"))


def test_complete_journey(tmp_path):
    stamps = pa.array([10**9, 2 * 10**9], pa.timestamp("ns"))
    tables = {
        "transactions": {
            "household_id": [5, 6],
            "product_id": [71, 72],
            "transaction_timestamp": stamps,
        },
        "products": {
            "product_id": [71, 73, 74],
            "department": ["GROCERY", "MISC", None],
            "product_category": ["FRZN ICE", None, None],
            "product_type": ["ICE - CUBED", None, None],
            "package_size": ["22 LB", None, "1 LB"],
        },
        "demographics": {
            "household_id": [6],
            **{
                name: ["x"]
                for name in preparation.READERS["complete_journey"].profile
            },
        },
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    rows, _ = read("complete_journey", tmp_path)
    assert rows == {"user": [5, 6], "item": [71, 72], "timestamp": [1, 2]}
    reader = preparation.READERS["complete_journey"](
        reader_lib.Options(str(tmp_path))
    )
    found = reader.describe_items(pa.array([71, 72, 73, 74]), None)
    assert found.to_pydict() == {
        "category": ["GROCERY|FRZN ICE|ICE - CUBED", None, "MISC", None],
        "name": ["ICE - CUBED, 22 LB", None, "MISC", "1 LB"],
    }
    users = reader.describe_users(pa.array([5, 6])).to_pydict()
    assert users["age"] == [None, "x"]


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install"):
        read("complete_journey", None)
