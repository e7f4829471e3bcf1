"""The life of an index: items come and go, version after version."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from export.artefact import item_lists
from export.artefact import origin
from export.artefact import publishing
from export.artefact import saved_model
from export.artefact import updating
from export.artefact import versions
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import pooled_weights
from jtm_tf.models import growing
from jtm_tf.pools import serial
from jtm_tf.tree import placement
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD
from tests.support import close
from tests.support import served_models
from tests.support import shell
from tests.support import worlds

GONE, NEW = (7, 30, 31), (101, 102, 103, 104)
# All items are scored and returned: what is missing in an answer is gone.
EVERYTHING = saved_model.SearchConfig(64, 64)


def origin_of(data, model, profile=()):
    """Returns a model as if it had been trained on the data."""
    return served_models.origin_of(data, model, EVERYTHING, profile)


def write(path, *lines):
    """Writes lines; returns the path."""
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
    return interactions.load(worlds.prepare(tmp_path_factory.mktemp("world")))


@pytest.fixture(name="model", scope="module")
def _model():
    return served_models.untrained(path_weight=0.5, visits=True)


@pytest.fixture(name="base", scope="module")
def _base(data, model, tmp_path_factory):
    """BASE of one version."""
    base = tmp_path_factory.mktemp("served") / "jtm"
    publishing.publish(origin_of(data, model), base, 1)
    return base


@pytest.fixture(name="update", scope="module")
def _update(data, tmp_path_factory):
    """An update by lists: of the new items two have histories."""
    folder = tmp_path_factory.mktemp("lists")
    category = data.categories()[4]
    return updating.Update(
        write(folder / "gone.csv", "raw_id", *GONE),
        write(
            folder / "new.csv",
            "name,raw_id,category",
            "a,101,",
            f"b,102,{category}",
            f",103,{category}",
            "d,104,nowhere",
        ),
        write(
            folder / "did.csv",
            "user,item,timestamp,weather",
            "u,4,1,fair",
            "u,5,2,",
            "u,101,3,",
            "v,102,2,",
            "v,9999,1,",
            "u,102,4,",
        ),
    )


@pytest.fixture(name="after", scope="module")
def _after(base, update):
    """The second version: its origin, written to BASE too."""
    made = updating.updated(origin.read(base / "1"), update, version=1)
    publishing.publish(made, base, 2)
    return made


@pytest.fixture(name="loaded", scope="module")
def _loaded(base, after):
    """Both versions as a server has them, by number."""
    del after
    return {n: tf.saved_model.load(str(base / str(n))) for n in (1, 2)}


def histories(rows=32, seed=0):
    """Returns histories of items that stay."""
    staying = [i for i in range(1, served_models.ITEMS + 1) if i not in GONE]
    return np.random.default_rng(seed).choice(staying, [rows, 3])


def test_a_version_is_all_that_an_update_needs(data, model, base):
    made = origin.read(base / "1")
    used = np.ones(model.tree.num_codes, bool)
    used[model.tree.first_leaf :] = model.tree.leaf_items() != PAD
    used[PAD] = False
    for got, want in zip(made.run.model.variables, model.variables):
        rows = used if want is model.embedding.tables[0] else slice(None)
        np.testing.assert_array_equal(got.numpy()[rows], want.numpy()[rows])
    assert made.run.data.items.equals(data.items)
    assert (made.config, made.warming) == (EVERYTHING, False)
    found, folder, version = origin.find(base)
    assert (folder, version) == (base, max(versions.existing(base)))
    assert found.run.settings == made.run.settings
    kept = sum(
        path.stat().st_size for path in (base / "1" / "assets.extra").rglob("*")
    )
    assert kept < 20_000  # no second copy of the weights


@pytest.mark.slow
def test_tables_stay_half_as_wide(data, model, base, update, tmp_path):
    config = dataclasses.replace(EVERYTHING, tables="float16")
    half = tmp_path / "jtm"
    publishing.publish(served_models.origin_of(data, model, config), half, 1)
    made = updating.updated(origin.read(half / "1"), update, version=1)
    publishing.publish(made, half, 2)
    first, second = (saved_model.read_theta(half / n) for n in "12")
    for tables in (first, second):
        assert [table.dtype for table in tables[:2]] == [np.float16] * 2
    staying = [i for i in range(1, served_models.ITEMS + 1) if i not in GONE]
    np.testing.assert_array_equal(
        second[1][1 : len(staying) + 1], first[1][staying]
    )
    card = json.loads((half / "2" / "model_card.json").read_text())
    assert card["search"]["tables"] == "float16"

    def size(version):
        return sum(
            path.stat().st_size
            for path in (version / "variables").glob("*.data*")
        )

    assert size(half / "1") < size(base / "1")


def test_what_goes_is_gone(loaded, after):
    loaded = loaded[2]
    staying = {*range(1, served_models.ITEMS + 1), *NEW} - {*GONE}
    assert after.run.model.num_items == len(staying)
    history = histories()
    rows = len(history)
    for signature, more in (
        ("recommend", {}),
        ("serving_default", {}),
        ("explain", {}),
        (
            "recommend_filtered",
            {"exclude": [[7, 103]] * rows, "allow_categories": [[""]] * rows},
        ),
    ):
        found = served_models.call(loaded, signature, history=history, **more)[
            "item_ids"
        ]
        wanted = staying - {103} if more else staying
        for row in found:
            assert sorted(row[row != 0]) == sorted(wanted)
    both = [[*GONE, *NEW]] * rows
    scores = served_models.call(
        loaded, "score", history=history, candidates=both
    )["scores"]
    assert np.all(scores[:, : len(GONE)] == saved_model.MISSING)
    assert np.all(scores[:, len(GONE) :] > saved_model.MISSING)
    # In a history they are passed over, as any unknown id.
    plain, with_gone = (
        served_models.call(loaded, "recommend", history=x)
        for x in (history, np.insert(history, 1, GONE[0], axis=1))
    )
    close.rankings(
        *(x[key] for x in (with_gone, plain) for key in ("item_ids", "scores"))
    )


def test_what_stays_is_scored_as_before(loaded):
    before, now = loaded[1], loaded[2]
    staying = [i for i in range(1, served_models.ITEMS + 1) if i not in GONE]
    history = histories()
    want, got = (
        served_models.call(
            one,
            "score",
            history=history,
            candidates=[staying] * len(history),
        )["scores"]
        for one in (before, now)
    )
    close.scores(got, want)
    want, got = (
        kept(served_models.call(one, "recommend", history=history), staying)
        for one in (before, now)
    )
    close.rankings(*got, *want)


def kept(answers, items):
    """Returns the ids and the scores of answers that are of these items."""
    rows = [np.isin(row, items) for row in answers["item_ids"]]
    return [
        [row[inside] for row, inside in zip(answers[name], rows)]
        for name in ("item_ids", "scores")
    ]


def test_newcomers_have_categories(data, loaded, after):
    category = data.categories()[4]
    found = served_models.call(
        loaded[2],
        "recommend_filtered",
        history=[[0]],
        exclude=[[0]],
        allow_categories=[[category]],
    )["item_ids"]
    inside = np.flatnonzero(data.categories() == category) + 1
    want = {*inside.tolist(), 102, 103} - {*GONE}
    assert set(found[found != 0]) == want
    placed = after.run.data.items["placed_by"].to_pylist()
    rules = ["histories", "histories", "category", "room"]
    assert placed == [None] * (served_models.ITEMS - len(GONE)) + rules
    names = after.run.data.items["raw_id"].to_pylist()
    assert names[-len(NEW) :] == list(NEW)


def test_the_card_tells_the_chain(base, after):
    assert len(after.updates) == 1
    card = json.loads((base / "2" / "model_card.json").read_text())
    (told,) = card["updates"]
    assert (told["version"], told["removed"], told["added"]) == (1, 3, 4)
    assert told["placed"] == {"histories": 2, "category": 1, "room": 1}
    assert card["data"]["items"] == told["items"] == served_models.ITEMS + 1
    text = (base / "2" / "model_card.md").read_text()
    assert "before the updates" in text and "| 1 | 3 | 4 | 2 | 1 | 1 |" in text
    assert "updates" not in (base / "1" / "model_card.md").read_text()


def test_the_program(base, loaded, tmp_path):
    """An update of an update undoes it."""
    new = write(tmp_path / "new.csv", "raw_id", *NEW)
    status, stdout, stderr = shell.run(
        "export.update_items", f"--model_dir={base}", f"--remove={new}"
    )
    assert (status, stderr) == (0, "")
    said = json.loads(stdout)
    assert (said["updated"], said["version"], said["removed"]) == (2, 3, 4)
    assert said["path"] == str(base / "3")
    card = json.loads((base / "3" / "model_card.json").read_text())
    assert [x["version"] for x in card["updates"]] == [1, 2]
    once, twice = loaded[1], tf.saved_model.load(str(base / "3"))
    history = histories()
    staying = [i for i in range(1, served_models.ITEMS + 1) if i not in GONE]
    before, after = (
        served_models.call(one, "recommend", history=history)
        for one in (once, twice)
    )
    for row in after["item_ids"]:
        assert set(row) - {0} <= set(staying)
    close.rankings(*kept(after, staying), *kept(before, staying))


@pytest.mark.parametrize("name", ["hsm", "flat"])
def test_string_ids_profiles_and_other_models(data, name, tmp_path):
    kind = served_models.KINDS[name] | {"profile_sizes": (3,)}
    before = origin_of(
        served_models.named(data), served_models.untrained(**kind), ["taste"]
    )
    update = updating.Update(
        write(tmp_path / "gone.csv", "raw_id", "item-3", "item-9"),
        write(tmp_path / "new.csv", "raw_id", "007", '"a, b"'),
    )
    # On a flat tree only the leaves that are left are free.
    made = updating.updated(before, update, version=None)
    served = saved_model.ServedModel(
        made.run.model, made.run.data, profile=["taste"], config=EVERYTHING
    )
    assert served.profile.examples == ["sour"]
    found = served_models.call(
        served,
        "recommend",
        history=[["item-1", "item-3"]],
        profile_taste=["sweet"],
    )["item_ids"][0]
    ids = {f"item-{i}" for i in range(1, served_models.ITEMS + 1)} | {
        "007",
        "a, b",
    }
    assert {x.decode() for x in found} == ids - {"item-3", "item-9"} | {""}


def test_histories_as_read(tmp_path):
    """Rows in any order, unknown items, a new item in a history."""
    path = write(
        tmp_path / "did.csv",
        "timestamp,user,item",
        "5,b,n1",
        "1,b,x",
        "3,b,y",
        "2,b,unknown",
        "4,b,n2",
        "9,a,n1",
        "1,c,x",
    )
    raw_ids = pa.chunked_array([["x", "y", "n1", "n2"]])
    got = item_lists.read_histories(path, raw_ids, num_new=2, profile=1)
    rows = got.histories(np.arange(len(got)), 4).tolist()
    assert sorted(zip(got.target_items().tolist(), rows)) == [
        (3, [0, 0, 0, 0, 0]),
        (3, [0, 1, 2, 4, 0]),
        (4, [0, 0, 1, 2, 0]),
    ]


def test_edge_weights_of_new_items():
    """The model sees histories in its own numbers, and nothing it knows not."""
    model = served_models.untrained(**served_models.KINDS["jtm"])
    tree, kept = placement.remove(model.tree, np.array(GONE))
    seen = []
    old_score = model.score

    def score(history, nodes, level):
        seen.append(history)
        return old_score(history, nodes, level)

    model.score = score
    first = len(kept)  # the first new item
    examples = item_lists.splits.Examples(
        np.array([7, 8, first, 30, first + 1], np.int32),
        np.array([0, 0]),
        np.array([2, 4]),
        np.zeros([5, 0], np.int32),
    )
    tf.config.run_functions_eagerly(True)
    try:
        weigh = growing.edge_weights_of(model, kept, examples, 2)
        weights = weigh(np.array([first - 1, first]), np.array([1, 1]), 2, 2)
    finally:
        tf.config.run_functions_eagerly(False)
    assert weights.shape == (2, 4) and np.all(np.ptp(weights, axis=1) > 0)
    assert tree.num_items == len(kept) - 1


def test_files_place_as_memory_does(base, update, after, tmp_path):
    """What a pool's workers weigh is what one process does."""
    made = updating.updated(
        origin.read(base / "1"),
        update,
        version=1,
        pool=serial.Pool(),
        folder=tmp_path,
    )
    np.testing.assert_array_equal(
        made.run.model.tree.pi, after.run.model.tree.pi
    )
    assert made.updates == after.updates
    assert not list(tmp_path.iterdir())


