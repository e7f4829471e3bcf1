"""What a core of this machine does in a second."""

import time

import numpy as np
import tensorflow as tf

from experiments.rehearsal import cost
from jtm_tf.learning import optimizer
from jtm_tf.learning import settings
from jtm_tf.models import log_prob
from jtm_tf.models import tree_model
from jtm_tf.tree import initial
from jtm_tf.tree import tree as tree_lib

_ITEMS, _BATCH, _NEGATIVES, _REPEATS = 1 << 14, 256, 100, 5
_ROWS, _TABLE, _DIM = 100_000, 1 << 21, 24


def measure() -> cost.Rates:
    """Measures the rates of one core, in processor time."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tree = initial.random(_ITEMS, branching=2, seed=0)
    model = tree_model.TreeModel(
        _ITEMS, tree.max_level, embedding_dim=_DIM, direct=True
    )
    model.set_tree(tree)
    return cost.Rates(_nodes(model, tree), _rows(), _pairs(model, tree))


def _seconds(call):
    """Returns the processor time of a call, once it is traced."""
    call()
    began = time.process_time()
    for _ in range(_REPEATS):
        call()
    return (time.process_time() - began) / _REPEATS


def _users(model, count, rng):
    """Draws users."""
    return rng.integers(1, _ITEMS + 1, (count, model.max_history), np.int32)


def _nodes(model, tree):
    """Returns the nodes that a training step scores in a second."""
    rng, levels = np.random.default_rng(0), range(1, tree.max_level + 1)
    total = sum(levels)
    model.optimizer = optimizer.RowSparseAdam()
    model.optimizer.build(model.trainable_variables)
    nodes = []
    for level in levels:
        first = tree_lib.first_code(level, 2)
        width = 1 + max(1, round(_NEGATIVES * level / total))
        nodes.append(first + rng.integers(0, first, (_BATCH, width), np.int32))
    inputs = {
        "history": tf.constant(_users(model, _BATCH, rng)),
        "nodes": tuple(map(tf.constant, nodes)),
    }
    step = tf.function(model.step, autograph=False)
    return sum(x.size for x in nodes) / _seconds(lambda: step(inputs))


def _rows():
    """Returns the rows that are read and updated in a second."""
    table = tf.Variable(tf.zeros([_TABLE, _DIM]))
    moments = [tf.Variable(tf.zeros_like(table)) for _ in range(2)]
    rows = tf.constant(
        np.random.default_rng(0).integers(0, _TABLE, _ROWS, np.int32)
    )
    gradient = tf.ones([_ROWS, _DIM])

    @tf.function(autograph=False)
    def turn():
        read = tf.gather(table, rows)
        for variable in moments:
            moved = tf.gather(variable, rows) + gradient
            variable.scatter_update(tf.IndexedSlices(moved, rows))
        table.scatter_sub(tf.IndexedSlices(gradient, rows))
        return tf.reduce_sum(read)

    return _ROWS / _seconds(turn)


def _pairs(model, tree):
    """Returns the pairs that the tree step scores in a second."""
    rng, config = np.random.default_rng(0), settings.JointConfig().tree_learning
    weighed, level = log_prob.LogProb(model), tree.max_level - 1
    histories = _users(model, config.batch_samples // 4, rng)
    width = 2**config.gap
    nodes = tree_lib.first_code(level, 2) + rng.integers(
        0, 2**level, (len(histories), width), np.int32
    )

    def turn():
        weighed(weighed.describe(histories, [level]), nodes, level)

    return nodes.size / _seconds(turn)
