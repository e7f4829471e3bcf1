"""What a reader is: raw rows in, blocks of checked columns out.

A reader streams blocks of rows with the columns user, item, timestamp and, if
the source has them, category, name and profile columns. Broken rows go to the
log. Where items or users are described in a file of their own, the reader
looks up those that were kept, after the rows. To add a format, subclass
`Reader` and enter it in `preparation.READERS`.
"""

import abc
import dataclasses
import functools
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jtm_tf.data.preparing import skip_log
from jtm_tf.data.preparing import sources
from jtm_tf.tree import tree as tree_lib

ROLES = ("user", "item", "timestamp", "category", "name")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a reader may be told.

    Attributes:
        input: the raw file; None for a source that brings its own.
        metadata: a second file that describes the items.
        columns: the source's column for a role of `ROLES`.
        profile: further columns, properties of the user.
        num_items: of a source that is drawn.
        num_rows: of a source that is drawn.
        items_per_category: of a source that is drawn.
        misfiled_share: of a source that is drawn.
        seed: of a source that is drawn.
    """

    input: str | None = None
    metadata: str | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    profile: tuple[str, ...] = ()
    num_items: int | None = None
    num_rows: int | None = None
    items_per_category: int | None = None
    misfiled_share: float | None = None
    seed: int = 0


class Reader(abc.ABC):
    """One raw format.

    Attributes:
        home: where the original can be had.
        form: what a row looks like.
        takes: the options that mean something here, besides `input`.
        infer_integers: ids are text, to be stored as int64 if all can be.
    """

    home = ""
    form = "a table with a header"
    takes: tuple[str, ...] = ()
    infer_integers = True

    def __init__(self, options: Options):
        for name in (
            "metadata",
            "columns",
            "profile",
            "num_items",
            "num_rows",
            "items_per_category",
            "misfiled_share",
        ):
            given = getattr(options, name) not in (None, "", {}, ())
            if given and name not in self.takes:
                raise ValueError(
                    f"--{name} means nothing to this dataset; it takes "
                    f"{['--input', *('--' + t for t in self.takes)]}. For "
                    "other columns use --dataset=csv or --dataset=parquet."
                )
        self.options = options
        self.paths = self.find_paths()
        for path in self.paths:
            if not path.is_file():
                raise FileNotFoundError(f"There is no file {path}. {self.home}")

    def find_paths(self) -> list[pathlib.Path]:
        """Returns the input files, the rows' file first."""
        if self.options.input is None:
            raise ValueError(f"--input is missing. {self.home}".strip())
        return [pathlib.Path(self.options.input)]

    def settings(self) -> dict[str, Any]:
        """Returns what decides the rows beside the files and the options."""
        return {}

    @abc.abstractmethod
    def rows(self, skipped: skip_log.SkipLog) -> Iterator[pa.RecordBatch]:
        """Streams the good rows.

        Args:
            skipped: takes the others.

        Yields:
            Blocks with user, item (string or int64, the same in all blocks),
            timestamp (int64) and maybe category, name, profile (any type,
            null or "" where unknown).

        Raises:
            ValueError: the file is not of this format.
        """

    def category_path(self, values: pa.Array) -> pa.Array:
        """Returns the path, parts joined by "|", for each raw category."""
        return values

    def describe_items(
        self, raw_ids: pa.Array, skipped: skip_log.SkipLog
    ) -> pa.Table | None:
        """Returns category and maybe name of each item, or None: in rows."""
        del raw_ids, skipped
        return None

    def describe_users(self, raw_ids: pa.Array) -> pa.Table | None:
        """Returns profile columns of each user, or None: in rows."""
        del raw_ids
        return None

    def true_tree(self, raw_ids: pa.Array) -> tree_lib.Tree | None:
        """Returns the tree that the rows were drawn from, None if none was."""
        del raw_ids
        return None


def stream(
    rows: sources.CsvRows | sources.ParquetRows,
    names: Mapping[str, str],
    skipped: skip_log.SkipLog,
    *,
    parse_time: Callable[..., tuple[pa.Array, np.ndarray]] = (
        sources.parse_seconds
    ),
    more_checks: Callable[..., Mapping[str, np.ndarray]] | None = None,
    out_of_scope: Sequence[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Streams checked rows under the names that readers promise.

    Args:
        rows: blocks of raw columns.
        names: the raw column for each role and profile column.
        skipped: takes the rows that fail a check.
        parse_time: as `sources.parse_seconds`.
        more_checks: (raw block, [R] int64 seconds) -> [R] bool, true where
            the row is to be skipped, by reason.
        out_of_scope: the reasons that do not make a row malformed.

    Yields:
        What `Reader.rows` yields.
    """
    for raw, index in rows:
        columns = {name: _plain(raw[names[name]]) for name in names}
        user, item = _ids(columns["user"]), _ids(columns["item"])
        seconds, bad_time = parse_time(columns["timestamp"])
        columns.update(user=user, item=item, timestamp=seconds)
        for name in ("category", "name"):
            if name in columns:
                columns[name] = pc.cast(columns[name], pa.string())
        bad = _not_text(raw) if rows.substituted else {}
        bad |= {
            "empty_user": _is_empty(user),
            "empty_item": _is_empty(item),
            "bad_timestamp": bad_time,
        }
        if more_checks is not None:
            bad.update(more_checks(raw, seconds))
        yield skip_log.keep_good(
            pa.RecordBatch.from_pydict(columns),
            bad,
            index=index,
            line_numbers=rows.line_numbers,
            shown=raw,
            skipped=skipped,
            out_of_scope=out_of_scope,
        )


def require(
    path: pathlib.Path,
    wanted: Iterable[str],
    header: Sequence[str],
    advice: str = "Check --columns and --profile.",
) -> None:
    """Raises `ValueError` unless each wanted column is there, and once."""
    wrong = [column for column in wanted if header.count(column) != 1]
    if wrong:
        raise ValueError(
            f"{path} needs each of the columns {wrong} once; got "
            f"{list(header)}. {advice}"
        )


def _plain(column: pa.Array) -> pa.Array:
    """Returns a column without dictionary, its strings as one type."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        column = pc.cast(column, pa.string())
    return column


def _ids(column: pa.Array) -> pa.Array:
    """Returns ids as strings or int64; a `ValueError` for other types."""
    if pa.types.is_integer(column.type):
        return pc.cast(column, pa.int64())
    if pa.types.is_string(column.type):
        return column
    raise ValueError(f"Ids must be integers or strings; got {column.type}.")


def _not_text(raw: pa.RecordBatch) -> dict[str, np.ndarray]:
    """Returns which rows had bytes that are not UTF-8, [R] bool."""
    found = [
        pc.match_substring(column, sources.SUBSTITUTE) for column in raw.columns
    ]
    rows = functools.reduce(pc.or_, found)
    return {"not_utf8": rows.to_numpy(zero_copy_only=False)}


def _is_empty(column: pa.Array) -> np.ndarray:
    """Returns which ids are null or "", [R] bool."""
    empty = column.is_null()
    if pa.types.is_string(column.type):
        empty = pc.or_kleene(empty, pc.equal(pc.binary_length(column), 0))
    return pc.fill_null(empty, True).to_numpy(zero_copy_only=False)
