"""Writes files whole or not at all: a temporary name first, then a rename."""

import contextlib
import errno
import json
import mmap
import os
import pathlib
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import Any
from typing import IO

Path = str | os.PathLike[str]

_FULL = os.strerror(errno.ENOSPC)

# What TensorFlow takes for more than a name.
_PATTERN = re.compile(r"[*?\[\]\\]")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[pathlib.Path]:
    """Yields a temporary sibling of `path` that becomes `path` on success.

    The block writes a file at the yielded name. If it raises, the
    temporary file is removed and what stood at `path` is untouched.

    Args:
        path: the final name; its folder is made if it is missing.

    Yields:
        The temporary path, with the suffix of `path`.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with full_disk_told(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Says of what is written in the block that the disk is full, if it is.

    TensorFlow, HDF5 and Arrow each say so by an error of their own.

    Args:
        path: what is written.

    Raises:
        OSError: the disk is full; in place of whatever else was raised.
    """
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) == errno.ENOSPC
        if not full and _FULL not in str(error):
            raise
        raise OSError(
            errno.ENOSPC,
            f"{_FULL}; what was saved before is whole: free some space and "
            "start the same command again",
            os.fspath(path),
        ) from error


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[pathlib.Path]:
    """Yields a name beside `path` for a file, or a folder, that is gone after
    the block.

    Where that folder cannot be written it is the system's for such files.
    """
    path = pathlib.Path(path)
    folder = _writable(path.parent)
    name = f".{os.getpid()}.{secrets.token_hex(4)}.{path.name}"
    temporary = folder / name
    try:
        yield temporary
    finally:
        _remove(temporary)


@contextlib.contextmanager
def unnamed(near: Path) -> Iterator[IO[bytes]]:
    """Yields a file without a name, gone when nobody has it open any more.

    Args:
        near: a file or a folder on whose disk it is to be, which need not
            exist.
    """
    near = pathlib.Path(near).absolute()
    folder = _writable(next(x for x in (near, *near.parents) if x.is_dir()))
    with full_disk_told(folder), tempfile.TemporaryFile(dir=folder) as file:
        yield file


def _writable(folder):
    """Returns a folder, or the system's for such files if it is read-only."""
    if os.access(folder, os.W_OK):
        return folder
    return pathlib.Path(tempfile.gettempdir())


def let_go(array: Any) -> None:
    """Gives back the memory of what was read of an array, if that is mapped.

    Its file has it; else all of it would be held in the end.

    Args:
        array: a `numpy.memmap`, or another, which stays as it is.
    """
    pages = getattr(array, "_mmap", None)
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


@contextlib.contextmanager
def without_patterns(folder: Path) -> Iterator[pathlib.Path]:
    """Yields a name of a folder that TensorFlow takes for no pattern.

    It looks for the files of a checkpoint by a pattern, and in a folder named
    run[1] finds none: then the name is that of a link, gone after the block.
    """
    folder = pathlib.Path(folder)
    if not _PATTERN.search(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch_folder:
        link = pathlib.Path(scratch_folder, "folder")
        link.symlink_to(folder.resolve(), target_is_directory=True)
        yield link


def wait_for(path: Path, seconds: float = 60.0) -> None:
    """Waits for a file that another machine has written.

    Args:
        path: of the file.
        seconds: how long at most: a network volume may show it late.

    Raises:
        OSError: it is still not there.
    """
    last = time.monotonic() + seconds
    while not pathlib.Path(path).exists():
        if time.monotonic() > last:
            raise FileNotFoundError(
                f"{path}, which another machine has written, is not to be seen "
                "here: all machines must see the folder under this name."
            )
        time.sleep(0.2)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that killed runs left."""
    for path in pathlib.Path(folder).glob(".*"):
        if re.fullmatch(r"\.\d+\..+", path.name):
            _remove(path)


def _remove(path):
    """Removes a file or a folder, if there is one."""
    if path.is_dir():
        # What others have open may stay for as long, on some systems.
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Reads JSON; a broken file is a `ValueError` that names it."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error


def as_json(value: Any) -> Any:
    """Returns `value` as it will be read back: tuples become lists."""
    return json.loads(json.dumps(value))


def differences(
    have: Any, want: Any, name: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yields (dotted name, have, want) wherever two JSON values differ.

    Args:
        have: a value; None where it is missing.
        want: another.
        name: of the values, where they stand in another.
    """
    if have == want:
        return
    left, right = ({} if x is None else x for x in (have, want))
    if not (isinstance(left, dict) and isinstance(right, dict)):
        yield name, have, want
        return
    for key in sorted(left.keys() | right.keys()):
        inner = f"{name}.{key}" if name else key
        yield from differences(left.get(key), right.get(key), inner)
