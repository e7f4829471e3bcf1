"""Changes of JTM, one at a time: what they are, and the report on them."""

import dataclasses
import pathlib
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from experiments.runs import paper
from jtm_tf import files
from jtm_tf.command_line import markdown
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import diagnosis
from jtm_tf.search import judging
from jtm_tf.search import model_search

CUTS = paper.CUTS
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

    @property
    def beams(self) -> tuple[int, ...]:
        """Widths to judge at beside `CUTS`, with M = NARROW."""
        return BEAMS if self.question == _REFERENCE else ()


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


def named(names: Iterable[str]) -> list[Variant]:
    """Returns the variants of these names, all if there are none.

    Raises:
        ValueError: there is no such variant.
    """
    names, known = list(names), [variant.name for variant in VARIANTS]
    if not set(names) <= set(known):
        raise ValueError(
            f"--variants takes {', '.join(known)}; got {','.join(names)}."
        )
    return [v for v in VARIANTS if not names or v.name in names]


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
        lambda num_results, beam_width: model_search.recommend_users(
            model, users, num_results=num_results, beam_width=beam_width
        ),
        users,
        [*CUTS, *wide],
        scans=model.flat,
    )
    by_cut = {(c["num_results"], c["beam_width"]): c for c in judged}
    by_level = diagnosis.level_recall(model, users, beam_width=NARROW)
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


def report(found: dict[str, dict[str, Any]], command: str) -> str:
    """Returns the report as Markdown.

    Args:
        found: what `judge_run` returns, by variant, in their order.
        command: what made it.
    """
    lines = [
        "Recall of the validation users, %, and seconds of training.",
        "",
        *_recalls(found),
        "",
        f"Ground truth still below a beam of {NARROW}, %, by level:",
        "",
        *_levels(found),
        "",
        *_beams(found),
        "",
        "Eq. 2 after each half-step, training / validation users:",
        "",
        *_half_steps(found),
        "",
        "    " + command.replace("\n", "\n    "),
    ]
    return "\n".join(lines)


def _recalls(found):
    """Returns the table of recall at `CUTS`."""
    heads = [f"recall@{m}, beam {k}" for m, k in CUTS]
    rows = []
    for variant in VARIANTS:
        if variant.name not in found:
            continue
        run = found[variant.name]
        by_cut = {(c["num_results"], c["beam_width"]): c for c in run["cuts"]}
        rows.append(
            [
                variant.name,
                f"`{variant.flags}`" if variant.flags else variant.method,
                *(_percent(by_cut[cut]["recall"]) for cut in CUTS),
                f"{run['best_iteration']} / {len(run['half_steps'])}",
                f"{run['seconds']:.0f}",
                run["code"],
            ]
        )
    titles = ["", "change", *heads, "best of", "seconds", "code"]
    return markdown.table(titles, rows)


def _levels(found):
    """Returns the table of what is left below a narrow beam, by level."""
    levels = sorted({int(x) for r in found.values() for x in r["level_recall"]})
    rows = []
    for name, run in found.items():
        # JSON has made texts of the levels.
        shares = {int(k): v for k, v in run["level_recall"].items()}
        cells = (
            f"{100 * shares[level]:.1f}" if level in shares else ""
            for level in levels
        )
        rows.append([name, *cells])
    return markdown.table(["", *map(str, levels)], rows)


def _beams(found):
    """Returns the table of the reference runs at wider beams, if any."""
    rows = [
        [name, *(_percent(cut["recall"]) for cut in run["beams"])]
        for name, run in found.items()
        if run.get("beams")
    ]
    if not rows:
        return []
    title = f"Recall@{NARROW} of validation users, %, by beam width:"
    return [title, "", *markdown.table(["", *map(str, BEAMS)], rows)]


def _half_steps(found):
    """Returns the table of Eq. 2."""
    rows = []
    for name, run in found.items():
        for number, half in enumerate(run["half_steps"], 1):
            if not half:
                continue
            model, tree = (
                f"{half[step]['train']:.2f} / {half[step]['validation']:.2f}"
                for step in ("model_step", "tree_step")
            )
            moved = run["moved_items"][number - 1] > 0
            rows.append([name, number, model, tree if moved else ""])
    return markdown.table(["", "round", "model step", "tree step"], rows)


def _percent(share):
    return f"{100 * share:.2f}"


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
