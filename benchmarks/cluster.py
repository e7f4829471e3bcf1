"""Compares work that is shared out with the same work by one process.

    python -m benchmarks.cluster [--turns=3]

All processes are of this machine, one thread each. A run is started for few
and for many samples, and the difference is what the others cost; one process
and the cluster take turns, and medians are compared. A start varies by seconds:
what fewer samples cost is lost in that. About half an hour, alone on the
machine; prints JSON last. Wants the extra cluster.

ps_over_single: processor time of a sample, chief, worker and parameter server
    together, over that of one process; at most 1.5.
network_kib_a_step: bytes that cross the loopback for a step of 256 samples,
    where the system counts them; network_kib_a_step_model: what
    experiments.cluster_cost says of it, which takes rows to be drawn evenly.
ray_over_serial: processor time of edge weights by two of Ray's actors, Ray's
    own processes among them, over that of the same files by one process; at
    most 1.25. ray_start_seconds: what all of them took before.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import tempfile
import time

import numpy as np
import psutil
from absl import flags

from benchmarks import children
from benchmarks import worlds
from experiments.rehearsal import cost
from experiments.rehearsal import local
from experiments.search_cost import timing
from jtm_tf.command_line import program
from jtm_tf.data.preparing import preparation
from jtm_tf.learning import pooled_weights
from jtm_tf.pools import ray_pool
from jtm_tf.pools import serial
from jtm_tf.tree import learning as tree_learning

_TURNS = flags.DEFINE_integer(
    "turns", 3, "How often each is measured.", lower_bound=1
)
_FEW = flags.DEFINE_integer(
    "few_samples", 20_000, "Of a short run.", lower_bound=1
)
_MANY = flags.DEFINE_integer(
    "many_samples", 120_000, "Of a long run.", lower_bound=1
)
_LOSS = flags.DEFINE_enum(
    "loss", "beam", ["beam", "softmax"], "Of the runs; the model is of softmax."
)
_ITEMS = flags.DEFINE_integer(
    "num_items", 20_000, "Of a market of twenty rows an item.", lower_bound=1000
)
_BATCH = 256
# Of a tree step that is weighed: samples of an item, and levels.
_WEIGHED, _GAP = 3, 7
_TRAIN = ("--method=jtm_h", "--joint_iterations=1", "--num_results=20")


@dataclasses.dataclass(frozen=True)
class _Used:
    """What a run took: seconds of processors, and bytes on the loopback."""

    seconds: float
    bytes: float


@program.entry
def main() -> None:
    os.environ.update(local.environment(1))
    figures = {**_training(), **_weighing(), "machine": timing.machine()}
    print(json.dumps(figures))


def _training():
    """Returns the figures of training."""
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder, "data")
        preparation.run(
            preparation.Config(
                dataset="planted",
                data_dir=str(data),
                num_items=_ITEMS.value,
                num_rows=20 * _ITEMS.value,
            )
        )
        extra: dict[str, list[_Used]] = {"single": [], "ps": []}
        for turn in range(_TURNS.value):
            for kind, found in extra.items():
                few, many = (
                    _run(kind, samples, data, pathlib.Path(folder, str(turn)))
                    for samples in (_FEW.value, _MANY.value)
                )
                found.append(
                    _Used(many.seconds - few.seconds, many.bytes - few.bytes)
                )
    samples = _MANY.value - _FEW.value
    single, ps = (
        statistics.median(used.seconds for used in found)
        for found in extra.values()
    )
    crossed = statistics.median(used.bytes for used in extra["ps"])
    job = cost.Job(items=_ITEMS.value, samples=samples, hosts=1, batch=_BATCH)
    model = cost.estimate(job, cost.Rates(1.0, 1.0, 1.0))
    return {
        "loss": _LOSS.value,
        "ps_over_single": round(ps / single, 3),
        "milliseconds_a_sample": {
            "single": round(1e3 * single / samples, 3),
            "ps": round(1e3 * ps / samples, 3),
        },
        "network_kib_a_step": round(crossed / 1024 / (samples / _BATCH), 1),
        "network_kib_a_step_model": round(model.step_bytes / 1024, 1),
    }


def _run(kind, samples, data, out):
    """Trains on so many samples; returns what that took."""
    out = out.with_name(f"{out.name}-{kind}-{samples}")
    train = [*_TRAIN, f"--loss={_LOSS.value}", f"--samples_per_epoch={samples}"]
    where = [f"--data_dir={data}", f"--out_dir={out}"]
    command = ["experiments.train", *train, *where]
    if kind == "ps":
        method, *others = train
        command = [
            "experiments.rehearse_cluster",
            method,
            *where,
            "--workers=1",
            "--ps=1",
            "--pool=here",
            "--kill=",
            f"--train_flags={' '.join(others)}",
        ]
    crossed = _loopback()
    done = children.run(*command)
    return _Used(done.cpu_seconds, _loopback() - crossed)


def _loopback():
    """Returns the bytes that this machine has sent to itself."""
    counters = psutil.net_io_counters(pernic=True)
    return sum(
        counters[name].bytes_sent for name in ("lo", "lo0") if name in counters
    )


def _weighing():
    """Returns the figures of edge weights."""
    weighed = _WEIGHED * _ITEMS.value
    tree = worlds.random_tree(_ITEMS.value)
    model = worlds.random_model(tree, embedding_dim=24)
    examples = worlds.random_examples(_ITEMS.value, 2 * weighed)
    config = tree_learning.TreeLearningConfig(max_samples_per_item=10)
    pools = {"serial": serial.Pool(), "ray": ray_pool.Pool(actors=2)}
    found: dict[str, list[float]] = {name: [] for name in pools}
    starts = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(_TURNS.value):
            for name, pool in pools.items():
                started = time.monotonic()
                with pooled_weights.pooled(
                    pool,
                    pathlib.Path(folder),
                    model,
                    examples,
                    config,
                    file_samples=weighed // 16,
                ) as weigh:
                    _weigh(weigh, tree, every=100)  # loaded and traced
                    if name == "ray":
                        starts.append(time.monotonic() - started)
                    began = _processor()
                    _weigh(weigh, tree)
                    found[name].append(_processor() - began)
    medians = {name: statistics.median(used) for name, used in found.items()}
    return {
        "ray_over_serial": round(medians["ray"] / medians["serial"], 3),
        "weighing_seconds": {
            name: round(used, 2) for name, used in medians.items()
        },
        "ray_start_seconds": round(statistics.median(starts), 1),
    }


def _weigh(weigh, tree, every=1):
    """Weighs the edges of one item in so many, as a tree step does."""
    items, level = np.arange(0, tree.num_items, every), tree.max_level - 1
    nodes = tree.ancestors(level - _GAP)[1:][items]
    weigh(items, nodes, level, _GAP)


def _processor():
    """Returns the processor time of this process and all that it started."""
    total = 0.0
    for process in (own := psutil.Process(), *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            used = process.cpu_times()
            total += used.user + used.system
            total += used.children_user + used.children_system
    return total


if __name__ == "__main__":
    main()
