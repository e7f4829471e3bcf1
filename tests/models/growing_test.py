"""Tests of `models.growing`: what a grown model knows of the one before."""

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf.models import growing
from tests.support import served_models


@pytest.mark.parametrize("scorer", ["mlp", "attention"])
def test_who_begins_to_see_visits_scores_as_before(scorer):
    before, after = (
        served_models.untrained(scorer=scorer, visits=visits, seed=seed)
        for seed, visits in enumerate((False, True))
    )
    growing.see_visits(after, before)
    pairs = list(growing.alike(after, before))
    assert len(pairs) == len(before.scorer.variables) + len(
        before.user_representation.variables
    )
    for mine, theirs in pairs:
        mine.assign(theirs)
    after.embedding.assign(before.embedding.numpy())
    after.set_tree(before.tree)
    users = tf.constant([[3, 3, 9, 3], [0, 0, 0, 7]])
    for level in range(1, before.max_level + 1):
        nodes = tf.repeat(before.tree.occupied(level)[None], 2, 0)
        scores = [
            model.score(users, nodes, level).numpy()
            for model in (before, after)
        ]
        np.testing.assert_allclose(*scores, rtol=1e-5, atol=1e-5)
    # And it does see them, once it has learned to.
    known = {mine.name for mine, _ in pairs}
    for variable in after.scorer.variables:
        if variable.name not in known:
            variable.assign(tf.ones_like(variable))
    seen = after.score(users, nodes, level).numpy()
    assert not np.allclose(seen, scores[0], rtol=1e-3)
