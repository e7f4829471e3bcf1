"""Tests of `jtm_tf.models.layers` against loops and concatenation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from jtm_tf import tree_init
from jtm_tf.models import layers
from jtm_tf.models import scorers
from jtm_tf.types import PAD

WINDOWS = (4, 2, 1)
DIM = 3


def leaky(x):
    return np.where(x > 0, x, scorers.SLOPE * x)


def embedding_of(tree):
    embedding = layers.NodeEmbedding(tree.num_codes, DIM)
    embedding.build()
    return embedding


def histories(tree, lengths, seed=0):
    """Returns left-padded leaves, [B, T]."""
    rng = np.random.default_rng(seed)
    leaves = np.full((len(lengths), sum(WINDOWS)), PAD, np.int32)
    for row, length in zip(leaves, lengths):
        if length:
            row[-length:] = rng.choice(tree.pi[1:], length)
    return leaves


def pooled_by_loops(tree, table, leaves, level):
    """Lifts by repeated parents and averages a window at a time."""
    users = np.zeros((len(leaves), len(WINDOWS), DIM))
    for user, row in enumerate(leaves):
        first = 0
        for window, length in enumerate(WINDOWS):
            vectors = []
            for node in row[first : first + length]:
                if node == PAD:
                    continue
                for _ in range(tree.max_level - level):
                    node = (node - 2) // tree.branching + 1
                vectors.append(table[node])
            if vectors:
                users[user, window] = np.mean(vectors, axis=0)
            first += length
    return users.reshape(len(leaves), -1)


@pytest.mark.parametrize("branching", [2, 3, 8])
def test_users_are_pooled_in_nodes_of_each_level(branching):
    tree = tree_init.random(40, branching=branching, seed=1)
    embedding = embedding_of(tree)
    leaves = histories(tree, [7, 0, 1, 5, 7])
    levels = list(range(tree.max_level + 1))
    got = layers.UserRepresentation(WINDOWS)(
        leaves, embedding=embedding, tree=tree, levels=levels
    )
    table = embedding.table.numpy()
    for level, users in zip(levels, got):
        want = pooled_by_loops(tree, table, leaves, level)
        np.testing.assert_allclose(users, want, atol=1e-6)


def test_an_empty_history_maps_to_zeros():
    tree = tree_init.random(9, seed=0)
    represent = layers.UserRepresentation(WINDOWS)
    for lengths in ([0], [0, 0], [0, 3]):
        (users,) = represent(
            histories(tree, lengths),
            embedding=embedding_of(tree),
            tree=tree,
            levels=[tree.max_level],
        )
        assert not np.any(users[0])
    (nobody,) = represent(
        histories(tree, []),
        embedding=embedding_of(tree),
        tree=tree,
        levels=[1],
    )
    assert nobody.shape == (0, len(WINDOWS) * DIM)


def test_padding_more_does_not_change_a_user():
    tree = tree_init.random(30, seed=0)
    embedding = embedding_of(tree)
    leaves = histories(tree, [5, 2], seed=2)
    longer = np.pad(leaves, [(0, 0), (6, 0)], constant_values=PAD)
    oldest, *newer = WINDOWS
    for level in (2, tree.max_level):
        got = [
            layers.UserRepresentation(windows)(
                rows, embedding=embedding, tree=tree, levels=[level]
            )[0]
            for windows, rows in (
                (WINDOWS, leaves),
                ((oldest + 6, *newer), longer),
            )
        ]
        np.testing.assert_array_equal(*got)


def test_the_gradient_of_a_table_counts_repeats():
    tree = tree_init.random(8, seed=0)
    embedding = embedding_of(tree)
    leaves = np.zeros((2, sum(WINDOWS)), np.int32)
    leaves[0, :4] = leaves[1, 0] = tree.pi[3]  # 4 / 4 of one mean, 1 / 1
    with tf.GradientTape() as tape:
        (users,) = layers.UserRepresentation(WINDOWS)(
            leaves, embedding=embedding, tree=tree, levels=[tree.max_level]
        )
        total = tf.reduce_sum(users)
    gradient = tf.convert_to_tensor(
        tape.gradient(total, embedding.table.value)
    )
    want = np.zeros((tree.num_codes, DIM))
    want[tree.pi[3]] = 2.0
    np.testing.assert_allclose(gradient, want, atol=1e-6)


def plain_scores(scorer, users, nodes):
    """The network as the paper draws it: [user; node] for every pair."""
    rows = []
    for user, candidates in zip(users, nodes):
        pairs = np.array([np.concatenate([user, n]) for n in candidates])
        x = pairs @ np.concatenate([scorer.user_kernel, scorer.node_kernel])
        x += scorer.biases[0].numpy()
        for kernel, bias in zip(scorer.kernels, scorer.biases[1:]):
            x = leaky(x) @ kernel.numpy() + bias.numpy()
        rows.append(x[:, 0])
    return np.array(rows)


@pytest.mark.parametrize("width", [1, 5, scorers._WIDE, 90])
def test_the_factored_scorer_is_the_plain_network(width):
    keras.utils.set_random_seed(0)
    scorer = scorers.NodeScorer(6, DIM, hidden=(8, 5))
    scorer.build()
    rng = np.random.default_rng(0)
    for bias in scorer.biases:
        bias.assign(rng.normal(size=bias.shape))
    users = rng.normal(size=(4, 6)).astype(np.float32)
    nodes = rng.normal(size=(4, width, DIM)).astype(np.float32)
    want = plain_scores(scorer, users, nodes)
    np.testing.assert_allclose(scorer(users, nodes), want, atol=1e-5)
    # Where widths are unknown to the graph, too.
    any_width = tf.function(
        scorer,
        input_signature=[
            tf.TensorSpec([None, 6]),
            tf.TensorSpec([None, None, DIM]),
        ],
    )
    np.testing.assert_allclose(any_width(users, nodes), want, atol=1e-5)


def test_the_rectifier_has_the_gradient_of_leaky_relu():
    x = tf.constant([-2.0, -0.5, 0.0, 0.5, 2.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours = tf.reduce_sum(scorers.rectified(x) * [1.0, 2.0, 3.0, 4.0, 5.0])
        stock = tf.reduce_sum(
            tf.nn.leaky_relu(x, scorers.SLOPE) * [1.0, 2.0, 3.0, 4.0, 5.0]
        )
    assert ours == stock
    np.testing.assert_array_equal(
        tape.gradient(ours, x), tape.gradient(stock, x)
    )


@pytest.mark.parametrize(
    "layer",
    [
        layers.NodeEmbedding(9, 4, stddev=0.5),
        layers.UserRepresentation((3, 1)),
        scorers.NodeScorer(6, 3, hidden=(5, 4)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
