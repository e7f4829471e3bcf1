"""Tests of the public face: by raw ids the same as by item numbers."""

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import jtm_tf
from jtm_tf.data import splits
from jtm_tf.learning import settings
from jtm_tf.search import model_search
from jtm_tf.types import PAD
from tests.support import close
from tests.support import runs
from tests.support import shell
from tests.support import worlds

# What `runs.TINY` says, as a user would say it.
TINY = {
    **settings.AS_PUBLISHED,
    "rounds": 2,
    "embedding_dim": 4,
    "windows": (3, 1),
    "hidden": (8,),
    "num_results": 5,
    "beam_width": 8,
    "batch_size": 64,
    "negatives": 12,
    "learning_rate": 3e-3,
    "branching": 4,
    "gap": 2,
}
# Of those what makes the defaults small.
_SHAPE = ("windows", "hidden", "branching", "gap")


def table(world):
    """Returns a world as an Arrow table whose item ids are strings."""
    names = [f"sku-{item}" for item in world.item]
    return pa.table(
        {
            "user": world.user,
            "sku": names,
            "timestamp": world.timestamp,
            "category": [world.categories[item - 1] for item in world.item],
            "name": [name.replace("sku-", "thing ") for name in names],
            "taste": ["sweet" if user % 2 else "sour" for user in world.user],
        }
    )


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("face")
    data = jtm_tf.prepare(
        table(worlds.draw()),
        folder / "data",
        columns={"item": "sku"},
        profile=["taste"],
    )
    return jtm_tf.fit(data, folder / "run", profile=("taste",), **TINY)


def known_users(model):
    """Returns the test users with raw ids of what they had and their taste."""
    users = splits.held_out_users(
        model.data, "test", model.run.model.max_history, ["taste"]
    )
    raw = model.data.items["raw_id"].to_pylist()
    histories = [[raw[i - 1] for i in items] for items in users.full_history]
    tastes = np.array(model.data.users["taste"].to_pylist())
    return users, histories, tastes[users.users - 1]


def ids(answer):
    return [found.raw_id for found in answer]


def scores(answer):
    return [found.score for found in answer]


def test_recommends_what_is_judged(model):
    users, histories, tastes = known_users(model)
    want = model_search.recommend_users(
        model.run.model, users, num_results=5, beam_width=8
    )
    assert np.all(want != PAD)
    got = np.zeros_like(want)
    for row, history, taste in zip(got, histories, tastes):
        answer = model.recommend(
            history, num_results=5, profile={"taste": taste}
        )
        row[:] = model.data.item_ids.numbers(ids(answer))
        assert (answer.known, answer.unknown) == (len(history), 0)
        assert scores(answer) == sorted(scores(answer), reverse=True)
        assert all(
            found.name.endswith(found.raw_id.replace("sku-", "thing "))
            for found in answer
        )
    close.answers(model.run.model, users.history, got, want, beam_width=8)


def test_unknown_ids_are_passed_over_and_counted(model):
    history = ["sku-3", "sku-7"]
    want = model.recommend(history)
    got = model.recommend(["no", "sku-3", None, "sku-7", ""])
    assert ids(got) == ids(want)
    assert (got.known, got.unknown) == (2, 3)
    assert "3 of them unknown" in repr(got)
    with pytest.warns(UserWarning, match="None of the 2 ids .* 'sku-1'"):
        nobody = model.recommend(["no", "never"])
    assert ids(nobody) == ids(model.recommend([]))


def test_the_excluded_never_come_back(model):
    everything = model.recommend(["sku-3"], num_results=16, beam_width=8)
    assert len(everything) >= 12  # a few of the 16 leaves are empty
    exclude = ids(everything)[:4] + ["unknown"]
    answer = model.recommend(
        ["sku-3"], num_results=8, beam_width=8, exclude=exclude
    )
    want = everything[4:12]
    close.rankings([ids(answer)], [scores(answer)], [ids(want)], [scores(want)])


def test_a_beam_ranks_all_that_it_scores(model, tmp_path):
    """A beam of k scores b k leaves, and so many may be asked for."""
    with pytest.raises(ValueError, match="num_results=33; widen the beam"):
        model.recommend(["sku-3"], num_results=33, beam_width=8)
    for method, beam in (("tdm", 3), ("dnn", 1)):
        wide = jtm_tf.fit(
            model.data,
            tmp_path / method,
            method=method,
            **{**TINY, "branching": 8, "rounds": 1},
        )
        items = ids(wide.recommend([], num_results=17, beam_width=beam))
        assert len(set(items)) == 17


def test_evaluates_as_the_run_did(model):
    want = model.metrics["test"]
    assert model.evaluate(num_results=5, beam_width=8) == want
    again = jtm_tf.Recommender.load(model.run.folder.path)
    assert ids(again.recommend(["sku-3"])) == ids(model.recommend(["sku-3"]))
    assert f"{100 * want['recall']:.2f} %" in repr(again)


def test_trees_in_order(model):
    trees = model.trees()
    moved = [record["moved_items"] for record in model.metrics["iterations"]]
    assert [a.moved_items(b) for a, b in zip(trees, trees[1:])] == moved[:-1]
    best = model.metrics["best_iteration"]
    np.testing.assert_array_equal(trees[best - 1].pi, model.tree.pi)


