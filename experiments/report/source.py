"""A run as its report needs it: whatever of it is there and can be read."""

import dataclasses
import math
from typing import Any

import numpy as np
import pyarrow.compute as pc
import tensorflow as tf

from jtm_tf import files
from jtm_tf.baselines import run as baselines_run
from jtm_tf.data import interactions
from jtm_tf.learning import settings as settings_lib
from jtm_tf.models import saving
from jtm_tf.models import tree_model
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import trained
from jtm_tf.tree import tree as tree_lib

_DEFAULT = settings_lib.JointConfig()


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """What is known of a run.

    Attributes:
        settings: of the run; a run of another version may lack some.
        metrics: metrics.json; likewise.
        data: what it was trained on.
        model: the best, with its tree; None where there is none to load.
        trees: pi after each tree step that is on disk, by its number; 0 is
            the initial tree.
        notes: what is missing and why, for the reader of the report.
    """

    settings: dict[str, Any]
    metrics: dict[str, Any]
    data: interactions.Interactions
    model: tree_model.TreeModel | None
    trees: dict[int, tree_lib.Tree]
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def searched(self) -> bool:
        """Whether there is a model that searches a tree."""
        return self.model is not None and not self.model.flat

    @property
    def tree(self) -> tree_lib.Tree | None:
        """The learned tree: the model's, or the last on disk."""
        if self.model is not None:
            return None if self.model.flat else self.model.tree
        last = self.trees[max(self.trees)] if self.trees else None
        return None if last is None or last.max_level == 1 else last

    @property
    def fingerprint(self) -> str:
        """Tells data from other data."""
        return self.data.manifest["fingerprint"]

    @property
    def popularity(self) -> np.ndarray:
        """How often each item occurs, [N + 1] int; PAD does not."""
        return np.bincount(self.data.item, minlength=self.data.num_items + 1)

    @property
    def iterations(self) -> list[dict[str, Any]]:
        """The records of the iterations that ended."""
        return self.metrics.get("iterations") or []

    @property
    def beam_width(self) -> int:
        """k of the run."""
        return self.settings.get("beam_width") or _DEFAULT.beam_width

    @property
    def num_results(self) -> int:
        """M of the run."""
        return self.settings.get("num_results") or _DEFAULT.num_results


def open_run(run_dir: files.Path, data_dir: files.Path | None = None) -> Source:
    """Opens a run folder, finished or not, of this version or an older one.

    Args:
        run_dir: the --out_dir of experiments.train.
        data_dir: the prepared data, where they were in training by default.

    Raises:
        FileNotFoundError: there is no run, or no data.
        ValueError: the data are others, or nowhere.
    """
    folder = run_folder.RunFolder(run_dir)
    config = folder.read_config()
    data = trained.load_data(folder, config, data_dir)
    notes: list[str] = []
    settings = config.get("config", {})
    metrics = folder.read_metrics()
    if not isinstance(settings, dict) or not isinstance(metrics, dict):
        raise ValueError(
            f"{folder.path}: config.json or metrics.json is not as "
            "experiments.train writes it."
        )
    return Source(
        settings=settings,
        metrics=_readable(metrics, notes),
        data=data,
        model=_model(folder, settings, data, notes),
        trees=_trees(folder, settings, data, notes),
        notes=notes,
    )


def paths(data: interactions.Interactions) -> tuple[np.ndarray, list[str]]:
    """Returns the items' category paths, each distinct one once.

    Returns:
        [N + 1] int indices, 0 where the path is unknown and for PAD; and the
        paths, the first "".
    """
    codes = np.zeros(data.num_items + 1, np.int64)
    if "category" not in data.items.column_names:
        return codes, [""]
    column = data.items["category"].combine_chunks().dictionary_encode()
    codes[1:] = pc.fill_null(column.indices, -1).to_numpy() + 1
    return codes, ["", *column.dictionary.to_pylist()]


def _readable(metrics, notes):
    """Returns metrics.json without what is not as this version writes it."""
    if "test" not in metrics:
        notes.append("The run is not finished: it has no test metrics.")
    elif not _is_judgement(metrics["test"]):
        notes.append("metrics.json: its test metrics cannot be read.")
        metrics = {key: metrics[key] for key in metrics if key != "test"}
    records = metrics.get("iterations") or []
    records = records if isinstance(records, list) else [records]
    found = [record for record in records if _is_record(record)]
    if len(found) < len(records):
        notes.append(
            f"metrics.json: of {len(records)} iterations {len(found)} can be "
            "read; the others are not as this version writes them."
        )
    return {**metrics, "iterations": found}


def _is_record(record):
    """Tells whether the record of an iteration has what curves are drawn of."""
    if not isinstance(record, dict):
        return False
    validation = record.get("validation")
    by_level = [record.get(x) or [] for x in ("level_losses", "level_recall")]
    return (
        isinstance(record.get("iteration"), int)
        and (validation is None or _is_judgement(validation))
        and all(isinstance(x, list) for x in by_level)
        and all(_is_number(x) for values in by_level for x in values)
    )


def _is_judgement(found):
    """Tells whether metrics of users can be read."""
    return isinstance(found, dict) and _is_number(found.get("recall"))


def _is_number(value):
    """Tells whether a JSON value can be drawn."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def _model(folder, settings, data, notes):
    """Returns the best model, or None and a note why not."""
    method = settings.get("method")
    if method in baselines_run.METHODS:
        notes.append(f"{method} leaves no model, and it has no tree.")
        return None
    if not folder.model.exists():
        notes.append(
            "There is no best.keras, so nothing is searched: no iteration "
            "has ended, or it was removed."
        )
        return None
    try:
        model = saving.load(folder.model)
    except (ValueError, TypeError) as error:
        notes.append(
            "best.keras cannot be loaded, so nothing is searched: "
            f"{str(error).splitlines()[0]}"
        )
        return None
    if model.flat:
        notes.append(
            f"{method} has a flat tree, a mere list of the items: there are "
            "no levels to draw."
        )
    if model.num_items != data.num_items:
        raise ValueError(
            f"best.keras knows {model.num_items} items, the data have "
            f"{data.num_items}; give the right folder as --data_dir."
        )
    for weights in model.weights:
        # A sum is finite where all that is added is; it takes no memory.
        if not math.isfinite(tf.reduce_sum(weights.value)):
            raise ValueError(
                f"{folder.model}: {weights.path} has values that are not "
                "finite, so that it ranks nothing. Train again, with a lower "
                "--learning_rate."
            )
    return model


def _trees(folder, settings, data, notes):
    """Returns the trees on disk by their numbers."""
    found = {}
    for path in sorted(folder.tree(0).parent.glob("iteration_*.npz")):
        number = path.stem.removeprefix("iteration_")
        try:
            tree = tree_lib.Tree.load(path)
        except (ValueError, OSError) as error:
            notes.append(f"{path.name} is left out: {error}")
            continue
        if number.isdecimal() and tree.num_items == data.num_items:
            found[int(number)] = tree
    shapes = {(tree.max_level, tree.branching) for tree in found.values()}
    if len(shapes) > 1:
        raise ValueError(
            f"{folder.path}/trees: the trees of a run have the same levels "
            f"and branching; got {sorted(shapes)}. Some are of another run: "
            "remove them."
        )
    if 0 not in found and settings.get("method") not in baselines_run.METHODS:
        notes.append(
            "The initial tree (trees/iteration_000.npz) is missing: nothing "
            "to set the learned tree beside."
        )
    return found
