"""Tests of `jtm_tf.search.level_recall`: by level, against sets and loops."""

import numpy as np
import pytest

from jtm_tf.models import tree_model
from jtm_tf.search import judging
from jtm_tf.search import level_recall
from jtm_tf.tree import initial
from tests.support import judged


@pytest.mark.parametrize("path_weight", [0.0, 0.5])
@pytest.mark.parametrize("beam_width", [3, 8])
def test_level_recall(beam_width, path_weight):
    model = judged.make_model(path_weight=path_weight)
    users, tree = judged.held_out(3), model.tree
    found = level_recall.level_recall(
        model, users, beam_width=beam_width, batch_size=3
    )
    search = judging.retriever(
        model, num_results=beam_width, beam_width=beam_width
    )
    kept = dict(zip(search.levels, search.beams(users.history)))
    truth = judged.lists(users.truth, users.truth_offsets)
    assert list(found) == list(search.levels)
    for level, share in found.items():
        ancestors = tree.ancestors(level)
        want = np.mean(
            [
                np.mean([ancestors[item] in set(row) for item in items])
                for items, row in zip(truth, kept[level].numpy())
            ]
        )
        assert share == pytest.approx(want)
    shares = list(found.values())
    assert shares == sorted(shares, reverse=True)
    last = judging.judge_model(
        model, users, num_results=beam_width, beam_width=beam_width
    )
    assert shares[-1] == pytest.approx(last["recall"], abs=1e-6)


def test_a_flat_tree_has_no_levels():
    tree = initial.flat(9)
    model = tree_model.TreeModel(9, 1, 9, embedding_dim=4)
    model.set_tree(tree)
    with pytest.raises(ValueError, match="no levels"):
        level_recall.level_recall(model, judged.held_out(0), beam_width=3)
