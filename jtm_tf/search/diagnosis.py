"""Where a search loses: level by level under the beam, and against Eq. 1.

By Eq. 1, the max-heap preference, a node is worth its best child, up to one
factor a level; then the beam search finds the best leaves. Training asks for
it nowhere.
"""

import numpy as np
import tensorflow as tf

from jtm_tf.data import splits
from jtm_tf.models import tree_model
from jtm_tf.search import model_search
from jtm_tf.search import retrieval
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import ScoreFn


def level_recall(
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    *,
    beam_width: int,
    batch_size: int = 64,
) -> dict[int, float]:
    """Returns how much of the ground truth is still below the beam.

    Args:
        model: with its tree, which is not flat.
        users: the held-out users.
        beam_width: k.
        batch_size: users a call.

    Returns:
        For each level that the search scores, the share of a user's ground
        truth whose ancestor is among the k nodes kept, averaged over users.
        It falls from level to level; on the last it is Recall@k.
    """
    return followed(
        model,
        users,
        num_results=beam_width,
        beam_width=beam_width,
        batch_size=batch_size,
    )[1]


def followed(
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    *,
    num_results: int,
    beam_width: int,
    batch_size: int = 64,
) -> tuple[np.ndarray, dict[int, float]]:
    """Returns what a search finds, and its `level_recall`: one search for both.

    Args:
        model: with its tree, which is not flat.
        users: the held-out users.
        num_results: M.
        beam_width: k.
        batch_size: users a call.

    Returns:
        [U, M] int32 items, best first, PAD where a user has fewer; and the
        recall by level.
    """
    search = model_search.tree_search(
        model, beam_width, num_results=num_results
    )
    follow, tree = search.followed.get_concrete_function(), model.tree
    width = tree_lib.num_codes(tree.max_level, tree.branching)
    items, recall = [], dict.fromkeys(search.levels, 0.0)
    for batch in users.batches(batch_size):
        found, beams = follow(tf.constant(batch.history))
        items.append(found.numpy())
        owner, sizes = batch.truth.owner, batch.truth.counts
        leaves = tree.pi[batch.truth.values]
        # The last level may have been scored twice: the second time counts.
        for level, kept in dict(zip(search.levels, beams)).items():
            pairs = np.arange(len(batch))[:, None] * width + kept.numpy()
            wanted = tree_lib.ancestor(
                leaves,
                from_level=tree.max_level,
                to_level=level,
                branching=tree.branching,
            )
            hits = owner[np.isin(owner * width + wanted, pairs)]
            hits = np.bincount(hits, minlength=len(sizes))
            recall[level] += float(np.sum(hits / sizes))
    found = np.concatenate(items)
    return found, {x: total / len(users) for x, total in recall.items()}


def violations(
    model: tree_model.TreeModel,
    users: splits.HeldOutUsers,
    *,
    beam_width: int,
    batch_size: int = 64,
) -> dict[int, tuple[float, float]]:
    """Returns how often two nodes' order is turned round by their children.

    By Eq. 1 a node is worth its best child, up to one factor a level. So of
    two nodes, the better one has the better best child; a pair where that is
    not so violates the max-heap. All pairs of the nodes that the search keeps
    on a level are looked at.

    Args:
        model: with its tree, which is not flat.
        users: the held-out users.
        beam_width: k.
        batch_size: users a call.

    Returns:
        For each level of the parents, the share of violating pairs, averaged
        over users, by the nodes' own scores and by the ranks of the search
        (see `path_weight`). 0 is a max-heap; where children know nothing of
        their parents it is 0.5. Scores of siblings' branches do not compare
        (HSM): only ranks do, and the first is NaN.
    """
    search = model_search.tree_search(model, beam_width, exact=True)
    walk = search.walk.get_concrete_function()
    shares: dict[int, list[np.ndarray]] = {x: [] for x in search.levels[:-1]}
    for batch in users.batches(batch_size):
        walked = walk(tf.constant(batch.history))
        scored = [(n.numpy(), r.numpy()) for n, r in walked]
        own = scored[0][1]  # nothing to lean on
        for level, above, below in zip(shares, scored, scored[1:]):
            turned, own = _violations_between(model, above, below, own)
            shares[level].append(turned)
    means = {x: np.concatenate(found).mean(0) for x, found in shares.items()}
    return {
        level: (float("nan") if model.siblings else float(own), float(rank))
        for level, (own, rank) in means.items()
    }


