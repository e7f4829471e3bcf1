"""A small model and users to judge it by."""

import keras
import numpy as np

from jtm_tf import ragged
from jtm_tf.data import splits
from jtm_tf.models import tree_model
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

ITEMS, HISTORY = 40, 4


def make_model(tree=None, **settings):
    """Returns an untrained model of ITEMS items, in random order at first."""
    keras.utils.set_random_seed(0)
    if tree is None:
        rng = np.random.default_rng(0)
        tree = tree_lib.Tree.from_order(rng.permutation(ITEMS) + 1)
    model = tree_model.TreeModel(
        ITEMS,
        tree.max_level,
        tree.branching,
        embedding_dim=4,
        windows=(HISTORY - 1, 1),
        hidden=(8,),
        **settings,
    )
    model.set_tree(tree)
    return model


def held_out(seed, users=7):
    """Draws users; the first knows next to everything, the second little."""
    rng = np.random.default_rng(seed)
    known = [rng.integers(1, ITEMS + 1, n) for n in rng.integers(1, 30, users)]
    known[0] = np.arange(1, ITEMS)
    known[1] = known[1][:1]
    truth = [
        np.sort(rng.choice(ITEMS, n, replace=False)) + 1
        for n in rng.integers(1, 9, users)
    ]
    history = np.full([users, HISTORY], PAD, np.int32)
    for row, items in zip(history, known):
        newest = items[-HISTORY:]
        row[HISTORY - len(newest) :] = newest
    return splits.HeldOutUsers(
        users=np.arange(1, users + 1),
        history=history,
        full_history=joined(known),
        truth=joined(truth),
    )


def joined(rows):
    """Returns lists of items as one `Ragged`."""
    return ragged.Ragged(
        np.concatenate(rows).astype(np.int32), np.cumsum([0, *map(len, rows)])
    )


def lists(rows):
    """Returns the rows of a `Ragged` as lists."""
    return [list(x) for x in np.split(rows.values, rows.offsets[1:-1])]
