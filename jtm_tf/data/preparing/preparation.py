"""Raw rows to a prepared folder (paper Sec. 4.1): ids, threshold, splits.

1. read blocks, ids as dictionary codes;  2. drop users with too few rows;
3. number users and items 1.. in order of raw id;  4. sort rows by user, then
time, ties in source order;  5. describe items and users;  6. split users, or
cut the log by time;  7. write, the manifest last. `jtm_tf.data.interactions`
has the layout.

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
from jtm_tf import ragged
from jtm_tf.data import interactions
from jtm_tf.data import periods as periods_lib
from jtm_tf.data import splits
from jtm_tf.data.preparing import encoding
from jtm_tf.data.preparing import movielens
from jtm_tf.data.preparing import planted_market
from jtm_tf.data.preparing import pooled_rows
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

# How it is decided what is trained on and what judges.
SPLITS = ("users", "time")


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
        split: users: some train, the others judge, as in the paper; time: all
            are trained on what they did before, and judged by what they did
            after.
        test_from: with split=time, when the last period begins, as the rows
            tell times: 1700265600, 2023-11-18.
        validation_from: likewise, when the one before it begins; by default
            it is as long as the last.
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
    split: str = "users"
    test_from: str | int | None = None
    validation_from: str | int | None = None
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
        if self.split not in SPLITS:
            raise ValueError(
                f"split must be one of {SPLITS}; got {self.split!r}."
            )
        cuts = (self.test_from, self.validation_from)
        if self.split == "users" and cuts != (None, None):
            raise ValueError(
                "test_from and validation_from are of split=time; here users "
                "are split."
            )
        if self.split == "time" and self.test_from is None:
            raise ValueError(
                "split=time needs test_from, the time from which rows are "
                f"kept to judge by. {times.FORMS}"
            )
        for name in ("test_from", "validation_from"):
            self._seconds(name)  # else it is told only when all is read
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
            **self._who_judges(),
        }

    def _who_judges(self):
        """Returns the settings of the split; those of users are the older."""
        if self.split == "users":
            return {
                "validation_share": self.validation_share,
                "test_share": self.test_share,
            }
        cuts = ("validation_from", "test_from")
        return {"split": "time", **{name: self._seconds(name) for name in cuts}}

    def periods(self, timestamp: np.ndarray) -> periods_lib.Periods | None:
        """Returns where a log is cut, None if it is not.

        Args:
            timestamp: [I] int64 of its rows.

        Raises:
            ValueError: a period has no rows.
        """
        if self.split == "users":
            return None
        test_from = self._seconds("test_from")
        return periods_lib.cut(
            timestamp, test_from, self._seconds("validation_from")
        )

    def _seconds(self, name):
        """Returns a cut as rows have their time."""
        value = getattr(self, name)
        if value is None:
            return None
        seconds, bad = times.parse_seconds(pa.array([str(value)]))
        if any(rows[0] for rows in bad.values()):
            raise ValueError(f"{name}={value!r} is no time. {times.FORMS}")
        return seconds[0].as_py()


def run(
    config: Config,
    on_rows: Callable[[int], None] = lambda rows: None,
    *,
    pool: Any = None,
) -> tuple[dict[str, Any], bool]:
    """Prepares a folder, unless it stands there already.

    Args:
        config: what to prepare.
        on_rows: called with the number of rows of each block read.
        pool: of `jtm_tf.pools`, whose workers read the files of a format that
            may have many; None to read them here. The folder is the same.

    Returns:
        The manifest, and whether anything was done.

    Raises:
        FileNotFoundError: an input is missing.
        ValueError: bad input, or `data_dir` was made with other settings or
            from another source and `overwrite` is off; or a pool is given and
            the format is of one file.
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
    if pool is None:
        source = [sources.fingerprint(path) for path in reader.paths]
    else:
        source = pooled_rows.fingerprints(pool, reader)
    if not config.overwrite:
        standing = interactions.read_manifest(config.data_dir)
        if standing is not None:
            _refuse_difference(config, settings, standing, source)
            interactions.check(config.data_dir, standing)
            return standing, False

    skipped = skip_log.SkipLog()
    raw = encoding.RawRows(infer_integers=reader.infer_integers)
    rows = (
        reader.rows(skipped)
        if pool is None
        else pooled_rows.rows(
            pool, reader, config.data_dir, settings, source, skipped
        )
    )
    for block in rows:
        raw.add(block)
        on_rows(block.num_rows)
    read = raw.num_rows + sum(skipped.counts.values())
    ids, odd = _identify(raw, skipped)
    good = read - sum(skipped.counts.values())
    _refuse_bad(config, reader, skipped, good, read)
    seconds_read = time.monotonic() - began

    data, counts = _number(config, reader, raw, ids, skipped)
    del raw, ids
    seconds_sorted = time.monotonic() - began
    fingerprint = interactions.save(
        config.data_dir, data, reader.true_tree(data.items["raw_id"])
    )
    seconds = time.monotonic() - began
    manifest = {
        "format_version": interactions.FORMAT_VERSION,
        "dataset": config.dataset,
        "fingerprint": fingerprint,
        "counts": {
            "rows_read": read,
            "rows_kept": len(data.user),
            "skipped": skipped.counts,
            **counts,
        },
        **data.manifest,
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
    pooled_rows.clear(config.data_dir)
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
) -> tuple[interactions.Interactions, dict[str, Any]]:
    """Returns the data, of whose manifest they have the periods, and counts."""
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
    periods = config.periods(timestamp)
    if periods is None:
        users["split"] = splits.split_users(
            len(user_ids),
            validation_share=config.validation_share,
            test_share=config.test_share,
            seed=config.seed,
        )
    else:
        users["split"] = np.full(len(user_ids), splits.SPLITS[0])
    data = interactions.Interactions(
        user[order],
        item[order],
        timestamp[order],
        pa.table(items),
        pa.table(users),
        {} if periods is None else {"periods": dataclasses.asdict(periods)},
    )
    return data, {
        "users_below_threshold": int(np.count_nonzero(~enough)),
        "items_with_changed_category": int(
            np.count_nonzero(changed.get("category", False))
        ),
        **_counts(data),
    }


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