def test_files_weigh_new_items_as_memory_does(tmp_path):
    """Histories are told in the model's numbers, items in the new ones."""
    model = served_models.untrained(**served_models.KINDS["jtm"])
    gone = np.array(GONE)
    _, kept = placement.remove(model.tree, gone)
    first, count = len(kept), 7  # of the new items
    rng = np.random.default_rng(0)
    users, rows = 12, 9
    items = rng.integers(1, first, users * rows).astype(np.int32)
    own = np.flatnonzero(rng.random(len(items)) < 0.5)
    items[own] = rng.integers(first, first + count, len(own))
    starts = np.repeat(np.arange(users) * rows, rows)
    samples = splits.Examples(
        items, starts[own], own, np.zeros([len(items), 0], np.int32)
    )
    memory = growing.edge_weights_of(model, kept, samples, count)
    new = first - 1 + rng.permutation(count)
    asked = new, np.ones(count, np.int64), 3, 3
    with pooled_weights.pooled(
        serial.Pool(),
        tmp_path,
        model,
        samples,
        growing.WEIGHED,
        known=growing.known_of(kept, count),
        file_samples=10,
    ) as pooled:
        np.testing.assert_array_equal(pooled.counts, memory.counts)
        weights = pooled(*asked)
    np.testing.assert_allclose(weights, memory(*asked), atol=1e-4)
    assert np.ptp(weights, axis=1).min() > 0
    files = list(tmp_path.glob("*/*.parquet"))
    assert len(files) > 2
    # Items of the tree, which have no samples, are in none.
    assert min(int(x.stem.rpartition("-")[2]) for x in files) >= len(kept) - 1


