"""Tests of `jtm_tf.models.rows`: a table in pieces is the table whole."""

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.models import embedding as embedding_lib
from jtm_tf.models import rows as rows_lib

ROWS, DIM = 23, 3
TABLE = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)


def pieces(shards):
    """Returns TABLE in so many variables."""
    return rows_lib.Rows([tf.Variable(TABLE[i::shards]) for i in range(shards)])


@pytest.mark.parametrize("shards", [1, 2, 3, ROWS])
def test_pieces_are_the_table(shards):
    table = pieces(shards)
    assert len(table) == ROWS
    np.testing.assert_array_equal(table.numpy(), TABLE)
    for shard, variable in enumerate(table.variables):
        assert variable.shape[0] == rows_lib.count(ROWS, shards, shard)
    asked = np.random.default_rng(1).integers(0, ROWS, (4, 5))
    found = table.gather(asked)
    assert found.shape == (4, 5, DIM)
    np.testing.assert_array_equal(found, TABLE[asked])
    assert table.gather(np.zeros([0, 2], np.int32)).shape == (0, 2, DIM)
    want = TABLE.copy()
    some = np.array([22, 0, 7, 8])
    values = np.ones([4, DIM], np.float32) * np.arange(4)[:, None]
    table.update(some, values)
    want[some] = values
    np.testing.assert_array_equal(table.numpy(), want)
    table.add(some, values)
    want[some] += values
    np.testing.assert_array_equal(table.numpy(), want)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_gradients_reach_each_row_once(monkeypatch, shards):
    """They sum over all places where a row was looked up, and name no other."""
    asked = np.array([[5, 5, 1], [22, 5, 0]], np.int32)
    weights = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    table = pieces(shards)
    # One table is looked up so where it lies on a server.
    kind, server = type(table.variables[0]), "/job:ps/replica:0/task:0"
    monkeypatch.setattr(kind, "device", property(lambda _: server))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(table.gather(asked) * weights)
    slices = tape.gradient(total, table.variables)
    want = np.zeros_like(TABLE)
    np.add.at(want, asked, np.broadcast_to(weights, (2, 3, DIM)))
    got = np.zeros_like(TABLE)
    for shard, one in enumerate(slices):
        rows = one.indices.numpy() * shards + shard
        assert len(np.unique(rows)) == len(rows)
        got[rows] = one.values
    np.testing.assert_allclose(got, want)


def test_a_shape_that_is_known_stays_so():
    """A graph's layers ask for it."""
    look = tf.function(pieces(3).gather)
    spec = tf.TensorSpec([None, 4], tf.int32)
    found = look.get_concrete_function(spec).output_shapes
    assert found.as_list() == [None, 4, DIM]


@pytest.mark.parametrize("shards", [-1, 8])
def test_as_many_pieces_as_rows_at_most(shards):
    told = f"1 to 7 variables, or in none but its file; got shards={shards}"
    with pytest.raises(ValueError, match=told):
        embedding_lib.NodeEmbedding(7, 4, shards=shards)


def test_a_table_in_a_file_has_to_be_loaded():
    layer = embedding_lib.NodeEmbedding(7, 4, shards=0)
    layer.build()
    with pytest.raises(ValueError, match="has not been loaded"):
        layer(np.array([1]))
    with pytest.raises(ValueError, match=r"shape \(7, 4\); got \(6, 4\)"):
        layer.read(np.zeros([6, 4], np.float32))
    table = np.arange(28, dtype=np.float32).reshape(7, 4)
    layer.read(table)
    asked = np.array([[3, 3], [0, 6]], np.int32)
    np.testing.assert_array_equal(layer(asked), table[asked])
    assert layer(np.zeros([0, 2], np.int32)).shape == (0, 2, 4)
    look = tf.function(layer).get_concrete_function(
        tf.TensorSpec([None, 2], tf.int32)
    )
    assert look.output_shapes.as_list() == [None, 2, 4]
    assert len(layer.rows) == 7 and not layer.variables
