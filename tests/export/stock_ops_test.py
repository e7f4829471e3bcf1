"""Tests of `support.stock_ops`: the walk finds what it is meant to find."""

import pytest
import tensorflow as tf

from tests.support import stock_ops


def save(folder, body):
    """Saves `body` as the signature `bad`, beside a good one."""
    module = tf.Module()
    spec = tf.TensorSpec([None], tf.float32, "x")

    @tf.function(input_signature=[spec])
    def good(x):
        return {"y": tf.nn.relu(x)}

    @tf.function(input_signature=[spec])
    def bad(x):
        return {"y": body(x)}

    module.good, module.bad = good, bad
    tf.saved_model.save(
        module, str(folder), signatures={"good": good, "bad": bad}
    )
    return folder


def python(x):
    return tf.ensure_shape(tf.py_function(lambda x: x, [x], tf.float32), [None])


def numpy(x):
    plain = tf.numpy_function(lambda x: x, [x], tf.float32, stateful=False)
    return tf.ensure_shape(plain, [None])


def nested(x):
    """Calls Python in a branch, in a function within a function."""

    @tf.function
    def inner(x):
        return tf.cond(x[0] > 0, lambda: python(x), lambda: x)

    return tf.function(inner)(x)


def mapped(x):
    """Calls Python in the body of a loop."""
    return tf.while_loop(
        lambda i, y: i < 2, lambda i, y: (i + 1, numpy(y)), (0, x)
    )[1]


@pytest.mark.parametrize(
    ("body", "op"),
    [
        (python, "EagerPyFunc"),
        (numpy, "PyFuncStateless"),
        (nested, "EagerPyFunc"),
        (mapped, "PyFuncStateless"),
    ],
)
def test_python_is_found_wherever_it_hides(tmp_path, body, op):
    folder = save(tmp_path / "model", body)
    assert stock_ops.foreign(folder) == {op}
    ops = stock_ops.by_signature(folder)
    assert op in ops["bad"]
    assert op not in ops["good"]
    assert "Relu" in ops["good"]


def test_an_unknown_op_is_found(tmp_path):
    folder = save(tmp_path / "model", tf.nn.softplus)
    assert not stock_ops.foreign(folder)
    path = folder / "saved_model.pb"
    # Of the same length, so that the file stays whole.
    path.write_bytes(path.read_bytes().replace(b"Softplus", b"Softpuls"))
    assert stock_ops.foreign(folder) == {"Softpuls"}
