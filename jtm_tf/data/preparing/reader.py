"""What a reader is: raw rows in, blocks of checked columns out.

A reader streams blocks of rows with the columns user, item, timestamp and, if
the source has them, category, name and profile columns. Broken rows go to the
log. Where items or users are described in a file of their own, the reader
looks up those that were kept, after the rows. To add a format, subclass
`Reader` and enter it in `preparation.READERS`.
"""

import abc
import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jtm_tf import categories
from jtm_tf.data import identity
from jtm_tf.data.preparing import skip_log
from jtm_tf.data.preparing import sources
from jtm_tf.data.preparing import texts
from jtm_tf.data.preparing import times
from jtm_tf.tree import tree as tree_lib

# Seconds of rows, and the rows that have none, by reason.
Parsed = tuple[pa.Array, Mapping[str, np.ndarray]]

# Rows without an id, as those of guests, are not broken.
MISSING = ("empty_user", "empty_item")

ROLES = ("user", "item", "timestamp", "category", "name")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a reader may be told.

    Attributes:
        input: the raw file, or files, a folder or a pattern for some, see
            `sources.expand`; None for a source that brings its own.
        metadata: a second file that describes the items.
        columns: the source's column for a role of `ROLES`.
        profile: further columns, properties of the user.
        num_items: of a source that is drawn.
        num_rows: of a source that is drawn.
        items_per_category: of a source that is drawn.
        misfiled_share: of a source that is drawn.
        seed: of a source that is drawn.
    """

    input: str | Sequence[str] | None = None
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
        many: rows may be in many files.
        infer_integers: ids are text, to be stored as int64 if all can be.
        row_paths: the input files.
        metadata: the second file that describes the items, if there is one.
        paths: all files.
    """

    home = ""
    form = "a table with a header"
    takes: tuple[str, ...] = ()
    many = False
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
        self.row_paths = self.find_paths()
        self.metadata = None
        if options.metadata:
            self.metadata = pathlib.Path(options.metadata)
        self.paths = [*self.row_paths, *filter(None, [self.metadata])]
        for path in self.paths:
            if not path.is_file():
                said = f"There is no file {path}."
                if path.is_dir():
                    said = f"{path} is a folder; give one file."
                raise FileNotFoundError(f"{said} {self.home}".strip())

    def find_paths(self) -> list[pathlib.Path]:
        """Returns the input files."""
        if self.options.input is None:
            raise ValueError(f"--input is missing. {self.home}".strip())
        given = self.options.input
        given = [given] if isinstance(given, str) else list(given)
        paths = [file for name in given for file in sources.expand(name)]
        if len(paths) > 1 and not self.many:
            raise ValueError(
                f"--input stands for {len(paths)} files, such as {paths[0]} "
                f"and {paths[1]}; this dataset is one file. {self.home}".strip()
            )
        return paths

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


class ManyFiles(Reader):
    """A format of which each file is read by itself."""

    many = True

    def rows(self, skipped):
        return one_after_another(
            (path, self.file_rows(path, skipped)) for path in self.row_paths
        )

    @abc.abstractmethod
    def file_rows(
        self, path: pathlib.Path, skipped: skip_log.SkipLog
    ) -> Iterator[pa.RecordBatch]:
        """Streams the good rows of one of `row_paths`; see `rows`."""


def one_after_another(
    rows: Iterable[tuple[pathlib.Path, Iterator[pa.RecordBatch]]],
) -> Iterator[pa.RecordBatch]:
    """Streams the rows of files, each given with its path.

    Raises:
        ValueError: a file has rows of other columns than the first.
    """
    first: tuple[pathlib.Path, list[str]] | None = None
    for path, blocks in rows:
        for block in blocks:
            names = sorted(block.schema.names)
            first = first or (path, names)
            if names != first[1]:
                raise ValueError(
                    f"{path} has columns for {names}; {first[0]} has them for "
                    f"{first[1]}. All files need the same."
                )
            yield block


