"""Where new items go in a tree that stays: the trial and the program."""

import json

import numpy as np
import pytest

from experiments.trials import held_out_items
from experiments.trials import new_items
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.search import model_search
from jtm_tf.tree import initial
from tests.support import served_models
from tests.support import shell
from tests.support import worlds


@pytest.fixture(name="data_dir", scope="module")
def _data_dir(tmp_path_factory):
    return worlds.prepare(tmp_path_factory.mktemp("placement"))


def test_nothing_of_held_out_items_is_trained_on(data_dir):
    data = interactions.load(data_dir)
    held = held_out_items.hold_out(data, share=0.1, seed=0)
    assert len(held.items) == 5 == data.num_items - held.rest.num_items
    raw = data.items["raw_id"].to_numpy()
    kept = np.setdiff1d(np.arange(1, data.num_items + 1), held.items)
    rest = held.rest.items["raw_id"].to_numpy()
    np.testing.assert_array_equal(rest, raw[kept - 1])
    rows = np.isin(data.item, kept)
    np.testing.assert_array_equal(
        rest[held.rest.item - 1], raw[data.item[rows] - 1]
    )
    assert held.rest.manifest["fingerprint"] != data.manifest["fingerprint"]
    # An update's samples are theirs, in the numbers that it gives them.
    numbers = held.renumbered[held.items]
    samples = held.examples(None, seed=0)
    assert set(samples.target_items()) <= set(numbers)
    few = np.bincount(held.examples(2, seed=0).target_items())
    assert few.max() == 2
    with pytest.raises(ValueError, match="share must be in"):
        held_out_items.hold_out(data, share=1, seed=0)


def test_at_random_fills_free_leaves():
    tree = initial.random(50)
    grown = new_items.at_random(tree, 14, seed=1)
    np.testing.assert_array_equal(grown.pi[:51], tree.pi)
    assert np.all(grown.leaf_items() > 0) and grown.num_items == 64


def test_recalls_against_a_loop(data_dir):
    users = splits.held_out_users(interactions.load(data_dir), "test", 4)
    trial = new_items.Trial(str(data_dir), num_results=6, beam_width=8)
    model, new = served_models.untrained(), np.arange(51) > 40
    found = model_search.recommend_users(
        model, users, num_results=6, beam_width=8
    )
    wanted = {"new": new, "old": ~new, "all": np.ones(51, bool)}
    recalls = {name: [] for name in wanted}
    for row, items in enumerate(found):
        for name, chosen in wanted.items():
            truth = {i for i in users.truth[row] if chosen[i]}
            if truth:
                recalls[name].append(len(truth & set(items)) / len(truth))
    got = new_items.recalls(trial, model, users, new)
    assert got == pytest.approx(
        {name: np.mean(values) for name, values in recalls.items()}, abs=1e-5
    )


@pytest.mark.slow
def test_the_program(data_dir, tmp_path):
    status, stdout, stderr = shell.run(
        "experiments.placement",
        f"--data_dir={data_dir}",
        f"--runs_dir={tmp_path / 'runs'}",
        f"--out={tmp_path / 'placement.json'}",
        "--joint_iterations=1",
        "--num_results=10",
        "--beam_width=10",
        "--noretrain",
    )
    assert status == 0, stderr
    report = json.loads((tmp_path / "placement.json").read_text())
    assert json.loads(stdout.splitlines()[-1]) == report
    seed = report["seeds"]["0"]
    assert (seed["items"], seed["new_items"]) == (50, 5)
    assert list(seed["recall"]) == [
        "random leaf",
        "category",
        "histories",
        "histories and category",
        "at most 3 histories",
        "at most 3 histories and category",
    ]
    for found in seed["recall"].values():
        assert set(found) == {"new", "old", "all"}
        assert all(0 <= recall <= 1 for recall in found.values())
