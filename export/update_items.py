"""Adds and removes items of an index, without training: a new version.

    python -m export.update_items --model_dir=BASE --add=new.csv \\
        --remove=gone.csv

The lists are CSV with a column raw_id; for new items category and name are
optional columns. Removed items are never returned again. New items take free
leaves: by the tree learner's weights where --histories (CSV: user, item,
timestamp) has samples of them, else next to items of their category. Prints
JSON last.
"""

import json
import pathlib

from absl import flags

from export.artefact import origin
from export.artefact import publishing
from export.artefact import updating
from export.artefact import versions
from jtm_tf.command_line import program
from jtm_tf.pools import pool_flags

_MODEL_DIR = flags.DEFINE_string(
    "model_dir",
    None,
    "What to update: the --export_dir of export.export_model, its latest "
    "version; or one version in it; or a run folder.",
    required=True,
)
_ADD = flags.DEFINE_string(
    "add", None, "CSV of new items: raw_id, and maybe category, name."
)
_REMOVE = flags.DEFINE_string("remove", None, "CSV of items to remove: raw_id.")
_HISTORIES = flags.DEFINE_string(
    "histories",
    None,
    "CSV of what users did: user, item, timestamp. Places the new items that "
    "occur in it.",
)
_IGNORE_UNKNOWN = flags.DEFINE_bool(
    "ignore_unknown",
    False,
    "Pass over items to remove that the index does not have.",
)
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir",
    None,
    "Where to write the version; beside the one that is updated if not "
    "given. A run folder needs it.",
)
_VERSION = flags.DEFINE_integer(
    "version",
    None,
    "Number of the version, one that does not exist; the next one if not "
    "given.",
    lower_bound=1,
)
_POOL, _RAY_ADDRESS = pool_flags.define(
    "weighs --histories", "--export_dir, or where the version is,"
)


@program.entry
def main() -> None:
    update = updating.Update(
        _REMOVE.value, _ADD.value, _HISTORIES.value, _IGNORE_UNKNOWN.value
    )
    before, base, updated_version = origin.find(_MODEL_DIR.value)
    if _EXPORT_DIR.value:
        base = pathlib.Path(_EXPORT_DIR.value).resolve()
    if base is None:
        raise ValueError(
            f"{_MODEL_DIR.value} is a run folder: give --export_dir, where "
            "to write the version."
        )
    version = versions.choose(base, _VERSION.value)
    after = updating.updated(
        before,
        update,
        version=updated_version,
        pool=pool_flags.chosen(_POOL, _RAY_ADDRESS),
        folder=base,
    )
    path = publishing.publish(after, base, version)
    record = {**after.updates[-1], "updated": updated_version}
    print(json.dumps({**record, "version": version, "path": str(path)}))


if __name__ == "__main__":
    main()