def test_flat_settings_are_the_same_settings(model):
    want = runs.TINY
    got = model.run.settings
    assert got.training.negatives == want.training.negatives
    assert got.tree_learning.gap == want.tree_learning.gap
    assert got.tree_learning.kin_strength == 5.0
    assert got.hidden == want.hidden


def test_integers_without_categories(tmp_path):
    world = worlds.draw()
    rows = pa.table(
        {
            "user": world.user,
            "item": world.item + 100,
            "timestamp": world.timestamp,
        }
    )
    data = jtm_tf.prepare(rows, tmp_path / "data")
    small = {name: TINY[name] for name in _SHAPE}
    model = jtm_tf.fit(
        data, tmp_path / "few", rounds=1, samples_per_epoch=64, **small
    )
    found = model.run.settings
    assert (found.num_results, found.beam_width) == (5, 10)
    want = ids(model.recommend([103, 107]))
    assert all(isinstance(raw_id, int) for raw_id in want)
    history = ["103", 7.5, np.int64(107), float("nan")]
    assert ids(model.recommend(history)) == want


class Stream:
    """A table of another library, such as polars: it streams as Arrow."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def test_every_source_gives_the_same_data(tmp_path):
    pandas = pytest.importorskip("pandas", reason="tests of pandas frames")
    world = worlds.draw()
    path = worlds.write_csv(tmp_path / "log.csv", world)
    frame = pandas.read_csv(path)
    arrow = pa.table(frame)
    views = arrow.cast(
        pa.schema(
            pa.field(
                f.name, pa.string_view() if f.name == "category" else f.type
            )
            for f in arrow.schema
        )
    )
    kinds = {
        "csv": path,
        "frame": frame,
        "arrow": arrow,
        "stream": Stream(views),
    }
    prints = {
        jtm_tf.prepare(source, tmp_path / name).manifest["fingerprint"]
        for name, source in kinds.items()
    }
    assert len(prints) == 1
    # A frame that is equal is the same source, and nothing is done again.
    again = jtm_tf.prepare(frame.copy(), tmp_path / "arrow")
    assert jtm_tf.load(tmp_path / "arrow").manifest == again.manifest
    with pytest.raises(ValueError, match="prepared differently"):
        jtm_tf.prepare(frame[:-1], tmp_path / "arrow")


def test_a_users_history(model):
    world = worlds.draw()
    for user in (1, 60):
        items = world.item[world.user == user]
        assert model.data.history(user) == [f"sku-{item}" for item in items]
    with pytest.raises(ValueError, match="no user 61; there are 60"):
        model.data.history(61)


def test_mistakes_are_told(model, tmp_path):
    for wrong, message in (
        (lambda: model.recommend("sku-3"), "history must be a list"),
        (lambda: model.recommend(3), "history must be a list"),
        (lambda: model.recommend([["sku-3"]]), r"flat list .* got \['sku-3'\]"),
        (lambda: model.recommend([], num_results=0), "num_results must be"),
        (lambda: model.recommend([], profile={"age": 3}), "no profile column"),
        (
            lambda: jtm_tf.fit(model.data, tmp_path, epochs_per_iteratoin=3),
            "did you mean epochs_per_iteration",
        ),
        (lambda: jtm_tf.fit("log.csv", tmp_path), "must be what .* got str"),
        (
            lambda: jtm_tf.fit(model.data, tmp_path, joint_iterations=3),
            "is called rounds here",
        ),
        (lambda: jtm_tf.prepare(3, tmp_path), "source must be the path"),
        (
            lambda: jtm_tf.prepare(pa.table({"sku": [1]}), tmp_path / "x"),
            r"^the table has no column for .*columns=\{'user'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
    with pytest.raises(FileNotFoundError, match="There is no file"):
        jtm_tf.prepare(tmp_path / "none.csv", tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        jtm_tf.train  # noqa: B018


def test_a_forked_child_is_told(model, tmp_path):
    """It would wait for ever for the parent's threads."""
    known = model.data.item_ids.of([1])
    asked = [
        lambda: model.recommend(known),
        lambda: model.evaluate(),
        lambda: jtm_tf.Recommender.load(model.run.folder.path),
        lambda: jtm_tf.fit(model.data, tmp_path / "run", **TINY),
    ]
    model.recommend(known)  # TensorFlow is in use
    child = os.fork()
    if not child:
        told = 0
        for ask in asked:
            try:
                ask()
            except RuntimeError as error:
                told += "forked from" in str(error)
        os._exit(told)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == len(asked)
    assert not (tmp_path / "run").exists()


def test_a_spawned_child_recommends(model):
    known = model.data.item_ids.of([1, 2])
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        found = pool.apply(recommended, (str(model.run.folder.path), known))
    assert found == [x.raw_id for x in model.recommend(known)]


def recommended(folder, known):
    """Returns the ids that a run recommends; in a process of its own."""
    return [x.raw_id for x in jtm_tf.Recommender.load(folder).recommend(known)]


def test_imports_are_quick():
    program = (
        "import sys, jtm_tf\n"
        "assert not {'numpy', 'tensorflow'} & sys.modules.keys()\n"
        "jtm_tf.prepare, jtm_tf.Tree\n"
        "assert not {'tensorflow', 'pandas'} & sys.modules.keys()\n"
        "assert set(jtm_tf.__all__) <= set(dir(jtm_tf))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=shell.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
