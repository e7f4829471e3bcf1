"""Tests of the signatures: `artefact.saved_model`, with filters and paths.

Here raw ids are the items themselves.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from export.artefact import saved_model
from jtm_tf.data import interactions
from jtm_tf.search import beam_trace
from jtm_tf.search import model_search
from jtm_tf.tree import tree as tree_lib
from tests.support import close
from tests.support import served_models
from tests.support import worlds

# As wide as any tree here: the search is exact.
EXACT = saved_model.SearchConfig(served_models.ITEMS, 6)


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
    """A world whose category paths are of any depth, across the trees."""
    folder = worlds.prepare(tmp_path_factory.mktemp("world"))
    paths = []
    for i in range(served_models.ITEMS):
        coarse, fine = f"c{i % 3}", f"c{i % 3}|f{i % 2}"
        paths.append((fine, f"{fine}|x", coarse, None, fine)[i % 5])
    data = interactions.load(folder)
    items = data.items.set_column(
        data.items.column_names.index("category"), "category", pa.array(paths)
    )
    return dataclasses.replace(data, items=items)


@pytest.fixture(name="served", scope="module")
def _served(data):
    """A model of every kind."""
    return {
        name: saved_model.ServedModel(
            served_models.untrained(**kind), data, config=EXACT
        )
        for name, kind in served_models.KINDS.items()
    }


def same(answer, other):
    """Asserts that answers of two signatures differ by ties only."""
    close.rankings(
        *(x[key] for x in (answer, other) for key in ("item_ids", "scores"))
    )


@pytest.mark.parametrize("name", served_models.KINDS)
def test_signatures_agree(served, data, name):
    """A rank is the same however it is asked for, and rows are apart."""
    one = served[name]
    history = [[3, 9, 0, 4, 41, 12], [0] * 6, [999, 0, 0, 0, 0, 8]]
    best = served_models.call(one, "recommend", history=history)
    assert np.all(np.diff(best["scores"]) <= 0)
    assert np.all(best["item_ids"] != 0)
    same(served_models.call(one, "serving_default", history=history), best)
    everything = data.items["raw_id"].to_numpy()
    scores = served_models.call(
        one, "score", history=history, candidates=[[*everything, -7]] * 3
    )["scores"]
    assert np.all(scores[:, -1] == saved_model.MISSING)
    close.scores(-np.sort(-scores)[:, : EXACT.num_results], best["scores"])
    why = served_models.call(one, "explain", history=history)
    same(why, best)
    weight = 0.0 if name == "flat" else one.model.path_weight
    levels = np.arange(why["path_scores"].shape[-1])
    decay = np.power(weight, levels[::-1])
    close.scores(why["path_scores"] @ decay, best["scores"])
    tree = one.model.tree
    for below, above in zip(levels[1:], levels[:-1]):
        np.testing.assert_array_equal(
            tree_lib.parent(why["path_nodes"][..., below], tree.branching),
            why["path_nodes"][..., above],
        )
    assert not np.any(tree.pi[why["item_ids"]] - why["path_nodes"][..., -1])
    for row in range(len(history)):
        alone = served_models.call(
            one, "recommend", history=history[row : row + 1]
        )
        same(alone, {key: value[[row]] for key, value in best.items()})


@pytest.mark.parametrize("name", served_models.KINDS)
def test_no_rows(served, name):
    for signature, sides in served[name].describe().items():
        inputs = {
            key: np.zeros([0] * len(spec["shape"]))
            for key, spec in sides["inputs"].items()
        }
        for value in inputs:
            if value == "allow_categories":
                inputs[value] = np.zeros([0, 0], str)
        for key, value in served_models.call(
            served[name], signature, **inputs
        ).items():
            shape = [n or 0 for n in sides["outputs"][key]["shape"]]
            assert list(value.shape) == shape


def test_pads_stand_anywhere(served):
    def best(*history):
        answer = served_models.call(
            served["jtm"], "recommend", history=[history]
        )
        return [part.tolist() for part in answer.values()]

    want = best(7, 1, 30, 2)
    assert best(0, 7, 0, 0, 1, 30, 0, 2, 0) == want
    assert best(7, 999, 1, 30, -1, 2) == want
    assert best(5, 5, 7, 1, 30, 2) == want  # the newest four
    assert best(7, 2, 30, 1) != want
    assert best(30, 2) == best(0, 0, 30, 2)
    assert best() == best(0) == best(999, 0)


def test_wide_requests_are_refused(data):
    """Each input may be as wide as it says; beyond, the message says so."""
    limits = {"max_history": 5, "max_exclusions": 3, "max_categories": 2}
    narrow = saved_model.ServedModel(
        served_models.untrained(),
        data,
        config=dataclasses.replace(EXACT, max_candidates=7, **limits),
    )
    for signature, sides in narrow.describe().items():
        wide = {
            name: spec["max_columns"] for name, spec in sides["inputs"].items()
        }
        fits = {name: [[""] * n] for name, n in wide.items()}
        for name in set(wide) - {"allow_categories"}:
            fits[name] = [list(range(1, wide[name] + 1))]
        served_models.call(narrow, signature, **fits)
        for name, most in wide.items():
            for rows in (0, 2):
                beyond = {
                    key: np.repeat(value, rows, 0)
                    for key, value in fits.items()
                }
                beyond[name] = np.repeat(
                    [[*fits[name][0], fits[name][0][0]]], rows, 0
                )
                message = f"expected {name} of at most {most} columns; got.*"
                with pytest.raises(
                    tf.errors.InvalidArgumentError,
                    match=f"{message}{most + 1}",
                ):
                    served_models.call(narrow, signature, **beyond)
    with pytest.raises(ValueError, match="histories of 4 items.* got 3"):
        saved_model.ServedModel(
            served_models.untrained(),
            data,
            config=dataclasses.replace(EXACT, max_history=3),
        )


def allowed_items(data, exclude, allow):
    """The oracle: raw ids, since here they are the items."""
    asked = {name for name in allow if name}
    return [
        item
        for item, path in enumerate(data.categories(), 1)
        if item not in exclude
        and (
            not asked
            or any(f"{path or ''}|".startswith(f"{name}|") for name in asked)
        )
    ]


def filter_cases(data):
    """Returns pairs of excluded items and allowed categories."""
    inside = allowed_items(data, [], ["c1|f1"])
    assert 1 < len(inside) < len(allowed_items(data, [], ["c1"]))
    return [
        ([], []),
        ([0, 0, 777], [""]),
        ([9] * served_models.ITEMS, []),
        (range(1, served_models.ITEMS + 1, 2), []),
        (range(1, served_models.ITEMS - 1), []),  # two are left
        (range(1, served_models.ITEMS + 1), []),
        ([], ["c0"]),
        ([], ["f1"]),  # no prefix
        ([4, 4, 9], ["c2|f1", "", "c0|f0"]),
        (inside, ["c1|f1"]),
        (inside, ["c1|f1", "c1", "c1|f1"]),
        (inside[1:], ["nowhere", "c1|f1"]),
        ([1], ["nowhere"]),
        ([], ["c1|f1|x"]),
    ]


@pytest.mark.parametrize("name", served_models.KINDS)
def test_filters_against_brute_force(served, data, name):
    cases = filter_cases(data)
    rows = len(cases)
    exclude = np.zeros([rows, served_models.ITEMS], np.int64)
    allow = np.full([rows, 3], "", object)
    for row, (items, categories) in enumerate(cases):
        exclude[row, served_models.ITEMS - len(items) :] = items
        allow[row, : len(categories)] = categories
    history = np.random.default_rng(1).integers(
        0, served_models.ITEMS, [rows, 3]
    )
    got = served_models.call(
        served[name],
        "recommend_filtered",
        history=history,
        exclude=exclude,
        allow_categories=allow,
    )
    scores = served_models.call(
        served[name],
        "score",
        history=history,
        candidates=[range(1, served_models.ITEMS + 1)] * rows,
    )["scores"]
    for row, case in enumerate(cases):
        want = allowed_items(data, *case)
        found = got["item_ids"][row]
        kept = min(EXACT.num_results, len(want))
        assert set(found[:kept]) <= set(want) and len(set(found[:kept])) == kept
        assert np.all(found[kept:] == 0)
        assert np.all(got["scores"][row, kept:] == saved_model.MISSING)
        best = -np.sort(-scores[row][np.array(want, int) - 1])[:kept]
        close.scores(got["scores"][row, :kept], best)


@pytest.mark.parametrize(
    "name",
    [
        "jtm",
        "flat",
        pytest.param("tdm", marks=pytest.mark.slow),
        pytest.param("hsm", marks=pytest.mark.slow),
    ],
)
def test_as_many_results_as_are_allowed(data, name):
    """Whatever is excluded, a narrow beam never runs dry."""
    narrow = saved_model.ServedModel(
        served_models.untrained(**served_models.KINDS[name]),
        data,
        config=saved_model.SearchConfig(5, 5),
    )
    rng = np.random.default_rng(2)
    rows = 24
    exclude = np.zeros([rows, served_models.ITEMS], np.int64)
    allow = np.full([rows, 1], "", object)
    for row, count in enumerate(rng.integers(0, served_models.ITEMS + 1, rows)):
        exclude[row, :count] = rng.permutation(served_models.ITEMS)[:count] + 1
        allow[row] = ["", "c0", "c1|f1"][row % 3]
    got = served_models.call(
        narrow,
        "recommend_filtered",
        history=rng.integers(0, served_models.ITEMS, [rows, 3]),
        exclude=exclude,
        allow_categories=allow,
    )["item_ids"]
    for found, gone, names in zip(got, exclude, allow):
        want = allowed_items(data, gone, names)
        found = found[found != 0]
        assert set(found) <= set(want)
        assert len(set(found)) == len(found) == min(5, len(want))


def test_awkward_ids(data):
    """Zero may be an item; the empty string may not; no id repeats."""

    def with_ids(ids):
        items = data.items.set_column(1, "raw_id", pa.array(ids))
        return dataclasses.replace(data, items=items)

    zero = saved_model.ServedModel(
        served_models.untrained(),
        with_ids(range(served_models.ITEMS)),
        config=EXACT,
    )
    assert zero.items.pad == -1
    answer = served_models.call(
        zero,
        "recommend_filtered",
        history=[[0, -1]],
        exclude=[range(1, served_models.ITEMS)],
        allow_categories=[[""]],
    )["item_ids"]
    assert answer.tolist() == [[0] + [-1] * 5]
    letters = [f"i{i}" for i in range(served_models.ITEMS)]
    with pytest.raises(ValueError, match="empty string as raw_id"):
        saved_model.ServedModel(
            served_models.untrained(), with_ids(["", *letters[1:]])
        )
    with pytest.raises(ValueError, match="must not repeat"):
        saved_model.ServedModel(
            served_models.untrained(), with_ids(["i1", *letters[1:]])
        )


def test_awkward_columns(data, tmp_path):
    """No categories, names and values of any kind, a column of nothing."""
    columns = {
        "home size": pa.array([float(i % 3) for i in range(data.num_users)]),
        "home-size": pa.nulls(data.num_users, pa.string()),
    }
    users = data.users
    for name, column in columns.items():
        users = users.append_column(name, column)
    bare = dataclasses.replace(
        data, items=data.items.drop_columns(["category"]), users=users
    )
    saved_model.ServedModel(
        served_models.untrained(profile_sizes=(4, 1)),
        bare,
        profile=list(columns),
        config=EXACT,
    ).save(tmp_path)
    loaded = tf.saved_model.load(str(tmp_path))
    inputs = {
        "history": tf.constant([[1], [1]], tf.int64),
        "exclude": tf.zeros([2, 0], tf.int64),
        "allow_categories": tf.constant([[""], ["c0"]]),
        "profile_home_size": tf.constant(["1.0", "7"]),
        "profile_home_size_": tf.constant(["", "x"]),
    }
    items = loaded.signatures["recommend_filtered"](**inputs)["item_ids"]
    found = np.count_nonzero(items.numpy(), axis=1)
    assert found.tolist() == [EXACT.num_results, 0]


def test_settings_that_cannot_be(data):
    with pytest.raises(ValueError, match="num_results=9 and beam_width=8"):
        saved_model.SearchConfig(8, 9)
    with pytest.raises(ValueError, match=r"trained on .* \(50, 0\)"):
        saved_model.ServedModel(
            served_models.untrained(), data, profile=("taste",)
        )


@pytest.mark.parametrize("name", ["tdm", "pruned", "hsm"])
def test_a_traced_walk_is_the_search(data, name):
    """As `beam_trace` tells it, item by item and level by level."""
    model = served_models.untrained(**served_models.KINDS[name])
    one = saved_model.ServedModel(
        model, data, config=saved_model.SearchConfig(4, 3)
    )
    history = [[3, 9, 4, 41], [0, 0, 0, 8]]
    told = served_models.call(
        one,
        "trace",
        history=history,
        exclude=[[], []],
        allow_categories=np.zeros([2, 0], str),
        items=[[*range(1, served_models.ITEMS + 1), 999]] * 2,
    )
    best = served_models.call(one, "recommend", history=history)
    search = model_search.retriever(one.model, num_results=3, beam_width=4)
    for row in range(2):
        traced = beam_trace.trace(
            search, model.tree, np.asarray(history[row], np.int32)
        )
        assert told["levels"][row].tolist() == traced.levels
        assert told["kept"][row].tolist() == traced.widths
        assert told["scored"][row].tolist() == list(map(len, traced.nodes))
        for step, (nodes, ranks, width) in enumerate(
            zip(traced.nodes, traced.ranks, traced.widths)
        ):
            kept = told["kept_nodes"][row, step]
            assert sorted(kept[:width]) == sorted(nodes[:width])
            assert not kept[width:].any()
            close.scores(told["last_ranks"][row, step], ranks[width - 1])
        for item in range(1, served_models.ITEMS + 1):
            for step, want in enumerate(traced.steps(item)):
                at = row, item - 1, step
                assert told["item_nodes"][at] == want.node
                assert told["item_places"][at] == (want.place or 0)
                if want.rank is not None:
                    close.scores(told["item_ranks"][at], want.rank)
                else:
                    assert told["item_ranks"][at] == saved_model.MISSING
        assert not told["item_nodes"][row, -1].any()  # nobody knows 999
        assert not told["item_places"][row, -1].any()
        returned = {
            item
            for item in range(1, served_models.ITEMS + 1)
            if 0 < told["item_places"][row, item - 1, -1] <= 3
        }
        assert returned == set(best["item_ids"][row])


def test_a_traced_walk_keeps_to_its_filters(served):
    one, history = served["jtm"], [[3, 9, 4, 41]]
    best = served_models.call(one, "recommend", history=history)["item_ids"]
    told = served_models.call(
        one,
        "trace",
        history=history,
        exclude=best[:, :2],
        allow_categories=[["c1"]],
        items=best,
    )
    found = served_models.call(
        one,
        "recommend_filtered",
        history=history,
        exclude=best[:, :2],
        allow_categories=[["c1"]],
    )["item_ids"][0]
    assert not told["item_places"][0, :2, -1].any()
    for item, place in zip(best[0], told["item_places"][0, :, -1]):
        assert (0 < place <= EXACT.num_results) == (item in found)
    assert "trace" not in served["flat"].signatures


def test_a_traced_walk_is_told_for_few_items_at_a_time(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 100"):
        served_models.call(
            served["jtm"],
            "trace",
            history=[[3]],
            exclude=[[]],
            allow_categories=np.zeros([1, 0], str),
            items=[range(101)],
        )


def test_of_equal_nodes_a_traced_walk_keeps_the_first(data):
    """As the search does; places are all different."""
    model = served_models.untrained()
    for variable in model.trainable_variables:
        variable.assign(tf.zeros_like(variable))
    one = saved_model.ServedModel(
        model, data, config=saved_model.SearchConfig(4, 3)
    )
    everything = range(1, served_models.ITEMS + 1)
    told = served_models.call(
        one,
        "trace",
        history=[[3]],
        exclude=[[]],
        allow_categories=np.zeros([1, 0], str),
        items=[everything],
    )
    best = served_models.call(one, "recommend", history=[[3]])["item_ids"][0]
    places = told["item_places"][0, :, -1]
    assert sorted(places[places > 0]) == list(
        range(1, told["scored"][0, -1] + 1)
    )
    returned = [i for i, place in zip(everything, places) if 0 < place <= 3]
    assert sorted(best) == returned
