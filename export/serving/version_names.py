"""Which folders are versions: one rule for who writes, serves and updates.

A version is an integer of 64 bits, which is what the protocols carry, written
the one way Python writes it: of `7` and `007`, or the same in other digits,
only one can be meant.
"""

import pathlib
import re
from collections.abc import Iterable

LARGEST = 2**63 - 1
_PATTERN = re.compile(r"[*?\[\]\\]")
_NUMBER = re.compile("0|[1-9][0-9]{0,18}")


def number(name: str) -> int | None:
    """Returns the version that a folder's name stands for, None if none."""
    if not _NUMBER.fullmatch(name):
        return None
    found = int(name)
    return found if found <= LARGEST else None


def check_base(base: pathlib.Path) -> None:
    """Raises a `ValueError` where TensorFlow could load no version."""
    if _PATTERN.search(str(base.absolute())):
        raise ValueError(
            f"{base}: TensorFlow takes *, ?, [, ] and \\ in a path for a "
            "pattern and would load no version from there; choose another "
            "folder."
        )


def folders(base: pathlib.Path) -> dict[int, pathlib.Path]:
    """Returns the folders in `base` that are versions, by number.

    Raises:
        OSError: `base` cannot be read.
    """
    found = ((number(path.name), path) for path in base.iterdir())
    return {n: path for n, path in found if n is not None and path.is_dir()}


def passed_over(base: pathlib.Path) -> list[str]:
    """Returns names of folders that look like versions and are none."""
    return sorted(
        path.name
        for path in base.iterdir()
        if path.name.strip().isdigit()
        and number(path.name) is None
        and path.is_dir()
    )


def complaint(base: pathlib.Path, names: Iterable[str]) -> str:
    """Returns the line that tells of `passed_over`."""
    return (
        f"{base}: passing over {', '.join(map(repr, names))}; a version is a "
        f"folder named by an integer from 0 to {LARGEST}, without leading "
        "zeros."
    )