def beam_agreement(
    score_fn: ScoreFn,
    tree: tree_lib.Tree,
    histories: np.ndarray,
    *,
    beam_width: int,
) -> dict[int, float]:
    """Returns how many of a level's k best nodes the beam search keeps.

    Under a max-heap preference (Eq. 1) it is all of them, on every level.
    All nodes of a level are scored: for small trees.

    Args:
        score_fn: a model's scores, or their `preference`.
        tree: the index.
        histories: [U, T] users.
        beam_width: k.

    Returns:
        The share for each level that the search scores, averaged over users.
    """
    search = retrieval.TreeRetriever(
        score_fn,
        tree,
        beam_width=beam_width,
        num_results=min(beam_width, tree.num_items),
        user_width=histories.shape[1],
    )
    users = tf.constant(histories)
    shares = {}
    for level, kept in zip(search.levels, search.beams(users)):
        nodes = tf.repeat(tree.occupied(level)[None], len(histories), 0)
        k = min(beam_width, nodes.shape[1])
        best = tf.math.top_k(score_fn(users, nodes, level), k)[1]
        best = tf.gather(nodes, best, batch_dims=1)
        held = tf.reduce_any(best[:, :, None] == kept[:, None], 2)
        shares[level] = float(tf.reduce_mean(tf.cast(held, tf.float32)))
    return shares


def preference(score_fn: ScoreFn, tree: tree_lib.Tree) -> ScoreFn:
    """Returns the preference that Eq. 1 derives from a model's leaf scores.

    A node has the best score of the leaves below it. Every leaf is scored at
    every call: for small trees.
    """
    leaves = tree.occupied(tree.max_level)

    def score(histories, nodes, level):
        users = tf.shape(histories)[0]
        found = score_fn(
            histories, tf.repeat(leaves[None], users, 0), tree.max_level
        )
        best = tf.fill([users, tree.num_leaves], found.dtype.min)
        at = tf.constant(leaves - tree.first_leaf)[:, None]
        best = tf.transpose(
            tf.tensor_scatter_nd_update(
                tf.transpose(best), at, tf.transpose(found)
            )
        )
        width = tree.branching ** (tree.max_level - level)
        best = tf.reduce_max(tf.reshape(best, [users, -1, width]), 2)
        first = tree_lib.first_code(level, tree.branching)
        return tf.gather(best, nodes - first, batch_dims=1)

    return score


def _violations_between(model, above, below, own):
    """Compares the nodes kept on a level with their best children.

    Args:
        model: whose search it is.
        above: ([B, W] nodes, [B, W] ranks) scored on the level.
        below: the same of the next level: the children of the kept ones.
        own: [B, W] the own scores of `above`.

    Returns:
        [B, 2] the share of a user's pairs that violate the max-heap, by own
        scores and by ranks; and the own scores of `below`.
    """
    nodes, ranks = above
    children, child_ranks = below
    families = children.reshape(len(children), -1, model.branching)
    at = _positions(nodes, tree_lib.parent(families[..., 0], model.branching))
    rank = np.take_along_axis(ranks, at, 1)  # [B, K]
    live = rank > np.finfo(rank.dtype).min
    # What a child's rank leans on its parent's is taken off again.
    lean = np.where(live, model.path_weight * rank, 0)
    own_below = np.where(
        child_ranks > np.finfo(rank.dtype).min,
        child_ranks - np.repeat(lean, model.branching, axis=1),
        -np.inf,
    )
    turned = [
        [
            _turned(parents[user, seen], best[user, seen])
            for parents, best in (
                (np.take_along_axis(own, at, 1), _best(own_below, families)),
                (rank, _best(child_ranks, families)),
            )
        ]
        for user, seen in enumerate(live)
    ]
    return np.array(turned), own_below


def _best(values, families):
    """Returns the best of each family, [B, K b] -> [B, K]."""
    return values.reshape(families.shape).max(2)


def _turned(above, below):
    """Returns the share of pairs that `below` orders otherwise; [K] each."""
    better = above[:, None] > above
    turned = better & (below[:, None] < below)
    return turned.sum() / max(1, better.sum())


def _positions(nodes, wanted):
    """Returns where each of [B, K] nodes stands in its row of [B, W]."""
    order = np.argsort(nodes, axis=1)
    base = int(nodes.max()) + 1
    row = np.arange(len(nodes))[:, None]
    flat = (np.take_along_axis(nodes, order, 1) + row * base).ravel()
    at = np.searchsorted(flat, (wanted + row * base).ravel())
    at = at.reshape(wanted.shape) - row * nodes.shape[1]
    return np.take_along_axis(order, at, 1)
