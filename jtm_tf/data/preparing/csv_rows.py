"""Streams of rows from delimited text; see `texts` for what is told apart.

Columns arrive as strings, so that no id loses a leading zero before anybody
has looked at it.
"""

import pathlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from jtm_tf import files
from jtm_tf.data.preparing import skip_log
from jtm_tf.data.preparing import sources
from jtm_tf.data.preparing import texts

_BLOCK_BYTES = 1 << 24


class CsvRows:
    """Streams a CSV file; rows of another length go to the log.

    Rows are those of Python's `csv`, wherever a block ends: a quoted value may
    hold line breaks. What is called a line is a row, counted from 1.

    Args:
        path: the file, plain, gzip or zip.
        names: one name a column of the file.
        columns: the names wanted.
        skip_rows: rows before the first that counts: a header.
        delimiter: one of `texts.DELIMITERS`.
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
        self.path = pathlib.Path(path)
        self._names, self._columns = names, columns
        self._skip_rows, self._delimiter = skip_rows, delimiter
        self._skipped = skipped
        self._wrong: list[int | None] = []  # line numbers, ascending
        self.substituted = False

    def __iter__(self) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yields blocks of string columns and the index of their first row."""
        strings = {name: pa.string() for name in self._names}
        one = self._delimiter if len(self._delimiter) == 1 else texts.FOR_TWO
        with sources.open_bytes(self.path) as raw:
            stream = texts.Utf8(raw, self._delimiter)
            # One thread: faster here, and only then are rows numbered.
            blocks = pyarrow.csv.open_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(
                    use_threads=False,
                    block_size=_BLOCK_BYTES,
                    column_names=self._names,
                    # Rows, not lines: a header too may have a line break.
                    skip_rows_after_names=self._skip_rows,
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=one,
                    newlines_in_values=True,
                    invalid_row_handler=self._skip,
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=strings,
                    include_columns=self._columns,
                    strings_can_be_null=False,
                ),
            )
            index = 0
            for block in self._read(blocks):
                self.substituted = stream.substituted
                yield block, index
                index += block.num_rows

    def _read(self, blocks):
        """Yields blocks; says what it means that a row fits none."""
        try:
            yield from blocks
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error):
                raise
            raise ValueError(
                f"{self.path}: a row is longer than "
                f"{_BLOCK_BYTES >> 20} MiB; is a quote not closed?"
            ) from error

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
