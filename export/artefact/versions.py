"""Versions of an exported model: BASE/1, BASE/2, .., each whole or not there.

A server looks for folders with integer names and loads the largest, so a
version is written under another name and appears by one rename. Who writes
one holds a lock on its folder, which the system takes back when the process
ends, however it ends; so what a killed export left is known for certain.
"""

import contextlib
import fcntl
import functools
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

from absl import logging

from export.serving import version_names
from jtm_tf import files

# What is written here by a process that is at work.
_WORK = re.compile(r"\.\d+\.(\d+|samples)")


def existing(base: files.Path) -> list[int]:
    """Returns the versions in a folder, ascending; none if it is missing."""
    base = pathlib.Path(base)
    if not base.is_dir():
        return []
    if odd := version_names.passed_over(base):
        _tell(version_names.complaint(base, odd))
    return sorted(version_names.folders(base))


@functools.cache
def _tell(complaint):
    """Warns, once."""
    logging.warning("%s", complaint)


def choose(base: files.Path, version: int | None = None) -> int:
    """Returns the version to write: the next one, or the one asked for.

    Raises:
        ValueError: it exists; versions are never replaced, since a server
            may have them open. Or it does not fit 64 bits, or no version can
            be loaded from such a folder.
    """
    version_names.check_base(pathlib.Path(base))
    there = existing(base)
    if version is None:
        version = max(there, default=0) + 1
    if version_names.number(str(version)) is None:
        raise ValueError(
            f"A version is an integer from 0 to {version_names.LARGEST}; got "
            f"{version}. Choose one with --version, or another folder."
        )
    if version in there:
        raise ValueError(
            f"{base} has a version {version} already; leave --version out to "
            f"write {max(there) + 1}."
        )
    return version


@contextlib.contextmanager
def publishing(base: files.Path, version: int) -> Iterator[pathlib.Path]:
    """Yields an empty folder that becomes BASE/`version` on success.

    If the block raises, the folder is removed and nothing appears. A killed
    process leaves a folder with a leading dot, which servers pass by and the
    next export removes.
    """
    base = pathlib.Path(base)
    with scratch(base, f"{version}") as temporary:
        yield temporary
        # Fails where another process has published this version.
        os.rename(temporary, base / str(version))


@contextlib.contextmanager
def scratch(base: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    """Yields an empty folder in BASE that is gone after the block.

    Or, if the process is killed, when the next one is asked for.

    Args:
        base: is made if it is missing.
        name: a version, or `samples`; before it come a dot and the process.
    """
    base.mkdir(parents=True, exist_ok=True)
    temporary = base / f".{os.getpid()}.{name}"
    with contextlib.ExitStack() as stack:
        with _lock(base):  # nobody takes a new folder for a leftover
            _remove_leftovers(base)
            temporary.mkdir()
            stack.enter_context(_lock(temporary))
        try:
            with files.full_disk_told(base):
                yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _remove_leftovers(base):
    """Removes the folders of programs that were killed."""
    for path in base.iterdir():
        if _WORK.fullmatch(path.name) and path.is_dir():
            with _lock(path, wait=False) as free:
                if free:
                    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _lock(folder, *, wait=True):
    """Locks a folder; yields whether it could.

    It cannot where another process is at work and `wait` is False, or where
    the file system has no locks: then leftovers stay.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(handle)
