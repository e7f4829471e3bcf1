"""Items come and go: an origin of another version, without training."""

import collections
import contextlib
import dataclasses
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from export.artefact import item_lists
from export.artefact import origin as origin_lib
from export.artefact import versions
from export.artefact import vocabulary
from jtm_tf import categories
from jtm_tf import files
from jtm_tf.learning import pooled_weights
from jtm_tf.models import growing
from jtm_tf.runs import folder as run_folder
from jtm_tf.tree import placement


@dataclasses.dataclass(frozen=True)
class Update:
    """What to change.

    Attributes:
        remove: list of items to remove; None for none.
        add: list of items to add, likewise.
        histories: what users did with the new items, likewise.
        ignore_unknown: whether to pass over items to remove that are not
            there.
    """

    remove: files.Path | None = None
    add: files.Path | None = None
    histories: files.Path | None = None
    ignore_unknown: bool = False

    def __post_init__(self):
        if self.remove is None and self.add is None:
            raise ValueError("Nothing to do: give --add, --remove or both.")
        if self.histories is not None and self.add is None:
            raise ValueError("--histories place new items; give --add too.")


def updated(
    origin: origin_lib.Origin,
    update: Update,
    *,
    version: int | None,
    pool: Any = None,
    folder: pathlib.Path = pathlib.Path("."),
) -> origin_lib.Origin:
    """Returns an origin whose items have come and gone.

    Args:
        origin: what to update.
        update: what to change.
        version: of the origin, for the record; None for a run.
        pool: of `jtm_tf.pools`, whose workers weigh histories; None to do it
            here.
        folder: for files on the way, which all workers see.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a list is malformed or does not fit the items there are,
            or the tree has too few free leaves.
    """
    run = origin.run
    items, model = run.data.items, run.model
    gone, added = _checked(items, update)
    kept_tree, kept = placement.remove(model.tree, gone)
    count = 0 if added is None else added.num_rows
    rest = items.take(pa.array(kept[1:] - 1))
    if added is not None:
        rest = pa.concat_tables([rest, added], promote_options="default")
    kin = None
    if "category" in rest.column_names:
        # By number: all names of a large corpus are more than an array holds.
        paths = rest["category"].dictionary_encode("encode").combine_chunks()
        known = len(kept) - 1
        kin = categories.nearest_kin(paths[:known], paths[known:])
    samples = None
    if update.histories is not None:
        samples = item_lists.read_histories(
            update.histories,
            rest["raw_id"],
            num_new=count,
            profile=len(model.profile_sizes),
        )
    with _weighing(model, kept, samples, count, pool, folder) as weigh:
        tree = placement.add(kept_tree, count, kin=kin, weigh=weigh)
        rules = placement.rules(count, kin=kin, weigh=weigh)
    record = {
        "version": version,
        "removed": len(gone),
        "added": count,
        "placed": dict.fromkeys(placement.RULES, 0)
        | collections.Counter(rules),
        "items": tree.num_items,
        "code": run_folder.code_version(),
    }
    profile = run.settings.profile
    data = origin_lib.catalogue(run.data, profile)
    data = dataclasses.replace(data, items=_numbered(rest, rules))
    grown = growing.regrown(model, kept, tree)
    return dataclasses.replace(
        origin,
        run=dataclasses.replace(run, model=grown, data=data),
        updates=(*origin.updates, record),
    )


@contextlib.contextmanager
def _weighing(model, kept, samples, count, pool, folder):
    """Yields what samples of new items say of nodes; None without samples."""
    if samples is None:
        yield None
    elif pool is None:
        yield growing.edge_weights_of(model, kept, samples, count)
    else:
        with (
            versions.scratch(folder, "samples") as scratch,
            pooled_weights.pooled(
                pool,
                scratch,
                model,
                samples,
                growing.WEIGHED,
                known=growing.known_of(kept, count),
            ) as weigh,
        ):
            yield weigh


def _checked(
    items: pa.Table, update: Update
) -> tuple[np.ndarray, pa.Table | None]:
    """Reads the lists; returns items that go and a table of those that come."""
    raw_ids = items["raw_id"]
    gone, added = np.zeros(0, np.int64), None
    if update.remove is not None:
        asked = item_lists.read_items(update.remove, raw_ids)["raw_id"]
        found = pc.index_in(asked, raw_ids)
        unknown = asked.filter(found.is_null())
        if len(unknown) and not update.ignore_unknown:
            raise ValueError(
                f"{update.remove} names items that the index does not have: "
                f"{item_lists.some(unknown)}. Leave them out, or pass "
                "--ignore_unknown."
            )
        gone = found.drop_null().to_numpy() + 1
    if update.add is not None:
        added = item_lists.read_items(update.add, raw_ids)
        there = added["raw_id"].filter(pc.is_in(added["raw_id"], raw_ids))
        if len(there):
            raise ValueError(
                f"{update.add} names items that the index has already: "
                f"{item_lists.some(there)}. To seat them anew, remove them "
                "by one update and add them by the next."
            )
        pad = vocabulary.ItemVocabulary(raw_ids).pad
        if pad in set(added["raw_id"].to_pylist()):
            raise ValueError(
                f"{update.add} has the id {pad}, with which clients of this "
                "index pad; give the item another id, or train again."
            )
    return gone, added


def _numbered(items: pa.Table, rules: list[str]) -> pa.Table:
    """Numbers items anew and notes how the last of them were placed."""
    count = items.num_rows
    numbers = pa.array(np.arange(1, count + 1, dtype=np.int32))
    placed: list[Any] = [None] * count
    if "placed_by" in items.column_names:
        placed = items["placed_by"].to_pylist()
        items = items.drop_columns(["placed_by"])
    placed[count - len(rules) :] = rules
    return items.set_column(
        items.column_names.index("item"), "item", numbers
    ).append_column("placed_by", pa.array(placed, pa.string()))
