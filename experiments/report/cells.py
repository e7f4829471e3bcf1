"""The tree as a bounded number of cells: sums over what is below a node."""

import dataclasses
from typing import Any

import numpy as np

from jtm_tf import categories as categories_lib
from jtm_tf.tree import statistics as tree_statistics
from jtm_tf.tree import tree as tree_lib

# Of one tree; deeper nodes are inside the cells of the last level drawn.
MAX_CELLS = 1 << 14

# A name speaks for a node if at least that share of its items bears it.
_SPEAKS = 0.5
_MOST_PARTS = 5
_LONGEST = 80


@dataclasses.dataclass(frozen=True, eq=False)
class Categories:
    """The categories of items, and what they are called.

    Attributes:
        prefixes: for each number of path parts, from the first that tells
            items apart, the group of each item, [N + 1] int, 0 if unknown.
        names: for each number of parts, the groups' names.
    """

    prefixes: list[np.ndarray]
    names: list[list[str]]

    @classmethod
    def of(cls, codes: np.ndarray, paths: list[str]) -> "Categories":
        """Makes them of each item's path, [N + 1] indices into `paths`."""
        deepest = max(1, *(len(categories_lib.parts(path)) for path in paths))
        grouped = [
            categories_lib.groups(paths, count)
            for count in range(1, 1 + deepest)
        ]
        # A first part that all share, the shop's own name, tells nothing.
        telling = [pair for pair in grouped if len(pair[1]) > 2]
        grouped = (telling or grouped)[:_MOST_PARTS]
        return cls([g[codes] for g, _ in grouped], [n for _, n in grouped])

    @property
    def coarse(self) -> np.ndarray:
        """The coarse category of each item, [N + 1] int."""
        return self.prefixes[0]

    @property
    def known(self) -> bool:
        """Whether any item has one."""
        return bool(self.coarse.any())


class Labels:
    """Numbers texts in order of appearance, 0 for none; cuts long ones."""

    def __init__(self):
        self._numbers = {"": 0}

    def number(self, text: str) -> int:
        """Returns the text's number, a new one if need be."""
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST - 1]}…"
        return self._numbers.setdefault(text, len(self._numbers))

    @property
    def texts(self) -> list[str]:
        """All texts by number."""
        return list(self._numbers)


def depth(tree: tree_lib.Tree, max_cells: int = MAX_CELLS) -> int:
    """Returns the deepest level to draw: all above it fit into the bound."""
    level = 0
    while (
        level < tree.max_level
        and tree_lib.num_codes(level + 1, tree.branching) - 1 <= max_cells
    ):
        level += 1
    return level


def describe(
    tree: tree_lib.Tree,
    categories: Categories,
    popularity: np.ndarray,
    labels: Labels,
    deepest: int,
) -> list[dict[str, Any]]:
    """Returns the cells of a tree, a record a level from the root.

    Args:
        tree: the index.
        categories: of its items.
        popularity: [N + 1] interactions of each item.
        labels: takes up the names that are used.
        deepest: the last level.

    Returns:
        Lists over the nodes of a level, left to right: `items` below the
        node, their `popularity`, its largest coarse category `group` with
        its `share` in percent, and `label`, the longest category path that
        half of the items share. Categories are numbers of `labels`.
    """
    levels = []
    for level in range(deepest + 1):
        first = tree_lib.first_code(level, tree.branching)
        items = tree_statistics.sums(tree, level)
        group, share, label = (np.zeros(len(items), int) for _ in range(3))
        for part, groups in enumerate(categories.prefixes):
            nodes, most, count = tree_statistics.majority(tree, groups, level)
            at = nodes - first
            speaks = (count >= _SPEAKS * items[at]) | (part == 0)
            used, index = np.unique(most[speaks], return_inverse=True)
            names = [categories.names[part][g] for g in used]
            numbers = np.array([labels.number(name) for name in names], int)
            label[at[speaks]] = numbers[index]
            if part == 0:
                group[at] = numbers[index]
                share[at] = np.rint(100 * count / items[at])
        bought = tree_statistics.sums(tree, level, popularity)
        levels.append(
            {
                "items": items.tolist(),
                "popularity": bought.astype(int).tolist(),
                "group": group.tolist(),
                "share": share.tolist(),
                "label": label.tolist(),
            }
        )
    return levels
