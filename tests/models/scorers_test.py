"""Tests of `models.scorers` and `models.attention` against loops over pairs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.models import attention
from jtm_tf.models import scorers
from tests.support import close

DIM, HIDDEN, WINDOWS = 3, (8, 5), (3, 2)
USERS, LENGTH = 4, sum(WINDOWS)


def leaky(x):
    return np.where(x > 0, x, scorers.SLOPE * x)


def built(scorer):
    """Builds a scorer and draws every weight, also those that start at 0."""
    keras.utils.set_random_seed(0)
    scorer.build()
    rng = np.random.default_rng(0)
    for weight in scorer.weights:
        weight.assign(rng.normal(size=weight.shape))
    return scorer


def draw(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def perceptron(scorer, x):
    """Returns the network's output for one row of the first layer."""
    x = x + scorer.biases[0].numpy()
    for kernel, bias in zip(scorer.kernels, scorer.biases[1:]):
        x = leaky(x) @ kernel.numpy() + bias.numpy()
    return x[0]


def each_pair(users, nodes, score):
    """Scores pair by pair, [B, W]."""
    return np.array(
        [
            [score(u, w) for w in range(nodes.shape[1])]
            for u in range(len(users))
        ]
    )


@pytest.mark.parametrize("width", [1, 5, scorers.WIDE, 90])
@pytest.mark.parametrize("products, direct", [(0, 0), (2, 0), (2, 1)])
@pytest.mark.parametrize("pair_dim", [0, 4])
def test_the_factored_scorer_is_the_plain_network(
    width, products, direct, pair_dim
):
    user_dim = 7
    scorer = built(
        scorers.NodeScorer(
            user_dim, DIM, HIDDEN, pair_dim, products, bool(direct)
        )
    )
    if direct:
        scorer.gains.assign([0.02, -0.01])
    users = draw(USERS, user_dim, seed=1)
    nodes = draw(USERS, width, DIM, seed=2)
    pairs = draw(USERS, width, pair_dim, seed=3) if pair_dim else None

    def score(u, w):
        x = users[u] @ scorer.user_kernel.numpy()
        x += nodes[u, w] @ scorer.node_kernel.numpy()
        for i in range(products):
            window = users[u, i * DIM : (i + 1) * DIM]
            x += window @ nodes[u, w] * scorer.product_kernel.numpy()[i]
        if pair_dim:
            x += pairs[u, w] @ scorer.pair_kernel.numpy()
        told = perceptron(scorer, x)
        if direct:
            windows = users[u, : products * DIM].reshape(products, DIM)
            chances = 100 * scorer.gains.numpy() @ windows @ nodes[u, w]
            told += np.log1p(max(chances, 0)) + 0.01 * min(chances, 0)
        return told

    want = each_pair(users, nodes, score)
    got = scorer(users, nodes, pairs)
    close.scores(got, want)
    # Where widths are unknown to the graph, too.
    if pairs is None:
        any_width = tf.function(
            scorer,
            input_signature=[
                tf.TensorSpec([None, user_dim]),
                tf.TensorSpec([None, None, DIM]),
            ],
        )
        close.scores(any_width(users, nodes), want)
    else:  # No features of pairs are as good as zeros.
        close.scores(scorer(users, nodes), scorer(users, nodes, pairs * 0))


@pytest.mark.parametrize("width", [7, scorers.WIDE])
@pytest.mark.parametrize("profile_dim", [0, 2])
def test_attention_weighs_each_behaviour_by_the_node(profile_dim, width):
    scorer = built(
        attention.AttentionScorer(
            WINDOWS, DIM, HIDDEN, profile_dim=profile_dim, unit=6
        )
    )
    behaviours = draw(USERS, LENGTH, DIM, seed=1)
    behaviours[0, :4] = behaviours[1] = 0.0  # padding; nothing known at all
    profile = draw(USERS, profile_dim, seed=2)
    nodes = draw(USERS, width, DIM, seed=3)
    own, product, of_node = (k.numpy() for k in scorer.unit_kernels)

    def score(u, w):
        node, pooled, first = nodes[u, w], [], 0
        for length in WINDOWS:
            vectors = []
            for h in behaviours[u, first : first + length]:
                if np.any(h):
                    x = h @ own + (h * node) @ product + node @ of_node
                    x = leaky(x + scorer.unit_bias.numpy())
                    vectors.append(x @ scorer.unit_output.numpy()[:, 0] * h)
            pooled.append(np.mean(vectors or [np.zeros(DIM)], axis=0))
            first += length
        x = np.concatenate([*pooled, profile[u]]) @ scorer.user_kernel.numpy()
        return perceptron(scorer, x + node @ scorer.node_kernel.numpy())

    close.scores(
        scorer((behaviours, profile), nodes),
        each_pair(behaviours, nodes, score),
    )


def test_the_product_is_that_of_tower_and_node():
    scorer = built(scorers.ProductScorer(7, DIM, HIDDEN))
    users, nodes = draw(USERS, 7, seed=1), draw(USERS, 6, DIM, seed=2)
    vectors = users
    for i, (kernel, bias) in enumerate(zip(scorer.kernels, scorer.biases)):
        vectors = (leaky(vectors) if i else vectors) @ kernel.numpy()
        vectors += bias.numpy()
    want = each_pair(users, nodes, lambda u, w: vectors[u] @ nodes[u, w])
    close.scores(scorer(users, nodes), want)


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
