"""Items are found by words or id: against a loop, and at the endpoint."""

import re
import string
import time
import urllib.error
import urllib.parse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from export import serving
from export.serving import item_search
from tests.support import calls
from tests.support import served_models

NAMES = [
    "Whole Milk 1l",
    "Milk chocolate, dark",
    "MILKA Alpine",
    "Café crème – Ünïcode",
    "<script>alert('x')</script>",
    "مرحبا שלום",
    "a" * 10_000,
    "",
    None,
    "1000 paper clips",
    "dark.whole-bread",
]
ITEMS = pa.table(
    {
        "raw_id": pa.array([10, 100, 1000, 7, 8, 9, 11, 12, 13, 14, 15]),
        "name": NAMES,
        "category": ["Dairy|Milk", "Sweets", None, *["x"] * 8],
    }
)


def words(text):
    return [x for x in re.split(r"[\W_]+", text.lower()) if x]


def test_who_has_the_very_words_is_found_among_many():
    """Though many more have them too, or longer ones."""
    names = [f"black long dress x{i}" for i in range(60_000)]
    items = pa.table(
        {"raw_id": np.arange(1, 60_002) * 1000, "name": [*names, "black dress"]}
    )
    search = item_search.ItemSearch(items)
    for query in ("black dress", "dress black", "BLACK  dress"):
        assert search.find(query, 3)[0]["name"] == "black dress"
    began = time.monotonic()
    search.find("b d " * 50, 20)
    assert time.monotonic() - began < 1.0


def slowly(items, query, count):
    """Returns the ids that a query finds, by a loop."""
    found = []
    rows = items.to_pylist()
    by_id = sorted(rows, key=lambda x: str(x["raw_id"]))
    if query.strip():
        found += [
            x["raw_id"]
            for x in by_id
            if str(x["raw_id"]).startswith(query.strip())
        ]
    hits = []
    for place, row in enumerate(rows):
        text = f"{row.get('name') or ''} {row.get('category') or ''}".lower()
        has = words(text)
        wanted = words(query)
        if wanted and all(any(h.startswith(w) for h in has) for w in wanted):
            begins = text.startswith(query.strip().lower())
            hits.append((not begins, len(text), place, row["raw_id"]))
    found += [x for *_, x in sorted(hits) if x not in found]
    return found[:count]


@pytest.mark.parametrize(
    "query",
    [
        *["milk", "MILK", "dark whole", "mil dai", "10", "100", "1000 pap"],
        *["café", "ünï", "script", "alert x", "שלום", "a", "aaaa", "", "  "],
        *["zzz", "'; drop", "[a-z]*", "\\", "milk milk", "x", "."],
    ],
)
def test_what_is_found_against_a_loop(query):
    search = item_search.ItemSearch(ITEMS)
    for count in (1, 3, 100):
        found = [x["id"] for x in search.find(query, count)]
        assert found == slowly(ITEMS, query, count)


def test_what_is_told():
    search = item_search.ItemSearch(ITEMS)
    assert search.find("whole milk", 1) == [
        {"id": 10, "name": "Whole Milk 1l", "category": "Dairy|Milk"}
    ]
    assert search.find("milka", 5) == [{"id": 1000, "name": "MILKA Alpine"}]
    bare = item_search.ItemSearch(ITEMS.select(["raw_id"]))
    assert bare.find("100", 5) == [{"id": 100}, {"id": 1000}]
    assert bare.find("milk", 5) == []
    letters = pa.table({"raw_id": ["B2x", "b10"], "name": ["İSTANBUL", "ΟΔΟΣ"]})
    search = item_search.ItemSearch(letters)
    for query, found in (
        ("İstanbul", ["B2x"]),
        ("οδος", ["b10"]),
        ("οδοσ", ["b10"]),
        ("b", ["b10", "B2x"]),
        ("B2", ["B2x"]),
    ):
        assert [x["id"] for x in search.find(query, 5)] == found