def test_starting_vectors():
    """Old nodes keep theirs; new ones resemble whom they sit next to."""
    model = served_models.untrained(branching=3)
    old = model.tree
    rest, kept = placement.remove(old, np.arange(20, served_models.ITEMS + 1))
    tree = placement.add(rest, 40)
    grown = growing.regrown(model, kept, tree)
    was, now = (m.embedding.numpy() for m in (model, grown))
    settled = set(np.flatnonzero(old.occupied_codes())) - set(tree.pi[20:])
    for node in settled:
        np.testing.assert_array_equal(now[node], was[node])
    for leaf in tree.pi[20:]:
        above, near = leaf, []
        while len(near) < 4:
            above = tree_lib.parent(above, 3)
            near = [x for x in old.pi if x in settled and is_below(x, above)]
        want = was[near].mean(axis=0)
        np.testing.assert_allclose(now[leaf], want, atol=1e-5)
    with pytest.raises(ValueError, match="must keep their leaves"):
        turned = rest.replace_pi(np.append(0, rest.pi[:0:-1]))
        growing.regrown(model, kept, turned)


def is_below(node, above):
    """Tells whether a node of a tree of three branches is below another."""
    while node > above:
        node = tree_lib.parent(node, 3)
    return node == above


def test_inner_nodes_that_were_empty():
    """A new branch starts from its siblings, and where none is, its parent."""
    #          1          Items on 8 and 14: node 5 and both below 6 are new.
    #      2       3
    #    4   5   6   7
    #   8 . . . . . 14 .
    old = tree_lib.Tree(np.array([0, 8, 14]), 3)
    new = tree_lib.Tree(np.array([0, 8, 14, 10, 12, 15]), 3)
    table = np.arange(16.0)[:, None]
    got = growing.started(table, old, new, new.pi[3:])[:, 0]
    assert (got[5], got[6]) == (4, 7)
    assert got[[10, 12, 15]].tolist() == [11, 11, 11]  # of 8 and 14
    for node in (1, 2, 3, 4, 7, 8, 14):
        assert got[node] == node


