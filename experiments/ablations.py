"""Changes one setting of JTM at a time and judges on the validation users.

    python -m experiments.ablations --data_dir=data/beauty \
        --runs_dir=runs/ablations --out=experiments/results/ablations

Runs are RUNS_DIR/VARIANT; finished ones are kept, so the program may be
stopped and started again. OUT.json and OUT.md have Recall@M of the validation
users at three beams, Eq. 2 after each half-step and, level by level, how much
of the ground truth is left below a narrow beam; OUT.svg draws Eq. 2. A report
of the same data and seed that is there already keeps its other variants.
"""

import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags
from absl import logging

from experiments.pictures import plots
from experiments.runs import launch
from jtm_tf import files
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import judging
from jtm_tf.search import level_recall

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

CUTS = ((200, 400), (20, 40), (20, 20))
NARROW = 20
# Beams of the reference runs' recall against beam width, at M = NARROW.
BEAMS = (20, 40, 80, 160, 320)
# Variants whose Eq. 2 is drawn.
DRAWN = {
    "jtm": "Algorithm 2",
    "jtm_renewed": "Algorithm 2, inner nodes renewed",
    "clustering": "clustering",
    "jtm_h": "fixed tree",
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One change.

    Attributes:
        question: what is asked.
        name: a folder's name.
        flags: of experiments.train.
        method: another method than JTM.
    """

    question: str
    name: str
    flags: str = ""
    method: str = "jtm"


_REFERENCE = "Reference"
_WEIGHTS = "Which weights does the tree learner get?"
_START = "What becomes of the model when the tree changes?"
_SEATS = "Who sits where?"
_WHEN = "When are trees learned?"
_TREE = "From which tree?"
_MODEL = "Which model?"

VARIANTS = (
    Variant(_REFERENCE, "jtm"),
    Variant(_REFERENCE, "jtm_h", method="jtm_h"),
    Variant(_REFERENCE, "jtm_j", method="jtm_j"),
    Variant(_REFERENCE, "clustering", method="tdm_cluster"),
    Variant(_WEIGHTS, "no_kin", "--kin_strength=0"),
    Variant(_WEIGHTS, "kin_30", "--kin_strength=30"),
    Variant(_WEIGHTS, "held_out_samples", "--cross_fit"),
    Variant(_WEIGHTS, "leaves_scored", "--score_leaves"),
    Variant(_WEIGHTS, "margin", "--margin=0.3"),
    Variant(_START, "vectors_stay", "--nocarry_embeddings"),
    Variant(_START, "cold_start", "--cold_start"),
    Variant(_START, "jtm_renewed", "--renew_inner=yes"),
    Variant(_SEATS, "paper_capacity", "--slack=inf"),
    Variant(_SEATS, "gap_3", "--gap=3"),
    Variant(_SEATS, "priced", "--solver=priced"),
    Variant(_SEATS, "not_lazy", "--nolazy"),
    Variant(_SEATS, "paper_order", "--order=weight"),
    Variant(_WHEN, "one_step", "--tree_steps=1"),
    Variant(_WHEN, "every_round", "--tree_steps=99"),
    Variant(_TREE, "random_tree", "--initial_tree=random --kin_strength=0"),
    Variant(
        _TREE, "random_tree_jtm_h", "--initial_tree=random", method="jtm_h"
    ),
    Variant(_TREE, "coarse", "--category_parts=1"),
    Variant(_TREE, "coarse_jtm_h", "--category_parts=1", method="jtm_h"),
    Variant(_MODEL, "negatives_50", "--negatives=50"),
    Variant(_MODEL, "negatives_200", "--negatives=200"),
    Variant(_MODEL, "bce", "--loss=bce"),
    Variant(_MODEL, "row_rate_1", "--row_rate=1"),
    Variant(_MODEL, "paper_search", "--path_weight=0"),
    Variant(_MODEL, "visits", "--visits=yes"),
    Variant(_MODEL, "attention", "--scorer=attention"),
)


def judge_run(
    folder: run_folder.RunFolder,
    data: interactions.Interactions,
    beams: Sequence[int] = (),
) -> dict[str, Any]:
    """Returns a finished run's figures on the validation users.

    Args:
        folder: of the run.
        data: what it was trained on.
        beams: widths to judge at as well, with M = NARROW.
    """
    metrics = folder.read_metrics()
    model = saving.load(folder.model)
    users = splits.held_out_users(
        data, "validation", model.max_history, metrics["config"]["profile"]
    )
    wide = [(NARROW, beam_width) for beam_width in beams]
    judged, _ = judging.judge_cuts(
        lambda num_results, beam_width: judging.recommend_users(
            model, users, num_results=num_results, beam_width=beam_width
        ),
        users,
        [*CUTS, *wide],
        scans=model.flat,
    )
    by_cut = {(c["num_results"], c["beam_width"]): c for c in judged}
    by_level = level_recall.level_recall(model, users, beam_width=NARROW)
    records = metrics["iterations"]
    return {
        "seed": metrics["seed"],
        "cuts": [by_cut[cut] for cut in CUTS],
        "beams": [by_cut[cut] for cut in wide],
        "level_recall": {level: round(x, 5) for level, x in by_level.items()},
        "best_iteration": metrics["best_iteration"],
        "recall_by_iteration": [r["validation"]["recall"] for r in records],
        "half_steps": [r.get("half_steps") for r in records],
        "moved_items": [r["moved_items"] for r in records],
        "seconds": round(
            sum(r["seconds_model"] + r["seconds_tree"] for r in records), 1
        ),
        "code": metrics["code"],
        "data_fingerprint": metrics["data_fingerprint"],
    }


def markdown(found: dict[str, dict[str, Any]], command: str) -> str:
    """Returns the report: a table of recalls, one of levels."""
    lines = ["Recall of the validation users, %, and seconds of training.", ""]
    heads = [f"recall@{m}, beam {k}" for m, k in CUTS]
    lines.append(
        f"| | change | {' | '.join(heads)} | best of | seconds | code |"
    )
    lines.append("|---" * (len(heads) + 5) + "|")
    for variant in VARIANTS:
        if variant.name not in found:
            continue
        run = found[variant.name]
        by_cut = {(c["num_results"], c["beam_width"]): c for c in run["cuts"]}
        recalls = [f"{100 * by_cut[cut]['recall']:.2f}" for cut in CUTS]
        change = f"`{variant.flags}`" if variant.flags else variant.method
        best = f"{run['best_iteration']} / {len(run['half_steps'])}"
        lines.append(
            f"| {variant.name} | {change} | {' | '.join(recalls)} | {best} | "
            f"{run['seconds']:.0f} | {run['code']} |"
        )
    lines += ["", f"Ground truth still below a beam of {NARROW}, %, by level:"]
    levels = sorted({int(x) for r in found.values() for x in r["level_recall"]})
    lines += ["", f"| | {' | '.join(map(str, levels))} |"]
    lines.append("|---" * (len(levels) + 1) + "|")
    for name, run in found.items():
        shares = {int(k): v for k, v in run["level_recall"].items()}
        cells = [
            f"{100 * shares[level]:.1f}" if level in shares else ""
            for level in levels
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *_beam_table(found)]
    lines += ["", "Eq. 2 after each half-step, training / validation users:"]
    lines += ["", "| | round | model step | tree step |", "|---|---|---|---|"]
    for name, run in found.items():
        for number, half in enumerate(run["half_steps"], 1):
            if not half:
                continue
            model, tree = (
                f"{half[step]['train']:.2f} / {half[step]['validation']:.2f}"
                for step in ("model_step", "tree_step")
            )
            moved = run["moved_items"][number - 1] > 0
            lines.append(
                f"| {name} | {number} | {model} | {tree if moved else ''} |"
            )
    return "\n".join([*lines, "", "    " + command.replace("\n", "\n    ")])


def _beam_table(found):
    """Returns lines: recall of the reference runs at wider beams."""
    runs = {name: run for name, run in found.items() if run.get("beams")}
    if not runs:
        return []
    lines = [f"Recall@{NARROW} of validation users, %, by beam width:", ""]
    lines.append(f"| | {' | '.join(map(str, BEAMS))} |")
    lines.append("|---" * (len(BEAMS) + 1) + "|")
    for name, run in runs.items():
        cells = [f"{100 * cut['recall']:.2f}" for cut in run["beams"]]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def earlier(
    path: pathlib.Path, fingerprint: str, seed: int
) -> dict[str, dict[str, Any]]:
    """Returns a report's figures by variant; none if there is no report.

    Raises:
        ValueError: it is of other data or of another seed.
    """
    if not path.is_file():
        return {}
    found = files.read_json(path)
    for name, run in found.items():
        have = run["data_fingerprint"], run.get("seed", 0)
        if have != (fingerprint, seed):
            raise ValueError(
                f"{path} is of other data or of another seed: {name} has "
                f"{have}, wanted {(fingerprint, seed)}. Choose another --out."
            )
    return found


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    names = [variant.name for variant in VARIANTS]
    wanted = _VARIANTS.value or names
    if not set(wanted) <= set(names):
        raise ValueError(
            f"--variants takes {', '.join(names)}; got {','.join(wanted)}."
        )
    chosen = [variant for variant in VARIANTS if variant.name in wanted]
    jobs = [
        launch.Job(
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
        for variant in chosen
    ]
    failed = launch.run_all(
        jobs, workers=_JOBS.value, progress=sys.stderr.isatty()
    )
    data = interactions.load(_DATA_DIR.value)
    out = pathlib.Path(_OUT.value)
    kept = earlier(
        out.with_suffix(".json"), data.manifest["fingerprint"], _SEED.value
    )
    fresh = {
        variant.name: {
            "method": variant.method,
            "flags": variant.flags,
            **judge_run(
                run_folder.RunFolder(job.out_dir),
                data,
                BEAMS if variant.question == _REFERENCE else (),
            ),
        }
        for variant, job in zip(chosen, jobs)
        if job not in failed
    }
    found = {
        name: fresh.get(name) or kept[name]
        for name in names
        if name in fresh or name in kept
    }
    files.write_json(out.with_suffix(".json"), found)
    plots.save(plots.half_steps(found, DRAWN), out.with_suffix(".svg"))
    command = program.command("experiments.ablations", sys.argv[1:])
    with files.replacing(out.with_suffix(".md")) as temporary:
        temporary.write_text(markdown(found, command) + "\n")
    if failed:
        raise ValueError(
            f"Runs failed: {', '.join(job.out_dir.name for job in failed)}."
        )


if __name__ == "__main__":
    main()
