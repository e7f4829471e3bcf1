"""Trains one method of the paper's Table 1, from prepared data to metrics.

    python -m experiments.train --method=jtm --data_dir=DATA --out_dir=RUN

Killed at any moment and started again with the same command, it goes on
where it was and ends with the same metrics. RUN/metrics.json has a record for
each iteration and, at the end, the test metrics of the best one; the best
model with its tree is RUN/best.keras; the learning curves are shown by
`tensorboard --logdir=RUN`.
"""

import json
import pathlib
import sys

import tensorflow as tf
from absl import logging

from experiments import train_flags
from jtm_tf.baselines import run as baselines_run
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.learning import joint
from jtm_tf.learning import settings


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    config, out_dir = train_flags.config(), train_flags.OUT_DIR.value
    data = interactions.load(train_flags.DATA_DIR.value)
    data_dir = str(pathlib.Path(train_flags.DATA_DIR.value).resolve())
    if not isinstance(config, settings.JointConfig):
        metrics = baselines_run.run(config, data, out_dir, data_dir=data_dir)
    else:
        # The same sums in the same order, so that a resumed run ends equal.
        tf.config.experimental.enable_op_determinism()
        metrics = joint.run(
            config,
            data,
            out_dir,
            settings.RunOptions(
                data_dir=data_dir,
                checkpoint_seconds=train_flags.CHECKPOINT_SECONDS.value,
                measure_loss=train_flags.MEASURE_LOSS.value,
                progress=sys.stderr.isatty(),
            ),
        )
    print(json.dumps(metrics["test"]))


if __name__ == "__main__":
    main()
