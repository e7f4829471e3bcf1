"""Text files as UTF-8 streams, and what their first lines look like.

An encoding is told from the file's first bytes, a delimiter from its first
line. What is no table with a header is told apart here, so that the error says
what was found.
"""

import codecs
import csv
import dataclasses
import io
import json
import re
from typing import Any

from jtm_tf import files
from jtm_tf.data.preparing import sources

_HEAD_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# In place of bytes that are no text: the control character meant for it.
SUBSTITUTE = "\x1a"
_ESCAPED = re.compile("[\udc80-\udcff]")
# What may stand between columns, the likelier first.
DELIMITERS = (",", "\t", ";", "|", "::")
# Arrow takes one character: what stands for "::", which no text has.
FOR_TWO = "\x1f"
_ROW_WORD = re.compile(r"[+-]?\d+(?:\.\d*)?|\d{4}-\d\d-\d\d.*|\d\d?:\d\d.*")


class Utf8(io.RawIOBase):
    """Reads a stream as UTF-8 and puts `SUBSTITUTE` for what is no text.

    Arrow would end at the first such byte, or lose its row uncounted; and of a
    NUL it forgets, where a block ends, that it stands in quotes.

    Args:
        stream: readable bytes, of UTF-8, or of UTF-16 if they begin so.
        delimiter: one of `DELIMITERS`; "::" becomes one character.

    Attributes:
        substituted: some bytes so far were no text.
    """

    def __init__(self, stream: Any, delimiter: str = ","):
        self._stream = stream
        self._decoder: codecs.IncrementalDecoder | None = None
        self._two = delimiter if len(delimiter) == 2 else ""
        self._held = ""
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
            text = self._held + self._decoded(fresh, final=not more)
            text, self._held = self._cut(text, final=not more)
            if self._two:
                text = text.replace(self._two, FOR_TWO)
            if "\0" in text:
                self.substituted = True
                text = text.replace("\0", SUBSTITUTE)
            try:
                data = text.encode()
            except UnicodeEncodeError:
                self.substituted = True
                data = _ESCAPED.sub(SUBSTITUTE, text).encode()
        return data

    def _decoded(self, data, final):
        """Returns text; half a character waits for its other half."""
        if self._decoder is None:
            wide = data.startswith(_UTF16)
            make = codecs.getincrementaldecoder("utf-16" if wide else "utf-8")
            self._decoder = make("replace" if wide else "surrogateescape")
        return self._decoder.decode(data, final=final)

    def _cut(self, text, final):
        """Returns what can be passed on, and what waits for what follows."""
        if final:
            return text, ""
        # Arrow drops a line feed with which a block begins after a carriage
        # return, in quotes too.
        waits = text.endswith("\r")
        if self._two:
            # Of an odd number at the end one may be half of the next pair.
            rest = text.rstrip(self._two[0])
            waits = waits or (len(text) - len(rest)) % 2 == 1
        cut = len(text) - waits
        return text[:cut], text[cut:]


@dataclasses.dataclass(frozen=True)
class Look:
    """What the beginning of a text file looks like.

    Attributes:
        delimiter: one of `DELIMITERS`.
        rows: the first lines, split.
    """

    delimiter: str
    rows: list[list[str]]

    @property
    def starts_with_a_row(self) -> bool:
        """Whether the first line is no header: it has numbers or times."""
        return any(_ROW_WORD.fullmatch(word.strip()) for word in self.rows[0])

    @property
    def shown(self) -> str:
        """The first line, cut."""
        return repr(self.delimiter.join(self.rows[0])[:200])


def look(path: files.Path) -> Look:
    """Returns how a file of delimited text looks.

    Raises:
        ValueError: the file is empty, starts with an empty line, or is no
            such text.
    """
    text, cut = _head(path)
    first = re.split(r"\r\n|\n|\r", text, maxsplit=1)[0]
    counts = {x: first.count(x) for x in DELIMITERS}
    # Where two stand together, one alone is none.
    delimiter = max(DELIMITERS, key=lambda x: counts[x] * len(x))
    one = delimiter if len(delimiter) == 1 else FOR_TWO
    lines = io.StringIO(text.replace(delimiter, one), newline="")
    try:
        rows = [row for row in csv.reader(lines, delimiter=one) if row]
    except csv.Error as error:
        raise ValueError(f"{path} is not CSV: {error}.") from error
    return Look(delimiter, rows[: len(rows) - (cut and len(rows) > 1)])


def _head(path):
    """Returns the beginning of a file as text, and whether it goes on."""
    with sources.open_bytes(path) as stream:
        head = stream.read(_HEAD_BYTES)
    encoding = "utf-16" if head.startswith(_UTF16) else "utf-8"
    text = head.removeprefix(_BOM).decode(encoding, errors="replace")
    if not re.match(r"[^\r\n]*\S", text):
        raise ValueError(f"{path} is empty or starts with an empty line.")
    return text, len(head) == _HEAD_BYTES


def first_record(path: files.Path) -> dict[str, Any] | None:
    """Returns the first record if a file is JSON lines, else None."""
    line = _head(path)[0].splitlines()[0].lstrip()
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
