"""Tests of `jtm_tf.learning.samples`: distributions, positives, restarts."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from jtm_tf.data import splits
from jtm_tf.learning import samples
from jtm_tf.tree import initial
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

T = 4


def make_examples(num_items, users=9, seed=0):
    """Returns the samples of users of various lengths."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, users)
    ends = np.cumsum(lengths)
    return splits.Examples(
        rng.integers(1, num_items + 1, ends[-1]).astype(np.int32),
        np.repeat(ends - lengths, lengths),
        np.arange(ends[-1]),
    )


def stream(tree, examples, **settings):
    """Returns all batches of an epoch as NumPy arrays."""
    settings = {"max_history": T, "negatives": 12, "batch_size": 8} | settings
    return list(samples.dataset(examples, tree, **settings).as_numpy_iterator())


def assert_same(got, want):
    assert len(got) == len(want)
    for one, other in zip(got, want):
        np.testing.assert_array_equal(one["history"], other["history"])
        for nodes, others in zip(one["nodes"], other["nodes"], strict=True):
            np.testing.assert_array_equal(nodes, others)


def test_negatives_are_uniform_among_occupied_nodes_but_the_positive():
    occupied = tf.constant([4, 6, 7, 11, 12, 15])
    positive = tf.repeat(occupied, 4000)
    drawn = samples.draw_negatives(occupied, positive, 5, [3, 4]).numpy()
    drawn = drawn.reshape(6, -1)
    for i, node in enumerate(occupied.numpy()):
        found, counts = np.unique(drawn[i], return_counts=True)
        assert found.tolist() == [n for n in occupied.numpy() if n != node]
        assert stats.chisquare(counts).pvalue > 1e-3


def test_draws_are_a_function_of_the_seed():
    occupied = tf.range(8, 16)
    positive = tf.constant([8, 15])
    one, same, other = (
        samples.draw_negatives(occupied, positive, 50, seed).numpy()
        for seed in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)


@pytest.mark.parametrize("branching", [2, 3, 8])
def test_positives_are_the_ancestors_of_the_target(branching):
    tree = initial.random(50, branching=branching, seed=0)
    examples = make_examples(50)
    negatives = samples.negatives_per_level(12, tree)
    seen = []
    for batch in stream(tree, examples):
        leaves = batch["nodes"][-1][:, 0]
        items = tree.leaf_items()[leaves - tree.first_leaf]
        seen.extend(items)
        for level, nodes in enumerate(batch["nodes"], 1):
            assert nodes.shape == (len(items), 1 + negatives[level - 1])
            np.testing.assert_array_equal(
                nodes[:, 0], tree.ancestors(level)[items]
            )
            assert np.isin(nodes, tree.occupied(level)).all()
            assert np.all(nodes[:, 1:] != nodes[:, :1])
    assert sorted(seen) == sorted(examples.target_items())


@pytest.mark.parametrize("branching", [2, 3, 8])
def test_siblings_are_the_other_children_with_items(branching):
    tree = initial.random(30, branching=branching, seed=0)
    examples = make_examples(30)
    for batch in stream(tree, examples, siblings=True):
        for level, nodes in enumerate(batch["nodes"], 1):
            occupied = set(tree.occupied(level))
            for first, *others in nodes:
                family = set(
                    tree_lib.children(
                        tree_lib.parent(np.array(first), branching), branching
                    )
                )
                want = sorted(family & occupied - {first})
                assert sorted(n for n in others if n != PAD) == want
                assert len(others) == branching - 1


def test_profiles_follow_the_history():
    tree = initial.random(20, seed=0)
    examples = make_examples(20)
    profile = np.stack([examples.starts, -examples.starts], 1).astype("int32")
    examples = dataclasses.replace(examples, profile=profile)
    order = np.arange(len(examples))
    users = examples.histories(order, T)
    np.testing.assert_array_equal(users[:, T:], profile)
    rows = {tuple(row) for row in users}
    for batch in stream(tree, examples):
        assert {tuple(row) for row in batch["history"]} <= rows


