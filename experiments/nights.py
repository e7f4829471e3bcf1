"""A night's retraining: from yesterday's model, anew, or not at all.

    python -m experiments.prepare --dataset=csv --input=log.csv \\
        --data_dir=data/log --split=time --test_from=2023-11-18
    python -m experiments.nights --data_dir=data/log --runs_dir=runs/nights \\
        --out=experiments/results/nights/log.json

The data are cut by time. Yesterday's model is trained on them as they were
when the last period had not begun; then today's anew, and once more from
yesterday's, for a round (`experiments.train --continue_from`). All are judged
by the same test users; yesterday's also as it is, left alone. Runs are
RUNS_DIR/SEED/WAY; stopped and started again, the program goes on. Writes and
prints JSON.
"""

import json
import pathlib
import shlex
import sys
from typing import Any

import numpy as np
from absl import flags
from absl import logging

from experiments.runs import finished
from experiments.runs import launch
from experiments.trials import nights
from jtm_tf import files
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import trained

_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "What experiments.prepare --split=time wrote.",
    required=True,
)
_RUNS_DIR = flags.DEFINE_string(
    "runs_dir", None, "Parent of the run folders.", required=True
)
_OUT = flags.DEFINE_string("out", None, "JSON to write.", required=True)
_METHOD = flags.DEFINE_string("method", "jtm", "Of experiments.train.")
_SEEDS = flags.DEFINE_list("seeds", ["0"], "Of training.")
_TRAIN_FLAGS = flags.DEFINE_string(
    "train_flags", "", "Further flags of experiments.train, for all."
)
_CONTINUED_FLAGS = flags.DEFINE_string(
    "continued_flags",
    "--joint_iterations=1",
    "Those of the run that is continued, behind the others.",
)
_JOBS = flags.DEFINE_integer(
    "jobs", 1, "Runs trained at a time.", lower_bound=1
)


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    today = interactions.load(_DATA_DIR.value)
    runs = pathlib.Path(_RUNS_DIR.value)
    yesterday = nights.as_of_yesterday(today, runs / "data")
    seeds = program.integers("seeds", _SEEDS.value, allow_zero=True)
    before = [_job("yesterday", yesterday, seed) for seed in seeds]
    anew = [_job("anew", today, seed) for seed in seeds]
    _run([*before, *anew])
    again = [
        _job(
            "continued",
            today,
            seed,
            f"--continue_from={job.out_dir}",
            *shlex.split(_CONTINUED_FLAGS.value),
        )
        for seed, job in zip(seeds, before)
    ]
    _run(again)
    report = {
        "dataset": today.manifest["dataset"],
        "data_fingerprint": today.manifest["fingerprint"],
        "periods": today.manifest["periods"],
        "rows": {
            "yesterday": _trained_rows(yesterday),
            "today": _trained_rows(today),
        },
        "seeds": len(seeds),
        "ways": _judged(today, {"anew": anew, "continued": again}, before),
        "carried": [_metrics(job)["carried"] for job in again],
        "command": program.command("experiments.nights", sys.argv[1:]),
        "code": run_folder.code_version(),
    }
    for carried in report["carried"]:
        del carried["run"]  # a path
    files.write_json(_OUT.value, report)
    print(json.dumps(report))


def _job(way, data, seed, *extra):
    """Returns the training of one model."""
    return launch.Job(
        data=way,
        data_dir=str(data.folder),
        method=_METHOD.value,
        seed=seed,
        out_dir=pathlib.Path(_RUNS_DIR.value) / str(seed) / way,
        extra=(*shlex.split(_TRAIN_FLAGS.value), *extra),
    )


def _run(jobs):
    """Trains; raises where a run fails."""
    failed = launch.run_all(
        jobs, workers=_JOBS.value, progress=sys.stderr.isatty()
    )
    if failed:
        raise ValueError(
            f"Runs failed: {', '.join(str(job.out_dir) for job in failed)}; "
            "their logs are beside them. Start the same command again to go "
            "on."
        )


def _trained_rows(data):
    """Returns how many rows a model is trained on."""
    return data.manifest["counts"]["split_interactions"]["train"]


def _metrics(job):
    """Returns the metrics.json of a run."""
    return run_folder.RunFolder(job.out_dir).read_metrics()


def _judged(
    data: interactions.Interactions,
    runs: dict[str, list[launch.Job]],
    before: list[launch.Job],
) -> dict[str, Any]:
    """Returns what each way finds for the test users, and its time."""
    recall, minutes = {}, {"yesterday": 0.0}
    metrics = _metrics(before[0])
    cuts = [(c["num_results"], c["beam_width"]) for c in metrics["cuts"]]
    for way, jobs in runs.items():
        done = [
            finished.read(
                job.out_dir, data=way, method=job.method, seed=job.seed
            )
            for job in jobs
        ]
        assert all(done), "they are finished"
        recall[way] = np.stack([run.user_recall(cuts)[1] for run in done])
        minutes[way] = float(np.mean([run.minutes for run in done]))
    recall["yesterday"] = np.stack(
        [
            nights.left_alone(trained.load(job.out_dir), data, cuts)
            for job in before
        ]
    )
    return nights.report(recall, minutes, cuts)


if __name__ == "__main__":
    main()
