"""Fair times on a shared machine.

What is compared runs interleaved in one process, and medians are compared.
Load from elsewhere still hits long calls and many threads harder, so the time
on the processors is kept beside the time on the wall: it says what a busy
machine would show if it were idle, except where threads wait for each other.
"""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

# Of the square product that stands for the machine's rate.
_SIZE = 1024


def seconds(
    calls: Mapping[str, Callable[[], Any]], *, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns each call's median wall and processor time, taken in turns.

    Args:
        calls: what to time; each returns only when it is done.
        rounds: times that each is called, after one call to warm up.
    """
    for call in calls.values():
        call()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter(), time.process_time()
            call()
            end = time.perf_counter(), time.process_time()
            times[name].append((end[0] - begin[0], end[1] - begin[1]))
    medians = {name: np.median(rows, axis=0) for name, rows in times.items()}
    wall, processor = (
        {name: float(both[i]) for name, both in medians.items()} for i in (0, 1)
    )
    return wall, processor


class MatrixProduct:
    """The machine's rate: a [1024, 1024] float32 product in TensorFlow.

    Attributes:
        operations: of one call.
    """

    operations = 4 * 2 * _SIZE**3

    def __init__(self):
        self._a = tf.random.stateless_normal([_SIZE, _SIZE], [0, 0])
        self._product = tf.function(tf.matmul).get_concrete_function(
            *[tf.TensorSpec([_SIZE, _SIZE])] * 2
        )

    def __call__(self):
        """Takes four products in a row."""
        for _ in range(4):
            self._product(self._a, self._a).numpy()


def scorer_operations(user_dim: int, node_dim: int, hidden) -> tuple[int, int]:
    """Returns the operations per (user, level) and per scored pair."""
    widths = (node_dim, *hidden, 1)
    pair = sum(2 * m * n for m, n in zip(widths, widths[1:]))
    return 2 * user_dim * hidden[0], pair


def machine() -> dict[str, Any]:
    """Returns what the figures depend on."""
    names = ("tensorflow", "keras", "numpy")
    return {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":")[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
