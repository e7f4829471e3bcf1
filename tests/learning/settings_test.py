"""Tests of `learning.settings`: what a run was asked for, read back."""

import dataclasses
import math

import pytest

from jtm_tf import files
from jtm_tf.learning import settings


def as_json(config):
    """Returns settings as a config.json has them."""
    return files.as_json(dataclasses.asdict(config))


@pytest.mark.parametrize("method", settings.METHODS)
def test_settings_come_back_from_json(method):
    config = settings.from_flat(
        method=method,
        seed=3,
        cuts=((20, 40), (7, 9)),
        profile=("age",),
        negatives=(1, 2, 3),
        slack=math.inf,
        gap=2,
    )
    assert settings.from_json(as_json(config)) == config


def test_settings_of_another_version_come_back_as_far_as_they_go():
    old = as_json(settings.from_flat(method="tdm", gap=2, batch_size=7))
    del old["path_weight"], old["tree_learning"]["kin_strength"]
    old |= {"heating": "gas", "training": {**old["training"], "warm": True}}
    want = settings.from_flat(method="tdm", gap=2, batch_size=7)
    assert settings.from_json(old) == want
    assert settings.from_json({"method": "tdm"}).method == "tdm"


def test_an_unknown_setting_is_refused_and_its_like_are_named():
    with pytest.raises(ValueError, match="'negative'; did you mean negatives"):
        settings.from_flat(negative=3)


def test_one_seed_is_that_of_all_parts():
    config = settings.from_flat(seed=5)
    assert config.seed == config.tree_learning.seed == 5


@pytest.mark.parametrize("name", ["path_weight", "new_share"])
@pytest.mark.parametrize("value", [-0.1, 1.01, math.nan])
def test_a_share_beyond_one_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\]; got"):
        settings.from_flat(**{name: value})
