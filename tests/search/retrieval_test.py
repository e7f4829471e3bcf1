"""Tests of `jtm_tf.search.retrieval`: Eq. 1 makes the beam search exact."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from jtm_tf import types
from jtm_tf.search import retrieval
from jtm_tf.tree import initial
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

USERS, HISTORY = 3, 2


def holey_tree(num_items, *, branching, max_level, seed):
    """Returns a tree whose empty leaves lie anywhere."""
    rng = np.random.default_rng(seed)
    first = tree_lib.first_code(max_level, branching)
    leaves = rng.permutation(branching**max_level)[:num_items] + first
    return tree_lib.Tree(np.append(PAD, leaves), max_level, branching)


def max_heap(tree, seed, users=USERS):
    """Returns scores obeying Eq. 1 with alpha = 1, [users, num_codes].

    Empty nodes score above all others: a search that looks at them is wrong.
    """
    rng = np.random.default_rng(seed)
    scores = np.full((users, tree.num_codes), 2.0 * tree.num_items, np.float32)
    for row in scores:
        row[tree.pi[1:]] = rng.permutation(tree.num_items) + 1
    for level in range(tree.max_level - 1, -1, -1):
        nodes = tree.occupied(level)
        below = tree_lib.children(nodes, tree.branching)
        live = np.isin(below, tree.occupied(level + 1))
        for row in scores:
            row[nodes] = np.where(live, row[below], -np.inf).max(axis=1)
    return scores


def table_score_fn(scores):
    """Returns a `ScoreFn` that looks scores up; item u names user u."""

    def score(history, nodes, level):
        del level
        users = tf.repeat(history[:, :1] - 1, tf.shape(nodes)[1], 1)
        return tf.gather_nd(scores, tf.stack([users, nodes], axis=-1))

    return score


def users(*names):
    """Returns histories that name users, [B, HISTORY]."""
    return tf.constant([[name] * HISTORY for name in names], tf.int32)


def best_items(tree, scores, num_results):
    """The oracle: sorts all items; [users, M], PAD where there are fewer."""
    order = np.argsort(-scores[:, tree.pi[1:]], axis=1)[:, :num_results] + 1
    missing = num_results - order.shape[1]
    return np.pad(order, [(0, 0), (0, missing)], constant_values=PAD)


@pytest.mark.parametrize("branching,max_level", [(2, 5), (3, 3), (8, 2)])
@pytest.mark.parametrize("beam_width", [1, 3, 16, 100])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_beam_search_is_exact_on_a_max_heap(
    branching, max_level, beam_width, share
):
    leaves = branching**max_level
    tree = holey_tree(
        max(2, int(share * leaves)),
        branching=branching,
        max_level=max_level,
        seed=beam_width,
    )
    scores = max_heap(tree, seed=1)
    search = retrieval.TreeRetriever(
        table_score_fn(scores),
        tree,
        beam_width=beam_width,
        num_results=beam_width,
        user_width=HISTORY,
    )
    items, values = search.recommend(users(1, 2, 3))
    want = best_items(tree, scores, beam_width)
    np.testing.assert_array_equal(items, want)
    user, place = np.nonzero(want)
    np.testing.assert_array_equal(
        values.numpy()[user, place], scores[user, tree.pi[want[user, place]]]
    )


@pytest.mark.parametrize("path_weight", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["flat", "exact", "pruned"])
def test_a_filter_wastes_no_place(path_weight, kind):
    """A beam of M finds M items, if so many are allowed, and no others."""
    tree = holey_tree(20, branching=2, max_level=5, seed=3)
    allowed = np.random.default_rng(4).random((USERS, 21)) < 0.3
    allowed[0], allowed[:, PAD] = False, False
    live_nodes = np.zeros((USERS, tree.num_codes), bool)
    for level in range(tree.max_level + 1):
        for row in range(USERS):
            live_nodes[row, tree.ancestors(level)[allowed[row]]] = True

    def live(nodes, level):
        del level
        return tf.gather(live_nodes, nodes, batch_dims=1)

    score_fn = table_score_fn(max_heap(tree, seed=1))
    shared = {"num_results": 4, "user_width": HISTORY}
    search = (
        retrieval.ScanRetriever(score_fn, tree, chunk=7, **shared)
        if kind == "flat"
        else retrieval.TreeRetriever(
            score_fn,
            tree,
            beam_width=4,
            path_weight=path_weight,
            walk=walk_by(max_heap(tree, seed=2), 2.0)
            if kind == "pruned"
            else None,
            **shared,
        )
    )
    items = search.search(users(*range(1, USERS + 1)), live)[0].numpy()
    for row, found in enumerate(items):
        found = found[found != PAD]
        assert np.all(allowed[row, found])
        assert len(set(found)) == min(4, np.count_nonzero(allowed[row]))


def walk_by(scores, width):
    """Returns a walk by a table of scores."""
    score_fn = table_score_fn(scores)

    def score(users, nodes, level):  # which may be the same for all users
        nodes = tf.broadcast_to(nodes, [tf.shape(users)[0], nodes.shape[1]])
        return score_fn(users, nodes, level)

    return retrieval.Walk(score, types.as_they_are, width)


@pytest.mark.parametrize("branching,max_level", [(2, 5), (3, 3), (8, 2)])
@pytest.mark.parametrize("beam_width", [1, 4, 16])
@pytest.mark.parametrize("path_weight", [0.0, 0.5])
def test_a_walk_by_the_model_itself_changes_nothing(
    branching, max_level, beam_width, path_weight
):
    tree = holey_tree(30, branching=branching, max_level=max_level, seed=5)
    scores = np.random.default_rng(6).normal(size=[USERS, tree.num_codes])
    shared = {
        "beam_width": beam_width,
        "num_results": beam_width,
        "user_width": HISTORY,
        "path_weight": path_weight,
    }
    score_fn = table_score_fn(scores.astype(np.float32))
    exact = retrieval.TreeRetriever(score_fn, tree, **shared)
    pruned = retrieval.TreeRetriever(
        score_fn, tree, walk=walk_by(scores.astype(np.float32), 1.0), **shared
    )
    assert pruned.levels == exact.levels
    asked = users(*range(1, USERS + 1))
    for got, want in zip(pruned.recommend(asked), exact.recommend(asked)):
        np.testing.assert_array_equal(got, want)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 10**6),
    branching=st.sampled_from([2, 3]),
    num_items=st.integers(2, 27),
    beam_width=st.integers(1, 6),
)
def test_of_all_leaves_the_model_ranks_the_walk_s_best(
    seed, branching, num_items, beam_width
):
    """With nothing pruned above, it is a scan of both scores."""
    tree = holey_tree(num_items, branching=branching, max_level=5, seed=seed)
    rng = np.random.default_rng(seed)
    scores, walked = rng.normal(size=[2, USERS, tree.num_codes]).astype("f4")
    search = retrieval.TreeRetriever(
        table_score_fn(scores),
        tree,
        beam_width=beam_width,
        num_results=1,
        user_width=HISTORY,
        walk=walk_by(walked, 2.0),
        first_level=tree.max_level,
    )
    asked = users(*range(1, USERS + 1))
    found = search.recommend(asked)[0].numpy()
    chosen = beam_width * branching
    for row in range(USERS):
        items = np.arange(1, num_items + 1)
        best = items[np.argsort(-walked[row, tree.pi[items]])][:chosen]
        want = best[np.argmax(scores[row, tree.pi[best]])]
        assert found[row, 0] == want
    # What is told of the search is what it did.
    assert len(search.levels) == len(search.kept)
    kept = search.beams(asked)
    for nodes, width in zip(kept, search.kept):
        assert nodes.shape[1] <= width


@pytest.mark.parametrize(
    "beam_width,width,kept",
    [
        (2, 3.0, [2, 2, 4, 6, 4, 2]),  # of level 1 all nodes are kept
        (8, 2.0, [8, 8, 8, 16, 16, 8]),  # one level is pruned
        (4, 1.0, [4, 4, 4, 4, 4]),  # as many leaves as an exact search
        (32, 2.0, [32, 32, 32, 32, 32]),
    ],
)
def test_a_walk_widens_downwards(beam_width, width, kept):
    tree = holey_tree(32, branching=2, max_level=5, seed=1)
    nothing = np.zeros([USERS, tree.num_codes], np.float32)
    search = retrieval.TreeRetriever(
        table_score_fn(nothing),
        tree,
        beam_width=beam_width,
        num_results=4,
        user_width=HISTORY,
        path_weight=0.5,
        walk=walk_by(nothing, width),
    )
    assert search.kept == kept


def test_a_pruned_search_scores_as_many_leaves_as_an_exact_one():
    tree = holey_tree(32, branching=2, max_level=5, seed=1)
    counted = []

    def score(histories, nodes, level):
        counted.append((level, nodes.shape[1]))
        return tf.zeros_like(nodes, tf.float32)

    retrieval.TreeRetriever(
        score,
        tree,
        beam_width=4,
        num_results=4,
        user_width=HISTORY,
        path_weight=0.5,
        walk=walk_by(np.zeros([USERS, tree.num_codes], np.float32), 2.0),
    ).recommend.get_concrete_function()
    assert counted == [(5, 8)]


@pytest.mark.parametrize("num_items", [1, 5, 100])
@pytest.mark.parametrize("num_results", [1, 150])
def test_scan_sorts_all_items(num_items, num_results):
    tree = initial.random(num_items, seed=0)
    scores = max_heap(tree, seed=2)
    scan = retrieval.ScanRetriever(
        table_score_fn(scores),
        tree,
        num_results=num_results,
        user_width=HISTORY,
        chunk=16,
    )
    items, _ = scan.recommend(users(1, 2, 3))
    np.testing.assert_array_equal(items, best_items(tree, scores, num_results))


def test_beam_search_finds_less_where_eq_1_does_not_hold():
    # The best leaf, 7, hides below the worse of the root's children.
    tree = initial.random(4, seed=0)
    scores = np.array([[0, 0, 2, 1, 5, 6, 3, 9]], np.float32)
    search = retrieval.TreeRetriever(
        table_score_fn(scores),
        tree,
        beam_width=1,
        num_results=1,
        user_width=HISTORY,
    )
    item = int(search.recommend(users(1))[0][0, 0])
    assert tree.pi[item] == 5


@pytest.fixture(name="retrievers", scope="module")
def make_retrievers():
    tree = holey_tree(300, branching=2, max_level=9, seed=0)
    score = table_score_fn(max_heap(tree, seed=3, users=8))
    common = {"num_results": 20, "user_width": HISTORY}
    return (
        retrieval.TreeRetriever(score, tree, beam_width=20, **common),
        retrieval.ScanRetriever(score, tree, **common),
    )


def test_a_batch_equals_one_by_one(retrievers):
    for retriever in retrievers:
        items, scores = retriever.recommend(users(*range(1, 9)))
        for user in range(8):
            alone = retriever.recommend(users(user + 1))
            np.testing.assert_array_equal(alone[0][0], items[user])
            np.testing.assert_array_equal(alone[1][0], scores[user])


def test_a_batch_of_nobody(retrievers):
    for retriever in retrievers:
        items, scores = retriever.recommend(tf.zeros([0, HISTORY], tf.int32))
        assert items.shape == scores.shape == (0, 20)


def test_more_results_than_items_are_padded():
    tree = initial.random(5, seed=0)
    scores = max_heap(tree, seed=0)
    for retriever in (
        retrieval.TreeRetriever(
            table_score_fn(scores),
            tree,
            beam_width=8,
            num_results=9,
            user_width=HISTORY,
        ),
        retrieval.ScanRetriever(
            table_score_fn(scores), tree, num_results=9, user_width=HISTORY
        ),
    ):
        items = retriever.recommend(users(1, 2, 3))[0].numpy()
        np.testing.assert_array_equal(items, best_items(tree, scores, 9))
        assert np.all(items[:, 5:] == PAD)


def test_a_beam_too_narrow_for_the_results_is_refused():
    tree = initial.random(100, seed=0)
    with pytest.raises(ValueError, match="widen the beam"):
        retrieval.TreeRetriever(
            lambda *_: None, tree, beam_width=4, num_results=9, user_width=1
        )


@pytest.mark.parametrize("branching,max_level", [(2, 5), (3, 3)])
@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_a_rank_leans_on_the_ancestors(branching, max_level, weight):
    """A beam as wide as the tree ranks leaves by the weighted path sum."""
    leaves = branching**max_level
    tree = holey_tree(
        2 * leaves // 3, branching=branching, max_level=max_level, seed=0
    )
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(USERS, tree.num_codes)).astype(np.float32)
    search = retrieval.TreeRetriever(
        table_score_fn(scores),
        tree,
        beam_width=leaves,
        num_results=tree.num_items,
        user_width=HISTORY,
        path_weight=weight,
    )
    sums = np.zeros((USERS, tree.num_items))
    for level in range(1, max_level + 1):
        sums = weight * sums + scores[:, tree.ancestors(level)[1:]]
    items, values = search.recommend(users(1, 2, 3))
    np.testing.assert_array_equal(items, np.argsort(-sums, axis=1) + 1)
    np.testing.assert_allclose(values, -np.sort(-sums, axis=1), atol=1e-5)


def test_a_path_of_log_probabilities_is_best_first():
    """HSM: with branch probabilities a wide enough beam is exact."""
    tree = holey_tree(20, branching=2, max_level=5, seed=3)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(USERS, tree.num_codes))
    logits[:, ~tree.occupied_codes()] = -np.inf
    families = logits[:, 2:].reshape(USERS, -1, 2)
    with np.errstate(invalid="ignore"):
        branch = families - np.logaddexp.reduce(families, -1, keepdims=True)
    scores = np.zeros_like(logits)
    scores[:, 2:] = np.nan_to_num(branch, nan=-1e9, neginf=-1e9).reshape(
        USERS, -1
    )
    search = retrieval.TreeRetriever(
        table_score_fn(scores.astype(np.float32)),
        tree,
        beam_width=20,
        num_results=20,
        user_width=HISTORY,
        path_weight=1.0,
    )
    items, values = search.recommend(users(1, 2, 3))
    assert np.all(np.sort(items, axis=1) == np.arange(1, 21))
    # Probabilities of all items add up to one.
    np.testing.assert_allclose(np.exp(values).sum(axis=1), 1.0, atol=1e-4)
    assert np.all(np.diff(values, axis=1) <= 0)
