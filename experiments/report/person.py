"""One user's search, told: what was found by which path, and why not this."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from experiments.report import source as source_lib
from export.artefact import paths
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.search import beam_trace
from jtm_tf.search import model_search
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

# Rows of the table of found items, and behaviours shown of a history.
_SHOWN = 10
# Users looked at for one whose search both found and lost something.
_TRIED = 32


def describe(
    source: source_lib.Source,
    *,
    user: str | None,
    item: str | None,
    deepest: int,
) -> tuple[dict[str, Any] | None, list[str]]:
    """Returns the story of one search, and notes on what was not found.

    Args:
        source: the run; without a model there is no story.
        user: a raw id; if not given, a validation user whose search found
            something and lost something.
        item: the raw id of an item that was not recommended, say; if not
            given, one that the user had later and the search lost.
        deepest: the deepest level of the tree that the page draws.
    """
    model, data, notes = source.model, source.data, []
    if model is None:
        return None, notes
    number = None if user is None else data.user_ids.number(user) or None
    if user is not None and number is None:
        notes.append(f"There is no user {user!r}; another one is shown.")
    asked = None if item is None else data.item_ids.number(item) or None
    if item is not None and asked is None:
        notes.append(f"There is no item {item!r}; another one is shown.")
    known = _users(source, number)
    if not len(known):
        return None, [*notes, "There are no validation users to show."]
    results = min(source.num_results, model.num_items)
    search = model_search.retriever(
        model,
        num_results=results,
        beam_width=max(source.beam_width, -(-results // model.branching)),
    )
    found, scores = (x.numpy() for x in search.recommend(known.history))
    row = _telling(found, known)
    history, items = known.history[row], found[row][found[row] != PAD]
    later = known.truth[row]
    if asked is None:
        lost = np.setdiff1d(later, items)
        asked = int(lost[0]) if len(lost) else None
    if asked is not None:
        own, rank = _path(model, history, asked)
    story: dict[str, Any] = {
        "user": str(data.users["raw_id"][int(known.users[row]) - 1]),
        "split": str(data.users["split"][int(known.users[row]) - 1]),
        "known": int(np.count_nonzero(history[: model.max_history])),
        "history": [
            _name(data, i)
            for i in history[: model.max_history][::-1][:_SHOWN]
            if i != PAD
        ],
        "later": len(later),
        "hits": int(np.isin(items, later).sum()),
        "num_results": results,
        "beam_width": None if model.flat else search.beam_width,
    }
    shown = items[:_SHOWN]
    rows = [
        {
            **_name(data, i),
            "rank": round(float(score), 4),
            "later": bool(i in later),
        }
        for i, score in zip(shown, scores[row])
    ]
    if model.flat:
        if asked is not None:
            last = float(scores[row][len(items) - 1])
            place = np.flatnonzero(items == asked)
            story["asked"] = _name(data, asked) | {
                "later": bool(asked in later),
                "verdict": _flat_verdict(place, rank, last, results),
            }
        return {**story, "rows": rows}, notes
    trace = beam_trace.trace(search, model.tree, history)
    for record, i in zip(rows, shown):
        record["steps"] = _steps(trace.steps(int(i)))
    if asked is not None:
        steps = trace.steps(asked)
        story["asked"] = _name(data, asked) | {
            "later": bool(asked in later),
            "steps": _steps(steps),
            "path": [round(score, 4) for score in own],
            "first_level": paths.levels(model).start,
            "verdict": _verdict(trace, steps, rank),
        }
    story |= {
        "rows": rows,
        "levels": list(trace.levels),
        "beam": {
            level: np.sort(
                trace.kept(level) - tree_lib.first_code(level, model.branching)
            ).tolist()
            for level in trace.levels
            if level <= deepest
        },
    }
    return story, notes


def _users(source, number) -> splits.HeldOutUsers:
    """Returns the user of a number alone, or the first validation users."""
    data, model = source.data, source.model
    wanted = [number]
    if number is None:
        wanted = data.split_users("validation")[:_TRIED].tolist()
    return splits.held_out_users(
        _relabelled(data, wanted),
        "validation",
        model.max_history,
        source.settings.get("profile") or (),
    )


def _relabelled(
    data: interactions.Interactions, users: list[int]
) -> interactions.Interactions:
    """Returns the data with these as the only validation users."""
    names = np.full(data.num_users, "train", object)
    names[np.array(users, int) - 1] = "validation"
    at = data.users.column_names.index("split")
    split = pa.array(names, pa.string())
    return dataclasses.replace(
        data, users=data.users.set_column(at, "split", split)
    )


def _telling(found, users) -> int:
    """Returns the first user of whom something was found and something lost."""
    for row, items in enumerate(found):
        hits = np.isin(users.truth[row], items)
        if hits.any() and not hits.all():
            return row
    return 0


def _name(data, item):
    """Returns what an item is called."""
    row = data.items.slice(int(item) - 1, 1).to_pylist()[0]
    text = row.get("name") or row.get("category") or ""
    return {"item": str(row["raw_id"]), "text": text}


def _path(model, history, item):
    """Returns the own scores of an item's whole path, and its rank."""
    nodes = paths.path_nodes(model, tf.constant([[item]]))
    own = paths.path_scores(model, tf.constant(history[None]), nodes)
    return own.numpy()[0, 0].tolist(), float(paths.rank(model, own)[0, 0])


def _steps(steps):
    """Returns steps as JSON values."""
    return [
        {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in dataclasses.asdict(step).items()
        }
        | {"stays": step.stays}
        for step in steps
    ]


def _verdict(trace, steps, rank):
    """Returns why an item was recommended or not, in words."""
    fell, last = beam_trace.first_loss(steps), steps[-1]
    if fell is None:
        return f"Recommended, at place {last.place} of {last.kept}."
    if fell is last:
        return (
            f"It came down to the leaves, at place {fell.place} of "
            f"{fell.scored}, and only {fell.kept} are recommended: it lacks "
            f"{fell.short_by:.3g} to the last of them."
        )
    text = (
        f"Lost on level {fell.level}: its ancestor, node {fell.node}, is at "
        f"place {fell.place} of {fell.scored} scored and the beam keeps "
        f"{fell.kept}. It lacks {fell.short_by:.3g} to the last kept."
    )
    place = 1 + int(np.sum(trace.ranks[-1] > rank))
    if place <= last.kept:
        return (
            f"{text} Scored to the leaf, its path has rank {rank:.3g}: place "
            f"{place} among the leaves of this search. It is the beam that "
            "loses it, not the model."
        )
    return (
        f"{text} Scored to the leaf, its path has rank {rank:.3g}, only "
        f"place {place} among the leaves of this search: a wider beam would "
        "not help."
    )


def _flat_verdict(place, rank, last, results):
    """Returns the same where all items are scored."""
    if len(place):
        return f"Recommended, at place {place[0] + 1} of {results}."
    return (
        f"All items are scored; its score {rank:.3g} lacks {last - rank:.3g} "
        f"to the last of the {results} recommended."
    )
