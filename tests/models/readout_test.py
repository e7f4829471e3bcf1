"""The read-out: linear in its features, the same wherever it is laid out."""

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.models import frozen
from jtm_tf.models import saving
from jtm_tf.tree import tree as tree_lib
from tests.support import close
from tests.support import served_models

USERS = tf.constant([[0] * served_models.HISTORY, [0, 3, 3, 50], [9, 1, 30, 2]])
KINDS = {
    "pruned": served_models.KINDS["pruned"],
    "plain": {"readout": 1.0},
    "leaves": {"readout": 3.0, "hierarchical": False, "whole_history": 4},
}


@pytest.fixture(name="model", scope="module", params=KINDS)
def _model(request):
    return served_models.untrained(**KINDS[request.param])


def families(model, level):
    """Returns the nodes below those of the level above, [B, W]."""
    above = model.tree.occupied(level - 1)
    nodes = tree_lib.children(above, model.branching).ravel()
    if level == model.max_level:
        nodes = nodes[np.isin(nodes, model.tree.occupied(level))]
    return tf.tile(nodes[None], [len(USERS), 1])


def test_it_is_linear_in_its_features(model):
    levels = range(1, model.max_level + 1)
    users, described = (
        model.read_out(USERS, levels),
        model.described(USERS, levels),
    )
    cold = frozen.FrozenModel(model)
    laid_out = cold.read_out(USERS, levels)
    for level in levels:
        nodes = families(model, level)
        features = model.readout_features(described, nodes, level).numpy()
        want = features @ model.readout.kernel.numpy()[level - 1]
        close.scores(model.score_read_out(users, nodes, level), want)
        close.scores(cold.score_read_out(laid_out, nodes, level), want)
        walked = model.score_walked(USERS, nodes, level)
        if level == model.max_level:
            want = model.score(USERS, nodes, level).numpy()
        close.scores(walked, want)
        close.scores(cold.score_walked(USERS, nodes, level), want)


def test_it_is_saved_with_the_model(model, tmp_path):
    saving.save(model, tmp_path / "best.keras")
    copy = saving.load(tmp_path / "best.keras")
    assert copy.readout.width == model.readout.width
    np.testing.assert_array_equal(copy.readout.kernel, model.readout.kernel)


def test_a_run_that_goes_on_takes_the_network_alone(tmp_path):
    model, bare = (
        served_models.untrained(readout=2.0),
        served_models.untrained(seed=1),
    )
    saving.save(model, tmp_path / "best.keras")
    saving.restore(bare, tmp_path / "best.keras")
    assert bare.readout is None
    np.testing.assert_array_equal(
        bare.embedding.numpy(), model.embedding.numpy()
    )
    np.testing.assert_array_equal(bare.tree.pi, model.tree.pi)


def test_thawed_it_is_the_same(model):
    theta = [np.asarray(x) for x in frozen.FrozenModel(model).theta]
    other = type(model).from_config(model.get_config())
    frozen.thaw(other, theta)
    np.testing.assert_array_equal(other.readout.kernel, model.readout.kernel)


@pytest.mark.parametrize("kind", ["attention", "hsm", "flat"])
def test_what_has_no_first_layer_has_none(kind):
    with pytest.raises(ValueError, match="A read-out is of scorer='mlp'"):
        served_models.untrained(**served_models.KINDS[kind], readout=2.0)


def test_a_walk_is_never_narrower_than_the_beam():
    with pytest.raises(ValueError, match="width must be >= 1; got 0.5"):
        served_models.untrained(readout=0.5)
