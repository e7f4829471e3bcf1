"""Changes one setting of JTM at a time and judges on the validation users.

    python -m experiments.ablations --data_dir=data/beauty \\
        --runs_dir=runs/ablations --out=experiments/results/ablations

Runs are RUNS_DIR/VARIANT; finished ones are kept, so the program may be
stopped and started again. OUT.json and OUT.md have Recall@M of the validation
users at three beams, Eq. 2 after each half-step and, level by level, how much
of the ground truth is left below a narrow beam; OUT.svg draws Eq. 2. A report
of the same data and seed that is there already keeps its other variants.
"""

import pathlib
import shlex
import sys
from typing import Any

from absl import flags
from absl import logging

from experiments.pictures import plots
from experiments.runs import launch
from experiments.trials import variants
from jtm_tf import files
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.runs import folder as run_folder

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "What experiments.prepare wrote.", required=True
)
_RUNS_DIR = flags.DEFINE_string(
    "runs_dir", None, "Parent of the run folders.", required=True
)
_OUT = flags.DEFINE_string(
    "out", None, "The report, without its suffix.", required=True
)
_SEED = flags.DEFINE_integer("seed", 0, "Of all runs.")
_VARIANTS = flags.DEFINE_list(
    "variants", [], "Names of the variants to run; all if not given."
)
_TRAIN_FLAGS = flags.DEFINE_string(
    "train_flags", "", "Further flags of experiments.train, for all."
)
_JOBS = flags.DEFINE_integer(
    "jobs", 1, "Runs trained at a time.", lower_bound=1
)


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    chosen = variants.named(_VARIANTS.value)
    jobs = {variant.name: _job(variant) for variant in chosen}
    failed = launch.run_all(
        list(jobs.values()), workers=_JOBS.value, progress=sys.stderr.isatty()
    )
    data = interactions.load(_DATA_DIR.value)
    out = pathlib.Path(_OUT.value)
    found = variants.earlier(
        out.with_suffix(".json"), data.manifest["fingerprint"], _SEED.value
    )
    for variant in chosen:
        if jobs[variant.name] not in failed:
            folder = run_folder.RunFolder(jobs[variant.name].out_dir)
            found[variant.name] = {
                "method": variant.method,
                "flags": variant.flags,
                **variants.judge_run(folder, data, variant.beams),
            }
    _write(
        out,
        {v.name: found[v.name] for v in variants.VARIANTS if v.name in found},
    )
    if failed:
        raise ValueError(
            f"Runs failed: {', '.join(job.out_dir.name for job in failed)}."
        )


def _job(variant: variants.Variant) -> launch.Job:
    """Returns the training of a variant."""
    return launch.Job(
        data=pathlib.Path(_DATA_DIR.value).name,
        data_dir=_DATA_DIR.value,
        method=variant.method,
        seed=_SEED.value,
        out_dir=pathlib.Path(_RUNS_DIR.value) / variant.name,
        extra=(
            "--measure_loss",
            *shlex.split(_TRAIN_FLAGS.value),
            *shlex.split(variant.flags),
        ),
    )


def _write(out: pathlib.Path, found: dict[str, dict[str, Any]]) -> None:
    """Writes the report in its three forms."""
    files.write_json(out.with_suffix(".json"), found)
    figure = plots.half_steps(found, variants.DRAWN)
    plots.save(figure, out.with_suffix(".svg"))
    command = program.command("experiments.ablations", sys.argv[1:])
    with files.replacing(out.with_suffix(".md")) as temporary:
        temporary.write_text(variants.report(found, command) + "\n", "utf-8")


if __name__ == "__main__":
    main()
