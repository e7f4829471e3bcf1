"""Rehearses training on a cluster: all its processes on this machine.

    python -m experiments.rehearse_cluster --data_dir=DATA --out_dir=RUN

Starts a chief, workers and parameter servers, each of them experiments.train
with --strategy=parameter_server, kills some of them in the middle and starts
them again. Prints the test metrics that experiments.train prints, then what
became of the cluster, as JSON. RUN is a run folder as any other; what the
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
from jtm_tf.learning import settings
from jtm_tf.runs import folder as run_folder

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "What experiments.prepare wrote.", required=True
)
_OUT_DIR = flags.DEFINE_string(
    "out_dir", None, "The run folder.", required=True
)
_METHOD = flags.DEFINE_enum(
    "method", "jtm", [*settings.METHODS], "Row of Table 1."
)
_TRAIN_FLAGS = flags.DEFINE_string(
    "train_flags",
    "",
    "Further flags of experiments.train, such as '--joint_iterations=2 "
    "--steps_per_call=20'.",
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
    ["worker"],
    "Who is killed, one after the other, of worker, ps and chief; a worker "
    "comes back by itself, with another all begin again.",
)
_WITHIN = flags.DEFINE_float(
    "within",
    5.0,
    "Seconds, from when the workers have their files, in which a process is "
    "killed.",
    lower_bound=0.0,
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments of kills.")


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    kills = [role for role in _KILL.value if role]
    wrong = sorted(set(kills) - {"worker", "ps", "chief"})
    if wrong:
        raise ValueError(
            f"--kill takes worker, ps and chief; got {', '.join(wrong)}."
        )
    run = run_folder.RunFolder(pathlib.Path(_OUT_DIR.value))
    logs = run.path.with_name(run.path.name + ".logs")
    cluster = local.Cluster(
        local.python(
            "experiments.train",
            f"--method={_METHOD.value}",
            f"--data_dir={_DATA_DIR.value}",
            f"--out_dir={_OUT_DIR.value}",
            "--strategy=parameter_server",
            *shlex.split(_TRAIN_FLAGS.value),
        ),
        {"worker": _WORKERS.value, "ps": _PS.value},
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
        "parameter_servers": _PS.value,
        "killed": killed,
        "seconds": round(time.monotonic() - started, 1),
        "left_badly": stayed,
    }
    print(json.dumps(report))
    if stayed:
        raise ValueError(
            f"{', '.join(stayed)} did not leave with the chief; see {logs}."
        )


def _with_accidents(cluster, run, kills, killed, rng):
    """Kills who is to be killed; returns whether all must begin again."""
    since = time.time()
    while len(killed) < len(kills) and _has_begun(cluster, run, since):
        role = kills[len(killed)]
        time.sleep(rng.uniform(0, _WITHIN.value))
        if cluster.chief.poll() is not None:
            break  # it was faster
        last = {"worker": _WORKERS.value, "ps": _PS.value}.get(role, 1) - 1
        cluster.kill(role, last)
        killed.append(role)
        if role == "chief":
            return True
        cluster.start(role, last)
        if role == "ps":
            return cluster.chief.wait() != 0  # what it kept is gone
    return False


def _has_begun(cluster, run, since):
    """Waits for files that workers read, newer than a time; returns whether
    they came.
    """
    first = run.cluster / "users-0"
    while cluster.chief.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            if first.stat().st_mtime >= since:
                return True
        time.sleep(0.1)
    return False


if __name__ == "__main__":
    main()
