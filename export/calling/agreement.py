"""Evaluated = served: a run's test users, asked for at an endpoint."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.calling import clients
from jtm_tf.data import splits
from jtm_tf.runs import trained
from jtm_tf.search import model_search
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

    Args:
        run: the run, with its data.
        recommend: `clients.Client.recommend` of the endpoint.
        num_results: M.
        beam_width: k.
        batch_size: users a request.

    Returns:
        `users` that were asked for; how many are `different`; `first`, rows
        of some of them with `user`, `place` of the first difference,
        `evaluated` and `served` there; `versions` that answered.
    """
    profile = run.settings["profile"]
    width = run.model.max_history
    users = splits.held_out_users(run.data, "test", width, profile)
    items = model_search.recommend_users(
        run.model, users, num_results=num_results, beam_width=beam_width
    )
    raw_ids = np.array([None, *run.data.items["raw_id"].to_pylist()], object)
    user_ids = run.data.users["raw_id"].to_pylist()
    evaluated = _without_pads(items, raw_ids)
    histories = _without_pads(users.history[:, :width], raw_ids)
    profiles = _profiles(run, users.history[:, width:], profile)
    first, different, versions = [], 0, set()
    for start in range(0, len(histories), batch_size):
        batch = slice(start, start + batch_size)
        answer = recommend(histories[batch], profile=profiles[batch])
        versions.add(answer.version)
        for row, got in enumerate(answer.ids, start):
            want = evaluated[row]
            if got == want:
                continue
            different += 1
            place = _first_difference(got, want)
            first.append(
                {
                    "user": user_ids[users.users[row] - 1],
                    "place": place,
                    "evaluated": want[place : place + 1],
                    "served": got[place : place + 1],
                }
            )
    return {
        "users": len(histories),
        "different": different,
        "first": first[:_SHOWN],
        "num_results": num_results,
        "beam_width": None if run.model.flat else beam_width,
        "versions": sorted(versions),
    }


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


def _first_difference(got, want):
    """Returns the first place where two lists differ."""
    for place, pair in enumerate(zip(got, want)):
        if pair[0] != pair[1]:
            return place
    return min(len(got), len(want))
