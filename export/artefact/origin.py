"""What a version keeps of its making, so that it can be updated by itself.

    assets.extra/origin/origin.json      settings, metrics, how it serves,
                                         earlier updates, the network's config
    assets.extra/origin/items.parquet    raw_id, category, name; `placed_by` of
                                         items that an update added
    assets.extra/origin/profile.parquet  the values of each profile column

The weights are the SavedModel's own variables: nothing is stored twice.
Servers pass assets.extra by.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from export.artefact import saved_model
from export.artefact import versions
from export.serving import version_names
from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.models import frozen
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import trained

FORMAT_VERSION = 1
_PATH = pathlib.Path("assets.extra") / "origin"
# Of the data; their source and their first bad lines are nobody's business.
_MANIFEST = ("format_version", "dataset", "fingerprint", "counts")


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """All that a version is made from.

    Attributes:
        run: model and tree, how they were trained, and the data; of a version
            that was read back no more of the data than `catalogue` keeps.
        config: how to search.
        warming: whether to write requests that warm a server up.
        updates: what was done to the run since it was trained, oldest first.
    """

    run: trained.TrainedRun
    config: saved_model.SearchConfig = saved_model.SearchConfig()
    warming: bool = True
    updates: tuple[dict[str, Any], ...] = ()


def catalogue(
    data: interactions.Interactions, profile: Sequence[str]
) -> interactions.Interactions:
    """Returns the data without users: items, and the values of profiles."""
    values = {name: data.profile_values(name) for name in profile}
    rows = max(map(len, values.values()), default=0)
    columns = {
        name: pa.array(
            known + [None] * (rows - len(known)),
            data.users.schema.field(name).type,
        )
        for name, known in values.items()
    }
    nobody = pa.nulls(rows, pa.string())
    users = {"user": pa.nulls(rows), "raw_id": nobody, "split": nobody}
    nothing = np.zeros(0, np.int32)
    return interactions.Interactions(
        nothing,
        nothing,
        nothing.astype(np.int64),
        data.items,
        pa.table(users | columns),
        {key: data.manifest.get(key) for key in _MANIFEST},
    )


def write(folder: pathlib.Path, origin: Origin) -> None:
    """Writes an origin into a version's folder, beside the SavedModel."""
    run, folder = origin.run, folder / _PATH
    folder.mkdir(parents=True)
    data = catalogue(run.data, run.settings.profile)
    pq.write_table(data.items, folder / "items.parquet")
    pq.write_table(data.users, folder / "profile.parquet")
    files.write_json(
        folder / "origin.json",
        {
            "format_version": FORMAT_VERSION,
            "model": saving.config_of(run.model),
            "run": {
                key: value
                for key, value in run.config.items()
                if key != "data_dir"
            },
            "metrics": run.metrics,
            "data": data.manifest,
            "search": dataclasses.asdict(origin.config),
            "warmup": origin.warming,
            "updates": origin.updates,
        },
    )


def read_items(folder: files.Path) -> pa.Table:
    """Reads the items of BASE/version: raw_id, and maybe category, name.

    Raises:
        ValueError: the folder is no version that keeps them.
    """
    path = pathlib.Path(folder) / _PATH / "items.parquet"
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(
            f"{folder} has no items that can be read: {error} Give what "
            "export.export_model wrote."
        ) from error


def read(folder: files.Path) -> Origin:
    """Reads the origin of BASE/version.

    Raises:
        ValueError: the folder is no such version, or it is damaged.
    """
    folder = pathlib.Path(folder)
    path = folder / _PATH / "origin.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} cannot be updated: it has no {_PATH}/origin.json. Give "
            "what export.export_model wrote, or a run folder."
        )
    kept = files.read_json(path)
    if kept["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {kept['format_version']}; this "
            f"program reads {FORMAT_VERSION}. Export the run again."
        )
    model = saving.from_config(kept["model"])
    nothing = np.zeros(0, np.int32)
    try:
        frozen.thaw(model, saved_model.read_theta(folder))
        items = read_items(folder)
        users = pq.read_table(folder / _PATH / "profile.parquet")
    except (tf.errors.OpError, ValueError, OSError, pa.ArrowException) as error:
        raise ValueError(
            f"{folder} is damaged: {error} Take another version, or export "
            "the run again."
        ) from error
    data = interactions.Interactions(
        nothing, nothing, nothing.astype(np.int64), items, users, kept["data"]
    )
    return Origin(
        trained.TrainedRun(model, data, kept["run"], kept["metrics"]),
        saved_model.SearchConfig(**kept["search"]),
        kept["warmup"],
        tuple(kept["updates"]),
    )


def find(
    model_dir: files.Path,
) -> tuple[Origin, pathlib.Path | None, int | None]:
    """Opens what a model folder may be: BASE, BASE/version or a run folder.

    Args:
        model_dir: of BASE the latest version is taken.

    Returns:
        The origin, and BASE and version where it is not a run's.

    Raises:
        FileNotFoundError: there is none of these.
        ValueError: it is damaged.
    """
    folder = pathlib.Path(model_dir).resolve()
    number = version_names.number(folder.name)
    if (folder / "saved_model.pb").exists() and number is not None:
        version_names.check_base(folder.parent)
        return read(folder), folder.parent, number
    there = versions.existing(folder)
    if there:
        version_names.check_base(folder)
        return read(folder / str(there[-1])), folder, there[-1]
    if run_folder.RunFolder(folder).config.exists():
        return Origin(trained.load(folder)), None, None
    raise FileNotFoundError(
        f"{model_dir} is no model: neither the --export_dir of "
        "export.export_model, nor one version in it, nor the --out_dir of "
        "experiments.train."
    )
