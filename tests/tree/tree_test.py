"""Tests of `tree.tree`: a drawn example, the arithmetic, the file."""

import numpy as np
import pytest

from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

#            1              Five items, l_max = 3; leaves 11, 14, 15 are empty,
#       2         3         and with them the whole of node 7.
#     4   5     6   7
#    8 9 10 . 12 13 . .     pi: 1->8  2->9  3->10  4->12  5->13
GOLDEN = tree_lib.Tree(np.array([0, 8, 9, 10, 12, 13]), max_level=3)

#              1             Five items, b = 3, l_max = 2; leaves 8, 9, 12
#     2        3        4    and 13 are empty.
#   5 6 7   . . 10   11 . .  pi: 1->7  2->5  3->6  4->10  5->11
TERNARY = tree_lib.Tree(
    np.array([0, 7, 5, 6, 10, 11]), max_level=2, branching=3
)


def parent_by_definition(node, branching):
    """Returns the node among whose children `node` is; the root has none."""
    for candidate in range(1, node):
        first = branching * (candidate - 1) + 2
        if first <= node < first + branching:
            return candidate
    return PAD


def test_golden():
    assert GOLDEN.num_items == 5
    assert GOLDEN.num_leaves == 8
    assert GOLDEN.first_leaf == 8
    assert GOLDEN.num_codes == 16
    np.testing.assert_array_equal(GOLDEN.ancestors(3), GOLDEN.pi)
    np.testing.assert_array_equal(GOLDEN.ancestors(2), [0, 4, 4, 5, 6, 6])
    np.testing.assert_array_equal(GOLDEN.ancestors(1), [0, 2, 2, 2, 3, 3])
    np.testing.assert_array_equal(GOLDEN.ancestors(0), [0, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(GOLDEN.occupied(3), [8, 9, 10, 12, 13])
    np.testing.assert_array_equal(GOLDEN.occupied(2), [4, 5, 6])
    np.testing.assert_array_equal(GOLDEN.occupied(0), [1])
    np.testing.assert_array_equal(GOLDEN.leaf_items(), [1, 2, 3, 0, 4, 5, 0, 0])


def test_golden_ternary():
    assert TERNARY.first_leaf == 5 and TERNARY.num_codes == 14
    np.testing.assert_array_equal(TERNARY.ancestors(1), [0, 2, 2, 2, 3, 4])
    np.testing.assert_array_equal(TERNARY.occupied(1), [2, 3, 4])


@pytest.mark.parametrize("branching", [2, 3, 8])
def test_arithmetic_agrees_with_the_definition(branching):
    nodes = np.arange(0, 200)
    parents = tree_lib.parent(nodes, branching)
    want = [parent_by_definition(n, branching) for n in nodes]
    np.testing.assert_array_equal(parents, want)
    np.testing.assert_array_equal(
        tree_lib.parent(tree_lib.children(nodes[1:], branching), branching),
        np.repeat(nodes[1:, None], branching, axis=1),
    )
    levels = tree_lib.level_of(nodes, branching)
    assert levels[PAD] == -1 and levels[1] == 0
    np.testing.assert_array_equal(levels[2:], levels[parents[2:]] + 1)
    for level in range(4):
        first = tree_lib.first_code(level, branching)
        assert np.all(levels[first : first + branching**level] == level)


@pytest.mark.parametrize("branching", [2, 3, 8])
def test_ancestors_are_repeated_parents(branching):
    from_level = 4
    first = tree_lib.first_code(from_level, branching)
    want = np.append(np.arange(first, first + 60), PAD)
    for to_level in range(from_level, -1, -1):
        got = tree_lib.ancestor(
            np.append(np.arange(first, first + 60), PAD),
            from_level=from_level,
            to_level=to_level,
            branching=branching,
        )
        np.testing.assert_array_equal(got, want)
        want = tree_lib.parent(want, branching)


@pytest.mark.parametrize("branching", [2, 3, 8])
def test_descendants_are_repeated_children(branching):
    nodes = np.array([[PAD, 1, 2], [3, 7, 11]], np.int32)
    want = nodes[..., None]
    for levels in range(4):
        got = tree_lib.descendants(nodes, levels=levels, branching=branching)
        assert got.dtype == np.int32
        np.testing.assert_array_equal(got, want)
        want = tree_lib.children(want, branching).reshape(*nodes.shape, -1)


@pytest.mark.parametrize(
    "num_items, branching, level",
    [
        (1, 2, 0),
        (2, 2, 1),
        (3, 2, 2),
        (4, 2, 2),
        (5, 2, 3),
        (1 << 20, 2, 20),
        (9, 3, 2),
        (10, 3, 3),
        (512, 8, 3),
        (513, 8, 4),
    ],
)
def test_min_max_level(num_items, branching, level):
    assert tree_lib.min_max_level(num_items, branching) == level


def test_from_order_is_left_to_right():
    got = tree_lib.Tree.from_order([3, 1, 2, 5, 4])
    # Ranks 0..4 of 8 leaves: floor(8 r / 5) = 0, 1, 3, 4, 6.
    np.testing.assert_array_equal(got.leaf_items(), [3, 1, 0, 2, 5, 0, 4, 0])


def test_is_a_value():
    with pytest.raises(ValueError, match="read-only"):
        GOLDEN.pi[1] = 11
    swapped = GOLDEN.replace_pi(np.array([0, 9, 8, 10, 12, 13]))
    assert GOLDEN.pi[1] == 8 and swapped.moved_items(GOLDEN) == 2
    with pytest.raises(ValueError, match="same 5 items"):
        GOLDEN.replace_pi(GOLDEN.pi[:-1])


def test_save_and_load(tmp_path):
    path = tmp_path / "tree.npz"
    TERNARY.save(path)
    loaded = tree_lib.Tree.load(path)
    np.testing.assert_array_equal(loaded.pi, TERNARY.pi)
    assert (loaded.max_level, loaded.branching) == (2, 3)
    assert loaded.pi.dtype == np.int32
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("keep", [0, 1, 40, 200, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "tree.npz"
    GOLDEN.save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="tree.npz holds no valid tree"):
        tree_lib.Tree.load(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "tree.npz"
    np.savez(path, pi=GOLDEN.pi)
    with pytest.raises(ValueError, match="holds no valid tree"):
        tree_lib.Tree.load(path)
    with open(path, "wb") as file:
        np.save(file, GOLDEN.pi)
    with pytest.raises(ValueError, match="holds no valid tree"):
        tree_lib.Tree.load(path)
    with pytest.raises(FileNotFoundError):
        tree_lib.Tree.load(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    "pi, max_level, branching, message",
    [
        ([0, 8, 8], 3, 2, "not injective: 1 leaves are shared, leaf 8"),
        ([0, 7, 8], 3, 2, "leaves 8..15; got 7..8"),
        ([0, 8, 16], 3, 2, "leaves 8..15; got 8..16"),
        ([1, 8, 9], 3, 2, r"pi\[PAD\] must be 0; got 1"),
        ([0], 0, 2, "at least one item"),
        ([[0, 1]], 0, 2, "at least one item"),
        ([0.0, 1.0], 0, 2, "integers"),
        ([0, 1], 0, 1, "branching must be >= 2"),
        ([0, 2**31], 31, 2, "int32"),
    ],
)
def test_bad_trees(pi, max_level, branching, message):
    with pytest.raises(ValueError, match=message):
        tree_lib.Tree(np.array(pi), max_level, branching)


def test_an_ancestor_is_above():
    with pytest.raises(ValueError, match="between the root"):
        tree_lib.ancestor(np.array([4]), from_level=2, to_level=3, branching=2)
