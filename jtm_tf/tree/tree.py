"""The index: a complete b-ary tree with one item a leaf (paper Sec. 2.1).

The projection pi maps each item to its leaf and is the whole index; all other
nodes follow from it by arithmetic on heap codes: the root is 1, the children
of n are b (n - 1) + 2 .. b (n - 1) + b + 1, and padding is 0. Pure NumPy.
"""

import dataclasses
import zipfile

import numpy as np

from jtm_tf import files
from jtm_tf.types import PAD

# What reading a file that holds no tree may raise.
_NO_TREE = (
    zipfile.BadZipFile,
    KeyError,
    EOFError,
    TypeError,
    ValueError,
    RuntimeError,  # "encrypted", or by a method that does not exist
)


def first_code(level: int, branching: int) -> int:
    """Returns the leftmost node of `level`; level 0 is the root."""
    return (branching**level - 1) // (branching - 1) + 1


def num_codes(max_level: int, branching: int) -> int:
    """Returns the rows of a table indexed by node code, padding included."""
    return first_code(max_level + 1, branching)


def min_max_level(num_items: int, branching: int) -> int:
    """Returns l_max = ceil(log_b N), the least depth that seats all items."""
    if num_items < 1:
        raise ValueError(f"A tree needs at least one item; got {num_items}.")
    level = 0
    while branching**level < num_items:
        level += 1
    return level


def level_of(nodes: np.ndarray, branching: int) -> np.ndarray:
    """Returns the level of each node, [...]; padding has level -1."""
    nodes = np.asarray(nodes)
    deepest = min_max_level(int(nodes.max(initial=1)) + 1, branching) + 1
    firsts = [first_code(level, branching) for level in range(deepest + 1)]
    return np.searchsorted(firsts, nodes, side="right") - 1


