"""Trains one method of the paper's Table 1, from prepared data to metrics.

    python -m experiments.train --method=jtm --data_dir=DATA --out_dir=RUN

Killed at any moment and started again with the same command, it goes on
where it was and ends with the same metrics. RUN/metrics.json has a record for
each iteration and, at the end, the test metrics of the best one; the best
model with its tree is RUN/best.keras; the learning curves are shown by
`tensorboard --logdir=RUN`.
"""

import contextlib
import json
import os
import pathlib
import sys
import traceback

import tensorflow as tf
from absl import logging

from experiments import train_flags
from jtm_tf.baselines import run as baselines_run
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.learning import cluster
from jtm_tf.learning import hosts
from jtm_tf.learning import joint
from jtm_tf.learning import settings
from jtm_tf.pools import pool_flags
from jtm_tf.runs import folder


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    config, out_dir = train_flags.config(), train_flags.OUT_DIR.value
    if _is_shared() and not isinstance(config, settings.JointConfig):
        raise ValueError(
            f"--method={config.method} is not trained by steps; use "
            "--strategy=single."
        )
    serves = (
        train_flags.STRATEGY.value == "parameter_server"
        and cluster.task()["task"]["type"] != "chief"
    )
    with _leaving():
        if serves:
            run = folder.RunFolder(pathlib.Path(out_dir))
            cluster.serve(lambda: "test" in run.read_metrics(), run.chief)
        elif metrics := _run(config, out_dir):
            print(json.dumps(metrics["test"]))


def _run(config, out_dir):
    """Trains; returns the metrics, or None where another machine has them."""
    data = interactions.load(train_flags.DATA_DIR.value)
    data_dir = str(pathlib.Path(train_flags.DATA_DIR.value).resolve())
    if not isinstance(config, settings.JointConfig):
        return baselines_run.run(config, data, out_dir, data_dir=data_dir)
    with _where(pathlib.Path(out_dir)) as where:
        options = settings.RunOptions(
            data_dir=data_dir,
            checkpoint_seconds=train_flags.CHECKPOINT_SECONDS.value,
            measure_loss=train_flags.MEASURE_LOSS.value,
            progress=sys.stderr.isatty(),
            pool=pool_flags.chosen(train_flags.POOL, train_flags.RAY_ADDRESS),
            **where,
        )
        if options.hosts is None or options.hosts.leads:
            return joint.run(config, data, out_dir, options)
        return joint.follow(config, data, out_dir, options)


def _is_shared():
    """Tells whether this process is one of several that train."""
    strategy = train_flags.STRATEGY.value
    return strategy == "parameter_server" or (
        strategy == "mirrored" and not cluster.is_one()
    )


@contextlib.contextmanager
def _leaving():
    """Ends the process with the block where it is one of several.

    Its threads would wait for the others, lost ones too.
    """
    if not _is_shared():
        yield
        return
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"Error: {error}", file=sys.stderr)
        _leave(1)
    except BaseException:
        traceback.print_exc()
        _leave(1)
    _leave(0)


@contextlib.contextmanager
def _where(out_dir):
    """Yields the run's options that say where its steps are taken."""
    shards = train_flags.TABLE_SHARDS.value or 1
    strategy = train_flags.STRATEGY.value
    run = folder.RunFolder(out_dir.resolve())
    if strategy != "parameter_server":
        # The same sums in the same order, so that a resumed run ends equal.
        tf.config.experimental.enable_op_determinism()
    if _is_shared() and "test" in run.read_metrics():
        yield {}  # the others have left, or will
    elif strategy == "parameter_server":
        steps = train_flags.STEPS_PER_CALL.value
        with cluster.chief(run.cluster, run.chief, steps) as found:
            servers = len(cluster.task()["cluster"]["ps"])
            shards = train_flags.TABLE_SHARDS.value or servers
            yield {"cluster": found, "table_shards": shards}
    elif _is_shared():
        with cluster.losses_told("A machine", run.path):
            found = hosts.join(run.chief)
            yield {
                "mirrored": found.strategy,
                "hosts": found,
                "table_shards": shards,
            }
    elif strategy == "mirrored":
        mirrored = tf.distribute.MirroredStrategy()
        yield {"mirrored": mirrored, "table_shards": shards}
    else:
        yield {"table_shards": shards}


def _leave(status):
    """Ends a process at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    logging.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
