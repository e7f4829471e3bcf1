"""Tests of `jtm_tf.baselines.rivals`: what is tried, and what is kept."""

import dataclasses
import json

import pytest

from jtm_tf.baselines import ease
from jtm_tf.baselines import rivals
from tests.support import purchases


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of a method made up for these tests."""

    width: int = 3
    rate: float = 0.5
    seed: int = 7


@pytest.fixture(name="fitted")
def _fitted(monkeypatch):
    """A method "fake"; a list of what it was fitted with."""
    fitted = []

    def fit(examples, num_items, settings, judge):
        fitted.append(settings)
        rounds = [
            {"validation": judge((settings, i)), "seconds_model": 1.5}
            for i in range(2)
        ]
        return settings, rounds

    rival = rivals.Rival(Settings, {"rate": (0.1, 0.2)}, fit)
    monkeypatch.setitem(rivals.METHODS, "fake", rival)
    return fitted


def test_every_combination_is_tried_and_the_best_kept(fitted):
    config = rivals.RivalConfig("fake", seed=4, tries={"width": (1, 2)})
    assert config.tries == {"width": (1, 2), "rate": (0.1, 0.2)}
    recall = {(1, 0.1): 3, (1, 0.2): 8, (2, 0.1): 9, (2, 0.2): 9}

    def judge(model):
        settings, number = model
        return {"recall": recall[settings.width, settings.rate] - number}

    found = config.fit(purchases.examples_of([[1]]), 1, judge)
    assert fitted == [
        Settings(1, 0.1, 4),
        Settings(1, 0.2, 4),
        Settings(2, 0.1, 4),
        Settings(2, 0.2, 4),
    ]
    assert found.model == Settings(2, 0.1, 4)  # of equals the first
    records = found.records()
    assert records["best_iteration"] == 1
    assert records["chosen"] == {"width": 2, "rate": 0.1}
    assert records["tuned"] == [
        {"width": w, "rate": r, "recall": recall[w, r], "seconds": 3.0}
        for w, r in recall
    ]
    rest = {"seconds_model": 1.5, "seconds_tree": 0.0, "moved_items": 0}
    assert records["iterations"] == [
        {"iteration": 1, "validation": {"recall": 9}, **rest},
        {"iteration": 2, "validation": {"recall": 8}, **rest},
    ]


def test_one_round_of_a_method_that_has_none():
    examples = purchases.examples_of([[1, 2], [2, 3]])
    fit = rivals.at_once(ease.EASE.fit)
    model, rounds = fit(
        examples, 3, ease.EASEConfig(), judge=lambda model: {"recall": 0.25}
    )
    assert isinstance(model, ease.EASE)
    (record,) = rounds
    assert record["validation"] == {"recall": 0.25}
    assert record["seconds_model"] >= 0


@pytest.mark.parametrize("method", rivals.METHODS)
def test_the_defaults_are_told_in_full(method):
    config = rivals.RivalConfig(method)
    told = json.loads(json.dumps(dataclasses.asdict(config)))["tries"]
    assert list(told) == rivals.METHODS[method].names()
    assert "seed" not in told and all(told.values())
    assert 1 < len(config.candidates()) <= 16


def test_bad_arguments():
    with pytest.raises(ValueError, match="must be one of .* got 'svd'"):
        rivals.RivalConfig("svd")
    with pytest.raises(ValueError, match="ease has the settings .* got alpha"):
        rivals.RivalConfig("ease", tries={"alpha": (1.0,)})
    with pytest.raises(ValueError, match="regularization must be"):
        rivals.RivalConfig("ease", tries={"regularization": (1.0, -1.0)})
