"""What one kind of runs finds more than others: paired by test user.

    python -m experiments.paired --out=experiments/results/trees/beauty.json \\
        --runs=jtm=runs/beauty/jtm-0,runs/beauty/jtm-1 \\
        --runs=jtm_h=runs/beauty/jtm_h-0,runs/beauty/jtm_h-1

Every --runs is a kind of runs, NAME=RUN,RUN,.. of as many seeds; the first is
compared with each of the others. All must have been tested on the same users
at the same cuts. Writes JSON: of each kind its recall on test users, by round
on validation users, measures of its trees, what its settings differ in, and how
the first one's recall differs, with a 95 % interval (paired bootstrap over
users of the recall averaged over seeds). Prints it as a table.
"""

import pathlib
import sys
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments.runs import finished
from experiments.table import compare
from jtm_tf import files
from jtm_tf.command_line import markdown
from jtm_tf.command_line import program

_RUNS = flags.DEFINE_multi_string(
    "runs", None, "NAME=RUN,RUN,..; several times.", required=True
)
_OUT = flags.DEFINE_string("out", None, "JSON to write.", required=True)


@program.entry
def main() -> None:
    kinds = _kinds(_RUNS.value)
    report = {
        "command": program.command("experiments.paired", sys.argv[1:]),
        "kinds": compared(kinds),
    }
    files.write_json(_OUT.value, report)
    print(table(report["kinds"]))


def compared(
    kinds: Mapping[str, Sequence[finished.Run]],
) -> dict[str, dict[str, Any]]:
    """Compares the first kind of runs with each of the others.

    Args:
        kinds: finished runs by name, a seed each, seeds in the same order.

    Returns:
        For each kind: `recall` by cut "M@k", [seeds]; `validation`, [seeds,
        rounds]; `tree`, measures of the first and of the last tree, sums over
        levels, mean over seeds; `settings` other than the first kind's;
        `code`; and, but of the first, `versus` and, without known items,
        `versus_filtered`: by cut, [difference, lower, upper].

    Raises:
        ValueError: the kinds have not the same seeds, users and cuts.
    """
    names = list(kinds)
    first = kinds[names[0]]
    # A method that scans all items has no beams: it counts at all of them.
    cuts = max((_cuts(runs[0]) for runs in kinds.values()), key=len)
    found = {}
    for name, runs in kinds.items():
        if [run.seed for run in runs] != [run.seed for run in first]:
            raise ValueError(
                f"{name} has runs of the seeds {[run.seed for run in runs]}, "
                f"{names[0]} of {[run.seed for run in first]}; give the same "
                "of each."
            )
        found[name] = {
            "recall": {
                _of(cut): [run.cut(cut)["recall"] for run in runs]
                for cut in cuts
            },
            "validation": [
                [x["validation"]["recall"] for x in run.metrics["iterations"]]
                for run in runs
            ],
            "tree": _trees(runs),
            "settings": {
                key: value
                for key, _, value in files.differences(
                    first[0].metrics["config"], runs[0].metrics["config"]
                )
                if value is not None  # of which the kind has no such setting
            },
            "code": sorted({run.metrics["code"] for run in runs}),
        }
    for key, filtered in (("versus", False), ("versus_filtered", True)):
        for name, versus in _versus(kinds, cuts, filtered).items():
            found[name][key] = versus
    return found


def table(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns what `compared` found as a table, in %."""
    cuts = list(next(iter(kinds.values()))["recall"])
    rows = []
    for name, kind in kinds.items():
        cells = []
        for cut in cuts:
            mean, spread = compare.mean_and_spread(kind["recall"][cut])
            cells.append(f"{100 * mean:.2f}")
            if spread is not None:
                cells[-1] += f" ± {100 * spread:.2f}"
            if "versus" in kind:
                more, low, high = (100 * x for x in kind["versus"][cut])
                cells[-1] += f" ({more:+.2f} [{low:+.2f}, {high:+.2f}])"
        rows.append([name, *cells])
    return "\n".join(markdown.table(["", *cuts], rows, right=True))


def _kinds(given):
    """Reads the runs of the command line."""
    kinds = {}
    for text in given:
        name, _, paths = text.partition("=")
        if not name or not paths or name in kinds:
            raise ValueError(
                f"--runs takes NAME=RUN,RUN,.., each name once; got {text!r}."
            )
        kinds[name] = [_run(path) for path in paths.split(",")]
    return kinds


def _run(path):
    """Reads a run folder."""
    run = finished.read_any(path, data=pathlib.Path(path).name)
    if run is None:
        raise ValueError(
            f"{path} is not a finished run; train it by experiments.train."
        )
    return run


def _cuts(run):
    """Returns what a run was tested at, (M, beam width)."""
    found = run.metrics["cuts"]
    return [(cut["num_results"], cut["beam_width"]) for cut in found]


def _trees(runs):
    """Returns [first, last] of each measure; {} where there are no trees."""
    ends = [
        [run.metrics["iterations"][at].get("tree", {}) for run in runs]
        for at in (0, -1)
    ]
    return {
        name: [
            round(float(np.mean([sum(tree[name]) for tree in trees])), 3)
            for trees in ends
        ]
        for name in ends[0][0]
        if ends[0][0][name]
    }


def _versus(kinds, cuts, filtered):
    """Returns the first kind's recall less each other's, with intervals."""
    users, means = None, []
    for runs in kinds.values():
        recalls = []
        for run in runs:
            who, recall = run.user_recall(cuts, filtered=filtered)
            users = who if users is None else users
            if not np.array_equal(users, who):
                raise ValueError(
                    f"{run.where} was tested on other users than the first."
                )
            recalls.append(recall)
        means.append(np.mean(recalls, 0))
    if np.isnan(means).any():  # of runs that were not judged so
        return {}
    found = {}
    for name, mean in list(zip(kinds, means))[1:]:
        difference = means[0] - mean  # [U, C]
        ends = compare.bootstrap(difference)
        found[name] = {
            _of(cut): [
                round(float(x), 6)
                for x in (difference[:, at].mean(), *ends[at])
            ]
            for at, cut in enumerate(cuts)
        }
    return found


def _of(cut):
    """Names a cut."""
    return f"{cut[0]}@{cut[1]}"


if __name__ == "__main__":
    main()
