"""Tests of `learning.optimizer` against Keras's Adam and against loops."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.learning import optimizer as optimizer_lib

ROWS, DIM = 7, 3


def variable(seed=0):
    """Returns a table that is the same for every test, [ROWS, DIM]."""
    rng = np.random.default_rng(seed)
    return keras.Variable(rng.normal(size=(ROWS, DIM)).astype(np.float32))


def run(optimizer, gradients):
    """Returns the table after one step a gradient, [ROWS, DIM]."""
    table = variable()
    optimizer.build([table])
    for gradient in gradients:
        optimizer.apply([gradient], [table])
    return table.numpy()


def dense_gradients(steps, seed=1):
    """Returns random dense gradients, [steps, ROWS, DIM]."""
    rng = np.random.default_rng(seed)
    return tf.constant(rng.normal(size=(steps, ROWS, DIM)), tf.float32)


def sliced(gradient, rows):
    """Returns the gradient's rows as `IndexedSlices`."""
    rows = tf.constant(rows, tf.int32)
    return tf.IndexedSlices(tf.gather(gradient, rows), rows, gradient.shape)


def adam_by_loops(gradients, rows_of, rate=1e-3, b1=0.9, b2=0.999):
    """Adam, a touched row at a time."""
    table = variable().numpy().astype(np.float64)
    m, v = np.zeros_like(table), np.zeros_like(table)
    for step, (gradient, rows) in enumerate(zip(gradients, rows_of), 1):
        for row in set(rows):
            g = gradient[row] * list(rows).count(row)
            m[row] = b1 * m[row] + (1 - b1) * g
            v[row] = b2 * v[row] + (1 - b2) * g**2
            alpha = rate * np.sqrt(1 - b2**step) / (1 - b1**step)
            table[row] -= alpha * m[row] / (np.sqrt(v[row]) + 1e-7)
    return table


def test_equals_keras_adam_when_every_step_touches_every_row():
    gradients = dense_gradients(5)
    order = [3, 0, 6, 1, 5, 2, 4]
    np.testing.assert_allclose(
        run(
            optimizer_lib.RowSparseAdam(1e-2),
            [sliced(gradient, order) for gradient in gradients],
        ),
        run(keras.optimizers.Adam(1e-2), gradients),
        rtol=1e-5,
        atol=1e-6,  # a few roundings of numbers below 3, also where one is 0
    )


def test_a_dense_gradient_takes_the_path_of_keras_adam():
    gradients = dense_gradients(4)
    np.testing.assert_array_equal(
        run(optimizer_lib.RowSparseAdam(1e-2), gradients),
        run(keras.optimizers.Adam(1e-2), gradients),
    )


@pytest.mark.parametrize("graph", [False, True])
def test_rows_with_repeats_against_loops(graph):
    gradients = dense_gradients(4)
    rows_of = [[0, 2, 2], [5], [2, 0, 0, 0], [6, 2]]
    table, optimizer = variable(), optimizer_lib.RowSparseAdam()
    optimizer.build([table])

    def step(gradient, rows):
        slices = tf.IndexedSlices(
            tf.gather(gradient, rows), rows, gradient.shape
        )
        optimizer.apply([slices], [table])

    if graph:
        step = tf.function(step, reduce_retracing=True)
    for gradient, rows in zip(gradients, rows_of):
        step(gradient, tf.constant(rows, tf.int32))
    want = adam_by_loops(gradients.numpy(), rows_of)
    np.testing.assert_allclose(table.numpy(), want, rtol=1e-5, atol=1e-6)


def test_touches_its_rows_only():
    table, optimizer = variable(), optimizer_lib.RowSparseAdam()
    optimizer.build([table])
    rows, gradient = [1, 4], dense_gradients(1)[0]
    for _ in range(3):
        optimizer.apply([sliced(gradient, rows)], [table])
    changed = np.any(table.numpy() != variable().numpy(), axis=1)
    assert np.flatnonzero(changed).tolist() == rows
    for slot in optimizer.slots(table):
        assert np.flatnonzero(slot.numpy().any(axis=1)).tolist() == rows


def test_a_reset_empties_the_slots_and_counts_on():
    table, optimizer = variable(), optimizer_lib.RowSparseAdam()
    optimizer.build([table])
    optimizer.apply([dense_gradients(1)[0]], [table])
    assert all(np.any(slot) for slot in optimizer.slots(table))
    optimizer.reset()
    assert not any(np.any(slot) for slot in optimizer.slots(table))
    assert optimizer.iterations == 1


def test_no_rows_no_change():
    got = run(
        optimizer_lib.RowSparseAdam(), [sliced(dense_gradients(1)[0], [])]
    )
    np.testing.assert_array_equal(got, variable().numpy())


def test_serialisation_keeps_class_and_settings():
    optimizer = optimizer_lib.RowSparseAdam(0.02, beta_1=0.8, epsilon=1e-5)
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(optimizer)
    )
    assert isinstance(copy, optimizer_lib.RowSparseAdam)
    assert copy.get_config() == optimizer.get_config()


def test_amsgrad_is_refused():
    with pytest.raises(ValueError, match="amsgrad"):
        optimizer_lib.RowSparseAdam(amsgrad=True)


def test_rows_may_learn_faster_than_dense_weights():
    (gradient,) = dense_gradients(1)
    rows = [0, 3]
    before = variable().numpy()
    plain, fast, dense = (
        run(optimizer_lib.RowSparseAdam(1e-3, row_rate=rate), [g]) - before
        for rate, g in (
            (1.0, sliced(gradient, rows)),
            (5.0, sliced(gradient, rows)),
            (5.0, gradient),
        )
    )
    np.testing.assert_allclose(fast, 5 * plain, atol=1e-6)
    np.testing.assert_allclose(dense[rows], plain[rows], atol=1e-6)
    copy = optimizer_lib.RowSparseAdam.from_config(
        optimizer_lib.RowSparseAdam(1e-3, row_rate=5.0).get_config()
    )
    assert copy.row_rate == 5.0


def test_a_row_that_a_batch_hardly_concerns_hardly_moves():
    """Below its epsilon a step is in proportion to the gradient."""
    (gradient,) = dense_gradients(1)
    before = variable().numpy()
    scaled = [
        run(
            optimizer_lib.RowSparseAdam(1e-2, row_epsilon=10.0),
            [sliced(size * gradient, [2])],
        )[2]
        - before[2]
        for size in (1.0, 0.1)
    ]
    np.testing.assert_allclose(scaled[1], 0.1 * scaled[0], rtol=0.02)
    # Where gradients are far above it, nothing changes; nor for dense ones.
    for g in (sliced(1e6 * gradient, [2]), gradient):
        small, none = (
            run(optimizer_lib.RowSparseAdam(1e-2, row_epsilon=epsilon), [g])
            for epsilon in (1e-3, None)
        )
        np.testing.assert_allclose(small, none, rtol=1e-4)
    optimizer = optimizer_lib.RowSparseAdam(row_epsilon=0.5)
    copy = optimizer_lib.RowSparseAdam.from_config(optimizer.get_config())
    assert copy.row_epsilon == 0.5
