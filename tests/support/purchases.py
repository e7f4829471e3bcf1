"""Histories of users as lists of items, and what is plain to say of them."""

import collections

import numpy as np

from jtm_tf import ragged
from jtm_tf.data import splits
from jtm_tf.types import PAD


def examples_of(histories):
    """Returns the training samples of users with these items each."""
    lengths = np.array([len(history) for history in histories], int)
    ends = np.cumsum(lengths)
    return splits.Examples(
        np.array(sum(map(list, histories), []), np.int32),
        np.repeat(ends - lengths, lengths),
        np.arange(lengths.sum()),
    )


def users_of(histories, max_history=5):
    """Returns held-out users of whom these items are known."""
    lengths = np.array([len(history) for history in histories], int)
    window = np.zeros((len(histories), max_history), np.int32)
    for row, history in zip(window, histories):
        newest = history[-max_history:]
        row[max_history - len(newest) :] = newest
    return splits.HeldOutUsers(
        users=np.arange(1, len(histories) + 1, dtype=np.int32),
        history=window,
        full_history=ragged.Ragged.of_counts(
            np.array(sum(map(list, histories), []), np.int32), lengths
        ),
        truth=ragged.Ragged(
            np.ones(len(histories), np.int32), np.arange(len(histories) + 1)
        ),
    )


def draw(users, num_items, longest, seed):
    """Draws histories, some of them empty; low ids are popular."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest + 1, users)
    return [
        np.minimum(rng.geometric(2 / num_items, length), num_items).tolist()
        for length in lengths
    ]


def best_sellers(histories, num_items):
    """Returns items 1..N by rows, most first, then by id."""
    counts = collections.Counter(sum(histories, []))
    return sorted(range(1, num_items + 1), key=lambda i: (-counts[i], i))


def filled(own, best, num_results):
    """Returns own answers, then best-sellers, then PAD, M in all."""
    row = own + [item for item in best if item not in own]
    return (row + [PAD] * num_results)[:num_results]
