"""A model's own search: down its tree, or over a flat list of items."""

import numpy as np
import tensorflow as tf

from jtm_tf import ragged
from jtm_tf.data import splits
from jtm_tf.models import preference
from jtm_tf.models import tree_model
from jtm_tf.search import retrieval
from jtm_tf.types import PAD
from jtm_tf.types import RecommendFn

# How a trained model may be asked to search.
CHOICES = ("own", "exact", "pruned")


def choose(model: preference.Preference, search: str) -> None:
    """Makes a trained model search as one of `CHOICES` says.

    own: as it is; exact: its read-out is taken away.

    Raises:
        ValueError: pruned, and the model has no read-out.
    """
    if search == "pruned" and model.readout is None:
        raise ValueError(
            "search=pruned needs a read-out, and the model has none: it was "
            "trained with search=exact, lost recall by it, or has no first "
            "layer to read out. Train with search=pruned, or use search=own."
        )
    if search == "exact":
        model.readout = None


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
    return beam_search(model, num_results=num_results, beam_width=beam_width)


def beam_search(
    model: preference.Preference,
    *,
    num_results: int,
    beam_width: int,
    exact: bool = False,
) -> retrieval.TreeRetriever:
    """Returns the search down a model's tree; a flat one has a single level.

    Args:
        model: with its tree.
        num_results: M.
        beam_width: k.
        exact: whether the model scores every node that the search comes to,
            though it has a read-out.
    """
    walk = None
    if model.readout is not None and not exact:
        walk = retrieval.Walk(
            model.score_read_out, model.read_out, model.readout.width
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
        walk=walk,
    )


def tree_search(
    model: tree_model.TreeModel,
    beam_width: int,
    *,
    num_results: int | None = None,
    exact: bool = False,
) -> retrieval.TreeRetriever:
    """Returns the model's search down its tree, with k results by default.

    Raises:
        ValueError: its tree is flat.
    """
    if model.flat:
        raise ValueError("A flat tree has no levels to lose recall on.")
    return beam_search(
        model,
        num_results=num_results or beam_width,
        beam_width=beam_width,
        exact=exact,
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
    if filter_history:
        items = rank_users(
            model, users, num_results=num_results, beam_width=beam_width
        )
        return without_known(items, users.full_history)[:, :num_results]
    return _found(model, users, num_results, beam_width)


def rank_users(
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    *,
    num_results: int,
    beam_width: int,
) -> np.ndarray:
    """Ranks for held-out users all leaves that a search scores.

    Args:
        model: with its tree.
        users: the held-out users.
        num_results: M: of a flat tree so many and as many as a user is known
            to have.
        beam_width: k; of no effect on a flat tree.

    Returns:
        [U, R] int32 items, best first, PAD where a user has fewer.
    """
    ranked = ranked_width(
        model, users, num_results=num_results, beam_width=beam_width
    )
    return _found(model, users, ranked, beam_width)


def ranked_width(
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    *,
    num_results: int,
    beam_width: int,
) -> int:
    """Returns R of `rank_users`, how many leaves are ranked."""
    if model.flat:
        known = users.full_history.counts.max(initial=0)
        return min(model.num_items, num_results + int(known))
    return max(num_results, beam_width * model.branching)


def _found(model, users, num_results, beam_width):
    """Returns what a search finds, [U, M]."""
    search = retriever(model, num_results=num_results, beam_width=beam_width)
    # The concrete function, since a retriever is made for each judgement
    # and TensorFlow warns of functions that are traced again and again.
    recommend = search.recommend.get_concrete_function()
    return recommend_all(recommend, users.history)


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


def without_known(items: np.ndarray, known: ragged.Ragged) -> np.ndarray:
    """Moves known items behind the others, as PAD; [U, R] -> [U, R]."""
    base = int(max(items.max(), known.values.max(initial=0))) + 1
    pairs = np.arange(len(items), dtype=np.int64)[:, None] * base + items
    keep = ~np.isin(pairs, known.owner * base + known.values)
    order = np.argsort(~keep, axis=1, kind="stable")
    return np.take_along_axis(np.where(keep, items, PAD), order, axis=1)
