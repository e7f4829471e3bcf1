"""Tests of `jtm_tf.models.visits` against counts by hand."""

import types

import numpy as np
import pytest

from jtm_tf.models import visits
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

WINDOWS = (4, 2, 1)


def features(users, nodes, *, level=None, branching=2, max_level=3):
    """Returns what the layer says of [B, T] leaves and [B, W] nodes."""
    layer = visits.Visits(WINDOWS)
    return layer(
        layer.of_users(np.asarray(users, np.int32)),
        np.asarray(nodes, np.int32),
        level=max_level if level is None else level,
        tree=types.SimpleNamespace(max_level=max_level, branching=branching),
    ).numpy()


def test_visits_are_counted_by_window():
    users = [[PAD, 9, 9, 10, 9, 11, 10]]
    got = features(users, [[9, 10, 14]])
    counts = np.array([[2, 1, 0], [1, 0, 1], [0, 0, 0]])
    total = counts.sum(axis=1, keepdims=True)
    want = np.hstack(
        [np.log1p(counts), np.minimum(counts, 1), np.log1p(total), total / 6]
    )
    np.testing.assert_allclose(got[0], want, atol=1e-6)
    assert not np.any(features([[PAD] * 7], [[9]]))
    for rows, width in ((0, 3), (2, 0), (0, 0)):
        nothing = features(np.zeros([rows, 7]), np.zeros([rows, width]))
        assert nothing.shape == (rows, width, 2 * len(WINDOWS) + 2)


@pytest.mark.parametrize("branching", [2, 3, 5])
def test_a_visit_is_a_behaviour_below_the_node(branching):
    """As counted one by one, with more behaviours than the windows hold."""
    max_level, length = 3, sum(WINDOWS) + 4
    rng = np.random.default_rng(branching)
    first = tree_lib.first_code(max_level, branching)
    leaves = rng.integers(first, first + branching**max_level, [6, length])
    leaves[rng.random(leaves.shape) < 0.3] = PAD
    leaves[0] = PAD
    window = [-1] * 4 + [w for w, n in enumerate(WINDOWS) for _ in range(n)]
    for level in range(max_level + 1):
        of = tree_lib.first_code(level, branching)
        nodes = np.arange(of, of + branching**level)
        nodes = np.append(nodes, PAD)  # which nobody visits
        lifted = tree_lib.ancestor(
            leaves, from_level=max_level, to_level=level, branching=branching
        )
        same = (lifted[:, None] == nodes[:, None]) & (nodes[:, None] != PAD)
        counts = np.stack(
            [
                same[..., np.equal(window, w)].sum(-1)
                for w in range(len(WINDOWS))
            ],
            -1,
        )
        got = features(
            leaves,
            np.tile(nodes, (6, 1)),
            level=level,
            branching=branching,
            max_level=max_level,
        )
        np.testing.assert_allclose(
            got[..., : len(WINDOWS)], np.log1p(counts), atol=1e-6
        )
        np.testing.assert_allclose(
            got[..., -2], np.log1p(same.sum(-1)), atol=1e-6
        )