REFUSED = [
    ({"add": ["id", 101]}, "needs each of the columns .*raw_id"),
    ({"add": ["raw_id"]}, "has a header and no items"),
    ({"add": []}, "is empty"),
    ({"add": ["raw_id,name", '"",x']}, "1 rows without a raw_id"),
    ({"add": ["raw_id", 101, 102, 101]}, r"once; 1 \(101\) come more"),
    ({"add": ["raw_id", 101, "x1", "007"]}, r"by integers; 2 \(x1, 007\)"),
    ({"add": ["raw_id", 2**63]}, "by integers; 1 "),
    ({"add": ["raw_id,name", "101,a,b"]}, "1 x wrong_column_count, first"),
    ({"add": ["raw_id", 101, 5, 6]}, r"has already: 2 \(5, 6\)"),
    ({"add": ["raw_id", 0]}, "the id 0, with which clients"),
    ({"add": ["raw_id", *range(100, 200)]}, "100 new items, and 14 of its 64"),
    ({"remove": ["raw_id", 1, 77, 78]}, r"does not have: 2 \(77, 78\)"),
    (
        {"remove": ["raw_id", *range(1, served_models.ITEMS + 1)]},
        "All 50 items would go",
    ),
    ({}, "Nothing to do"),
    ({"remove": ["raw_id", 1], "histories": ["user"]}, "give --add too"),
    ({"add": ["raw_id", 101], "histories": ["user,item", "1,2"]}, "timestamp"),
    (
        {
            "add": ["raw_id", 101],
            "histories": ["user,item,timestamp", "1,2,3"],
        },
        "none of the 1 new items",
    ),
    (
        {
            "add": ["raw_id", 101],
            "histories": ["user,item,timestamp", "1,101,noon"],
        },
        "1 x bad_timestamp",
    ),
]


