"""Judges a model on held-out users: retrieves, then counts what was found."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from jtm_tf.data import splits
from jtm_tf.models import preference
from jtm_tf.models import tree_model
from jtm_tf.search import metrics
from jtm_tf.search import retrieval
from jtm_tf.types import PAD
from jtm_tf.types import RecommendFn


def recommend_all(
    recommend: RecommendFn, history: np.ndarray, *, batch_size: int = 64
) -> np.ndarray:
    """Recommends for many users, a batch at a time.

    Args:
        recommend: see `types.RecommendFn`.
        history: [U, T] int32 items, left-padded.
        batch_size: users a call.

    Returns:
        [U, M] int32 items, best first.
    """
    return np.concatenate(
        [
            np.asarray(recommend(tf.constant(history[i : i + batch_size]))[0])
            for i in range(0, len(history), batch_size)
        ]
    )


def retriever(
    model: preference.Preference, *, num_results: int, beam_width: int
) -> retrieval.TreeRetriever | retrieval.ScanRetriever:
    """Returns a model's own search: down its tree, or over a flat list."""
    if model.flat:
        return retrieval.ScanRetriever(
            model.score_described,
            model.tree,
            num_results=num_results,
            user_width=model.user_width,
            describe_fn=model.described,
            leaf_items=model.leaf_items,
        )
    return retrieval.TreeRetriever(
        model.score_described,
        model.tree,
        beam_width=beam_width,
        num_results=num_results,
        user_width=model.user_width,
        path_weight=model.path_weight,
        describe_fn=model.described,
        leaf_items=model.leaf_items,
    )


def recommend_users(
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    *,
    num_results: int,
    beam_width: int,
    filter_history: bool = False,
) -> np.ndarray:
    """Recommends for held-out users.

    Args:
        model: with its tree.
        users: the held-out users.
        num_results: M.
        beam_width: k; of no effect on a flat tree.
        filter_history: leave out what a user is known to have: all leaves
            that the search scored are ranked, and known items dropped.

    Returns:
        [U, M] int32 items, best first, PAD where a user has fewer.
    """
    ranked = num_results
    if filter_history:
        ranked = beam_width * model.branching
        if model.flat:
            known = np.diff(users.full_history_offsets).max(initial=0)
            ranked = min(model.num_items, num_results + int(known))
    search = retriever(model, num_results=ranked, beam_width=beam_width)
    # The concrete function, since a retriever is made for each judgement
    # and TensorFlow warns of functions that are traced again and again.
    recommend = search.recommend.get_concrete_function()
    items = recommend_all(recommend, users.history)
    if filter_history:
        items = _without_known(items, users)[:, :num_results]
    return items


def judge_model(
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    *,
    num_results: int,
    beam_width: int,
    filter_history: bool = False,
) -> dict[str, Any]:
    """Returns Precision, Recall and F-Measure@M, with what was measured."""
    items = recommend_users(
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
    found = metrics.metrics(
        items, users.truth, users.truth_offsets, num_results
    )
    return {
        **{name: round(value, 6) for name, value in found.items()},
        "num_results": num_results,
        "beam_width": beam_width,
        "users": len(users.users),
    }


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
        found = metrics.per_user(
            items, users.truth, users.truth_offsets, num_results
        )
        size = len(users)
        columns = {
            "user": pa.array(users.users, pa.int32()),
            "num_results": pa.array([num_results] * size, pa.int32()),
            "beam_width": pa.array([beam_width] * size, pa.int32()),
        }
        tables.append(pa.table(columns | found))
    return judged, pa.concat_tables(tables)


def _without_known(items, users):
    """Moves known items behind the others, as PAD; [U, R] -> [U, R]."""
    base = int(max(items.max(), users.full_history.max(initial=0))) + 1
    row = np.arange(len(items), dtype=np.int64)
    owner = np.repeat(row, np.diff(users.full_history_offsets))
    known = owner * base + users.full_history
    keep = ~np.isin(row[:, None] * base + items, known)
    order = np.argsort(~keep, axis=1, kind="stable")
    return np.take_along_axis(np.where(keep, items, PAD), order, axis=1)