def test_each_sample_comes_once_an_epoch_with_its_history():
    tree = initial.random(500, seed=0)
    rng = np.random.default_rng(0)
    # Items occur once, so that a target names its sample.
    items = (rng.permutation(500)[:60] + 1).astype(np.int32)
    examples = splits.Examples(items, np.arange(60) // 12 * 12, np.arange(60))
    histories = examples.histories(np.arange(60), T)
    sample_of = {int(item): i for i, item in enumerate(items)}
    seen = []
    for batch in stream(tree, examples, batch_size=7):
        targets = tree.leaf_items()[batch["nodes"][-1][:, 0] - tree.first_leaf]
        rows = [sample_of[int(item)] for item in targets]
        np.testing.assert_array_equal(batch["history"], histories[rows])
        seen.extend(rows)
    assert sorted(seen) == list(range(60))
    assert seen != sorted(seen)
    assert np.any(histories == PAD) and np.all(histories[11] != PAD)


def test_a_stream_opened_at_any_batch_goes_on_as_before():
    tree = initial.random(12, seed=0)
    examples = make_examples(12)
    where = {"seed": 5, "epoch": 2, "batch_size": 12}
    whole = stream(tree, examples, **where)
    assert len(whole) > 2
    for start in range(1, len(whole) + 1):
        assert_same(
            stream(tree, examples, **where, start_batch=start), whole[start:]
        )


@pytest.mark.parametrize("other", [{"epoch": 1}, {"seed": 1}])
def test_epochs_and_seeds_differ_in_order_and_negatives(other):
    tree = initial.random(40, seed=0)
    examples = make_examples(40)
    base, changed = stream(tree, examples), stream(tree, examples, **other)
    for column in (0, 1):  # positives, a negative
        nodes, others = (
            np.concatenate([b["nodes"][-1][:, column] for b in batches])
            for batches in (base, changed)
        )
        assert np.any(nodes != others)


def test_levels_and_batches_draw_differently():
    tree = initial.random(256, seed=0)
    examples = splits.Examples(
        np.full(64, 7, np.int32), np.arange(64), np.arange(64)
    )
    batches = stream(tree, examples, negatives=[5] * 8, batch_size=32)
    draws = [
        tree_lib.ancestor(
            batch["nodes"][level - 1][:, 1:],
            from_level=level,
            to_level=6,
            branching=2,
        )
        for batch in batches
        for level in (7, 8)
    ]
    for i, one in enumerate(draws):
        for other in draws[:i]:
            assert np.mean(one == other) < 0.2


@pytest.mark.parametrize("total", [1, 10, 100, 200])
@pytest.mark.parametrize("max_level", [1, 6, 15])
@pytest.mark.parametrize("spread", ["level", "nodes"])
def test_a_total_of_negatives_grows_with_the_level(total, max_level, spread):
    tree = initial.random(2**max_level, seed=0)
    counts = samples.negatives_per_level(total, tree, spread)
    assert len(counts) == max_level and min(counts) >= 1
    assert list(counts) == sorted(counts)
    assert abs(sum(counts) - max(total, max_level)) <= max_level
    if total == 200 and max_level == 15:
        wanted = {"level": 15 / 120, "nodes": 1 - 0.5**0.5}[spread]
        assert abs(counts[-1] / total - wanted) < 0.02


def test_a_list_of_negatives_is_taken_as_it_is():
    tree = initial.random(8, seed=0)
    assert samples.negatives_per_level([3, 1, 2], tree) == (3, 1, 2)
    for wrong in ([1, 2], [1, 0, 2], []):
        with pytest.raises(ValueError, match="3 numbers >= 1"):
            samples.negatives_per_level(wrong, tree)


def test_worlds_without_negatives_or_samples_are_refused():
    with pytest.raises(ValueError, match="no training samples"):
        none = np.zeros(0, np.int64)
        stream(
            initial.random(8, seed=0),
            splits.Examples(none.astype(np.int32), none, none),
        )
    with pytest.raises(ValueError, match="one item"):
        stream(initial.random(1, seed=0), make_examples(1))
    crowded = tree_lib.Tree(np.array([PAD, 8, 9]), max_level=3)
    for open_stream in (stream, beam_stream):
        with pytest.raises(ValueError, match="Level 1 has a single node"):
            open_stream(crowded, make_examples(2))


def test_users_of_one_row_are_samples_without_a_history():
    rows = np.arange(5)
    examples = splits.Examples(rows.astype(np.int32) + 1, rows, rows)
    (batch,) = beam_stream(initial.random(5, seed=0), examples)
    assert not batch["history"].any()
    for targets in batch["targets"]:
        assert len(targets) == 3 and len(set(targets)) == 1
    assert sorted(batch["targets"][:, 0]) == [1, 2, 3, 4, 5]


def beam_stream(tree, examples, **settings):
    """Returns all batches of histories with several targets."""
    settings = {
        "max_history": T,
        "strata": [3] * tree.max_level,
        "targets": 3,
        "horizon": None,
        "batch_size": 8,
    } | settings
    batches = samples.beam_dataset(examples, tree, **settings)
    return list(batches.as_numpy_iterator())


def distinct_examples(users=9, seed=0, copies=1):
    """Returns samples of users whose items all differ.

    Of `copies` users each, one after another, who have as many of them.
    """
    lengths = np.random.default_rng(seed).integers(1, 9, users)
    lengths = np.tile(lengths, copies)
    ends = np.cumsum(lengths)
    return splits.Examples(
        np.arange(1, ends[-1] + 1).astype(np.int32),
        np.repeat(ends - lengths, lengths),
        np.arange(ends[-1]),
    )


def test_what_far_nodes_stand_for():
    """Over the draws each node of a level counts once, however busy it is."""
    rng = np.random.default_rng(0)
    items = (1 + np.minimum(rng.geometric(0.3, 400), 9)).astype(np.int32)
    rows = np.arange(len(items))
    examples = splits.Examples(items, rows // 8 * 8, rows)
    tree = initial.random(13, seed=0)
    strata = [0, 1, 4, 7]
    batches = beam_stream(tree, examples, strata=strata)
    for level, drawn in enumerate(strata, 1):
        far, logs = (
            np.concatenate([batch[name][level - 1] for batch in batches])
            for name in ("far", "far_logs")
        )
        assert far.shape == logs.shape == (len(examples), drawn)
        if not drawn:
            continue
        nodes = tree.occupied(level)
        counted = [np.exp(logs[far == node]).sum() for node in nodes]
        counted = np.array(counted) / len(examples)
        assert len(np.unique(logs[far == nodes[0]])) == 1
        # Rare ones are met seldom.
        np.testing.assert_allclose(counted, 1, atol=5 / len(examples) ** 0.5)
        share = np.bincount(
            tree.ancestors(level)[items], minlength=nodes[-1] + 1
        )
        busiest = np.argmax(share)
        if drawn > 1:
            met = np.mean(far == busiest)
            assert met > 0.4 * share[busiest] / len(items) + 0.4 / len(nodes)


@pytest.mark.parametrize("horizon", [1, 2, None])
def test_targets_follow_their_history(horizon):
    copies, epochs = 20, 2
    examples = distinct_examples(users=5, copies=copies)
    tree = initial.random(len(examples), seed=0)
    of_item = dict(zip(examples.target_items(), range(len(examples))))
    alike = len(examples) // copies
    drawn = {sample: [] for sample in range(alike)}
    for epoch in range(epochs):
        for batch in beam_stream(tree, examples, horizon=horizon, epoch=epoch):
            for history, targets in zip(batch["history"], batch["targets"]):
                before = [item for item in history if item != PAD]
                first = of_item[before[-1]] + 1 if before else None
                samples_here = [of_item[target] for target in targets]
                if first is None:
                    first = examples.starts[min(samples_here)]
                ahead = examples.ends[first] - first
                if horizon is not None:
                    ahead = min(ahead, horizon)
                places = np.array(samples_here) - first
                assert np.all((places >= 0) & (places < ahead))
                assert np.all(np.diff(places) >= 0)
                # One in each third: all different where there are enough.
                if ahead >= 3 and ahead % 3 == 0:
                    assert len(set(places)) == 3
                drawn[first % alike].extend(places)
    for sample, places in drawn.items():
        ahead = examples.ends[sample] - sample
        ahead = min(ahead, horizon or ahead)
        found = np.bincount(places, minlength=ahead)
        # An epoch meets each history once; places are drawn alike.
        assert found.sum() == 3 * copies * epochs
        if ahead > 1:
            assert stats.chisquare(found).pvalue > 1e-5


def test_far_nodes_are_half_even_half_as_targets_are():
    examples = make_examples(25, users=50)
    tree = initial.random(25, seed=0)
    strata = [0, 0] + [4] * (tree.max_level - 2)
    counts = [np.zeros(tree.num_codes, int) for _ in strata]
    for epoch in range(3):
        for batch in beam_stream(tree, examples, strata=strata, epoch=epoch):
            for drawn, nodes in zip(strata, batch["far"]):
                assert nodes.shape == (len(batch["history"]), drawn)
            for count, nodes in zip(counts, batch["far"]):
                np.add.at(count, nodes.ravel(), 1)
    for level, count in enumerate(counts, 1):
        if strata[level - 1]:
            occupied = tree.occupied(level)
            assert count.sum() == count[occupied].sum()
            places = tree.ancestors(level)[examples.target_items()]
            share = np.bincount(places, minlength=tree.num_codes)[occupied]
            wanted = 0.5 / len(occupied) + 0.5 * share / share.sum()
            wanted *= count.sum()
            assert stats.chisquare(count[occupied], wanted).pvalue > 1e-4


def test_a_beam_stream_opened_anywhere_goes_on():
    examples = distinct_examples(users=30)
    tree = initial.random(len(examples), seed=0)
    whole = beam_stream(tree, examples, epoch=2)
    rest = beam_stream(tree, examples, epoch=2, start_batch=3)
    assert len(rest) == len(whole) - 3
    for one, other in zip(whole[3:], rest):
        for name in ("history", "targets"):
            np.testing.assert_array_equal(one[name], other[name])
        for nodes, others in zip(one["far"], other["far"], strict=True):
            np.testing.assert_array_equal(nodes, others)
    short = beam_stream(tree, examples, max_samples=10)
    assert [len(batch["history"]) for batch in short] == [8, 2]


@pytest.mark.parametrize("open_one", [stream, beam_stream])
def test_a_graph_serves_other_streams(open_one):
    """Of other samples, epochs, lengths and seats, and of another tree."""
    rng = np.random.default_rng(0)
    tree, other = (
        tree_lib.Tree.from_order(rng.permutation(count) + 1, branching=3)
        for count in (20, 17)  # of as many levels
    )
    graphs = {}
    for settings in (
        {"tree": tree, "users": 9, "epoch": 0},
        {"tree": tree, "users": 5, "epoch": 3, "max_samples": 7},
        {"tree": tree.replace_pi(np.append(0, tree.pi[:0:-1])), "users": 9},
        {"tree": other, "users": 9, "epoch": 1},
        {"tree": tree, "users": 9, "epoch": 0, "start_batch": 1},
    ):
        tree_of, users = settings.pop("tree"), settings.pop("users")
        examples = make_examples(tree_of.num_items, users)
        want = open_one(tree_of, examples, **settings)
        got = open_one(tree_of, examples, graphs=graphs, **settings)
        assert len(got) == len(want) > 0
        tf.nest.map_structure(np.testing.assert_array_equal, got, want)
    assert len(graphs) == 2
