"""Rehearses training on a cluster: all its processes on this machine.

    python -m experiments.rehearse_cluster [--data_dir=DATA] [--out_dir=RUN]

Starts a chief, workers and parameter servers, each of them experiments.train
with --strategy=parameter_server and --pool=ray, kills some of them in the
middle and starts them again; with --strategy=mirrored there are no servers.
Prints the test metrics that experiments.train prints, then what became of the
cluster, as JSON. Without --data_dir it draws a small market into RUN.data and
takes three minutes on two cores. RUN is a run folder as any other; what the
servers say is in RUN.logs. Started again after a kill, it goes on.
"""

import contextlib
import json
import pathlib
import random
import shlex
import sys
import time

from absl import flags
from absl import logging

from experiments.rehearsal import local
from jtm_tf.command_line import program
from jtm_tf.data.preparing import preparation
from jtm_tf.learning import settings
from jtm_tf.pools import pool_flags
from jtm_tf.runs import folder as run_folder

# Who can be lost: when workers take steps, and when actors learn the tree.
_OF_TREE = ("actor", "driver")
_ROLES = ("worker", "ps", "chief", *_OF_TREE)
# A market of which a round takes a minute.
_ITEMS, _ROWS = 2_000, 40_000

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "What experiments.prepare wrote; a small market if none."
)
_OUT_DIR = flags.DEFINE_string("out_dir", "runs/rehearsal", "The run folder.")
_METHOD = flags.DEFINE_enum(
    "method", "jtm", [*settings.METHODS], "Row of Table 1."
)
_TRAIN_FLAGS = flags.DEFINE_string(
    "train_flags",
    "--joint_iterations=2 --samples_per_epoch=20000 --steps_per_call=20",
    "Further flags of experiments.train.",
)
_POOL = flags.DEFINE_enum(
    "pool",
    "ray",
    pool_flags.CHOICES,
    "Who learns the tree, see experiments.train; ray is the extra cluster.",
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "parameter_server",
    ["parameter_server", "mirrored"],
    "How they share the work, see experiments.train.",
)
_WORKERS = flags.DEFINE_integer(
    "workers", 2, "Workers, who take the steps.", lower_bound=1
)
_PS = flags.DEFINE_integer(
    "ps", 2, "Parameter servers, where vectors lie.", lower_bound=1
)
_THREADS = flags.DEFINE_integer(
    "threads", 1, "Threads of each process.", lower_bound=1
)
_KILL = flags.DEFINE_list(
    "kill",
    ["worker", "actor"],
    f"Who is killed, one after the other, of {', '.join(_ROLES)}; driver is "
    "the chief while actors learn the tree. A worker comes back by itself, "
    "an actor's work is another's, with the others all begin again; a mirrored "
    "worker is one of those.",
)
_WITHIN = flags.DEFINE_float(
    "within",
    5.0,
    "Seconds, from when those that are killed can be at work, in which they "
    "are.",
    lower_bound=0.0,
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments of kills.")


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    kills = [role for role in _KILL.value if role]
    wrong = sorted(set(kills) - set(_ROLES))
    if wrong:
        raise ValueError(
            f"--kill takes {', '.join(_ROLES)}; got {', '.join(wrong)}."
        )
    if _POOL.value != "ray" and set(_OF_TREE) & set(kills):
        raise ValueError(
            "actor and driver of --kill are of --pool=ray; got "
            f"--pool={_POOL.value} --kill={','.join(kills)}."
        )
    if _STRATEGY.value == "mirrored" and "ps" in kills:
        raise ValueError("With --strategy=mirrored there is no ps to --kill.")
    run = run_folder.RunFolder(pathlib.Path(_OUT_DIR.value))
    logs = run.path.with_name(run.path.name + ".logs")
    sizes = {"worker": _WORKERS.value}
    if _STRATEGY.value == "parameter_server":
        sizes["ps"] = _PS.value
    cluster = local.Cluster(
        local.python(
            "experiments.train",
            f"--method={_METHOD.value}",
            f"--data_dir={_data(run)}",
            f"--out_dir={_OUT_DIR.value}",
            f"--strategy={_STRATEGY.value}",
            f"--pool={_POOL.value}",
            *shlex.split(_TRAIN_FLAGS.value),
        ),
        sizes,
        logs,
        local.environment(_THREADS.value),
    )
    started, rng = time.monotonic(), random.Random(_SEED.value)
    killed: list[str] = []
    while True:
        with cluster.running():
            goes_on = _with_accidents(cluster, run, kills, killed, rng)
            status = cluster.chief.wait()
            if not goes_on:
                left = cluster.left() if status == 0 else {}
                break
    if status:
        sys.exit(status)
    stayed = [name for name, status in left.items() if status != 0]
    report = {
        "workers": _WORKERS.value,
        "parameter_servers": sizes.get("ps", 0),
        "killed": killed,
        "seconds": round(time.monotonic() - started, 1),
        "left_badly": stayed,
    }
    print(json.dumps(report))
    if killed != kills:
        raise ValueError(
            f"The run ended before {', '.join(kills[len(killed) :])} could be "
            "killed. Give it more to do by --train_flags, or, if it was "
            f"finished before, another --out_dir than {run.path}."
        )
    if stayed:
        raise ValueError(
            f"{', '.join(stayed)} did not leave with the chief; see {logs}."
        )


def _data(run):
    """Returns the folder of data, drawn where none was given."""
    if _DATA_DIR.value is not None:
        return _DATA_DIR.value
    folder = run.path.with_name(run.path.name + ".data")
    preparation.run(
        preparation.Config(
            dataset="planted",
            data_dir=str(folder),
            num_items=_ITEMS,
            num_rows=_ROWS,
        )
    )
    return folder


def _with_accidents(cluster, run, kills, killed, rng):
    """Kills who is to be killed; returns whether all must begin again."""
    since = time.time()
    while len(killed) < len(kills):
        role = kills[len(killed)]
        if not _comes(role, cluster, run, since):
            break  # it was faster
        time.sleep(rng.uniform(0, _WITHIN.value))
        if cluster.chief.poll() is not None:
            break
        if role == "actor":
            if cluster.kill_actor():
                killed.append(role)
            continue
        process = "chief" if role == "driver" else role
        last = {"worker": _WORKERS.value, "ps": _PS.value}.get(role, 1) - 1
        cluster.kill(process, last)
        killed.append(role)
        if process == "chief" or _STRATEGY.value == "mirrored":
            return True
        cluster.start(role, last)
        if role == "ps":
            return cluster.chief.wait() != 0  # what it kept is gone
    return False


def _comes(role, cluster, run, since):
    """Waits until one of that role can be at work; returns whether the chief
    lived to see it.
    """
    while cluster.chief.poll() is None:
        if _is_at_work(role, cluster, run, since):
            return True
        time.sleep(0.1)
    return False


def _is_at_work(role, cluster, run, since):
    """Tells whether actors work, or a model step began after a time."""
    if role in _OF_TREE:
        return bool(cluster.actors())
    began = run.cluster / "users-0"
    if _STRATEGY.value == "mirrored":
        began = run.checkpoints / "checkpoint"
    with contextlib.suppress(FileNotFoundError):
        return began.stat().st_mtime >= since
    return False


if __name__ == "__main__":
    main()
