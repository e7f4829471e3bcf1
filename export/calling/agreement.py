"""Evaluated = served: a run's test users, asked for at an endpoint."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.calling import clients
from jtm_tf.data import splits
from jtm_tf.runs import trained
from jtm_tf.search import model_search
from jtm_tf.search import rounding
from jtm_tf.types import PAD

# Of the users who got something else, how many are named.
_SHOWN = 5


def compare(
    run: trained.TrainedRun,
    recommend: Callable[..., clients.Answer],
    *,
    num_results: int,
    beam_width: int,
    batch_size: int = 64,
) -> dict[str, Any]:
    """Compares what a run and an endpoint recommend to the test users.

    Items and their order are compared, and not scores. The endpoint computes
    by another graph, in other batches and perhaps on another machine, so that
    ties within `rounding.TOLERANCE` may turn out otherwise there.

    Args:
        run: the run, with its data.
        recommend: `clients.Client.recommend` of the endpoint.
        num_results: M.
        beam_width: k.
        batch_size: users a request.

    Returns:
        `users` that were asked for; how many of them got something that ties
        of the run's own search explain (`tied`), and how many something else
        (`different`); `first`, rows of some of the latter with `user`, `place`
        of the first difference, `evaluated` and `served` there; `versions`
        that answered.
    """
    profile = run.settings.profile
    width = run.model.max_history
    users = splits.held_out_users(run.data, "test", width, profile)
    items = model_search.recommend_users(
        run.model, users, num_results=num_results, beam_width=beam_width
    )
    raw_ids = np.array([None, *run.data.items["raw_id"].to_pylist()], object)
    histories = _without_pads(users.history[:, :width], raw_ids)
    profiles = _profiles(run, users.history[:, width:], profile)
    answers, versions = [], set()
    for start in range(0, len(histories), batch_size):
        batch = slice(start, start + batch_size)
        answer = recommend(histories[batch], profile=profiles[batch])
        versions.add(answer.version)
        answers += answer.ids
    served, known = _as_items(run.data, answers, num_results)
    same = known & rounding.same_answers(
        run.model, users.history, served, items, beam_width=beam_width
    )
    evaluated = _without_pads(items, raw_ids)
    user_ids = run.data.users["raw_id"].to_pylist()
    return {
        "users": len(histories),
        "different": int(np.count_nonzero(~same)),
        "tied": int(np.count_nonzero(same & np.any(served != items, axis=1))),
        "first": [
            {"user": user_ids[users.users[row] - 1]}
            | _first_difference(evaluated[row], answers[row])
            for row in np.flatnonzero(~same)[:_SHOWN]
        ],
        "num_results": num_results,
        "beam_width": None if run.model.flat else beam_width,
        "versions": sorted(versions),
    }


def _as_items(data, answers, num_results):
    """Maps U lists of raw ids to [U, M] items; [U] tells which are of these."""
    items = np.full([len(answers), num_results], PAD, np.int32)
    known = np.ones(len(answers), bool)
    for row, ids in enumerate(answers):
        found = data.item_ids.numbers(ids)
        known[row] = len(found) <= num_results and np.all(found != PAD)
        items[row, : len(found)] = found[:num_results]
    return items, known


def _without_pads(items, raw_ids):
    """Maps [U, any] items to U lists of raw ids."""
    return [raw_ids[row[row != PAD]].tolist() for row in items]


def _profiles(run, codes, names: Sequence[str]):
    """Maps [U, P] codes to U dicts of values, the unknown left out."""
    values = [
        [None, *map(str, run.data.profile_values(name))] for name in names
    ]
    return [
        {
            name: known[code]
            for name, known, code in zip(names, values, row)
            if code
        }
        for row in codes
    ]


def _first_difference(want, got):
    """Tells where two lists of ids differ first, and what is there."""
    both = min(len(want), len(got))
    place = next((i for i in range(both) if want[i] != got[i]), both)
    return {
        "place": place,
        "evaluated": want[place : place + 1],
        "served": got[place : place + 1],
    }
