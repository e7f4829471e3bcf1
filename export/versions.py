"""Versions of an exported model: BASE/1, BASE/2, .., each whole or not there.

A server looks for folders with integer names and loads the largest, so a
version is written under another name and appears by one rename.
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from jtm_tf import files


def existing(base: files.Path) -> list[int]:
    """Returns the versions in a folder, ascending; none if it is missing."""
    base = pathlib.Path(base)
    if not base.is_dir():
        return []
    names = [path.name for path in base.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal())


def choose(base: files.Path, version: int | None = None) -> int:
    """Returns the version to write: the next one, or the one asked for.

    Raises:
        ValueError: it exists; versions are never replaced, since a server
            may have them open.
    """
    there = existing(base)
    if version is None:
        return max(there, default=0) + 1
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
    process leaves a folder with a leading dot, which servers pass by.
    """
    base = pathlib.Path(base)
    base.mkdir(parents=True, exist_ok=True)
    temporary = base / f".{os.getpid()}.{version}"
    temporary.mkdir()
    try:
        yield temporary
        # Fails where another process has published this version meanwhile.
        os.rename(temporary, base / str(version))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
