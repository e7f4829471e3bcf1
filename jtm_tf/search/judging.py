"""Judges a model on held-out users: retrieves, then counts what was found."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jtm_tf.data import splits
from jtm_tf.models import tree_model
from jtm_tf.search import metrics
from jtm_tf.search import model_search


def judge_model(
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    *,
    num_results: int,
    beam_width: int,
    filter_history: bool = False,
) -> dict[str, Any]:
    """Returns Precision, Recall and F-Measure@M, with what was measured."""
    items = model_search.recommend_users(
        model,
        users,
        num_results=num_results,
        beam_width=beam_width,
        filter_history=filter_history,
    )
    beam = None if model.flat else beam_width
    return judgement(items, users, num_results=num_results, beam_width=beam)


def judgement(
    items: np.ndarray,
    users: splits.HeldOutUsers,
    *,
    num_results: int,
    beam_width: int | None,
) -> dict[str, Any]:
    """Returns Precision, Recall and F-Measure@M of [U, >= M] items.

    `beam_width` is noted beside them: None where every item was looked at.
    """
    found = metrics.metrics(items, users.truth, num_results)
    return {
        **{name: round(value, 6) for name, value in found.items()},
        "num_results": num_results,
        "beam_width": beam_width,
        "users": len(users.users),
    }


def tested(
    rank: Callable[[int, int], np.ndarray],
    users: splits.HeldOutUsers,
    cuts: Sequence[tuple[int, int]],
    *,
    scans: bool,
) -> tuple[dict[str, Any], pa.Table]:
    """Judges what a run found, with and without what users are known to have.

    Args:
        rank: maps (M, k) to [U, R] items, enough of them that M are left, if
            the method has as many, where those are dropped that a user is
            known to have.
        users: the test users.
        cuts: pairs (M, k), the run's own first.
        scans: see `judge_cuts`.

    Returns:
        `test`, the first cut; `cuts`, all of them; `filtered`, the same with
        known items left out; and the table of users, which has the recall of
        those as `filtered_recall`.
    """
    ranked: dict[tuple[int, int], np.ndarray] = {}

    def all_items(num_results, beam_width):
        ranked[num_results, beam_width] = rank(num_results, beam_width)
        return ranked[num_results, beam_width][:, :num_results]

    def new_items(num_results, beam_width):
        items = ranked[num_results, beam_width]
        known = users.full_history
        return model_search.without_known(items, known)[:, :num_results]

    found, table = judge_cuts(all_items, users, cuts, scans=scans)
    filtered, of_new = judge_cuts(new_items, users, cuts, scans=scans)
    table = table.append_column("filtered_recall", of_new["recall"])
    return {"test": found[0], "cuts": found, "filtered": filtered}, table


def judge_cuts(
    recommend: Callable[[int, int], np.ndarray],
    users: splits.HeldOutUsers,
    cuts: Sequence[tuple[int, int]],
    *,
    scans: bool,
) -> tuple[list[dict[str, Any]], pa.Table]:
    """Judges one method at several M and beam widths.

    Args:
        recommend: maps (M, k) to [U, M] items.
        users: the held-out users.
        cuts: pairs (M, k).
        scans: whether the method looks at every item, so that k means
            nothing: each M is judged once, with a beam width of None.

    Returns:
        A `judgement` a cut, and a table of what they average: columns user,
        num_results, beam_width, precision, recall, f_measure.
    """
    asked = dict.fromkeys((m, None if scans else k) for m, k in cuts)
    judged, tables = [], []
    for num_results, beam_width in asked:
        items = recommend(num_results, beam_width or num_results)
        judged.append(
            judgement(
                items, users, num_results=num_results, beam_width=beam_width
            )
        )
        found = metrics.per_user(items, users.truth, num_results)
        size = len(users)
        columns = {
            "user": pa.array(users.users, pa.int32()),
            "num_results": pa.array([num_results] * size, pa.int32()),
            "beam_width": pa.array([beam_width] * size, pa.int32()),
        }
        tables.append(pa.table(columns | found))
    return judged, pa.concat_tables(tables)
