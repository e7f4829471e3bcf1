"""Category paths, "coarse|fine": parts, prefixes, and who is of one kind.

An item's category is a path of parts, from the coarsest to the finest, in one
string; None or "" where it is unknown. Groups of items are numbers from 1.
NumPy and Arrow.
"""

import dataclasses
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa

SEPARATOR = "|"

# Of items, in their order; of Arrow, where all of a large corpus are.
Paths: TypeAlias = Sequence[str | None] | np.ndarray | pa.Array

# The group of an item whose category is unknown, and of PAD.
UNKNOWN = 0


def parts(path: str | None) -> list[str]:
    """Returns a path's parts, from the coarsest; none where it is unknown."""
    return path.split(SEPARATOR) if path else []


def join(parts_of_path: Iterable[str]) -> str:
    """Returns the path of these parts, from the coarsest; "" of none."""
    return SEPARATOR.join(parts_of_path)


def prefix(path: str | None, count: int | None) -> str:
    """Returns the first `count` parts of a path, all where it is None."""
    return join(parts(path)[:count])


def prefixes(path: str | None) -> Iterator[str]:
    """Yields a path and those above it, the finest first."""
    while path:
        yield path
        path = path.rpartition(SEPARATOR)[0]


def groups(
    paths: Paths, count: int | None = None
) -> tuple[np.ndarray, list[str]]:
    """Groups paths that begin with the same parts.

    Args:
        paths: [P] paths.
        count: how many parts tell paths apart, from the coarsest; a shorter
            path counts whole. None for all.

    Returns:
        [P] int32 groups in the order of their names, `UNKNOWN` or from 1; and
        the names by group, the one of `UNKNOWN` "".
    """
    # Items are many, paths are few: only those are taken apart.
    if not isinstance(paths, pa.Array):
        paths = pa.array(paths, pa.string())
    if not isinstance(paths, pa.DictionaryArray):
        paths = paths.dictionary_encode("encode")
    # The last one is of items that have no number.
    named = [*paths.dictionary.to_pylist(), None]
    path_of = paths.indices.fill_null(len(named) - 1).to_numpy()
    cut = [prefix(path, count) for path in named]
    met = np.bincount(path_of, minlength=len(named)) > 0
    names = sorted({"", *(name for name, is_met in zip(cut, met) if is_met)})
    number = {name: group for group, name in enumerate(names, UNKNOWN)}
    group_of = np.array([number.get(name, UNKNOWN) for name in cut], np.int32)
    return group_of[path_of], names


def kin_groups(paths: Paths | None, num_items: int) -> np.ndarray:
    """Returns each item's kin for the tree learner: its finest category.

    Args:
        paths: [N] paths of items 1..N; None where the source knows none.
        num_items: N.

    Returns:
        [N + 1] int32 groups, `UNKNOWN` for PAD.
    """
    kin = np.full(num_items + 1, UNKNOWN, np.int32)
    if paths is not None:
        kin[1:] = groups(paths)[0]
    return kin


@dataclasses.dataclass(frozen=True, eq=False)
class Kin:
    """Which items of a tree each new item is like.

    Attributes:
        group: [A] int, the group of each new item, or `UNKNOWN`.
        members: for each group the items of the tree in it, from 1; nobody
            for `UNKNOWN`.
    """

    group: np.ndarray
    members: Sequence[np.ndarray]


def nearest_kin(known: Paths, new: Paths) -> Kin:
    """Finds new items' kin: the items of the finest category they share.

    Args:
        known: [N] paths of items 1..N.
        new: [A] paths of the new items.

    Returns:
        A group for each longest prefix of a path below which there are
        items; a path of which no item shares even the first part has none.
    """
    of_known, names = groups(known)
    of_new, new_names = groups(new)
    below: dict[str, list[int]] = {"": []}
    for path in range(UNKNOWN + 1, len(names)):
        for shared in prefixes(names[path]):
            below.setdefault(shared, []).append(path)
    number = {"": UNKNOWN}
    group_of = np.full(len(new_names), UNKNOWN)
    for path, name in enumerate(new_names):
        nearest = next((x for x in prefixes(name) if x in below), "")
        group_of[path] = number.setdefault(nearest, len(number))
    order = np.argsort(of_known, kind="stable")
    ends = np.cumsum(np.bincount(of_known, minlength=len(names)))
    members = [
        [order[ends[path - 1] : ends[path]] for path in below[name]]
        for name in number
    ]
    nobody = np.zeros(0, np.int64)
    return Kin(
        group_of[of_new],
        [np.sort(np.concatenate([nobody, *some])) + 1 for some in members],
    )
