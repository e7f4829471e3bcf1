"""Opens raw files as streams of Arrow rows.

Compression is told from content, never from the name. CSV columns arrive as
strings, so that no id loses a leading zero before anybody has looked at it.
Knows nothing of any data set; `reader` and its readers do.
"""

import codecs
import contextlib
import csv
import hashlib
import io
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from jtm_tf import files
from jtm_tf.data.preparing import skip_log

_BLOCK_BYTES = 1 << 24
_BLOCK_ROWS = 1 << 20
_HEAD_BYTES = 1 << 16
_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_BOM = b"\xef\xbb\xbf"
# In place of bytes that are no text: the control character meant for it.
SUBSTITUTE = "\x1a"
_ESCAPED = re.compile("[\udc80-\udcff]")
_BROKEN = (
    pa.ArrowInvalid,
    pa.ArrowNotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    UnicodeDecodeError,
)


def fingerprint(path: files.Path) -> dict[str, Any]:
    """Returns name, size and SHA-256 of a file."""
    path = pathlib.Path(path)
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


@contextlib.contextmanager
def open_bytes(path: files.Path) -> Iterator[BinaryIO | pa.NativeFile]:
    """Opens a plain, gzip or zip file for reading what is in it.

    Args:
        path: the file; a zip archive must hold exactly one file.

    Yields:
        A readable binary stream.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, truncated or broken; also when that
            shows only inside the `with` block.
    """
    path = pathlib.Path(path)
    with open(path, "rb") as start:
        magic = start.read(4)
    if not magic:
        raise ValueError(f"{path} is empty; expected rows.")
    try:
        with contextlib.ExitStack() as stack:
            if magic.startswith(_GZIP):
                raw = stack.enter_context(pa.OSFile(str(path)))
                stream: Any = pa.CompressedInputStream(raw, "gzip")
            elif magic == _ZIP:
                archive = stack.enter_context(zipfile.ZipFile(path))
                names = [n for n in archive.namelist() if not n.endswith("/")]
                if len(names) != 1:
                    raise ValueError(
                        f"{path} must hold exactly one file; got {names}. "
                        "Unpack it and pass the file with the rows."
                    )
                stream = archive.open(names[0])
            else:
                stream = pa.OSFile(str(path))
            yield stack.enter_context(stream)
    except _BROKEN as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    except OSError as error:
        if error.errno is not None:  # a real one: permissions, disk
            raise
        # Arrow reports broken compression so, without an errno.
        raise ValueError(
            f"{path} cannot be decompressed: {error}. Is it complete?"
        ) from error


def first_rows(path: files.Path) -> tuple[list[list[str]], str]:
    """Returns a CSV file's first rows, split, and its delimiter (, or tab).

    Raises:
        ValueError: the file is empty or starts with an empty line.
    """
    with open_bytes(path) as stream:
        head = stream.read(_HEAD_BYTES)
    lines = head.removeprefix(_BOM).splitlines()
    if not lines or not lines[0].strip():
        raise ValueError(f"{path} is empty or starts with an empty line.")
    if len(head) == _HEAD_BYTES and len(lines) > 1:
        lines.pop()  # cut short
    texts = [line.decode("utf-8", errors="replace") for line in lines]
    delimiter = "\t" if "\t" in texts[0] and "," not in texts[0] else ","
    try:
        return list(csv.reader(texts, delimiter=delimiter)), delimiter
    except csv.Error as error:
        raise ValueError(f"{path} is not CSV: {error}.") from error


class _Utf8(io.RawIOBase):
    """Reads a stream and puts `SUBSTITUTE` for each byte that is no text.

    Arrow would end at the first such byte, or lose its row uncounted.
    """

    def __init__(self, stream: Any):
        self._stream = stream
        # It keeps half a character until the other half is read.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.substituted = False

    def readable(self) -> bool:
        """Tells Arrow that it may read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Returns about `size` bytes, and none only at the end."""
        data, more = b"", True
        while more and not data:
            fresh = self._stream.read(size)
            more = bool(fresh)
            text = self._decoder.decode(fresh, final=not more)
            try:
                data = text.encode()
            except UnicodeEncodeError:
                self.substituted = True
                data = _ESCAPED.sub(SUBSTITUTE, text).encode()
        return data


