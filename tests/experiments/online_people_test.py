"""Tests of `experiments.online.people`, against loops over single persons."""

import numpy as np
import pytest

from experiments.online import people as people_lib
from jtm_tf.tree import tree as tree_lib


def drawn(**habits):
    return people_lib.People(
        200, 300, people_lib.Habits(taste_items=8, **habits), seed=3
    )


def closeness(people, person, item):
    """Returns how close an item lies to a person's tastes, step by step."""
    if item == 0:
        return 0.0
    total = 0.0
    for taste, love in zip(people.tastes[person], people.love[person]):
        node, level = int(people.tree.pi[item]), people.tree.max_level
        while level > people.level:
            node, level = (node - 2) // 2 + 1, level - 1
        taste = int(taste)
        for share in people_lib.CLOSENESS:
            if node == taste:
                total += love * share
                break
            node, taste = (node - 2) // 2 + 1, (taste - 2) // 2 + 1
    return total


def test_closeness_and_chances_against_a_loop():
    people = drawn()
    rng = np.random.default_rng(0)
    who = rng.integers(0, len(people), 50)
    items = rng.integers(0, people.num_items + 1, (50, 30))
    got = people.closeness(who, items)
    want = [
        [closeness(people, person, item) for item in row]
        for person, row in zip(who, items)
    ]
    np.testing.assert_allclose(got, want)
    assert np.any(got > 0.3) and np.any(got == 0)
    habits = people.habits
    chances = people.chances(who, items)
    np.testing.assert_array_equal(chances[items == 0], 0)
    assert chances[items > 0].min() == habits.least
    assert chances.max() <= habits.most


def test_clicks_come_as_often_as_the_chances_say():
    people = drawn()
    who = np.repeat(np.arange(40), 500)
    items = np.tile(np.arange(1, 11), (len(who), 1))
    clicks = people.click(who, items)
    looks = people.habits.patience ** np.arange(10)
    want = (people.chances(who, items) * looks).mean(axis=0)
    np.testing.assert_allclose(clicks.mean(axis=0), want, rtol=0.15)


def test_people_find_what_they_like_and_can_have():
    people = drawn()
    available = np.ones(people.num_items + 1, bool)
    available[1::3] = False
    who, items = people.find(available, mean=20.0)
    assert available[items].all() and items.min() > 0
    assert len(who) == pytest.approx(20 * len(people), rel=0.05)
    close = people.closeness(who, items[:, None])[:, 0]
    assert np.all(close > 0), "nothing is taken that is of no taste"
    # The dearest taste is met as often as it is loved.
    best = people.love.argmax(axis=1)
    taste = people.tastes[np.arange(len(people)), best]
    nodes = people.tree.ancestors(people.level)
    within = nodes[items] == taste[who]
    share = people_lib.CLOSENESS[0] / sum(people_lib.CLOSENESS)
    assert within.mean() >= 0.9 * share * people.love.max(axis=1).mean()


def test_a_night_changes_some_tastes():
    people = drawn(drift=0.25)
    before = people.tastes.copy()
    people.night()
    changed = (people.tastes != before).sum(axis=1)
    assert set(changed) == {0, 1}
    assert 0.1 < changed.mean() < 0.4
    levels = tree_lib.level_of(people.tastes, 2)
    assert np.all(levels == people.level)


def test_the_seed_decides():
    one, two, other = (
        people_lib.People(50, 100, seed=seed) for seed in (1, 1, 2)
    )
    everything = np.ones(101, bool)
    for mine, theirs in zip(one.find(everything), two.find(everything)):
        np.testing.assert_array_equal(mine, theirs)
    assert one.paths.tolist() == two.paths.tolist() != other.paths.tolist()
    np.testing.assert_array_equal(one.visitors(), two.visitors())
