"""Seats for new items: properties, plain oracles, and where kin draw them."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jtm_tf import categories
from jtm_tf.tree import edge_weights
from jtm_tf.tree import initial
from jtm_tf.tree import placement
from jtm_tf.tree import tree as tree_lib

PATHS = ("a|x", "a|y", "a", "b|x", "b|z", None)


def a_tree(num_items, branching, seed):
    """Returns a tree over whose leaves the items are strewn at random."""
    rng = np.random.default_rng(seed)
    level = tree_lib.min_max_level(num_items + 1, branching)
    first = tree_lib.first_code(level, branching)
    leaves = rng.permutation(branching**level)[:num_items] + first
    return tree_lib.Tree(np.append(0, leaves), level, branching)


def weights_of(tree, count, samples, score):
    """Returns the edge weights of new items, `samples` of each.

    `score` maps ([B] items, [B, W] nodes) to [B, W].
    """
    targets = np.repeat(tree.num_items + 1 + np.arange(count), samples)
    return edge_weights.EdgeWeights(
        placement.add(tree, count),
        targets,
        lambda chosen: targets[chosen, None],
        lambda history, nodes, level: score(history[:, 0], nodes),
        batch_samples=7,
        batch_nodes=50,
        score_leaves=False,
    )


@hypothesis.settings(max_examples=80, deadline=None, derandomize=True)
@hypothesis.given(
    num_items=st.integers(1, 40),
    branching=st.integers(2, 4),
    share=st.floats(0, 1),
    gap=st.integers(1, 7),
    seed=st.integers(0, 9),
    told=st.tuples(st.booleans(), st.booleans()),
)
def test_every_item_has_a_leaf_and_none_moves(
    num_items, branching, share, gap, seed, told
):
    tree = a_tree(num_items, branching, seed)
    rng = np.random.default_rng(seed)
    gone = rng.permutation(num_items)[: int(share * (num_items - 1))] + 1
    rest, kept = placement.remove(tree, gone)
    np.testing.assert_array_equal(rest.pi, tree.pi[kept])
    assert set(kept[1:]) == set(range(1, num_items + 1)) - set(gone)

    count = int(share * (rest.num_leaves - rest.num_items))
    known, new = rng.choice(PATHS, rest.num_items), rng.choice(PATHS, count)
    kin = categories.nearest_kin(known, new)
    weigh = weights_of(
        rest, count, 2, lambda items, nodes: np.sin(nodes + items[:, None])
    )
    grown = placement.add(
        rest,
        count,
        kin=kin if told[0] else None,
        weigh=weigh if told[1] else None,
        gap=gap,
    )
    assert (grown.max_level, grown.branching) == (tree.max_level, branching)
    np.testing.assert_array_equal(grown.pi[: rest.num_items + 1], rest.pi)
    assert len(set(grown.pi[1:])) == grown.num_items == rest.num_items + count
    # Nobody is sent below an untrained node while others have room.
    above = set(tree_lib.parent(rest.pi[1:], branching))
    outside = set(tree_lib.parent(grown.pi[1:], branching)) - above
    room = sum(
        leaf not in set(rest.pi)
        for leaf in tree_lib.children(np.array(list(above)), branching).flat
    )
    assert not outside or room < count


def test_as_many_as_there_are_leaves():
    tree = a_tree(6, 2, 0)
    assert placement.add(tree, 2).num_items == 8
    with pytest.raises(ValueError, match="3 new items, and 2 of its 8 leaves"):
        placement.add(tree, 3)
    whole = placement.add(tree, 2)
    with pytest.raises(ValueError, match="tree is full.*train again"):
        placement.add(whole, 1)
    # What goes makes room.
    rest, _ = placement.remove(whole, np.array([3]))
    assert placement.add(rest, 1).pi[-1] == whole.pi[3]
    with pytest.raises(ValueError, match="All 6 items would go"):
        placement.remove(tree, np.arange(1, 7))


def test_rules_say_how_an_item_was_seated():
    kin = categories.nearest_kin(
        ["a|x", "a|y", "a", None, "b|x", "a|y"],
        ["a|y", "a|y|new", "a|new", "b", "c", None, "a|y"],
    )
    names = placement.rules(7, kin=kin)
    assert names == ["category"] * 4 + ["room"] * 2 + ["category"]


def path_sum(tree, score, leaf):
    """The oracle: what a path is worth, the root and the leaf left out."""
    total, node = 0.0, tree_lib.parent(leaf, tree.branching)
    while node > 1:
        total += score(node)
        node = tree_lib.parent(node, tree.branching)
    return total


@pytest.mark.parametrize("branching", [2, 3])
def test_one_item_takes_the_best_path(branching):
    """With the whole tree decided at once, no free leaf has a better path."""
    for seed in range(10):
        tree = a_tree(11, branching, seed)
        value = np.random.default_rng(seed).normal(size=tree.num_codes)
        weigh = weights_of(tree, 1, 3, lambda items, nodes, v=value: v[nodes])
        grown = placement.add(tree, 1, weigh=weigh, gap=tree.max_level)
        free = np.flatnonzero(tree.leaf_items() == 0) + tree.first_leaf
        taught = set(tree_lib.parent(tree.pi[1:], branching))
        free = [x for x in free if tree_lib.parent(x, branching) in taught]
        best = max(path_sum(tree, value.__getitem__, leaf) for leaf in free)
        got = path_sum(tree, value.__getitem__, grown.pi[-1])
        assert got == pytest.approx(best)
        assert placement.rules(1, weigh=weigh) == ["histories"]


@pytest.mark.parametrize("gap", [1, 3, 7])
def test_new_items_sit_next_to_their_kin(gap):
    """Each category is a subtree; newcomers fill it before they leave it."""
    known = [f"{c}|{f}" for c in "abcd" for f in "xy" for _ in range(5)]
    tree = initial.by_category(known)  # 40 of 64 leaves, 3 free below each
    new = [f"{c}|{f}" for c in "dacb" for f in "yx" for _ in range(2)]
    kin = categories.nearest_kin(known, new)
    grown = placement.add(tree, len(new), kin=kin, gap=gap)
    home = {}
    for path, node in zip(known, tree.ancestors(3)[1:]):
        home.setdefault(path, set()).add(node)
    for path, node in zip(new, grown.ancestors(3)[1 + len(known) :]):
        assert node in home[path]


def test_samples_outvote_kin_where_they_are_many():
    known = ["a"] * 5 + ["b"] * 5
    tree = initial.by_category(known)
    kin = categories.nearest_kin(known, ["a"])

    def to_the_right(items, nodes):
        top = nodes >> (np.log2(nodes).astype(int) - 1)
        return np.where(top == 3, 0.0, -2.0)

    sides = [
        grown.ancestors(1)[-1]
        for grown in (
            placement.add(tree, 1, kin=kin),
            placement.add(
                tree, 1, kin=kin, weigh=weights_of(tree, 1, 1, to_the_right)
            ),
            placement.add(
                tree, 1, kin=kin, weigh=weights_of(tree, 1, 99, to_the_right)
            ),
        )
    ]
    assert sides == [2, 2, 3]


def test_many_categories_on_a_wide_tree():
    """Each item of its own kind: a new one comes next to the one it is like,
    though categories times leaves are beyond 32 bits.
    """
    known, level = 3000, 20
    first = tree_lib.first_code(level, 2)
    pi = np.r_[0, first + 300 * np.arange(known)].astype(np.int32)
    tree = tree_lib.Tree(pi, level, 2)
    names = [f"c{x}" for x in range(known)]
    like = np.arange(known)
    kin = categories.nearest_kin(names, [names[x] for x in like])
    placed = placement.add(tree, len(like), kin=kin)
    np.testing.assert_array_equal(
        placed.pi[known + 1 :], placed.pi[1 + like] + 1
    )
