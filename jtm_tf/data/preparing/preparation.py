"""Raw rows to a prepared folder (paper Sec. 4.1): ids, threshold, splits.

1. read blocks, ids as dictionary codes;  2. drop users with too few rows;
3. number users and items 1.. in order of raw id;  4. sort rows by user, then
time, ties in source order;  5. describe items and users;  6. split users;
7. write, the manifest last. `jtm_tf.data.interactions` has the layout.

Pure NumPy and Arrow, and silent: progress goes to a callback.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.data.preparing import encoding
from jtm_tf.data.preparing import movielens
from jtm_tf.data.preparing import planted_market
from jtm_tf.data.preparing import published
from jtm_tf.data.preparing import reader as reader_lib
from jtm_tf.data.preparing import skip_log
from jtm_tf.data.preparing import sources
from jtm_tf.data.preparing import tables
from jtm_tf.data.preparing import times

READERS: dict[str, type[reader_lib.Reader]] = {
    "userbehavior": published.UserBehavior,
    "amazon_books": published.AmazonBooks,
    "ta_feng": published.TaFeng,
    "complete_journey": published.CompleteJourney,
    "movielens": movielens.MovieLens,
    "amazon_2023": published.Amazon2023,
    "recbole": tables.RecBole,
    "csv": tables.Csv,
    "parquet": tables.Parquet,
    "planted": planted_market.Planted,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What to prepare; the flags of `experiments.prepare`.

    Attributes:
        dataset: a name of `READERS`.
        data_dir: the folder to write.
        input: the raw file, or files, a folder or a pattern for some formats;
            None for a data set that comes as a package or is drawn.
        metadata: a second file that describes the items.
        columns: the source's column for each role, for csv and parquet.
        profile: further columns, properties of the user.
        num_items: items of a planted market; by default its own number.
        num_rows: rows of a planted market, likewise.
        items_per_category: items of a category of a planted market.
        misfiled_share: share of its items that are in a wrong category.
        min_interactions: users with fewer rows are dropped.
        seed: decides the split of the users, and what is planted.
        validation_share: share of the users to validate on.
        test_share: share of the users to test on.
        max_bad_share: fail above this share of malformed rows.
        overwrite: replace a folder made with other settings.
    """

    dataset: str
    data_dir: str
    input: str | Sequence[str] | None = None
    metadata: str | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    profile: tuple[str, ...] = ()
    num_items: int | None = None
    num_rows: int | None = None
    items_per_category: int | None = None
    misfiled_share: float | None = None
    min_interactions: int = 10
    seed: int = 0
    validation_share: float = 0.1
    test_share: float = 0.1
    max_bad_share: float = 0.01
    overwrite: bool = False

    def __post_init__(self):
        if self.dataset not in READERS:
            raise ValueError(
                f"Unknown dataset {self.dataset!r}; expected one of "
                f"{list(READERS)}."
            )
        if self.min_interactions < 1:
            raise ValueError(
                f"min_interactions must be >= 1; got {self.min_interactions}."
            )
        if not 0 <= self.max_bad_share <= 1:
            raise ValueError(
                f"max_bad_share must be in [0, 1]; got {self.max_bad_share}."
            )

    def settings(self) -> dict[str, Any]:
        """Returns what decides the content; a reader may add to it."""
        return {
            "dataset": self.dataset,
            "columns": dict(self.columns),
            "profile": list(self.profile),
            "metadata": self.metadata is not None,
            "min_interactions": self.min_interactions,
            "seed": self.seed,
            "validation_share": self.validation_share,
            "test_share": self.test_share,
        }


