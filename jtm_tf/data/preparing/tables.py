"""Tables of anybody's: CSV, JSON lines and Parquet, columns by name.

One file, several, a folder or a pattern. A folder that Hive or Spark wrote has
columns in its name too: log/day=2023-11-18/part-0.parquet.
"""

import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from jtm_tf.data.preparing import csv_rows
from jtm_tf.data.preparing import json_rows
from jtm_tf.data.preparing import reader
from jtm_tf.data.preparing import skip_log
from jtm_tf.data.preparing import sources
from jtm_tf.data.preparing import texts

_NEEDED = ("user", "item", "timestamp")
# Columns of data sets that have a reader of their own.
_DATASETS = {
    "amazon_2023": {"user_id", "parent_asin", "timestamp"},
    "movielens": {"userId", "movieId", "timestamp"},
}
_ALIASES = {"user": ("user", "user_id"), "item": ("item", "item_id")}


class Table(reader.ManyFiles):
    """Files of one format, all with the same columns."""

    takes = ("columns", "profile")

    def file_rows(self, path, skipped):
        names, rows, said = self._open(path, skipped)
        return reader.stream(
            _WithConstants(rows, said) if said else rows, names, skipped
        )

    def _open(
        self, path: pathlib.Path, skipped: skip_log.SkipLog
    ) -> tuple[dict[str, str], reader.Rows, Mapping[str, str]]:
        """Returns a file's columns by role, its rows, what its folders say."""
        header = self._header(path)
        said = {
            name: value
            for name, value in self._said(path).items()
            if name not in header
        }
        names = choose_columns(path, [*header, *said], self.options)
        columns = [x for x in dict.fromkeys(names.values()) if x not in said]
        used = {x: said[x] for x in names.values() if x in said}
        return names, self._rows(path, columns, skipped), used

    def _said(self, path):
        """Returns the columns that the names of a file's folders hold."""
        given = self.options.input
        roots = [given] if isinstance(given, str) else given or []
        for root in map(pathlib.Path, roots):
            if root.is_dir() and path.is_relative_to(root):
                return sources.partition(path.relative_to(root))
        return {}

    def _header(self, path: pathlib.Path) -> list[str]:
        """Returns the names of a file's columns."""
        raise NotImplementedError

    def _rows(
        self,
        path: pathlib.Path,
        columns: Sequence[str],
        skipped: skip_log.SkipLog,
    ) -> reader.Rows:
        """Returns the named columns of a file."""
        raise NotImplementedError


class Csv(Table):
    """Delimited text with a header, or JSON lines: plain, gzip or zip."""

    def _header(self, path):
        if sources.is_parquet(path):
            raise ValueError(f"{path} is Parquet; use --dataset=parquet.")
        record = texts.first_record(path)
        if record is not None:
            return list(record)
        look = texts.look(path)
        header = look.rows[0]
        known = {*self.options.columns.values()}
        known |= {
            x for role in reader.ROLES for x in _ALIASES.get(role, [role])
        }
        if look.starts_with_a_row and not known & set(map(_plain_name, header)):
            raise ValueError(
                f"{path}: the first line looks like a row, not like a header: "
                f"{look.shown}. Put the columns' names on a line before it, "
                f"such as {_suggested(look)}."
            )
        return header

    def _rows(self, path, columns, skipped):
        record = texts.first_record(path)
        if record is not None:
            return json_rows.JsonRows(path, columns, record, skipped=skipped)
        look = texts.look(path)
        return csv_rows.CsvRows(
            path,
            look.rows[0],
            columns=columns,
            skip_rows=1,
            delimiter=look.delimiter,
            skipped=skipped,
        )


class RecBole(Csv):
    """The atomic files of RecBole, user_id:token and the like."""

    home = (
        "RecBole's data sets are at https://recbole.io/dataset_list.html; pass "
        "the file that ends in .inter."
    )
    form = "a header with types, user_id:token, item_id:token, timestamp:float"

    def _header(self, path):
        header = super()._header(path)
        if not any(":" in column for column in header):
            raise ValueError(
                f"{path}: expected {self.form}; got {header}. Use "
                f"--dataset=csv for other tables. {self.home}"
            )
        return header


