"""Tests of what notebooks show: Eq. 1 by level, and the pictures."""

import numpy as np
import pytest
import tensorflow as tf
from matplotlib import colors

from experiments.pictures import sketches
from jtm_tf.search import diagnosis
from jtm_tf.tree import tree as tree_lib


@pytest.fixture(name="tree", scope="module", params=[(40, 2), (64, 4)])
def _tree(request):
    num_items, branching = request.param
    order = np.random.default_rng(0).permutation(num_items) + 1
    return tree_lib.Tree.from_order(order, branching=branching)


def scores_by_node(tree):
    """Returns a score of each of three users for each node, at random."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(3, tree.num_codes)).astype("f")


def score_fn(table):
    """Returns a `ScoreFn` that looks scores up; a user's row is its item."""

    def score(users, nodes, level):
        del level
        rows = tf.gather(tf.constant(table), users[:, 0])
        return tf.gather(rows, nodes, batch_dims=1)

    return score


USERS = np.arange(3, dtype=np.int32)[:, None]


def test_a_max_heap_has_the_best_of_its_leaves(tree):
    table = scores_by_node(tree)
    heap = diagnosis.preference(score_fn(table), tree)
    for level in range(tree.max_level + 1):
        nodes = tree.occupied(level)
        got = heap(tf.constant(USERS), tf.constant([nodes] * 3), level)
        above = tree.ancestors(level)[1:]
        for user in range(3):
            want = [table[user, tree.pi[1:][above == n]].max() for n in nodes]
            np.testing.assert_array_equal(got[user], want)


def test_a_beam_holds_the_best_of_a_max_heap(tree):
    score = score_fn(scores_by_node(tree))
    shares = diagnosis.beam_agreement(
        diagnosis.preference(score, tree), tree, USERS, beam_width=5
    )
    assert set(shares.values()) == {1.0}


def test_agreement_against_loops(tree):
    table = scores_by_node(tree)
    shares = diagnosis.beam_agreement(
        score_fn(table), tree, USERS, beam_width=3
    )
    assert list(shares)[-1] == tree.max_level
    beams = [None] * 3
    for level, share in shares.items():
        found = []
        for user in range(3):
            nodes = tree.occupied(level)
            ranked = nodes[np.argsort(-table[user, nodes])]
            reached = ranked
            if beams[user] is not None:
                above = tree_lib.parent(ranked, tree.branching)
                reached = ranked[np.isin(above, beams[user])]
            beams[user] = reached[:3]
            found.append(np.isin(ranked[:3], beams[user]).mean())
        assert share == pytest.approx(np.mean(found))
    assert min(shares.values()) < 1  # else the test shows nothing


def test_an_icicle_has_the_colours_of_its_leaves():
    tree = tree_lib.Tree.from_order(np.arange(8) + 1)
    labels = ["a"] * 4 + ["b"] * 3 + [None]
    figure = sketches.tree_icicle({"tree": tree}, labels, levels=3)
    image = figure.axes[0].images[0].get_array()
    assert image.shape == (4, 8, 4)
    first, second, third = map(colors.to_rgba, sketches.COLORS[:3])
    np.testing.assert_allclose(image[3], [first] * 4 + [second] * 3 + [third])
    np.testing.assert_allclose(image[1, 0], first)
    # Three of four are "b": a quarter of the way to white.
    pale = 1 - 0.75 * (1 - np.array(second))
    np.testing.assert_allclose(image[1, 7, :3], pale[:3])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["A", "B", "Unknown"]


def test_a_step_shows_queues_and_seats():
    weights = np.array([[2.0, 0.0], [3.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    figure = sketches.assignment_step(
        weights,
        seats=np.array([2, 2]),
        choice=np.array([0, 0, 1, 1]),
        groups=np.array([0, 0, 1, 1]),
    )
    queues = figure.axes[1]
    heights = [bar.get_height() for bar in queues.patches[:4]]
    assert heights == [3, 1, 2, 2]
    texts = [text.get_text() for text in figure.axes[2].texts]
    assert texts == ["2", "2"]


def test_shares_are_percent():
    figure = sketches.shares({"a": {1: 0.5, 2: 1.0}}, title="t")
    line = figure.axes[0].lines[0]
    assert line.get_ydata().tolist() == [50.0, 100.0]
    assert line.get_xdata().tolist() == [1, 2]