class Rows(Protocol):
    """Streams the raw rows of one file.

    Attributes:
        path: the file.
        substituted: some rows so far may hold `texts.SUBSTITUTE`.
    """

    path: pathlib.Path
    substituted: bool

    def __iter__(self) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yields blocks of columns and the index of their first row."""

    def line_numbers(self, rows: np.ndarray) -> list[int | None]:
        """Returns where each row index stands in the file, if known."""


def stream(
    rows: Rows,
    names: Mapping[str, str],
    skipped: skip_log.SkipLog,
    *,
    parse_time: Callable[[pa.Array], Parsed] = times.parse_seconds,
    more_checks: Callable[..., Mapping[str, np.ndarray]] | None = None,
    out_of_scope: Sequence[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Streams checked rows under the names that readers promise.

    Args:
        rows: blocks of raw columns.
        names: the raw column for each role and profile column.
        skipped: takes the rows that fail a check.
        parse_time: as `times.parse_seconds`.
        more_checks: (raw block, [R] int64 seconds) -> [R] bool, true where
            the row is to be skipped, by reason.
        out_of_scope: the reasons that do not make a row malformed.

    Yields:
        What `Reader.rows` yields.

    Raises:
        ValueError: a column is of a type that means nothing there; also what
            Arrow says of a file, so that it is told and no traceback.
    """
    for raw, index in rows:
        columns, bad = {}, _not_text(raw) if rows.substituted else {}
        for name in names:
            with _blamed_on(rows.path, names[name]):
                columns[name], more = _column(
                    name, _plain(raw[names[name]]), parse_time
                )
            bad |= more
        seconds = columns["timestamp"]
        if more_checks is not None:
            bad.update(more_checks(raw, seconds))
        yield skip_log.keep_good(
            pa.RecordBatch.from_pydict(columns),
            bad,
            index=index,
            line_numbers=rows.line_numbers,
            shown=raw,
            skipped=skipped,
            out_of_scope=(*MISSING, *out_of_scope),
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


@contextlib.contextmanager
def _blamed_on(path, column):
    """Names file and column in what is wrong with a column's type."""
    try:
        yield
    except (ValueError, pa.ArrowException) as error:
        raise ValueError(f"{path}: column {column!r} {error}") from error


def _plain(column: pa.Array) -> pa.Array:
    """Returns a column without dictionary, its texts as one type."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if (
        pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_null(kind)
    ):
        column = pc.cast(column, pa.string())
    return column


def _column(name, column, parse_time):
    """Returns a column as readers promise it, and its bad rows by reason."""
    if name in ("user", "item"):
        return _ids(name, column)
    if name == "timestamp":
        return parse_time(column)
    if name in ("category", "name"):
        return _texts(name, column), {}
    return _profile(column), {}


def _ids(name, column):
    """Returns ids as strings or int64; see `identity`."""
    kind, bad = column.type, np.zeros(len(column), bool)
    if pa.types.is_decimal(kind) or pa.types.is_uint64(kind):
        try:
            column = pc.cast(column, pa.int64())
        except pa.ArrowInvalid:  # too large, or fractions
            column = pc.cast(column, pa.string())
    elif pa.types.is_floating(kind):
        column, bad = identity.of_floats(column)
    elif pa.types.is_integer(kind):
        column = pc.cast(column, pa.int64())
    elif not pa.types.is_string(kind):
        raise ValueError(
            f"holds {kind}; ids are integers or strings. Cast it to int64 or "
            "to string."
        )
    return column, {
        f"{name}_no_integer": bad,
        f"empty_{name}": _empty(column, bad),
    }


def _texts(name, column):
    """Returns categories or names as strings; a list of parts is a path."""
    kind = column.type
    if name == "category" and _is_list(kind):
        if not _is_text(kind.value_type):
            raise ValueError(
                f"holds {kind}; a category is a string, or a list of strings "
                "from coarse to fine."
            )
        return _paths(pc.cast(column, pa.list_(pa.string())))
    if pa.types.is_nested(kind):
        raise ValueError(f"holds {kind}; a {name} is a string.")
    if pa.types.is_floating(kind):
        # As whoever wrote them sees them: 7, not 7.0, and NaN is none.
        numbers, _ = identity.of_floats(column)
        column = pc.if_else(pc.is_nan(column), None, column)
        return pc.coalesce(
            pc.cast(numbers, pa.string()), pc.cast(column, pa.string())
        )
    return pc.cast(column, pa.string())


def _profile(column):
    """Returns a property of users; NaN is null."""
    kind = column.type
    if pa.types.is_nested(kind):
        raise ValueError(
            f"holds {kind}; a property of a user is one string, number, date "
            "or truth value. Leave it out, or make a column of each part."
        )
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_nan(column), None, column)
    return column


def _is_list(kind):
    """Tells whether a type is a list of any length."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _is_text(kind):
    """Tells whether a type is text, or has no value at all."""
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _paths(column):
    """Returns lists of strings as paths, parts that are null left out."""
    parts = column.flatten()
    rows = pc.list_parent_indices(column)
    known = pc.and_(parts.is_valid(), pc.not_equal(parts, ""))
    parts = pc.replace_substring(parts.filter(known), categories.SEPARATOR, "/")
    counts = np.bincount(rows.filter(known), minlength=len(column))
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ends), parts)
    return pc.binary_join(lists, categories.SEPARATOR)


def _not_text(raw: pa.RecordBatch) -> dict[str, np.ndarray]:
    """Returns which rows had bytes that are not UTF-8, [R] bool."""
    found = [
        pc.match_substring(column, texts.SUBSTITUTE)
        for column in raw.columns
        if pa.types.is_string(column.type)
    ]
    rows = functools.reduce(pc.or_, found)
    return {"not_utf8": rows.to_numpy(zero_copy_only=False)}


def _empty(column, bad):
    """Returns which ids are null or "", but for the bad ones, [R] bool."""
    empty = column.is_null()
    if pa.types.is_string(column.type):
        empty = pc.or_kleene(empty, pc.equal(pc.binary_length(column), 0))
    return ~bad & pc.fill_null(empty, True).to_numpy(zero_copy_only=False)