class CsvRows:
    """Streams a CSV file; rows of another length go to the log.

    Args:
        path: the file, plain, gzip or zip.
        names: one name a column of the file.
        columns: the names wanted.
        skip_rows: lines before the first row.
        delimiter: one character.
        skipped: takes the rows of a wrong length.

    Attributes:
        substituted: some rows so far may hold `SUBSTITUTE`.
    """

    # Beyond so many broken rows line numbers are not worth their memory.
    _max_numbers = 100_000

    def __init__(
        self,
        path: files.Path,
        names: Sequence[str],
        *,
        columns: Sequence[str],
        skip_rows: int = 0,
        delimiter: str = ",",
        skipped: skip_log.SkipLog,
    ):
        self._path, self._names, self._columns = path, names, columns
        self._skip_rows, self._delimiter = skip_rows, delimiter
        self._skipped = skipped
        self._wrong: list[int | None] = []  # line numbers, ascending
        self.substituted = False

    def __iter__(self) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yields blocks of string columns and the index of their first row."""
        strings = {name: pa.string() for name in self._names}
        with open_bytes(self._path) as raw:
            stream = _Utf8(raw)
            # One thread: faster here, and only then are rows numbered.
            blocks = pyarrow.csv.open_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(
                    use_threads=False,
                    block_size=_BLOCK_BYTES,
                    column_names=self._names,
                    skip_rows=self._skip_rows,
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=self._delimiter,
                    invalid_row_handler=self._skip,
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=strings,
                    include_columns=self._columns,
                    strings_can_be_null=False,
                ),
            )
            index = 0
            for block in blocks:
                self.substituted = stream.substituted
                yield block, index
                index += block.num_rows

    def line_numbers(self, rows: np.ndarray) -> list[int | None]:
        """Returns the line of each row index, None where no longer known."""
        if len(self._wrong) > self._max_numbers:
            return [None] * len(rows)
        # The j-th wrong line w has w - 1 - skip_rows - j good rows before it.
        wrong = np.array(self._wrong, np.int64)
        before = wrong - 1 - self._skip_rows - np.arange(len(wrong))
        shift = np.searchsorted(before, rows, side="right")
        return (rows + 1 + self._skip_rows + shift).tolist()

    def _skip(self, row: Any) -> str:
        """Counts a row with a wrong number of columns."""
        if len(self._wrong) <= self._max_numbers:
            self._wrong.append(row.number)
        self._skipped.add("wrong_column_count", 1, [(row.number, row.text)])
        return "skip"


def is_parquet(path: files.Path) -> bool:
    """Tells by its first bytes whether a file is Parquet."""
    with open(path, "rb") as stream:
        return stream.read(4) == _PARQUET


class ParquetRows:
    """Streams the named columns of a Parquet file; see `CsvRows`."""

    def __init__(self, path: files.Path, columns: Sequence[str]):
        self._path, self._columns = path, columns
        self.substituted = False

    def __iter__(self) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yields blocks as the file types them and their first row's index."""
        with open_parquet(self._path) as source:
            index = 0
            for block in source.iter_batches(
                _BLOCK_ROWS, columns=self._columns
            ):
                yield block, index
                index += block.num_rows

    def line_numbers(self, rows: np.ndarray) -> list[int | None]:
        """Returns each row's number, from 1."""
        return (rows + 1).tolist()


@contextlib.contextmanager
def open_parquet(path: files.Path) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file; a broken one is a `ValueError` that names it."""
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with pq.ParquetFile(path) as source:
            yield source
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as Parquet: {error}."
        ) from error


# A date, and perhaps a time of day; what is below a second is cut.
_ISO_8601 = r"^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d:\d\d)(?:\.\d+)?Z?)?$"


def _seconds_of_iso_8601(column):
    """Returns [R] int64 seconds of dates and times in UTC, null for others."""
    found = pc.match_substring_regex(column, _ISO_8601)
    text = pc.if_else(found, column, None)
    text = pc.replace_substring_regex(text, _ISO_8601, r"\1 \2")
    dates = pc.equal(pc.binary_length(text), len("2023-11-18 "))
    text = pc.binary_join_element_wise(
        text, pc.if_else(dates, "00:00:00", ""), ""
    )
    parsed = pc.strptime(
        text, format="%Y-%m-%d %H:%M:%S", unit="s", error_is_null=True
    )
    return pc.cast(parsed, pa.int64())


def parse_seconds(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Reads times as whole seconds that are not negative.

    Args:
        column: [R] strings of digits or ISO 8601 ("2023-11-18",
            "2023-11-18 17:42:37", "2023-11-18T17:42:37.5Z"; UTC), integers,
            whole floats, dates or timestamps.

    Returns:
        [R] int64 seconds, and [R] bool, true where the row has none.
    """
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # More than 18 digits may pass int64; no clock counts so far.
        good = pc.and_(
            pc.ascii_is_decimal(column), pc.less(pc.binary_length(column), 19)
        )
        counts = pc.cast(pc.if_else(good, column, None), pa.int64())
        if counts.null_count:
            counts = pc.coalesce(counts, _seconds_of_iso_8601(column))
        column = counts
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        column = pc.cast(column, pa.timestamp("s"), safe=False)
    elif pa.types.is_floating(kind):
        # Beyond 2**53 a float is no exact count; infinity is there, too.
        whole = pc.and_(
            pc.equal(column, pc.floor(column)),
            pc.less(pc.abs(column), float(1 << 53)),
        )
        column = pc.if_else(whole, column, None)
    elif not pa.types.is_integer(kind):
        raise ValueError(
            f"Times must be seconds or timestamps; got a column of {kind}."
        )
    seconds = pc.cast(column, pa.int64())
    seconds = pc.if_else(pc.less(seconds, 0), None, seconds)
    bad = seconds.is_null().to_numpy(zero_copy_only=False)
    return pc.fill_null(seconds, 0), bad