@pytest.fixture(name="before", scope="module")
def _before(data):
    return origin_of(data, served_models.untrained())


@pytest.mark.parametrize("lists, message", REFUSED)
def test_refusals(before, lists, message, tmp_path):
    paths = {
        name: write(tmp_path / f"{name}.csv", *lines)
        for name, lines in lists.items()
    }
    with pytest.raises(ValueError, match=message):
        updating.updated(before, updating.Update(**paths), version=1)


def test_unknown_items_may_be_passed_over(before, tmp_path):
    path = write(tmp_path / "gone.csv", "raw_id", 77, 4)
    update = updating.Update(remove=path, ignore_unknown=True)
    made = updating.updated(before, update, version=1)
    assert made.updates[-1]["removed"] == 1
    assert 4 not in made.run.data.items["raw_id"].to_pylist()
    assert made.run.model.tree.pi[PAD] == PAD


def test_what_is_no_model(base, tmp_path):
    with pytest.raises(FileNotFoundError, match="is no model: neither"):
        origin.find(tmp_path)
    folder = tmp_path / "base" / "1"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    for model_dir in (folder, folder.parent):
        with pytest.raises(ValueError, match="has no assets.extra/origin"):
            origin.find(model_dir)
    made = folder / "assets.extra" / "origin"
    made.mkdir(parents=True)
    there = base / "1" / "assets.extra" / "origin"
    (made / "origin.json").write_bytes((there / "origin.json").read_bytes())
    with pytest.raises(ValueError, match="is damaged: .*export the run again"):
        origin.find(folder)


class Breaks:
    """A model that cannot be written to the end."""

    def __init__(self, *args, **settings):
        del args, settings

    def save(self, folder):
        (folder / "saved_model.pb").write_bytes(b"half")
        raise OSError("no space left")


def test_a_crash_leaves_nothing(before, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "ServedModel", Breaks)
    with pytest.raises(OSError, match="no space"):
        publishing.publish(before, tmp_path / "jtm", 1)
    assert not versions.existing(tmp_path / "jtm")
    assert not list((tmp_path / "jtm").rglob("saved_model.pb"))
