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
from jtm_tf.models import tree_model
from jtm_tf.search import beam_trace
from jtm_tf.search import model_search
from jtm_tf.search import retrieval
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

# Rows of the table of found items, and behaviours shown of a history.
_SHOWN = 10
# Users looked at for one whose search both found and lost something.
_TRIED = 32
_PASSED_OVER = "Nothing is searched: --user and --item are passed over."


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
    if source.model is None:
        is_asked = user is not None or item is not None
        return None, [_PASSED_OVER] * is_asked
    number, no_user = _numbered("user", user, source.data.user_ids)
    asked, no_item = _numbered("item", item, source.data.item_ids)
    notes = no_user + no_item
    users = _users(source, number)
    if not len(users):
        return None, [*notes, "There are no validation users to show."]
    found = _search(source, users, asked)
    told = _scanned(found) if source.model.flat else _walked(found, deepest)
    return _summary(found) | told, notes


def _numbered(kind, raw_id, ids):
    """Returns the number of what is asked for, or None and maybe a note."""
    number = None if raw_id is None else ids.number(raw_id) or None
    if raw_id is None or number is not None:
        return number, []
    return None, [f"There is no {kind} {raw_id!r}; another one is shown."]


def _users(source, number) -> splits.HeldOutUsers:
    """Returns the user of a number alone, or the first validation users."""
    data, model = source.data, source.model
    wanted = [number]
    if number is None:
        judged = splits.judged(data, "validation")
        wanted = judged.users[:_TRIED].tolist()
    return splits.held_out_users(
        _relabelled(data, wanted),
        "validation",
        model.max_history,
        source.settings.get("profile") or (),
    )


def _relabelled(
    data: interactions.Interactions, users: list[int]
) -> interactions.Interactions:
    """Returns the data with these as the only validation users.

    Their rows fall into halves, where the log is cut by time too.
    """
    names = np.full(data.num_users, "train", object)
    names[np.array(users, int) - 1] = "validation"
    at = data.users.column_names.index("split")
    split = pa.array(names, pa.string())
    return dataclasses.replace(
        data,
        users=data.users.set_column(at, "split", split),
        manifest={**data.manifest, "periods": None},
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Search:
    """A search of one user.

    Attributes:
        data: of the run.
        model: of the run.
        retriever: the model's search.
        user: number of the user.
        history: [T + P] int32, the user as the model sees them.
        later: [G] int32, what the user had later.
        items: [R] int32, what was found, best first.
        scores: [R] float32, likewise.
        asked: an item to explain, if there is one.
    """

    data: interactions.Interactions
    model: tree_model.TreeModel
    retriever: retrieval.TreeRetriever | retrieval.ScanRetriever
    user: int
    history: np.ndarray
    later: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    asked: int | None


def _search(source, users, asked) -> _Search:
    """Searches for some users and chooses one to tell of."""
    model = source.model
    results = min(source.num_results, model.num_items)
    retriever = model_search.retriever(
        model,
        num_results=results,
        beam_width=max(source.beam_width, -(-results // model.branching)),
    )
    found, scores = (x.numpy() for x in retriever.recommend(users.history))
    row = _telling(found, users)
    items, later = found[row][found[row] != PAD], users.truth[row]
    if asked is None:
        lost = np.setdiff1d(later, items)
        asked = int(lost[0]) if len(lost) else None
    return _Search(
        data=source.data,
        model=model,
        retriever=retriever,
        user=int(users.users[row]),
        history=users.history[row],
        later=later,
        items=items,
        scores=scores[row][: len(items)],
        asked=asked,
    )


def _telling(found, users) -> int:
    """Returns the first user of whom something was found and something lost."""
    for row, items in enumerate(found):
        hits = np.isin(users.truth[row], items)
        if hits.any() and not hits.all():
            return row
    return 0


def _summary(found: _Search) -> dict[str, Any]:
    """Returns who searches and how well, as JSON values."""
    data, model = found.data, found.model
    known = found.history[: model.max_history]
    newest = known[::-1][:_SHOWN]
    return {
        "user": str(data.users["raw_id"][found.user - 1]),
        "split": str(data.users["split"][found.user - 1]),
        "known": int(np.count_nonzero(known)),
        "history": [_name(data, i) for i in newest if i != PAD],
        "later": len(found.later),
        "hits": int(np.isin(found.items, found.later).sum()),
        "num_results": found.retriever.num_results,
        "beam_width": None if model.flat else found.retriever.beam_width,
    }


def _rows(found: _Search) -> list[dict[str, Any]]:
    """Returns the best items that were found."""
    return [
        _listed(found, item) | {"rank": round(float(score), 4)}
        for item, score in zip(found.items[:_SHOWN], found.scores)
    ]


def _scanned(found: _Search) -> dict[str, Any]:
    """Returns what was found where all items are scored."""
    story: dict[str, Any] = {"rows": _rows(found)}
    if found.asked is not None:
        verdict = _flat_verdict(found, _path(found)[1])
        story["asked"] = _listed(found, found.asked) | {"verdict": verdict}
    return story


def _walked(found: _Search, deepest: int) -> dict[str, Any]:
    """Returns what was found down a tree, and by which path."""
    model = found.model
    trace = beam_trace.trace(found.retriever, model.tree, found.history)
    story: dict[str, Any] = {
        "rows": [
            row | {"steps": _steps(trace.steps(int(item)))}
            for row, item in zip(_rows(found), found.items)
        ],
        "levels": list(trace.levels),
        "beam": {
            level: np.sort(
                trace.kept(level) - tree_lib.first_code(level, model.branching)
            ).tolist()
            for level in trace.levels
            if level <= deepest
        },
    }
    if found.asked is not None:
        own, rank = _path(found)
        steps = trace.steps(found.asked)
        story["asked"] = _listed(found, found.asked) | {
            "steps": _steps(steps),
            "path": [round(score, 4) for score in own],
            "first_level": paths.levels(model).start,
            "verdict": _verdict(trace, steps, rank),
        }
    return story


def _listed(found, item):
    """Returns an item's name, and whether the user had it later."""
    return _name(found.data, item) | {"later": bool(item in found.later)}


def _name(data, item):
    """Returns what an item is called."""
    row = data.items.slice(int(item) - 1, 1).to_pylist()[0]
    text = row.get("name") or row.get("category") or ""
    return {"item": str(row["raw_id"]), "text": text}


def _path(found):
    """Returns the own scores of the asked item's whole path, and its rank."""
    model, user = found.model, tf.constant(found.history[None])
    nodes = paths.path_nodes(model, tf.constant([[found.asked]]))
    own = paths.path_scores(model, user, nodes)
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


def _flat_verdict(found, rank):
    """Returns the same where all items are scored."""
    results = found.retriever.num_results
    place = np.flatnonzero(found.items == found.asked)
    if len(place):
        return f"Recommended, at place {place[0] + 1} of {results}."
    last = float(found.scores[-1])
    return (
        f"All items are scored; its score {rank:.3g} lacks {last - rank:.3g} "
        f"to the last of the {results} recommended."
    )
