"""Tests of `jtm_tf.models.user_representation` against loops."""

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.models import embedding as embedding_lib
from jtm_tf.models import user_representation
from jtm_tf.tree import initial
from jtm_tf.types import PAD
from tests.support import close

WINDOWS = (4, 2, 1)
DIM = 3


def embedding_of(tree):
    embedding = embedding_lib.NodeEmbedding(tree.num_codes, DIM)
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
    tree = initial.random(40, branching=branching, seed=1)
    embedding = embedding_of(tree)
    leaves = histories(tree, [7, 0, 1, 5, 7])
    levels = list(range(tree.max_level + 1))
    got = user_representation.UserRepresentation(WINDOWS)(
        leaves, embedding=embedding, tree=tree, levels=levels
    )
    table = embedding.numpy()
    for level, users in zip(levels, got):
        want = pooled_by_loops(tree, table, leaves, level)
        np.testing.assert_allclose(users, want, atol=1e-6)


def test_an_empty_history_maps_to_zeros():
    tree = initial.random(9, seed=0)
    represent = user_representation.UserRepresentation(WINDOWS)
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
    tree = initial.random(30, seed=0)
    embedding = embedding_of(tree)
    leaves = histories(tree, [5, 2], seed=2)
    longer = np.pad(leaves, [(0, 0), (6, 0)], constant_values=PAD)
    oldest, *newer = WINDOWS
    for level in (2, tree.max_level):
        got = [
            user_representation.UserRepresentation(windows)(
                rows, embedding=embedding, tree=tree, levels=[level]
            )[0]
            for windows, rows in (
                (WINDOWS, leaves),
                ((oldest + 6, *newer), longer),
            )
        ]
        close.scores(*got)


def test_the_gradient_of_a_table_counts_repeats():
    tree = initial.random(8, seed=0)
    embedding = embedding_of(tree)
    leaves = np.zeros((2, sum(WINDOWS)), np.int32)
    leaves[0, :4] = leaves[1, 0] = tree.pi[3]  # 4 / 4 of one mean, 1 / 1
    with tf.GradientTape() as tape:
        (users,) = user_representation.UserRepresentation(WINDOWS)(
            leaves, embedding=embedding, tree=tree, levels=[tree.max_level]
        )
        total = tf.reduce_sum(users)
    gradient = tf.convert_to_tensor(
        tape.gradient(total, embedding.tables[0].value)
    )
    want = np.zeros((tree.num_codes, DIM))
    want[tree.pi[3]] = 2.0
    np.testing.assert_allclose(gradient, want, atol=1e-6)


@pytest.mark.parametrize("level", [1, 3, 5])
def test_a_sequence_has_every_behaviour_of_the_level(level):
    tree = initial.random(30, seed=0)
    embedding = embedding_of(tree)
    leaves = histories(tree, [5, 0, 7])
    (got,) = user_representation.UserSequence()(
        leaves, embedding=embedding, tree=tree, levels=[level]
    )
    nodes = leaves >> (tree.max_level - level)
    want = embedding.numpy()[nodes] * (leaves != PAD)[..., None]
    np.testing.assert_array_equal(got, want)


def test_profiles_are_looked_up_by_feature():
    profile = user_representation.Profile((3, 4), width=2)
    profile.build()
    first, second = (table.numpy() for table in profile.tables)
    got = profile(np.array([[2, 0], [0, 3]]))
    want = np.hstack([first[[2, 0]], second[[0, 3]]])
    np.testing.assert_array_equal(got, want)
    assert user_representation.Profile()(np.zeros((3, 0), np.int32)).shape == (
        3,
        0,
    )