def test_random_names_in_blocks(monkeypatch):
    monkeypatch.setattr(item_search, "_BLOCK_ROWS", 37)
    rng = np.random.default_rng(0)
    syllables = ["ba", "ko", "ra", "mi", "to"]
    names = [
        " ".join(
            "".join(rng.choice(syllables, rng.integers(1, 4)))
            for _ in range(rng.integers(0, 5))
        )
        for _ in range(300)
    ]
    ids = ["".join(rng.choice(list(string.ascii_letters), 5)) for _ in names]
    items = pa.table({"raw_id": ids, "name": names})
    search = item_search.ItemSearch(items)
    for _ in range(200):
        query = " ".join(
            "".join(rng.choice(syllables, rng.integers(1, 3)))
            for _ in range(rng.integers(1, 4))
        )
        got = [x["id"] for x in search.find(query, 10)]
        assert got == slowly(items, query, 10)


def test_many_items_are_searched_quickly():
    """A letter that begins every name is no reason to look at all of them."""
    count = 300_000
    numbers = np.arange(count).astype(str)
    names = pa.array(np.char.add("item number ", numbers))
    search = item_search.ItemSearch(
        pa.table({"raw_id": np.arange(count), "name": names})
    )
    for query in ("i", "item", "item number 29", "number", "nothing", "n i"):
        began = time.monotonic()
        search.find(query, 20)
        assert time.monotonic() - began < 1.0, query
    found = search.find("number 299999", 5)
    assert [x["id"] for x in found] == [299999]


@pytest.fixture(name="served", scope="module")
def _served(tmp_path_factory):
    """A server of a version that keeps items, and one that keeps none."""
    base = tmp_path_factory.mktemp("served") / "shop"
    served_models.publish_numbered(base, 1)
    served_models.publish_numbered(base, 2)
    folder = base / "2" / item_search.ITEMS.parent
    folder.mkdir(parents=True)
    pq.write_table(ITEMS, folder / item_search.ITEMS.name)
    with serving.Server(base, serving.Config()) as server:
        yield f"http://127.0.0.1:{server.rest_port}/v1/models/shop"


def test_the_endpoint(served):
    query = urllib.parse.urlencode({"query": "milk", "count": 2})
    found = calls.get_json(f"{served}/items?{query}", patience=0)
    assert found["version"] == 2
    assert [x["id"] for x in found["items"]] == slowly(ITEMS, "milk", 2)
    hostile = urllib.parse.urlencode({"query": "<script>"})
    found = calls.get_json(f"{served}/versions/2/items?{hostile}", patience=0)
    assert found["items"][0]["name"] == NAMES[4]


def test_items_are_named_by_their_ids(served):
    query = urllib.parse.urlencode([("id", x) for x in (1000, 5, "7", "x", 7)])
    found = calls.get_json(f"{served}/items?{query}", patience=0)["items"]
    assert found == [
        {"id": 1000, "name": "MILKA Alpine"},
        *[{"id": 7, "name": NAMES[3], "category": "x"}] * 2,
    ]
    letters = pa.table({"raw_id": ["Ab", "aB", "ab", "abc", ""]})
    search = item_search.ItemSearch(letters)
    for text in letters["raw_id"].to_pylist():
        assert search.of([text]) == [{"id": text}]
    assert search.of(["AB", "abcd", "b"]) == []


@pytest.mark.parametrize(
    "path, status, says",
    [
        ("/items", 400, "looked up by ?query="),
        ("/items?query=a&query=b", 400, "looked up by ?query="),
        ("/items?query=a&limit=3", 400, "got limit, query"),
        ("/items?query=a&count=0", 400, "count is 1 to 100; got 0"),
        ("/items?query=a&count=1e3", 400, "count is 1 to 100; got 1e3"),
        ("/items?query=a&count=99999999999", 400, "count is 1 to 100"),
        ("/items?query=" + "a" * 201, 400, "200 letters at most"),
        ("/items?id=1&query=a", 400, "got id, query"),
        ("/items?" + "&".join(["id=1"] * 501), 400, "500 ids"),
        ("/versions/1/items?query=a", 404, "keeps no items"),
        ("/versions/3/items?query=a", 404, ""),
        ("/labels/new/items?query=a", 400, "label"),
    ],
)
def test_what_is_refused(served, path, status, says):
    with pytest.raises(urllib.error.HTTPError) as error:
        calls.get_json(served + path, patience=0)
    assert error.value.code == status
    assert says in error.value.read().decode()
