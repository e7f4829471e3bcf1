"""Opens raw files as streams of Arrow rows.

Compression is told from content, never from the name. What a folder or a
pattern stands for is told here too. Knows nothing of any data set; `reader` and
its readers do.
"""

import contextlib
import glob
import hashlib
import os
import pathlib
import urllib.parse
import zipfile
import zlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jtm_tf import files

_BLOCK_ROWS = 1 << 20
_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
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


def expand(path: files.Path) -> list[pathlib.Path]:
    """Returns the files that a name stands for.

    Args:
        path: a file; a folder, for all files in it and below, but for those
            that start with "." or "_", as the notes of Spark do; or a pattern
            such as `log/2023-*.csv`.

    Returns:
        The files by name.

    Raises:
        FileNotFoundError: there is none.
    """
    found = pathlib.Path(path)
    if found.is_dir():
        inside = (x.relative_to(found) for x in found.rglob("*"))
        paths = [
            found / x
            for x in sorted(inside)
            if not any(part.startswith((".", "_")) for part in x.parts)
            and (found / x).is_file()
        ]
        if not paths:
            raise FileNotFoundError(f"The folder {path} has no file in it.")
        return paths
    if found.exists() or not glob.has_magic(os.fspath(path)):
        return [found]
    names = sorted(glob.glob(os.fspath(path), recursive=True))
    paths = [pathlib.Path(x) for x in names if os.path.isfile(x)]
    if not paths:
        raise FileNotFoundError(f"No file is named as {path} says.")
    return paths


def partition(path: pathlib.Path) -> dict[str, str]:
    """Returns what folders named column=value say of a file's rows."""
    parts = (part.partition("=") for part in path.parts[:-1])
    return {
        name: urllib.parse.unquote(value)
        for name, equals, value in parts
        if name and equals
    }


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


def is_parquet(path: files.Path) -> bool:
    """Tells by its first bytes whether a file is Parquet."""
    with open(path, "rb") as stream:
        return stream.read(4) == _PARQUET


class ParquetRows:
    """Streams the named columns of a Parquet file; see `csv_rows.CsvRows`."""

    def __init__(self, path: files.Path, columns: Sequence[str]):
        self.path, self._columns = pathlib.Path(path), columns
        self.substituted = False

    def __iter__(self) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yields blocks as the file types them and their first row's index."""
        with open_parquet(self.path) as source:
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
