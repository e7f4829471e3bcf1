"""Tests of `experiments.online`: the shop, its measures, what people had."""

import collections

import numpy as np
import pytest

from experiments.online import histories
from experiments.online import measures
from experiments.online import shop as shop_lib
from experiments.online import week
from jtm_tf import categories

ITEMS = 40


def drawn(seed=0, config=shop_lib.Config(best_sellers=3, in_category=2)):
    """Returns a shop of 40 items, its log and what it was made of."""
    rng = np.random.default_rng(seed)
    people = rng.integers(0, 12, 400)
    items = rng.integers(1, ITEMS + 1, 400) % 31 + 1
    days = np.sort(rng.integers(-9, 5, 400))
    paths = np.array(
        [categories.join([f"c{i % 2}", f"f{i % 5}"]) for i in range(ITEMS)],
        object,
    )
    available = rng.random(ITEMS + 1) < 0.8
    available[0] = False
    shop = shop_lib.Shop(config, paths, available, (people, items, days), 5)
    return shop, (people, items, days), paths, available


def test_histories_against_lists():
    rng = np.random.default_rng(0)
    kept = histories.Histories(5, 4)
    want = collections.defaultdict(list)
    for size in (0, 1, 30, 7):
        people, items = rng.integers(0, 5, size), rng.integers(1, 99, size)
        kept.add(people, items)
        for person, item in zip(people.tolist(), items.tolist()):
            want[person].append(item)
    for person in range(5):
        newest = want[person][-4:]
        assert kept.newest[person].tolist() == [0] * (4 - len(newest)) + newest


def test_candidates_against_a_loop():
    shop, (_, items, days), paths, available = drawn()
    rng = np.random.default_rng(1)
    newest = rng.integers(0, ITEMS + 1, (20, 30))
    retrieved = rng.integers(0, ITEMS + 1, (20, 5))
    got = shop.candidates(newest, retrieved)
    sold = collections.Counter(items[days >= 2].tolist())
    ranked = sorted(
        np.flatnonzero(available).tolist(), key=lambda i: (-sold[i], i)
    )
    for row, had, found in zip(got, newest, retrieved):
        recent = [paths[i - 1] for i in had[-20:] if i > 0]
        often = collections.Counter(recent)
        wanted = {int(i) for i in found if available[i]} | set(ranked[:3])
        listed = set(row.tolist()) - {0}
        assert len(listed) == np.count_nonzero(row), "each once"
        assert not listed & set(had.tolist())
        assert wanted - set(had.tolist()) <= listed
        for item in listed - wanted:  # of one of the two main categories
            path = paths[item - 1]
            assert sum(n > often[path] for n in often.values()) <= 1
            of_path = [i for i in ranked if paths[i - 1] == path]
            assert item in of_path[:2]


def test_features_against_a_loop():
    shop, (_, items, days), paths, _ = drawn()
    rng = np.random.default_rng(2)
    newest = rng.integers(0, ITEMS + 1, (6, 25))
    newest[0] = 0  # somebody unknown
    asked = rng.integers(1, ITEMS + 1, (6, 7))
    got = shop.features(newest, asked)
    sold = collections.Counter(items[days >= 2].tolist())
    _, scores = shop.cf.recommend(newest, ITEMS)
    found, _ = shop.cf.recommend(newest, ITEMS)
    for v, k in np.ndindex(asked.shape):
        item = int(asked[v, k])
        near = [int(i) for i in newest[v, -20:] if i > 0]
        for place, parts in ((1, None), (2, 1)):
            of = categories.prefix(paths[item - 1], parts)
            alike = sum(
                categories.prefix(paths[i - 1], parts) == of for i in near
            )
            assert got[v, k, place] == pytest.approx(alike / max(len(near), 1))
        at = np.flatnonzero(found[v] == item)
        want = np.log1p(scores[v, at[0]])
        assert got[v, k, 3] == pytest.approx(want, rel=1e-5)
        if shop._available[item]:
            assert got[v, k, 0] == pytest.approx(np.log1p(sold[item]))