class Parquet(Table):
    """Parquet; ids keep the type that they have in it."""

    infer_integers = False

    def _header(self, path):
        with sources.open_parquet(path) as source:
            return source.schema_arrow.names

    def _rows(self, path, columns, skipped):
        return sources.ParquetRows(path, columns)


class _WithConstants:
    """Rows with further columns that are the same for all of a file."""

    def __init__(self, rows: reader.Rows, constants: Mapping[str, str]):
        self._rows, self._constants = rows, constants
        self.path = rows.path

    @property
    def substituted(self) -> bool:
        return self._rows.substituted

    def __iter__(self) -> Iterator[tuple[pa.RecordBatch, int]]:
        for block, index in self._rows:
            columns = dict(zip(block.schema.names, block.columns))
            for name, value in self._constants.items():
                columns[name] = pa.repeat(value, block.num_rows)
            yield pa.RecordBatch.from_pydict(columns), index

    def line_numbers(self, rows: np.ndarray) -> list[int | None]:
        return self._rows.line_numbers(rows)


def _plain_name(name: str) -> str:
    """Returns a column's name without a type behind it: user_id:token."""
    return name.strip().partition(":")[0]


def _suggested(look):
    """Returns a header for rows that have none, to be corrected."""
    words = ["user", "item", *(f"column_{i}" for i in range(3, 99))]
    words = words[: len(look.rows[0])]
    if len(words) > 2:
        words[-1] = "timestamp"
    return repr(look.delimiter.join(words))


def _hint(header):
    """Returns which data set has such columns, if one has."""
    for dataset, columns in _DATASETS.items():
        if columns <= set(header):
            return f" It looks like --dataset={dataset}."
    return ""


def parse_columns(pairs: Sequence[str]) -> dict[str, str]:
    """Returns {role: column} from role=column pairs.

    Raises:
        ValueError: a pair without "=", or a role named twice.
    """
    columns: dict[str, str] = {}
    for pair in pairs:
        role, equals, column = pair.partition("=")
        if not (role and equals and column) or role in columns:
            raise ValueError(
                f"--columns takes role=column pairs, each role once; got "
                f"{pair!r}. For example --columns=user=customer,item=sku."
            )
        columns[role] = column
    return columns


def choose_columns(
    path: pathlib.Path, header: list[str], options: reader.Options
) -> dict[str, str]:
    """Returns the source's column for each role and profile column.

    Roles that are not named in `options.columns` take the column of their
    own name (or user_id, item_id), a type behind it passed over, as in
    RecBole's user_id:token; category and name may be missing.

    Raises:
        ValueError: an unknown role, or a column that is not there.
    """
    unknown = [role for role in options.columns if role not in reader.ROLES]
    if unknown:
        raise ValueError(
            f"--columns names {unknown}; expected roles of "
            f"{list(reader.ROLES)}, as in "
            "--columns=user=customer,item=product,timestamp=time."
        )
    reserved = (*reader.ROLES, "raw_id", "split")
    if set(options.profile) & set(reserved) or (
        len(set(options.profile)) < len(options.profile)
    ):
        raise ValueError(
            f"--profile={','.join(options.profile)} repeats a column or takes "
            f"a reserved name of {list(reserved)}; rename it in the source."
        )
    names = dict(options.columns)
    by_name: dict[str, str] = {}
    for column in header:
        by_name.setdefault(_plain_name(column), column)
    by_name |= {column: column for column in header}
    for role in reader.ROLES:
        aliases = _ALIASES.get(role, (role,))
        found = [by_name[alias] for alias in aliases if alias in by_name]
        if role not in names and found:
            names[role] = found[0]
    missing = [role for role in _NEEDED if role not in names]
    if missing:
        raise ValueError(
            f"{path} has no column for {missing}; got {header}. Name them, "
            "as in columns={'user': 'customer', 'item': 'sku'}; in the shell "
            f"--columns=user=customer,item=sku.{_hint(header)}"
        )
    names.update({name: name for name in options.profile})
    reader.require(path, names.values(), header)
    order = (*reader.ROLES, *options.profile)
    return {name: names[name] for name in order if name in names}
