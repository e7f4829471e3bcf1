"""What a night's retraining is worth: a log as it was a period earlier."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

import jtm_tf
from experiments.table import compare
from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import continuing
from jtm_tf.runs import trained
from jtm_tf.search import metrics
from jtm_tf.search import model_search

# What is done at night, the costliest first.
WAYS = ("anew", "continued", "yesterday")


def as_of_yesterday(
    data: interactions.Interactions, folder: files.Path
) -> interactions.Interactions:
    """Prepares the log as it was when the last period had not begun.

    Its own last period is the one before, and all are as long as that.

    Args:
        data: cut by time.
        folder: to write, or where it was written.

    Raises:
        ValueError: the data are not cut by time.
    """
    periods = data.periods
    if periods is None:
        raise ValueError(
            "The data are not cut by time: prepare them with --split=time "
            "--test_from=TIME."
        )
    early = np.flatnonzero(data.timestamp < periods.test_from)
    users = data.users.take(pa.array(data.user[early] - 1))
    items = data.items.take(pa.array(data.item[early] - 1))
    columns = {
        "user": users["raw_id"],
        "item": items["raw_id"],
        "timestamp": pa.array(data.timestamp[early]),
    }
    if "category" in items.column_names:
        columns["category"] = items["category"]
    profile = users.column_names[3:]
    columns |= {name: users[name] for name in profile}
    length = periods.test_from - periods.validation_from
    return jtm_tf.prepare(
        pa.table(columns),
        folder,
        profile=profile,
        min_interactions=1,
        split="time",
        test_from=periods.validation_from,
        validation_from=periods.validation_from - length,
    )


def left_alone(
    run: trained.TrainedRun,
    data: interactions.Interactions,
    cuts: Sequence[tuple[int, int]],
) -> np.ndarray:
    """Returns what a model of other data finds for today's test users.

    It knows its own items alone: others are passed over in histories, and
    never found.

    Args:
        run: of yesterday.
        data: of today.
        cuts: C pairs (M, k).

    Returns:
        Each user's recall, [U, C] float64.
    """
    model = run.model
    then = continuing.numbers_before(run, data)
    now = np.zeros(model.num_items + 1, np.int32)
    now[then] = np.arange(len(then))
    now[0] = 0
    profile, width = run.settings.profile, model.max_history
    users = splits.held_out_users(data, "test", width, profile)
    history = users.history.copy()
    history[:, :width] = then[history[:, :width]]
    for column, name in enumerate(profile, width):
        codes = continuing.codes_before(run.data, data, name)
        history[:, column] = codes[history[:, column]]
    known = dataclasses.replace(users, history=history)
    recall = []
    for results, beam in cuts:
        found = model_search.recommend_users(
            model, known, num_results=results, beam_width=beam
        )
        per_user = metrics.per_user(now[found], users.truth, results)
        recall.append(per_user["recall"])
    return np.stack(recall, axis=1)


def report(
    recall: Mapping[str, np.ndarray],
    minutes: Mapping[str, float],
    cuts: Sequence[tuple[int, int]],
) -> dict[str, Any]:
    """Returns the figures as JSON values.

    Args:
        recall: by each of `WAYS`, [seeds, U, C] of the same users.
        minutes: of training, mean over the seeds.
        cuts: C pairs (M, k).

    Returns:
        By way: `minutes`, and at each cut the mean `recall` and, but for the
        first way, what it finds `more` than that, with its 95 % `interval` by
        paired bootstrap over users, and the `share` of it.
    """
    means = {way: found.mean(axis=0) for way, found in recall.items()}
    anew = means[WAYS[0]]
    ways: dict[str, Any] = {}
    for way, found in means.items():
        ways[way] = {"minutes": round(minutes[way], 2), "cuts": []}
        intervals = compare.bootstrap(found - anew)
        for at, (results, beam) in enumerate(cuts):
            mean = float(found[:, at].mean())
            entry = {
                "num_results": results,
                "beam_width": beam,
                "recall": round(mean, 6),
            }
            if way != WAYS[0]:
                first = float(anew[:, at].mean())
                entry |= {
                    "more": round(mean - first, 6),
                    "interval": [round(float(x), 6) for x in intervals[at]],
                    "share": round(mean / first, 4),
                }
            ways[way]["cuts"].append(entry)
    return ways