def run(
    config: Config, on_rows: Callable[[int], None] = lambda rows: None
) -> tuple[dict[str, Any], bool]:
    """Prepares a folder, unless it stands there already.

    Args:
        config: what to prepare.
        on_rows: called with the number of rows of each block read.

    Returns:
        The manifest, and whether anything was done.

    Raises:
        FileNotFoundError: an input is missing.
        ValueError: bad input, or `data_dir` was made with other settings or
            from another source and `overwrite` is off.
    """
    began = time.monotonic()
    options = reader_lib.Options(
        config.input,
        config.metadata,
        config.columns,
        config.profile,
        config.num_items,
        config.num_rows,
        config.items_per_category,
        config.misfiled_share,
        config.seed,
    )
    reader = READERS[config.dataset](options)
    settings = config.settings() | reader.settings()
    source = [sources.fingerprint(path) for path in reader.paths]
    if not config.overwrite:
        standing = interactions.read_manifest(config.data_dir)
        if standing is not None:
            _refuse_difference(config, settings, standing, source)
            interactions.check(config.data_dir, standing)
            return standing, False

    skipped = skip_log.SkipLog()
    raw = encoding.RawRows(infer_integers=reader.infer_integers)
    for block in reader.rows(skipped):
        raw.add(block)
        on_rows(block.num_rows)
    read = raw.num_rows + sum(skipped.counts.values())
    ids, odd = _identify(raw, skipped)
    good = read - sum(skipped.counts.values())
    _refuse_bad(config, reader, skipped, good, read)
    seconds_read = time.monotonic() - began

    rows, items, users, counts = _number(config, reader, raw, ids, skipped)
    del raw, ids
    seconds_sorted = time.monotonic() - began
    fingerprint = interactions.save(
        config.data_dir,
        rows=rows,
        items=items,
        users=users,
        true_tree=reader.true_tree(items["raw_id"]),
    )
    seconds = time.monotonic() - began
    manifest = {
        "format_version": interactions.FORMAT_VERSION,
        "dataset": config.dataset,
        "fingerprint": fingerprint,
        "counts": {
            "rows_read": read,
            "rows_kept": rows.num_rows,
            "skipped": skipped.counts,
            **counts,
        },
        "settings": settings,
        "source": source,
        "skipped": skipped.examples,
        "odd_ids": odd,
        "timings": {
            "read_seconds": round(seconds_read, 3),
            "number_seconds": round(seconds_sorted - seconds_read, 3),
            "write_seconds": round(seconds - seconds_sorted, 3),
            "total_seconds": round(seconds, 3),
            "rows_per_second": round(read / max(seconds, 1e-9)),
        },
    }
    path = pathlib.Path(config.data_dir) / interactions.MANIFEST
    files.write_json(path, manifest)
    return manifest, True


def _identify(
    raw: encoding.RawRows, skipped: skip_log.SkipLog
) -> tuple[dict[str, tuple[np.ndarray, pa.Array]], dict[str, list[str]]]:
    """Returns codes and ids of users and items, and what was odd about them.

    Only now, when all ids are known, is it known which words are none: rows
    of those are skipped.
    """
    ids: dict[str, tuple[np.ndarray, pa.Array]] = {}
    odd: dict[str, list[str]] = {}
    if not raw.num_rows:
        return ids, odd
    missing = np.zeros(raw.num_rows, bool)
    for name in ("user", "item"):
        codes, values, notes = raw.ids(name)
        ids[name] = codes, values
        if notes:
            odd[name] = list(notes)
        count = int(np.count_nonzero((codes < 0) & ~missing))
        if count:
            why = notes[0] if notes else f"a {name} of spaces"
            skipped.add(f"empty_{name}", count, [(None, why)], malformed=False)
        missing |= codes < 0
    return ids, odd


def _number(
    config: Config,
    reader: reader_lib.Reader,
    raw: encoding.RawRows,
    ids: Mapping[str, tuple[np.ndarray, pa.Array]],
    skipped: skip_log.SkipLog,
) -> tuple[pa.Table, pa.Table, pa.Table, dict[str, Any]]:
    """Returns the folder's rows, items and users, and counts of them."""
    user, user_ids = ids["user"]
    item, item_ids = ids["item"]
    has_ids = (user >= 0) & (item >= 0)
    rows_of = np.bincount(user[has_ids], minlength=len(user_ids))
    enough = rows_of >= config.min_interactions
    if np.count_nonzero(enough) < len(splits.SPLITS):
        raise ValueError(
            f"{np.count_nonzero(enough)} of {len(enough)} users have "
            f"{config.min_interactions} rows or more; three splits need 3. "
            "Lower --min_interactions or bring more data."
        )
    kept = has_ids & enough[user]
    if kept.all():
        kept = slice(None)  # spares a copy of each column
    user, user_ids = encoding.renumber(user[kept], user_ids)
    item, item_ids = encoding.renumber(item[kept], item_ids)
    items, changed = _describe(
        "item", item, item_ids, raw, raw.item_columns, kept
    )
    users, _ = _describe("user", user, user_ids, raw, raw.user_columns, kept)
    if "category" in items:
        items["category"] = reader.category_path(items["category"])
    _add_records(items, reader.describe_items(item_ids, skipped))
    _add_records(users, reader.describe_users(user_ids))

    timestamp = raw.timestamps()[kept]
    order = encoding.row_order(user, timestamp)
    rows = {
        "user": user[order],
        "item": item[order],
        "timestamp": timestamp[order],
    }
    users["split"] = splits.split_users(
        len(user_ids),
        validation_share=config.validation_share,
        test_share=config.test_share,
        seed=config.seed,
    )
    counts = {
        "users_below_threshold": int(np.count_nonzero(~enough)),
        "items_with_changed_category": int(
            np.count_nonzero(changed.get("category", False))
        ),
        **_counts(rows, items, users),
    }
    return pa.table(rows), pa.table(items), pa.table(users), counts


