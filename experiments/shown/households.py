"""Households of the test: what they bought, were offered, and bought then."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from export.serving import page
from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.models import tree_model
from jtm_tf.search import metrics
from jtm_tf.search import model_search
from jtm_tf.types import PAD

LINES = 6  # products shown in each list
NUM_RESULTS, BEAM_WIDTH = 200, 400  # of the paper, and of an export


@dataclasses.dataclass(frozen=True, eq=False)
class Household:
    """A test household; items in order of time, but for `offered`.

    Attributes:
        user: its number in the data.
        known: the items of its known half.
        seen: those of them that the model looks at, [T].
        offered: the items that the model recommends, best first.
        later: the items of the half that was to be found.
    """

    user: int
    known: np.ndarray
    seen: np.ndarray
    offered: np.ndarray
    later: np.ndarray


def choose(
    data: interactions.Interactions, model: tree_model.TreeModel, count: int
) -> list[Household]:
    """Returns test households from low to high recall, `count` at most."""
    users = splits.held_out_users(data, "test", model.max_history)
    items = model_search.recommend_users(
        model, users, num_results=NUM_RESULTS, beam_width=BEAM_WIDTH
    )
    recall = metrics.per_user(items, users.truth, items.shape[1])["recall"]
    order = np.argsort(recall, kind="stable")
    count = min(count, len(order))
    # The middle one of each of `count` equal parts, so neither picked nor luck.
    chosen = order[(2 * np.arange(count) + 1) * len(order) // (2 * count)]
    return [_household(data, users, row, items[row]) for row in chosen]


def _household(data, users, row, items):
    """Returns a row of the held-out users with what it is offered."""
    user, history = users.users[row], users.history[row]
    known = users.full_history[row]
    first, last = data.user_rows()[user : user + 2]
    return Household(
        user=user,
        known=known,
        seen=history,
        offered=items[items != PAD],
        later=data.item[first + len(known) : last],
    )


def tell(data: interactions.Interactions, household: Household) -> str:
    """Returns what a household bought, was offered, and bought then."""
    known, offered = household.known, household.offered
    found = np.intersect1d(offered, household.later)
    lines = [
        f"Household {data.user_ids.of([household.user])[0]}: {len(known):,} "
        f"purchases known; of {len(set(household.later)):,} products bought "
        f"later\n{len(found)} are among the {len(offered)} offered"
    ]
    had = np.isin(offered, known)
    for title, listed, marked in (
        ("bought last", known[::-1], ()),
        ("is offered again   (* bought later)", offered[had], found),
        ("is offered as new   (* bought later)", offered[~had], found),
        ("bought next   (* was offered)", household.later, found),
    ):
        lines.append(f"  {title}")
        shown = list(dict.fromkeys(listed))[:LINES]
        for item, name in zip(shown, data.item_names(shown)):
            lines.append(f"    {'*' if item in marked else ' '} {name}")
    return "\n".join(lines)


def write_samples(
    out_dir: pathlib.Path,
    data: interactions.Interactions,
    households: Sequence[Household],
) -> pathlib.Path:
    """Writes what households are known by, for the page to start from.

    Returns:
        The file, of as many as a page shows.
    """
    path = out_dir / "households.json"
    samples = []
    for household in households[: page.MOST_SAMPLES]:
        seen = household.seen[household.seen != PAD]
        samples.append(
            {
                "name": f"household {data.user_ids.of([household.user])[0]}",
                "history": np.asarray(data.item_ids.of(seen)).tolist(),
            }
        )
    files.write_json(path, samples)
    return path
