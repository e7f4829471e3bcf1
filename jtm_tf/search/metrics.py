"""Precision, Recall and F-Measure@M per user, then averaged (Sec. 3.2).

Pure NumPy. The ground truth is a set, padding is never a hit, and an item
recommended twice counts once.
"""

import numpy as np

from jtm_tf.types import PAD

NAMES = ("precision", "recall", "f_measure")


def per_user(
    recommended: np.ndarray,
    truth: np.ndarray,
    truth_offsets: np.ndarray,
    num_results: int,
) -> dict[str, np.ndarray]:
    """Compares each user's first M recommendations with the ground truth.

    Args:
        recommended: [U, >= 1] int items, best first; PAD where a user has
            fewer answers. Columns from `num_results` on are ignored.
        truth: [G] int items, user after user; repeats count once.
        truth_offsets: [U + 1] int; user u owns truth[offsets[u]:offsets[u+1]].
        num_results: M, what precision divides by.

    Returns:
        `precision`, `recall` and `f_measure`, each [U] float64.

    Raises:
        ValueError: the shapes disagree, or a user has no ground truth.
    """
    recommended, truth = np.asarray(recommended), np.asarray(truth)
    offsets = np.asarray(truth_offsets)
    if recommended.ndim != 2 or offsets.shape != (len(recommended) + 1,):
        raise ValueError(
            "recommended must be [U, M] and truth_offsets [U + 1]; got "
            f"{recommended.shape} and {offsets.shape}."
        )
    if offsets[0] != 0 or offsets[-1] != len(truth):
        raise ValueError(
            f"truth_offsets must run from 0 to {len(truth)}, the length of "
            f"truth; got {offsets[0]}..{offsets[-1]}."
        )
    if np.any(np.diff(offsets) < 1):
        raise ValueError(
            f"{np.count_nonzero(np.diff(offsets) < 1)} users have no ground "
            "truth, so no recall; leave them out."
        )
    if num_results < 1 or np.any(truth <= PAD):
        raise ValueError("num_results and the items of truth start at 1.")
    recommended = recommended[:, :num_results]
    users = len(recommended)
    # A pair (user, item) as one integer makes sets of pairs sets of integers.
    base = 1 + max(int(recommended.max()), int(truth.max())) if users else 1
    answers = np.arange(users)[:, None] * base + recommended
    answers = answers[recommended != PAD]
    owner = np.repeat(np.arange(users), np.diff(offsets))
    wanted = np.unique(owner * base + truth)
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
    truth: np.ndarray,
    truth_offsets: np.ndarray,
    num_results: int,
) -> dict[str, float]:
    """Returns the means over users of what `per_user` returns."""
    if len(recommended) == 0:
        raise ValueError("There are no users to average over.")
    values = per_user(recommended, truth, truth_offsets, num_results)
    return {name: float(np.mean(values[name])) for name in NAMES}
