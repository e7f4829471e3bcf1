"""Tests of `export.serving.batcher`: who runs with whom."""

import threading

import numpy as np
import pytest

from export import serving
from export.serving import batcher as batcher_lib
from export.serving import errors
from export.serving import metrics

POISON = -13


class Doubling:
    """Stands for a signature: doubles, remembers its calls, may be held."""

    batched = True

    def __init__(self):
        self.calls = []
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()

    def run(self, inputs):
        self.entered.set()
        assert self.go.wait(10)
        self.calls.append(len(inputs["x"]))
        if np.any(inputs["x"] == POISON):
            raise ValueError("poison")
        return {"y": 2 * inputs["x"]}


@pytest.fixture(name="held")
def _held():
    """A signature whose first call waits, and a batcher of one thread."""
    signature = Doubling()
    signature.go.clear()
    config = serving.Config(workers=1, max_batch=8, max_queue=6)
    batcher = batcher_lib.Batcher(config, metrics.Metrics())
    first = batcher.submit(signature, x(100), 1)
    assert signature.entered.wait(10)
    yield signature, batcher
    signature.go.set()
    assert first.result(10)["y"].tolist() == [[200]]
    batcher.close()


def x(*values, width=1):
    return {"x": np.repeat(np.array(values, np.int64)[:, None], width, 1)}


def test_what_waits_runs_together(held):
    signature, batcher = held
    futures = [
        batcher.submit(signature, x(*values), len(values))
        for values in ([1], [2, 3], [], [4])
    ]
    signature.go.set()
    answers = [future.result(10)["y"].tolist() for future in futures]
    assert answers == [[[2]], [[4], [6]], [], [[8]]]
    assert signature.calls == [1, 4]


def test_a_bad_request_fails_alone(held):
    signature, batcher = held
    futures = [
        batcher.submit(signature, x(value), 1) for value in (1, POISON, 3)
    ]
    signature.go.set()
    assert futures[0].result(10)["y"].tolist() == [[2]]
    assert futures[2].result(10)["y"].tolist() == [[6]]
    with pytest.raises(errors.ServingError) as caught:
        futures[1].result(10)
    assert caught.value.code == errors.Code.INTERNAL


def test_shapes_and_sizes_that_do_not_join(held):
    signature, batcher = held
    futures = [
        batcher.submit(signature, x(1, 2, 3, 4, 5), 5),
        batcher.submit(signature, x(1, 2, width=2), 2),
        batcher.submit(signature, x(1, 2, 3, 4), 4),
        batcher.submit(signature, x(*range(20)), 20),
    ]
    signature.go.set()
    for future, rows in zip(futures, (5, 2, 4, 20)):
        assert len(future.result(10)["y"]) == rows
    # At most eight rows, but for one request that is larger by itself.
    assert sorted(signature.calls) == [1, 2, 4, 5, 20]


def test_a_full_queue_refuses(held):
    signature, batcher = held
    waiting = [batcher.submit(signature, x(i), 1) for i in range(5)]
    with pytest.raises(errors.ServingError, match="6 requests are waiting"):
        batcher.submit(signature, x(9), 1)
    assert waiting[0].cancel()  # its client went away: there is room again
    last = batcher.submit(signature, x(7), 1)
    signature.go.set()
    assert last.result(10)["y"].tolist() == [[14]]
    assert signature.calls == [1, 5], "the cancelled one never ran"


def test_company_is_waited_for():
    signature = Doubling()
    config = serving.Config(workers=1, max_batch=3, batch_wait_ms=60_000)
    batcher = batcher_lib.Batcher(config, metrics.Metrics())
    futures = [batcher.submit(signature, x(i), 1) for i in range(3)]
    for future in futures:  # three are enough
        future.result(10)
    assert signature.calls == [3]
    lonely = batcher.submit(signature, x(5), 1)
    assert not lonely.done()
    batcher.close()  # ends the waiting, not the request
    assert lonely.result(0)["y"].tolist() == [[10]]
    with pytest.raises(errors.ServingError, match="stopping"):
        batcher.submit(signature, x(1), 1)
