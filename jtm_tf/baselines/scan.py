"""What the methods share that score every item: users as rows, the M best."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from scipy import sparse

from jtm_tf.baselines import rules
from jtm_tf.data import splits
from jtm_tf.types import Array
from jtm_tf.types import PAD

# Users scored at a time.
_BATCH = 128


def known_rows(users: splits.HeldOutUsers, num_items: int) -> sparse.csr_matrix:
    """Returns who is known to have what, however often.

    Args:
        users: whose whole known halves are looked at.
        num_items: N.

    Returns:
        [U, N + 1] float32 of ones, column `PAD` empty. A matrix and no array,
        since implicit takes no arrays.

    Raises:
        ValueError: an item is not in 1..N.
    """
    known = users.full_history
    rules.check_items(known.values, num_items)
    ones = np.ones(len(known.values), np.float32)
    rows = sparse.csr_matrix(
        (ones, (known.owner, known.values)), (len(users), num_items + 1)
    )
    rows.data[:] = 1
    return rows


def recommend(
    scores: Callable[[slice], Array],
    num_users: int,
    num_results: int,
    popular: rules.Popular,
) -> np.ndarray:
    """Recommends to many users, some at a time.

    Args:
        scores: maps a slice of B users to their scores of all items, [B,
            N + 1] float; what it says of `PAD` is passed over.
        num_users: U.
        num_results: M.
        popular: of equal scores the better seller comes first, so that a
            user of whom nothing is known gets best-sellers.

    Returns:
        [U, M] int32 items, best first, `PAD` only where M > N.
    """
    found = np.full((num_users, num_results), PAD, np.int32)
    best_first = popular.items
    count = min(num_results, popular.num_items)
    for start in range(0, num_users, _BATCH):
        rows = slice(start, min(start + _BATCH, num_users))
        # Of equals, top_k takes the first.
        in_order = tf.gather(scores(rows), best_first, axis=1)
        places = tf.math.top_k(in_order, count).indices
        found[rows, :count] = best_first[places.numpy()]
    return found
