"""What each method's search finds and what it costs: points of a curve.

A line is a method with a knob: the beam width of a tree, or what an index of
nearest neighbours has. Methods that look at all items are lines of one point.
"""

import dataclasses
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from experiments.runs import paper
from experiments.search_cost import nearest
from experiments.search_cost import timing
from jtm_tf.baselines import item_cf
from jtm_tf.baselines import run as baselines_run
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import settings
from jtm_tf.models import frozen
from jtm_tf.models import saving
from jtm_tf.models import tree_model
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import judging
from jtm_tf.search import model_search

METHODS = ("item_cf", *settings.METHODS)

# Maps held-out users to [B, M] items; returns when they are there.
Recommend = Callable[[splits.HeldOutUsers], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Line:
    """A method's search, from fast to accurate.

    Attributes:
        name: METHOD, METHOD/INDEX, or METHOD/exact beside a pruned search.
        title: for people.
        knob: what is turned; None of a method that looks at all items.
        users: the test users, as the method describes them.
        searches: by the knob's values.
        build_seconds: of the index; None where there is none to build.
    """

    name: str
    title: str
    knob: str | None
    users: splits.HeldOutUsers
    searches: Mapping[int | None, Recommend]
    build_seconds: float | None = None


def lines(
    folder: run_folder.RunFolder,
    data: interactions.Interactions,
    *,
    num_results: int,
    threads: int,
) -> tuple[list[Line], dict[str, str]]:
    """Opens a finished run for searching.

    Args:
        folder: the run's.
        data: what it was trained on.
        num_results: M.
        threads: of indexes; TensorFlow's are the process's.

    Returns:
        The run's lines, and by name why others are missing.

    Raises:
        ValueError: the run was trained on other data, or is damaged.
    """
    read = folder.read_config()
    config = read["config"]
    run_folder.refuse_other_data(
        folder.path,
        read["data"],
        data.manifest["fingerprint"],
        instead="Give its data as --data_dir.",
    )
    method = config["method"]
    if method in baselines_run.METHODS:
        return [_counted(config, data, num_results)], {}
    model = saving.load(folder.model)
    users = splits.held_out_users(
        data, "test", model.max_history, config["profile"]
    )
    if model.scorer_name == "product" and model.flat:
        return _by_index(method, model, users, num_results, threads)
    return _by_model(method, model, users, num_results), {}


def measure(
    found: Sequence[Line],
    *,
    num_results: int,
    batch_size: int,
    timed_batches: int,
    rounds: int,
) -> list[dict[str, Any]]:
    """Judges and times all points, in turns.

    Args:
        found: the lines; their users are the same, in the same order.
        num_results: M.
        batch_size: users a call.
        timed_batches: the first batches are timed, all are judged.
        rounds: of which the median is taken.

    Returns:
        A record a line: name, title, knob, build_seconds and `points`, a
        record each with the knob's `setting`, `recall`, `milliseconds` a user
        on the wall and `processor_milliseconds`, `relative_to_dnn` on the
        wall, None if there is no DNN.
    """
    recalls, calls, timed = {}, {}, 0
    for line in found:
        batches = list(line.users.batches(batch_size))
        first = batches[:timed_batches]
        timed = sum(map(len, first))
        for setting, search in line.searches.items():
            items = np.concatenate([search(batch) for batch in batches])
            name = f"{line.name} {setting}"
            recalls[name] = judging.judgement(
                items, line.users, num_results=num_results, beam_width=None
            )["recall"]
            calls[name] = _all_of(search, first)
    wall, processor = timing.seconds(calls, rounds=rounds)
    scan = wall.get("dnn None")
    records = {
        name: {
            "recall": recalls[name],
            "milliseconds": _rounded(1000 * wall[name] / timed),
            "processor_milliseconds": _rounded(1000 * processor[name] / timed),
            "relative_to_dnn": scan and _rounded(wall[name] / scan),
        }
        for name in calls
    }
    return [_record(line, records) for line in found]


def _record(line, points):
    """Returns a line as JSON values; the points are by name and setting."""
    return {
        "name": line.name,
        "title": line.title,
        "knob": line.knob,
        "build_seconds": line.build_seconds,
        "points": [
            {"setting": setting} | points[f"{line.name} {setting}"]
            for setting in line.searches
        ],
    }


class _Search:
    """A model's search, laid out as it is served, as a `Recommend`."""

    def __init__(self, search):
        # Kept, since a concrete function does not hold on to its variables.
        self._search = search
        self._recommend = search.recommend.get_concrete_function()

    def __call__(self, users):
        return self._recommend(tf.constant(users.history))[0].numpy()


class _Indexed:
    """The model's user vectors, then a search of an index."""

    def __init__(self, model, index, *, num_results, setting):
        self._model, self._index = model, index
        self._num_results, self._setting = num_results, setting
        self._vectors = tf.function(model.user_vectors).get_concrete_function(
            tf.TensorSpec([None, model.user_width], tf.int32)
        )

    def __call__(self, users):
        vectors = self._vectors(tf.constant(users.history)).numpy()
        return self._index.search(vectors, self._num_results, self._setting)


def _by_model(
    method: str,
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    num_results: int,
) -> list[Line]:
    """Returns the line of a model's own search, and of its exact one."""
    title = paper.NAMES[method]
    laid_out = frozen.FrozenModel(model)
    if model.flat:
        scan = model_search.retriever(
            laid_out, num_results=num_results, beam_width=num_results
        )
        return [Line(method, title, None, users, {None: _Search(scan)})]
    titles = {method: (title, False)}
    if model.readout is not None:
        titles = {
            method: (f"{title}, pruned", False),
            f"{method}/exact": (title, True),
        }
    narrow = -(-num_results // 2)
    found = []
    for name, (shown, exact) in titles.items():
        searches = {}
        for beam in (narrow * 2**i for i in range(4)):
            search = model_search.beam_search(
                laid_out, num_results=num_results, beam_width=beam, exact=exact
            )
            searches[beam] = _Search(search)
        found.append(Line(name, shown, "beam_width", users, searches))
    return found


def _by_index(
    method: str,
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    num_results: int,
    threads: int,
) -> tuple[list[Line], dict[str, str]]:
    """Returns the product model's lines, one an index; see `lines`."""
    vectors = model.item_vectors().numpy()
    found, missing, installed = [], {}, nearest.versions()
    for key, kind in nearest.INDEXES.items():
        name = f"{method}/{key}"
        if kind.library not in installed:
            missing[name] = f"{kind.library} is not installed"
            continue
        begin = time.perf_counter()
        index = kind(vectors, threads=threads)
        seconds = time.perf_counter() - begin
        title = f"{paper.NAMES[method]}, {kind.title} ({kind.library})"
        searches = {
            setting: _Indexed(
                model, index, num_results=num_results, setting=setting
            )
            for setting in index.settings(num_results)
        }
        found.append(
            Line(name, title, kind.knob, users, searches, _rounded(seconds))
        )
    return found, missing


def _counted(config, data, num_results):
    """Returns Item-CF's line; its table is counted again, not saved."""
    begin = time.perf_counter()
    model = item_cf.ItemCF.fit(
        splits.examples(data),
        data.num_items,
        item_cf.ItemCFConfig(**config["neighbours"]),
    )
    seconds = time.perf_counter() - begin
    users = splits.held_out_users(data, "test", max_history=1)
    searches = {None: lambda users: model.recommend_users(users, num_results)}
    method = config["method"]
    return Line(
        method, paper.NAMES[method], None, users, searches, _rounded(seconds)
    )


def _all_of(search, batches):
    """Returns a call that searches for some batches in a row."""

    def call():
        for batch in batches:
            search(batch)

    return call


def _rounded(value):
    """Returns four digits, wherever the point is."""
    return float(f"{value:.4g}")
