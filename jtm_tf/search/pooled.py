"""Held-out users searched for by a pool: some users are a piece of work.

Whoever is given a piece searches as one process does, in a model whose vectors
stay in a file: all workers of a machine have them in memory once.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from collections.abc import Iterator

import numpy as np

from jtm_tf import files
from jtm_tf.data import splits
from jtm_tf.models import saving
from jtm_tf.models import tree_model
from jtm_tf.pools import ray_pool
from jtm_tf.pools import serial
from jtm_tf.search import model_search

# Users of a piece: seconds of work, so that the last worker is waited for no
# longer, and few enough megabytes to travel.
_USERS = 2048


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is searched for, and how; for a worker to take along.

    Attributes:
        model: of `saving.unpack`, under the same name for all.
        search: one of `model_search.CHOICES`.
        num_results: M.
        beam_width: k.
        ranked: leaves that are ranked, `model_search.ranked_width`; M where
            known items are not left out.
        filter_history: whether they are.
    """

    model: str
    search: str
    num_results: int
    beam_width: int
    ranked: int
    filter_history: bool


def recommend_users(
    pool: serial.Pool | ray_pool.Pool,
    model: tree_model.TreeModel,
    folder: files.Path,
    users: splits.HeldOutUsers,
    *,
    search: str = "own",
    num_results: int,
    beam_width: int,
    filter_history: bool = False,
) -> np.ndarray:
    """Recommends as `model_search.recommend_users` does, by many.

    Args:
        pool: who does it.
        model: with its tree.
        folder: that all workers see under this name; the model is in it as
            long as they search.
        users: the held-out users.
        search: how, one of `model_search.CHOICES`.
        num_results: M.
        beam_width: k.
        filter_history: leave out what a user is known to have.

    Returns:
        [U, M] int32 items, best first, PAD where a user has fewer.
    """
    ranked = num_results
    if filter_history:
        ranked = model_search.ranked_width(
            model, users, num_results=num_results, beam_width=beam_width
        )
    with files.scratch(pathlib.Path(folder) / "model") as unpacked:
        saving.unpack(model, unpacked)
        asked = Asked(
            str(unpacked),
            search,
            num_results,
            beam_width,
            ranked,
            filter_history,
        )
        with pool.workers(functools.partial(_searcher, asked)) as spread:
            found = list(spread(_pieces(users, filter_history)))
    return np.concatenate(found)


def _pieces(
    users: splits.HeldOutUsers, filter_history: bool
) -> Iterator[tuple]:
    """Yields what a worker needs of some users at a time."""
    for batch in users.batches(_USERS):
        yield batch.history, batch.full_history if filter_history else None


def _searcher(asked: Asked) -> Callable[[tuple], np.ndarray]:
    """Loads a model; returns what searches for some users."""
    model = saving.load_unpacked(asked.model)
    model_search.choose(model, asked.search)
    retriever = model_search.retriever(
        model, num_results=asked.ranked, beam_width=asked.beam_width
    )
    recommend = retriever.recommend.get_concrete_function()

    def search(piece):
        history, known = piece
        items = model_search.recommend_all(recommend, history)
        if known is not None:
            items = model_search.without_known(items, known)
        return items[:, : asked.num_results]

    return search