def _describe(
    kind: str,
    owner: np.ndarray,
    raw_ids: pa.Array,
    raw: encoding.RawRows,
    names: Sequence[str],
    kept: np.ndarray | slice,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the columns of items or users, and who had several values."""
    count = len(raw_ids)
    columns = {
        kind: pa.array(np.arange(1, count + 1, dtype=np.int32)),
        "raw_id": raw_ids,
    }
    if kind == "user":
        columns["split"] = None  # its place, before the profile
    several = {}
    for name in names:
        codes, values = raw.codes(name)
        columns[name], several[name] = encoding.majority(
            owner, codes[kept], values, count
        )
    return columns, several


def _add_records(columns: dict[str, Any], records: pa.Table | None) -> None:
    """Adds what a reader looked up."""
    if records is not None:
        columns.update(zip(records.column_names, records.columns))


def _counts(
    rows: Mapping[str, Any], items: Mapping[str, Any], users: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns what the manifest and the summary tell of the tables."""
    num_items, split = len(items["item"]), users["split"]
    trains = np.concatenate([[False], split == splits.SPLITS[0]])
    with_training = np.zeros(num_items + 1, bool)
    with_training[rows["item"][trains[rows["user"]]]] = True
    rows_of_user = np.bincount(rows["user"])[1:]
    category = items.get("category", pa.nulls(num_items))
    return {
        "users": len(split),
        "items": num_items,
        "items_without_training": num_items - int(with_training.sum()),
        "items_without_category": category.null_count,
        "categories": len(pc.unique(category.drop_null())),
        "split_users": {
            name: int(np.sum(split == name)) for name in splits.SPLITS
        },
        "split_interactions": {
            name: int(rows_of_user[split == name].sum())
            for name in splits.SPLITS
        },
    }


def _refuse_bad(
    config: Config,
    reader: reader_lib.Reader,
    skipped: skip_log.SkipLog,
    good: int,
    read: int,
) -> None:
    """Raises where too many rows are malformed, or none is good."""
    share = skipped.malformed / max(read, 1)
    if good and share <= config.max_bad_share:
        return
    problem = (
        f"{skipped.malformed} of {read} rows are malformed, {share:.2%}, and "
        f"--max_bad_share allows {config.max_bad_share:.2%}."
        if skipped.malformed
        else "there is no usable row."
    )
    skips = "".join(
        f" Skipped {count} x {reason}, first {skipped.examples[reason][0]!r}."
        for reason, count in skipped.counts.items()
    )
    if skipped.counts.keys() & {"bad_timestamp", "before_1970"}:
        skips += f" {times.FORMS}"
    if skipped.counts.keys() & {"user_no_integer", "item_no_integer"}:
        skips += (
            " Ids stored as floats must be whole numbers up to 2**53; cast "
            "them to int64 or to strings."
        )
    raise ValueError(
        f"{reader.paths[0]}: {problem}{skips} Expected {reader.form}. "
        f"{reader.home}".strip()
    )


def _refuse_difference(
    config: Config,
    settings: Mapping[str, Any],
    standing: Mapping[str, Any],
    source: list[dict[str, Any]],
) -> None:
    """Raises where a finished folder is not what this run would write."""
    differences = [
        f"{name} was {was!r}, now {now!r}"
        for name, was, now in files.differences(standing["settings"], settings)
    ]
    was = [part["sha256"] for part in standing["source"]]
    if was != [part["sha256"] for part in source]:
        old_names = [part["name"] for part in standing["source"]]
        new_names = [part["name"] for part in source]
        differences.append(
            f"the source's content differs ({old_names} then, {new_names} now)"
        )
    if differences:
        raise ValueError(
            f"{config.data_dir} was prepared differently: "
            f"{'; '.join(differences)}. Pass another --data_dir, or "
            "--overwrite to replace it."
        )