def _counts(data: interactions.Interactions) -> dict[str, Any]:
    """Returns what the manifest and the summary tell of the tables.

    Raises:
        ValueError: nobody can be trained on, or nobody judges.
    """
    spans = {name: splits.judged(data, name) for name in splits.SPLITS[1:]}
    spans = {splits.SPLITS[0]: splits.sampled(data, splits.SPLITS[0]), **spans}
    for name, span in spans.items():
        if not len(span.users):
            raise ValueError(
                f"Nobody is left for {name}: with split=time a user needs rows "
                "before and in the period. Choose other times."
            )
    # Of whom users are split, all rows are theirs; else those of the period.
    rows = {
        name: span.last - (span.first if data.periods is None else span.middle)
        for name, span in spans.items()
    }
    train = spans[splits.SPLITS[0]]
    with_training = np.zeros(data.num_items + 1, bool)
    trained = ragged.ranges(train.last - train.middle, train.middle)
    with_training[data.item[trained]] = True
    category = pa.nulls(data.num_items)
    if "category" in data.items.column_names:
        category = data.items["category"]
    counts = {
        "users": data.num_users,
        "items": data.num_items,
        "items_without_training": data.num_items - int(with_training.sum()),
        "items_without_category": category.null_count,
        "categories": len(pc.unique(category.drop_null())),
        "split_users": {name: len(x.users) for name, x in spans.items()},
        "split_interactions": {n: int(x.sum()) for n, x in rows.items()},
    }
    if data.periods is not None:
        counts["new_users"] = {
            name: len(splits.sampled(data, name).users) - len(spans[name].users)
            for name in splits.SPLITS[1:]
        }
    return counts


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