def test_the_ranking_stage_learns_what_is_clicked():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(4000, 5, 5)).astype(np.float32)
    true = np.array([0.5, -1.0, 0.0, 2.0, 0.2])
    logits = features @ true - 1 - 0.3 * np.arange(5)
    clicks = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    ranking = shop_lib.Ranking(penalty=0.0)
    before = ranking.weights.copy()
    ranking.learn(features, np.zeros_like(clicks))
    np.testing.assert_array_equal(ranking.weights, before)
    ranking.learn(features, clicks)
    np.testing.assert_allclose(ranking.weights, [*true, -0.3, -1.0], atol=0.15)
    chance = ranking.chances(features[:3])
    want = 1 / (1 + np.exp(-(features[:3] @ true - 1)))
    np.testing.assert_allclose(chance, want, atol=0.05)


def test_the_best_are_shown():
    items, columns = shop_lib.best(
        np.array([[7, 0, 9, 4], [0, 0, 5, 0]]),
        np.array([[0.2, 9.0, 0.5, 0.1], [1.0, 1.0, 0.1, 1.0]]),
        3,
    )
    assert items.tolist() == [[9, 7, 4], [5, 0, 0]]
    assert columns[0].tolist() == [2, 0, 3] and columns[1, 0] == 2


def test_ctr_and_rpm_by_hand():
    """Sec. 4.3: clicks over impressions; revenue of 1,000 impressions."""
    bids = np.array([0.0, 2.0, 0.5, 1.0])
    shown = np.array([[1, 2], [3, 0], [2, 1]])
    clicks = np.array([[True, False], [True, False], [False, False]])
    found = measures.per_person(np.array([4, 9, 4]), shown, clicks, bids)
    assert found.impressions.tolist() == [4, 1]
    assert found.clicks.tolist() == [1, 1]
    assert found.revenue.tolist() == [2.0, 1.0]
    assert found.ctr == pytest.approx(2 / 5)
    assert found.rpm == pytest.approx(1000 * 3 / 5)
    assert measures.summary(found)["people"] == 2
    nothing = np.zeros(1)
    assert measures.Traffic(nothing, nothing, nothing).ctr == 0.0
    new = np.array([False, True, False, False])
    assert measures.breadth(shown, clicks, new, 4) == {
        "coverage": 0.75,
        "new": 0.4,
        "new_clicks": 0.5,
    }


def test_a_bucket_against_itself_is_within_its_interval():
    """In 19 of 20 draws, about."""

    def bucket(rng, rate):
        impressions = rng.poisson(40, 400) + 1
        clicks = rng.binomial(impressions, rate)
        return measures.Traffic(impressions, clicks, clicks * 1.5)

    inside = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = measures.lift(bucket(rng, 0.1), bucket(rng, 0.1), seed=seed)
        low, high = found["ctr"]["interval"]
        inside += low <= 0 <= high
    assert inside >= 34
    rng = np.random.default_rng(99)
    found = measures.lift(bucket(rng, 0.15), bucket(rng, 0.1))
    for of in found.values():
        assert of["interval"][0] > 0.3 and of["lift"] < 0.7


def test_people_fall_into_buckets_by_a_hash():
    bucket = week.bucket_of(100_000, 3, 0.02, seed=1)
    counts = np.bincount(bucket + 1)
    assert len(counts) == 4
    np.testing.assert_allclose(counts[1:], 2000, rtol=0.1)
    again = week.bucket_of(50_000, 3, 0.02, seed=1)
    np.testing.assert_array_equal(bucket[:50_000], again)
    other = week.bucket_of(100_000, 3, 0.02, seed=2)
    # Who was in a bucket is in none of the other seed's more than others.
    both = np.mean(other[bucket >= 0] >= 0)
    assert both == pytest.approx(0.06, abs=0.02)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"buckets": ("tdm",)}, "item_cf among them"),
        ({"buckets": ("item_cf", "bprmf")}, "got item_cf, bprmf"),
        ({"bucket_share": 0.3}, "more than all people"),
    ],
)
def test_impossible_buckets_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        week.Config(**changes)
