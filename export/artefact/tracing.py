"""A walk told level by level: what was kept, and where given items stood.

For people who ask why, and why not. Nothing of it is in `recommend`: the walk
is the same, and so is what it finds. Not among the warm-up requests either;
whoever asks first waits for it.
"""

import tensorflow as tf

from jtm_tf.models import preference
from jtm_tf.search import retrieval
from jtm_tf.tree import ops as tree_ops
from jtm_tf.types import LiveFn
from jtm_tf.types import PAD


def traced(
    search: retrieval.TreeRetriever,
    model: preference.Preference,
    users: tf.Tensor,
    items: tf.Tensor,
    live: LiveFn,
) -> dict[str, tf.Tensor]:
    """Returns a search's steps; of its levels the last may come twice.

    Args:
        search: down the model's tree.
        model: with its tree.
        users: [B, user_width] int32.
        items: [B, W] int32 items to follow; PAD is nobody.
        live: tells which nodes may be entered.

    Returns:
        By step S of the search, and K the most nodes that one keeps:
        `levels` [B, S] int32: of the tree;
        `scored`, `kept` [B, S] int32: nodes that were scored and may be
            entered, and those of them that went on, at the end M;
        `kept_nodes` [B, S, K] int32: their codes, best first, PAD fills up;
        `last_ranks` [B, S] float32: of the last that was kept;
        `item_nodes` [B, W, S] int32: the node above an item;
        `item_ranks` [B, W, S] float32: its rank, the least finite number
            where the walk did not come to it;
        `item_places` [B, W, S] int32: 1 for the best of the level, 0 in the
            same way.
    """
    walked = search.walked(users, live)
    most = [*search.kept[:-1], search.num_results]
    widths = [min(k, nodes.shape[1]) for k, (nodes, _) in zip(most, walked)]
    leaves = tf.gather(model.pi.value, items)
    steps = [
        {
            "levels": tf.fill(tf.shape(users)[:1], level),
            **_step(nodes, ranks, width, max(widths)),
            **_items(tree_ops.lift(leaves, level, model), nodes, ranks),
        }
        for level, width, (nodes, ranks) in zip(search.levels, widths, walked)
    ]
    axes = dict.fromkeys(steps[0], 1)
    axes |= dict.fromkeys(("item_nodes", "item_ranks", "item_places"), 2)
    return {
        name: tf.stack([step[name] for step in steps], axis)
        for name, axis in axes.items()
    }


def _step(nodes, ranks, width, most):
    """Returns what a step scored, [B, W], and what of it went on."""
    least = ranks.dtype.min
    best, at = tf.math.top_k(ranks, width)
    entered = best > least
    kept = tf.where(entered, tf.gather(nodes, at, batch_dims=1), PAD)
    count = tf.math.count_nonzero(entered, 1, dtype=tf.int32)
    last = tf.gather(best, tf.maximum(count - 1, 0), batch_dims=1)
    return {
        "scored": tf.math.count_nonzero(ranks > least, 1, dtype=tf.int32),
        "kept": count,
        "kept_nodes": tf.pad(kept, [[0, 0], [0, most - width]]),
        "last_ranks": last,
    }


def _items(wanted, nodes, ranks):
    """Finds [B, W] nodes among those that a step scored."""
    least = ranks.dtype.min
    same = wanted[:, :, None] == nodes[:, None]  # [B, W, nodes]
    rank = tf.reduce_max(tf.where(same, ranks[:, None], least), 2)
    # Among equals the first ones are kept.
    own = tf.argmax(same, 2, tf.int32)[..., None]
    earlier = tf.range(tf.shape(nodes)[1]) < own
    ranks, other = ranks[:, None], rank[..., None]
    better = (ranks > other) | (ranks == other) & earlier
    place = tf.math.count_nonzero(better, 2, dtype=tf.int32) + 1
    return {
        "item_nodes": wanted,
        "item_ranks": rank,
        "item_places": tf.where(rank > least, place, 0),
    }
