"""A finished run as other programs need it: model, data and how it was made."""

import dataclasses
import functools
import pathlib
from typing import Any

from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.learning import settings as settings_lib
from jtm_tf.models import saving
from jtm_tf.models import tree_model
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import forking


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedRun:
    """The best model of a run, with its data.

    Attributes:
        model: with its tree.
        data: what it was trained on.
        config: config.json of the run.
        metrics: metrics.json of the run.
        folder: where it lies; None of a model that was exported.
    """

    model: tree_model.TreeModel
    data: interactions.Interactions
    config: dict[str, Any]
    metrics: dict[str, Any]
    folder: run_folder.RunFolder | None = None

    @functools.cached_property
    def settings(self) -> settings_lib.JointConfig:
        """The settings of the run; a run of another version may lack some."""
        return settings_lib.from_json(self.config["config"])


def load(
    run_dir: files.Path,
    data_dir: files.Path | None = None,
    *,
    mapped: bool = False,
) -> TrainedRun:
    """Loads a run's best model and its data.

    Args:
        run_dir: the --out_dir of experiments.train.
        data_dir: the prepared data, where they were in training by default.
        mapped: see `saving.load`.

    Raises:
        FileNotFoundError: there is no run, or no model or data yet.
        ValueError: the run never has a model, or the data are others.
    """
    forking.check()
    folder = run_folder.RunFolder(pathlib.Path(run_dir))
    config = folder.read_config()
    method = config["config"]["method"]
    if method not in settings_lib.METHODS:
        raise ValueError(
            f"{folder.path} has no model: {method} has no tree, and its "
            "metrics.json is all there is."
        )
    if not folder.model.exists():
        raise FileNotFoundError(
            f"{folder.path} has no model yet: its first iteration has not "
            "ended. Start experiments.train again with the same command."
        )
    data = load_data(folder, config, data_dir)
    return TrainedRun(
        saving.load(folder.model, mapped=mapped),
        data,
        config,
        folder.read_metrics(),
        folder,
    )


def load_data(
    folder: run_folder.RunFolder,
    config: dict[str, Any],
    data_dir: files.Path | None = None,
) -> interactions.Interactions:
    """Loads the data of a run.

    Args:
        folder: the run's.
        config: its config.json.
        data_dir: where they are, if not where they were in training.

    Raises:
        FileNotFoundError: there are no finished data.
        ValueError: they are others, or the run does not say where they are.
    """
    data_dir = data_dir or config.get("data_dir")
    if not data_dir:
        raise ValueError(
            f"{folder.path} does not say where its data are; give the "
            "prepared folder as --data_dir."
        )
    data = interactions.load(data_dir)
    run_folder.refuse_other_data(
        folder.path,
        config.get("data"),
        data.manifest["fingerprint"],
        instead="Give the right folder as --data_dir, or train again.",
    )
    return data
