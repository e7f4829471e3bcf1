"""Streams of rows from JSON lines: one record a line, columns by name."""

import io
import json
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from jtm_tf import files
from jtm_tf.data.preparing import skip_log
from jtm_tf.data.preparing import sources
from jtm_tf.data.preparing import texts

_BLOCK_BYTES = 1 << 24


class JsonRows:
    """Streams the named fields of JSON lines; see `csv_rows.CsvRows`.

    A field keeps its type as long as all records of a block agree on it; where
    they do not it is text. Lines that are no record go to the log.

    Args:
        path: the file, plain, gzip or zip.
        columns: the fields wanted; a record without one has null there.
        first: a record of the file, for the types.
        skipped: takes the lines that are no record.
    """

    def __init__(
        self,
        path: files.Path,
        columns: Sequence[str],
        first: Mapping[str, Any],
        *,
        skipped: skip_log.SkipLog,
    ):
        self.path = pathlib.Path(path)
        self._columns, self._skipped = columns, skipped
        self._schema = pa.schema(
            [(name, _kind(first.get(name))) for name in columns]
        )
        self._lines: list[np.ndarray] = []  # of each block's rows
        self.substituted = False

    def __iter__(self) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yields blocks and the index of their first row."""
        index, line = 0, 1
        with sources.open_bytes(self.path) as raw:
            stream = texts.Utf8(raw)
            for data in _whole_lines(stream):
                self.substituted = stream.substituted
                block, lines = self._block(data, line)
                self._lines.append(lines)
                yield block, index
                index += block.num_rows
                line += data.count(b"\n")

    def line_numbers(self, rows: np.ndarray) -> list[int | None]:
        """Returns the line of each row index."""
        return np.concatenate(self._lines)[rows].tolist()

    def _block(self, data, first_line):
        """Returns the records of some lines, and the lines they are from."""
        try:
            table = pyarrow.json.read_json(
                io.BytesIO(data),
                pyarrow.json.ReadOptions(block_size=len(data) + 1),
                pyarrow.json.ParseOptions(
                    explicit_schema=self._schema,
                    unexpected_field_behavior="ignore",
                ),
            )
        except (pa.ArrowException, ValueError):
            return self._line_by_line(data, first_line)
        texts_of = np.char.strip(np.array(data.split(b"\n")))
        lines = first_line + np.flatnonzero(texts_of != b"")
        if len(lines) != table.num_rows:  # two records on a line
            return self._line_by_line(data, first_line)
        (block,) = table.combine_chunks().to_batches() or [
            pa.RecordBatch.from_pylist([], self._schema)
        ]
        return block, lines

    def _line_by_line(self, data, first_line):
        """The same where not all is as the first record promises."""
        records, lines = [], []
        for number, line in enumerate(data.splitlines(), first_line):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                records.append([record.get(name) for name in self._columns])
                lines.append(number)
            except (ValueError, AttributeError, RecursionError):
                text = line[:200].decode("utf-8", "replace")
                self._skipped.add("no_record", 1, [(number, text)])
        columns = [
            _column([record[at] for record in records], field.type)
            for at, field in enumerate(self._schema)
        ]
        block = pa.RecordBatch.from_arrays(columns, list(self._columns))
        return block, np.array(lines, np.int64)


def _whole_lines(stream):
    """Yields blocks that end where lines do."""
    rest = b""
    while data := stream.read(_BLOCK_BYTES):
        cut = data.rfind(b"\n") + 1
        if cut:
            yield rest + data[:cut]
            rest = data[cut:]
        else:
            rest += data
    if rest:
        yield rest


def _kind(value):
    """Returns the type of a column whose first value this is."""
    if isinstance(value, bool):
        return pa.bool_()
    for python, kind in ((int, pa.int64()), (float, pa.float64())):
        if isinstance(value, python):
            return kind
    if isinstance(value, list):
        return pa.list_(pa.string())
    return pa.string()


def _column(values, kind):
    """Returns values as a column of a type, or as text where they are not."""
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.array([_text(value) for value in values], pa.string())


def _text(value):
    """Returns a value as text; null stays null."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)
