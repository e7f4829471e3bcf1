"""Runs of seconds, for tests of what runs leave."""

import dataclasses
import fcntl
import os
import pathlib

import pytest

from jtm_tf.data import interactions
from jtm_tf.learning import joint
from jtm_tf.learning import settings
from tests.support import worlds

# As published, which is traced in seconds, and finds trees to tell of.
TINY = settings.from_flat(
    **settings.AS_PUBLISHED,
    joint_iterations=2,
    epochs_per_iteration=1,
    embedding_dim=4,
    windows=(3, 1),
    hidden=(8,),
    num_results=5,
    beam_width=8,
    cuts=((5, 4),),
    batch_size=64,
    learning_rate=3e-3,
    negatives=12,
    branching=4,  # of few levels, each of which is traced
    gap=2,
)
_DEFAULT = settings.JointConfig()
# The same with the defaults: from factors, under the beam.
DEFAULT = dataclasses.replace(
    TINY,
    **{
        name: getattr(_DEFAULT, name)
        for name in settings.AS_PUBLISHED
        if hasattr(_DEFAULT, name)
    },
    training=dataclasses.replace(
        _DEFAULT.training, batch_size=64, train_beam=8, stratum=4
    ),
    tree_learning=dataclasses.replace(
        TINY.tree_learning, histories_per_user=4, cluster_below=40
    ),
)


class Killed(BaseException):
    """Stands for a SIGKILL in one process: nothing may catch it."""


def shared(
    factory: pytest.TempPathFactory,
) -> tuple[pathlib.Path, pathlib.Path]:
    """Returns a prepared folder and that of a finished run, to be read only.

    The run is of TINY, with Eq. 2 after each half-step. Of all processes that
    test, the first that asks makes both; to the others all is done already.

    Args:
        factory: pytest's fixture `tmp_path_factory`.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # which is all processes' own
    folder = base / "tiny"
    with open(base / "tiny.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        data_dir = worlds.prepare(folder)
        joint.run(
            TINY,
            interactions.load(data_dir),
            folder / "run",
            settings.RunOptions(data_dir=str(data_dir), measure_loss=True),
        )
    return data_dir, folder / "run"
