"""What a version is and how to speak to it: model_card.json, model_card.md."""

import pathlib
from collections.abc import Sequence
from typing import Any

from export.artefact import saved_model
from jtm_tf import files
from jtm_tf.command_line import markdown
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import trained

FORMAT_VERSION = 1

_EMPTY = (
    "A history without a known item is answered as the model answers somebody "
    "unknown: every training user's first interaction is a sample with an "
    "empty history."
)
_SHORT = (
    "Fewer answers than M: the pad id, with the least finite float32 as its "
    "score. An unknown candidate has that score too."
)


def describe(
    run: trained.TrainedRun,
    served: saved_model.ServedModel,
    *,
    name: str,
    version: int,
    nobody: dict[str, list[Any]],
    updates: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Returns the card as JSON values.

    Args:
        run: the run that was exported.
        served: what was made of it.
        name: of the served model.
        version: number of the export.
        nobody: the answer to an empty history, `item_ids` and `scores`.
        updates: what was done to the run's items since it was trained.
    """
    manifest, metrics = run.data.manifest, run.metrics
    return {
        "format_version": FORMAT_VERSION,
        "name": name,
        "version": version,
        "method": run.settings.method,
        "data": {
            "dataset": manifest["dataset"],
            "fingerprint": manifest["fingerprint"],
            "items": run.data.num_items,
            "users": manifest["counts"]["users"],
        },
        "settings": run.config["config"],
        "updates": list(updates),
        "code": {
            "trained": run.config["code"],
            "exported": run_folder.code_version(),
        },
        "metrics": {
            key: metrics.get(key) for key in ("best_iteration", "test", "cuts")
        },
        "search": {
            "num_results": served.config.num_results,
            "beam_width": None if run.model.flat else served.config.beam_width,
            "read_out": run.model.readout.width if run.model.readout else None,
            "path_weight": run.model.path_weight,
            "tables": served.config.tables,
            "max_history": served.max_history,
        },
        "ids": {
            "dtype": served.items.dtype.name,
            "pad": served.items.pad,
            "missing_score": saved_model.MISSING,
            "missing": _SHORT,
        },
        "signatures": served.describe(),
        "empty_history": {"meaning": _EMPTY, **nobody},
    }


def write(folder: pathlib.Path, card: dict[str, Any]) -> None:
    """Writes a card for programs and the same for people."""
    files.write_json(folder / "model_card.json", card)
    with files.replacing(folder / "model_card.md") as temporary:
        temporary.write_text(as_markdown(card), "utf-8")


def as_markdown(card: dict[str, Any]) -> str:
    """Returns a card as people read it."""
    data, search, ids = card["data"], card["search"], card["ids"]
    beam = str(search["beam_width"] or "none, every item is scored")
    if search.get("read_out"):
        beam += (
            ", pruned: inner products walk, in a beam that widens to "
            f"{search['read_out']:g} times as many, and the network ranks the "
            "leaves they come to"
        )
    lines = [
        f"# {card['name']}, version {card['version']}",
        "",
        f"Method `{card['method']}`, trained on {data['dataset']}: "
        f"{data['items']:,} items, {data['users']:,} users, fingerprint "
        f"`{data['fingerprint'][:16]}`.",
        "",
        f"Code: trained by {card['code']['trained']}, exported by "
        f"{card['code']['exported']}.",
        "",
        f"Returns M = {search['num_results']} items; beam width: {beam}. Of a "
        f"history the newest {search['max_history']} known items count.",
        *_tables(search["tables"]),
        "",
        *_updates(card["updates"]),
        "## Metrics on test users",
        "",
        *(_BEFORE if card["updates"] else ()),
        *markdown.table(
            ("M", "beam", "precision", "recall", "F-measure", "users"),
            [
                [_text(cut.get(key)) for key in _METRICS]
                for cut in card["metrics"]["cuts"] or []
            ],
        ),
        "",
        "## Signatures",
        "",
        "Dimension 0 is the batch; -1 is any size. An input wider than its "
        "most columns is an InvalidArgument.",
        "",
        *markdown.table(
            ("signature", "", "name", "dtype", "shape", "most columns"),
            _rows(card),
        ),
        "",
        f"Ids are {ids['dtype']}, padded with `{ids['pad']!r}`; pads and "
        f"unknown ids are passed over wherever they stand. {ids['missing']}",
        "",
        "`allow_categories`: an item is allowed if its category path or a "
        "prefix of it (`coarse`, `coarse|fine`) is among them. None, or only "
        "empty strings: all are; unknown categories only: none is. "
        "Profile inputs: one string a row, empty or unknown values allowed.",
        "",
        "`scores` rank items of one user; `path_scores` are what they are "
        "made of: down the path, rank = own score + "
        f"{search['path_weight']} * rank of the node above.",
        "",
        "## Empty history",
        "",
        card["empty_history"]["meaning"],
        "",
        "First: "
        + ", ".join(f"`{item}`" for item in card["empty_history"]["item_ids"])
        + ".",
        "",
        "## Settings",
        "",
        *markdown.table(
            ("setting", "value"),
            [(key, f"`{value}`") for key, value in card["settings"].items()],
        ),
    ]
    return "\n".join(lines) + "\n"


_METRICS = (
    "num_results",
    "beam_width",
    "precision",
    "recall",
    "f_measure",
    "users",
)


_BEFORE = ("Of the run as it was trained, before the updates.", "")


def _tables(dtype):
    """Yields what tables of half precision are worth telling."""
    if dtype != "float32":
        yield f"Nodes' vectors are of {dtype}; all is computed in float32."


def _updates(updates):
    """Yields what came and went since the training, an update a row."""
    if not updates:
        return
    rules = list(updates[0]["placed"])
    yield from ("## Updates without training", "")
    yield from markdown.table(
        ("made from version", "removed", "added", *rules, "items"),
        [
            [
                update["version"] or "the run",
                update["removed"],
                update["added"],
                *[update["placed"][rule] for rule in rules],
                update["items"],
            ]
            for update in updates
        ],
    )
    yield from (
        "",
        "Items were added by the tree learner's weights of their histories, "
        "next to their category, or where there was room.",
        "",
    )


def _rows(card):
    """Yields a row for each input and output of each signature."""
    for signature, sides in card["signatures"].items():
        for side in ("inputs", "outputs"):
            for name, spec in sides[side].items():
                shape = [-1 if n is None else n for n in spec["shape"]]
                cell = f"`{signature}`", side[:-1], f"`{name}`"
                most = spec.get("max_columns")
                columns = "" if most is None else f"{most:,}"
                yield *cell, spec["dtype"], str(shape), columns


def _text(value):
    """Returns a metric as text."""
    if value is None:
        return "all"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
