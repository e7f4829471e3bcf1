"""Precision, Recall and F-Measure@M per user, then averaged (Sec. 3.2).

Pure NumPy. The ground truth is a set, padding is never a hit, and an item
recommended twice counts once.
"""

import numpy as np

from jtm_tf import ragged
from jtm_tf.types import PAD

NAMES = ("precision", "recall", "f_measure")


def per_user(
    recommended: np.ndarray,
    truth: ragged.Ragged,
    num_results: int,
) -> dict[str, np.ndarray]:
    """Compares each user's first M recommendations with the ground truth.

    Args:
        recommended: [U, >= 1] int items, best first; PAD where a user has
            fewer answers. Columns from `num_results` on are ignored.
        truth: int items, a row a user; repeats count once.
        num_results: M, what precision divides by.

    Returns:
        `precision`, `recall` and `f_measure`, each [U] float64.

    Raises:
        ValueError: the shapes disagree, or a user has no ground truth.
    """
    recommended, items = np.asarray(recommended), truth.values
    if recommended.ndim != 2 or len(recommended) != len(truth):
        raise ValueError(
            "recommended must be [U, M] and truth of U rows; got "
            f"{recommended.shape} and {len(truth)} rows."
        )
    if not np.all(truth.counts):
        raise ValueError(
            f"{np.count_nonzero(truth.counts == 0)} users have no ground "
            "truth, so no recall; leave them out."
        )
    if num_results < 1 or np.any(items <= PAD):
        raise ValueError("num_results and the items of truth start at 1.")
    recommended = recommended[:, :num_results]
    users = len(recommended)
    # A pair (user, item) as one integer makes sets of pairs sets of integers.
    base = 1 + max(int(recommended.max()), int(items.max())) if users else 1
    answers = np.arange(users)[:, None] * base + recommended
    answers = answers[recommended != PAD]
    wanted = np.unique(truth.owner * base + items)
    found = np.intersect1d(answers, wanted)
    hits = np.bincount(found // base, minlength=users)
    sizes = np.bincount(wanted // base, minlength=users)
    return {
        "precision": hits / num_results,
        "recall": hits / sizes,
        # 2 P R / (P + R) with P = hits / M and R = hits / |truth|.
        "f_measure": 2 * hits / (num_results + sizes),
    }


def metrics(
    recommended: np.ndarray,
    truth: ragged.Ragged,
    num_results: int,
) -> dict[str, float]:
    """Returns the means over users of what `per_user` returns."""
    if len(recommended) == 0:
        raise ValueError("There are no users to average over.")
    values = per_user(recommended, truth, num_results)
    return {name: float(np.mean(values[name])) for name in NAMES}
