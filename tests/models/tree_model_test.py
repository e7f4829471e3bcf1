"""Tests of `jtm_tf.models.tree_model`: saving, fitting, probabilities."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.data import splits
from jtm_tf.learning import optimizer as optimizer_lib
from jtm_tf.learning import samples
from jtm_tf.models import choices
from jtm_tf.models import tree_model
from jtm_tf.tree import initial
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD
from tests.support import close

ITEMS = 30
WINDOWS = (4, 2, 1)


def make_model(*, branching=2, **settings):
    """Returns a small model on a random tree."""
    keras.utils.set_random_seed(1)
    tree = initial.random(ITEMS, branching=branching, seed=2)
    model = tree_model.TreeModel(
        ITEMS,
        tree.max_level,
        branching,
        embedding_dim=4,
        windows=WINDOWS,
        hidden=(8, 6),
        **settings,
    )
    model.set_tree(tree)
    return model


def make_history(users, seed=0):
    """Returns left-padded items, [users, T]."""
    rng = np.random.default_rng(seed)
    history = rng.integers(1, ITEMS + 1, (users, sum(WINDOWS)))
    for row, start in zip(history, rng.integers(0, sum(WINDOWS) + 1, users)):
        row[:start] = PAD
    return history.astype(np.int32)


def all_nodes(model, level, users):
    """Returns every occupied node of a level for every user, [users, W]."""
    return np.tile(model.tree.occupied(level), (users, 1))


@pytest.mark.parametrize("hierarchical", [True, False])
@pytest.mark.parametrize("branching", [2, 3])
def test_a_saved_model_comes_back_with_its_tree(
    tmp_path, branching, hierarchical
):
    model = make_model(
        branching=branching, hierarchical=hierarchical, loss="bce"
    )
    path = tmp_path / "model.keras"
    model.save(path)
    copy = keras.saving.load_model(path)
    np.testing.assert_array_equal(copy.tree.pi, model.tree.pi)
    assert copy.tree.branching == branching
    history = make_history(5)
    for level in range(1, model.max_level + 1):
        nodes = all_nodes(model, level, 5)
        np.testing.assert_array_equal(
            copy.log_prob(history, nodes, level),
            model.log_prob(history, nodes, level),
        )


@pytest.mark.parametrize(
    "loss",
    [
        "beam",
        *(
            pytest.param(loss, marks=pytest.mark.slow)
            for loss in choices.LOSSES
            if loss != "beam"
        ),
    ],
)
def test_compile_and_fit_lower_the_loss(loss):
    model = make_model(loss=loss)
    rng = np.random.default_rng(0)
    # Everybody buys items 1, 2, 3 in turn: easy to learn.
    items = (np.arange(200) + rng.integers(0, 2, 200)) % 3 + 1
    starts = np.arange(200) // 10 * 10
    stream = samples.dataset(
        splits.Examples(items.astype(np.int32), starts, np.arange(200)),
        model.tree,
        max_history=model.max_history,
        negatives=10,
        batch_size=20,
    )
    model.compile(optimizer=optimizer_lib.RowSparseAdam(0.01))
    before = model.evaluate(stream, verbose=0, return_dict=True)["loss"]
    model.fit(stream, epochs=4, shuffle=False, verbose=0)
    after = model.evaluate(stream, verbose=0, return_dict=True)["loss"]
    assert after < 0.7 * before


def leaky(x):
    return np.where(x > 0, x, 0.25 * x)


@pytest.mark.parametrize("hierarchical", [True, False])
def test_scores_are_those_of_the_plain_network(hierarchical):
    model = make_model(hierarchical=hierarchical)
    history, tree = make_history(3, seed=3), model.tree
    table, scorer = model.embedding.numpy(), model.scorer
    first = np.concatenate(
        [scorer.user_kernel, scorer.node_kernel, scorer.product_kernel]
    )
    bounds = np.cumsum([0, *WINDOWS])
    for level in range(1, model.max_level + 1):
        described = tree.ancestors(level if hierarchical else tree.max_level)
        nodes = all_nodes(model, level, 3)
        want = np.zeros(nodes.shape)
        for user, row in enumerate(history):
            windows = []
            for begin, end in zip(bounds, bounds[1:]):
                known = [c for c in row[begin:end] if c != PAD]
                vectors = table[described[known]] if known else np.zeros((1, 4))
                windows.append(vectors.mean(axis=0))
            for column, node in enumerate(nodes[user]):
                products = [window @ table[node] for window in windows]
                x = np.concatenate([*windows, table[node], products]) @ first
                x += scorer.biases[0].numpy()
                for kernel, bias in zip(scorer.kernels, scorer.biases[1:]):
                    x = leaky(x) @ kernel.numpy() + bias.numpy()
                want[user, column] = x[0]
        close.scores(model.score(history, nodes, level), want)


def test_the_losses_of_a_level():
    for loss in choices.LOSSES:
        model = make_model(loss=loss)
        inputs = {
            "history": make_history(4),
            "nodes": tuple(
                all_nodes(model, level, 4)[:, :3]
                for level in range(1, model.max_level + 1)
            ),
        }
        want = []
        for logits in model(inputs):
            logits = logits.numpy().astype(np.float64)
            if loss == "softmax":
                p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                want.append(-np.log(p[:, 0]).mean())
            else:
                p = 1 / (1 + np.exp(-logits))
                wrong = np.log(1 - p[:, 1:]).sum(axis=1)
                want.append(-(np.log(p[:, 0]) + wrong).mean())
        np.testing.assert_allclose(model.level_losses(inputs), want, rtol=1e-5)


def test_log_prob_of_bce_is_log_sigmoid_and_of_softmax_the_logit():
    history = make_history(3)
    for loss, link in (
        ("bce", lambda x: -np.log1p(np.exp(-x))),
        ("softmax", lambda x: x),
    ):
        model = make_model(loss=loss)
        nodes = all_nodes(model, 3, 3)
        logits = model.score(history, nodes, 3).numpy()
        close.scores(model.log_prob(history, nodes, 3), link(logits))


def test_padding_more_and_company_do_not_change_a_user():
    model = make_model()
    history = make_history(6)
    nodes = all_nodes(model, model.max_level, 6)
    together = model.score(history, nodes, model.max_level)
    for user in range(6):
        alone = model.score(
            history[user : user + 1], nodes[:1], model.max_level
        )
        close.scores(alone[0], together[user])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="loss must be one of"):
        make_model(loss="hinge")
    model = make_model()
    with pytest.raises(ValueError, match="was built for"):
        model.set_tree(tree_lib.Tree.from_order(np.arange(1, 9)))


def test_a_step_touches_only_the_batch_s_rows():
    model = make_model(loss="bce")
    model.optimizer = optimizer_lib.RowSparseAdam(0.01)
    model.optimizer.build(model.trainable_variables)
    before = model.embedding.numpy()
    tree = model.tree
    history = np.zeros((1, sum(WINDOWS)), np.int32)
    history[0, -1] = 5
    nodes = tuple(
        tf.constant(tree.occupied(level)[None, :2])
        for level in range(1, tree.max_level + 1)
    )
    model.step({"history": tf.constant(history), "nodes": nodes})
    changed = np.any(model.embedding.numpy() != before, axis=1)
    used = {int(n) for level in nodes for n in level.numpy().ravel()}
    used |= {
        int(tree.ancestors(level)[5]) for level in range(1, tree.max_level + 1)
    }
    assert set(np.flatnonzero(changed)) == used


def test_a_step_reads_once_for_all_levels():
    """Weights, and rows: they may lie on another machine."""
    reads = []
    for branching in (2, 6):  # five levels, and two
        model = make_model(branching=branching)
        model.optimizer = optimizer_lib.RowSparseAdam()
        model.optimizer.build(model.trainable_variables)
        spec = {
            "history": tf.TensorSpec([None, model.user_width], tf.int32),
            "nodes": (tf.TensorSpec([None, 3], tf.int32),) * model.max_level,
        }
        graph = tf.function(model.step).get_concrete_function(spec).graph
        kinds = [operation.type for operation in graph.get_operations()]
        reads.append(
            [kinds.count(x) for x in ("ReadVariableOp", "ResourceGather")]
        )
    assert reads[0] == reads[1]


@pytest.mark.parametrize("hierarchical", [True, False])
def test_vectors_give_the_scores_of_items(hierarchical):
    model = make_model(
        scorer="product", hierarchical=hierarchical, profile_sizes=(3,)
    )
    users = np.column_stack([make_history(5), np.arange(5) % 3])
    products = model.user_vectors(users) @ tf.transpose(model.item_vectors())
    leaves = np.tile(model.tree.pi[1:], (5, 1))
    close.scores(products[:, 1:], model.score(users, leaves, model.max_level))


def test_a_network_has_no_vectors_of_users():
    with pytest.raises(ValueError, match="scorer='product'.* 'mlp'"):
        make_model().user_vectors(make_history(2))
