"""Tests of clusters by a pool: nobody is lost, and they are as good."""

import numpy as np
import pytest

from jtm_tf.learning import pooled_clusters
from jtm_tf.pools import ray_pool
from jtm_tf.pools import serial
from jtm_tf.tree import clustering
from jtm_tf.tree import initial
from tests.support import rays
from tests.support import spreads


@pytest.mark.parametrize("branching, level", [(2, 0), (2, 2), (3, 0)])
def test_as_good_as_at_once(branching, level, tmp_path):
    items = 500
    old = initial.random(items, branching=branching, seed=0)
    vectors = np.random.default_rng(1).normal(size=(items + 1, 3))
    vectors = np.cumsum(vectors, axis=0).astype(np.float32)
    whole = clustering.cluster(old, vectors, level=level)
    got = pooled_clusters.cluster(
        serial.Pool(), tmp_path, old, vectors, level=level, piece_items=40
    )
    np.testing.assert_array_equal(np.sort(got.pi), np.sort(old.pi))
    np.testing.assert_array_equal(got.ancestors(level), old.ancestors(level))
    assert got.moved_items(old) > items / 2
    for below in range(level + 1, old.max_level):
        best = spreads.below(whole, vectors, below)
        assert (
            spreads.below(got, vectors, below)
            < 1.25 * best
            < 1.25 * spreads.below(old, vectors, below)
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("level", [0, 3, 9])
def test_all_in_one_piece_is_no_other_way(level, tmp_path):
    old = initial.random(400, seed=0)
    vectors = np.random.default_rng(1).normal(size=(401, 3)).astype(np.float32)
    got = pooled_clusters.cluster(
        serial.Pool(), tmp_path, old, vectors, level=level, seed=5
    )
    want = clustering.cluster(old, vectors, level=level, seed=5)
    np.testing.assert_array_equal(got.pi, want.pi)


def test_a_piece_knows_of_no_other(tmp_path, monkeypatch):
    """Whoever is asked, and in whatever order, the tree is the same."""
    old = initial.random(300, seed=0)
    vectors = np.random.default_rng(1).normal(size=(301, 3))
    asked = []

    def counted(piece):
        asked.append(piece.last - piece.first)
        return clustering_of(piece)

    clustering_of = pooled_clusters.clustered
    monkeypatch.setattr(pooled_clusters, "clustered", counted)
    pool = serial.Pool()
    got = [
        pooled_clusters.cluster(
            pool, tmp_path, old, vectors, piece_items=size, seed=3
        )
        for size in (20, 20, 300)
    ]
    np.testing.assert_array_equal(got[0].pi, got[1].pi)
    assert max(asked[:-1]) <= 20 and asked[-1] == 300  # all in one
    assert sum(asked[:-1]) == 600
    for tree in got:
        np.testing.assert_array_equal(np.sort(tree.pi), np.sort(old.pi))


@pytest.mark.slow
def test_by_ray(tmp_path, monkeypatch):
    old = initial.random(300, seed=0)
    vectors = np.random.default_rng(1).normal(size=(301, 3))
    with rays.apart(monkeypatch):
        got = [
            pooled_clusters.cluster(
                pool, tmp_path, old, vectors, piece_items=40
            )
            for pool in (serial.Pool(), ray_pool.Pool())
        ]
    np.testing.assert_array_equal(got[0].pi, got[1].pi)