def parent(nodes: np.ndarray, branching: int) -> np.ndarray:
    """Returns the parent of each node, [...]; of the root and PAD it is PAD."""
    nodes = np.asarray(nodes)
    return np.maximum((nodes - 2) // branching + 1, PAD)


def children(nodes: np.ndarray, branching: int) -> np.ndarray:
    """Returns the children of each node, [...] -> [..., b]; of PAD all PAD."""
    nodes = np.asarray(nodes)[..., None]
    codes = branching * (nodes - 1) + 2 + np.arange(branching)
    return np.where(nodes == PAD, PAD, codes).astype(nodes.dtype)


def descendants(
    nodes: np.ndarray, *, levels: int, branching: int
) -> np.ndarray:
    """Returns the nodes `levels` below each node, left to right.

    Args:
        nodes: [...] int codes.
        levels: how far down, 0 for the nodes themselves.
        branching: b.

    Returns:
        [..., b**levels] int codes; of PAD all are PAD.
    """
    nodes = np.asarray(nodes)[..., None]
    width = branching**levels
    # Each step down maps n to its first child, b n - (b - 2).
    leftmost = width * nodes - (width - 1) * (branching - 2) // (branching - 1)
    codes = leftmost + np.arange(width)
    return np.where(nodes == PAD, PAD, codes).astype(nodes.dtype)


def ancestor(
    nodes: np.ndarray, *, from_level: int, to_level: int, branching: int
) -> np.ndarray:
    """Returns b_{to_level}(n), the ancestor of each node (Eq. 2).

    Args:
        nodes: [...] int codes on `from_level`, or PAD.
        from_level: level of every node that is not PAD.
        to_level: level of the answer, at most `from_level`.
        branching: b.

    Returns:
        [...] int codes on `to_level`; PAD maps to PAD.
    """
    if not 0 <= to_level <= from_level:
        raise ValueError(
            f"An ancestor lies between the root (level 0) and its node (level "
            f"{from_level}); got level {to_level}."
        )
    nodes = np.asarray(nodes)
    offset = nodes - first_code(from_level, branching)
    lifted = offset // branching ** (from_level - to_level)
    lifted += first_code(to_level, branching)
    return np.where(nodes == PAD, PAD, lifted).astype(nodes.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
    """A complete b-ary tree whose leaves hold items; a value, never changed.

    Attributes:
        pi: [N + 1] int32, the leaf of each item; `pi[PAD] == PAD`.
        max_level: l_max, the level of the leaves.
        branching: b, at least 2.

    Raises:
        ValueError: pi is not an injective map into the leaves.
    """

    pi: np.ndarray
    max_level: int
    branching: int = 2

    def __post_init__(self):
        if self.branching < 2:
            raise ValueError(f"branching must be >= 2; got {self.branching}.")
        pi = np.asarray(self.pi)
        integers = np.issubdtype(pi.dtype, np.integer)
        if pi.ndim != 1 or len(pi) < 2 or not integers:
            raise ValueError(
                "pi must be [num_items + 1] integers with at least one item; "
                f"got shape {pi.shape} of {pi.dtype}."
            )
        if self.num_codes - 1 > np.iinfo(np.int32).max:
            raise ValueError(
                f"{self.max_level} levels of branching {self.branching} pass "
                "the int32 node codes; use fewer levels."
            )
        if pi[PAD] != PAD:
            raise ValueError(f"pi[PAD] must be {PAD}; got {pi[PAD]}.")
        leaves = np.sort(pi[1:])
        if leaves[0] < self.first_leaf or leaves[-1] >= self.num_codes:
            raise ValueError(
                f"pi must map items to leaves {self.first_leaf}.."
                f"{self.num_codes - 1}; got {leaves[0]}..{leaves[-1]}."
            )
        shared = leaves[1:][leaves[1:] == leaves[:-1]]
        if len(shared):
            raise ValueError(
                f"pi is not injective: {len(shared)} leaves are shared, leaf "
                f"{shared[0]} for one."
            )
        pi = pi.astype(np.int32)
        pi.flags.writeable = False
        object.__setattr__(self, "pi", pi)

    def __repr__(self) -> str:
        return (
            f"Tree(num_items={self.num_items}, max_level={self.max_level}, "
            f"branching={self.branching})"
        )

    @classmethod
    def from_order(cls, items: np.ndarray, *, branching: int = 2) -> "Tree":
        """Returns the least deep tree with `items` spread over its leaves.

        The item of rank r sits on leaf floor(r b**l_max / N), so the items
        under two nodes of one level never differ by more than one.

        Args:
            items: [N] int, a permutation of 1..N, left to right.
            branching: b.
        """
        items = np.asarray(items)
        max_level = min_max_level(len(items), branching)
        leaves = np.arange(len(items)) * branching**max_level // len(items)
        pi = np.zeros(len(items) + 1, np.int64)
        pi[items] = leaves + first_code(max_level, branching)
        return cls(pi, max_level, branching)

    @property
    def num_items(self) -> int:
        """N; items are 1..N."""
        return len(self.pi) - 1

    @property
    def first_leaf(self) -> int:
        """The leftmost leaf's code."""
        return first_code(self.max_level, self.branching)

    @property
    def num_leaves(self) -> int:
        """Seats, b**l_max."""
        return self.branching**self.max_level

    @property
    def num_codes(self) -> int:
        """Rows of a table indexed by node code, padding included."""
        return num_codes(self.max_level, self.branching)

    def ancestors(self, level: int) -> np.ndarray:
        """Returns b_level(pi(c)) of every item, [N + 1] int32."""
        return ancestor(
            self.pi,
            from_level=self.max_level,
            to_level=level,
            branching=self.branching,
        )

    def occupied(self, level: int) -> np.ndarray:
        """Returns the nodes of `level` with an item below, ascending int32."""
        first = first_code(level, self.branching)
        taken = np.zeros(self.branching**level, bool)
        taken[self.ancestors(level)[1:] - first] = True
        return (np.flatnonzero(taken) + first).astype(np.int32)

    def occupied_codes(self) -> np.ndarray:
        """Returns whether each code has an item below, [num_codes] bool."""
        occupied = np.zeros(self.num_codes, bool)
        for level in range(self.max_level + 1):
            occupied[self.ancestors(level)[1:]] = True
        return occupied

    def leaf_items(self) -> np.ndarray:
        """Returns the item on each leaf, [num_leaves] int32; PAD if empty."""
        items = np.full(self.num_leaves, PAD, np.int32)
        items[self.pi[1:] - self.first_leaf] = np.arange(1, self.num_items + 1)
        return items

    def replace_pi(self, pi: np.ndarray) -> "Tree":
        """Returns the same tree with other seats; no item comes or goes."""
        if len(pi) != len(self.pi):
            raise ValueError(
                f"A new pi must seat the same {self.num_items} items; got "
                f"{len(pi) - 1}."
            )
        return dataclasses.replace(self, pi=pi)

    def moved_items(self, other: "Tree") -> int:
        """Returns how many items sit on another leaf in `other`."""
        return int(np.count_nonzero(self.pi != other.pi))

    def save(self, path: files.Path) -> None:
        """Writes the tree as one `.npz` file, whole or not at all."""
        with files.replacing(path) as temporary, open(temporary, "wb") as out:
            np.savez(
                out,
                pi=self.pi,
                max_level=self.max_level,
                branching=self.branching,
            )

    @classmethod
    def load(cls, path: files.Path) -> "Tree":
        """Reads what `save` wrote.

        Raises:
            ValueError: the file is truncated or not a tree.
        """
        try:
            # Opened here: np.load leaves a broken file open.
            with (
                open(path, "rb") as file,
                np.load(file, allow_pickle=False) as saved,
            ):
                return cls(
                    saved["pi"],
                    int(saved["max_level"]),
                    int(saved["branching"]),
                )
        except _NO_TREE as error:
            raise ValueError(f"{path} holds no valid tree: {error}") from error
