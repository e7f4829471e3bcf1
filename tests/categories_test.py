"""Tests of `jtm_tf.categories`: examples that are checked by eye."""

import numpy as np
import pyarrow as pa
import pytest

from jtm_tf import categories
from jtm_tf.categories import UNKNOWN


@pytest.mark.parametrize(
    "path, parts, above",
    [
        ("a|b|c", ["a", "b", "c"], ["a|b|c", "a|b", "a"]),
        ("a", ["a"], ["a"]),
        ("", [], []),
        (None, [], []),
    ],
)
def test_parts_and_prefixes(path, parts, above):
    assert categories.parts(path) == parts
    assert categories.join(parts) == (path or "")
    assert list(categories.prefixes(path)) == above
    for count in range(1, 4):
        wanted = [x for x in above if len(x.split("|")) <= count] or [""]
        assert categories.prefix(path, count) == wanted[0]
    assert categories.prefix(path, None) == (path or "")


def test_groups():
    paths = ["a|b|c", "a|b", None, "a|d", "", "e", "a|b|f"]
    groups, names = categories.groups(paths, 2)
    assert names == ["", "a|b", "a|d", "e"]
    assert [names[g] for g in groups] == [
        "a|b",
        "a|b",
        "",
        "a|d",
        "",
        "e",
        "a|b",
    ]


@pytest.mark.parametrize("count", [1, 2, None])
def test_groups_do_not_hang_on_the_order_of_items(count):
    paths = np.array(["b|x", "a", None, "a|y", "b|x|1"], object)
    order = np.random.default_rng(0).permutation(len(paths))
    groups, names = categories.groups(paths, count)
    again, same = categories.groups(paths[order], count)
    assert names == same
    np.testing.assert_array_equal(again, groups[order])


def test_kin_share_the_whole_category():
    paths = np.array(["a|b", "a|c", None, "a|b", "b"], object)
    kin = categories.kin_groups(paths, 5)
    assert kin[0] == kin[3] == UNKNOWN
    assert kin[1] == kin[4]
    assert len({kin[1], kin[2], kin[5], UNKNOWN}) == 4
    np.testing.assert_array_equal(categories.kin_groups(None, 5), [UNKNOWN] * 6)


def test_nearest_kin_are_the_finest_category_that_is_known():
    kin = categories.nearest_kin(
        ["a|x", "a|y", "a", None, "b|x", "a|y"],
        ["a|y", "a|y|new", "a|new", "b", "c", None, "a|y"],
    )
    groups = [set(kin.members[g]) for g in kin.group]
    both = {1, 2, 3, 6}
    assert groups == [{2, 6}, {2, 6}, both, {5}, set(), set(), {2, 6}]
    np.testing.assert_array_equal(
        kin.group == UNKNOWN, [False] * 4 + [True] * 2 + [False]
    )


@pytest.mark.parametrize(
    "known", [["a|b", None, "a|c", "", "d"], [None], [], ["a"]]
)
def test_paths_of_arrow(known):
    """As strings, and by number, some of which are missing."""
    names = pa.array(known, pa.string())
    found = categories.groups(known, 1)
    # Of a part of the items, whose others have more categories.
    part = pa.array([*known, "z"], pa.string()).dictionary_encode()[:-1]
    for paths in (names, part, np.array(known, object)):
        numbers, told = categories.groups(paths, 1)
        np.testing.assert_array_equal(numbers, found[0])
        assert set(told) == set(found[1])
        kin = categories.nearest_kin(paths, ["a|x", None, "d|y", "z"])
        want = categories.nearest_kin(known, ["a|x", None, "d|y", "z"])
        np.testing.assert_array_equal(kin.group, want.group)
        for mine, other in zip(kin.members, want.members, strict=True):
            np.testing.assert_array_equal(mine, other)
