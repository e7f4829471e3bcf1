"""What an online test measures, as the paper's Table 2 does: CTR and RPM."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

# Draws of a bootstrap over people.
_DRAWS = 2000


@dataclasses.dataclass(frozen=True, eq=False)
class Traffic:
    """What was shown to some people, and what came of it.

    Attributes:
        impressions: [n] items shown to each person.
        clicks: [n] of those, the ones clicked on.
        revenue: [n] what advertisers pay for the clicks.
    """

    impressions: np.ndarray
    clicks: np.ndarray
    revenue: np.ndarray

    @property
    def ctr(self) -> float:
        """Click-through rate: clicks over impressions."""
        return _ratio(self.clicks.sum(), self.impressions.sum())

    @property
    def rpm(self) -> float:
        """Revenue per mille: of 1,000 impressions."""
        return 1000 * _ratio(self.revenue.sum(), self.impressions.sum())


def per_person(
    people: np.ndarray, shown: np.ndarray, clicks: np.ndarray, bids: np.ndarray
) -> Traffic:
    """Adds visits up by person; who was shown nothing is not among them.

    Args:
        people: [V] int, the person of each visit.
        shown: [V, K] items, PAD where there was none.
        clicks: [V, K] bool.
        bids: [N + 1] float, of items.
    """
    who, row = np.unique(people, return_inverse=True)

    def added(values):
        return np.bincount(row, values, minlength=len(who))

    return Traffic(
        added(np.count_nonzero(shown, axis=1)),
        added(np.count_nonzero(clicks, axis=1)),
        added(np.sum(bids[shown] * clicks, axis=1)),
    )


def lift(
    treated: Traffic, control: Traffic, *, seed: int = 0
) -> dict[str, Any]:
    """Returns what a treatment changes, with 95 % intervals over people.

    The people of two buckets are others: each is drawn anew by itself.

    Returns:
        For `ctr` and `rpm` the relative change, `lift`, and its `interval`;
        nothing where nobody of the control clicked.
    """
    if not control.clicks.any() or not treated.impressions.any():
        return {}
    draw = np.random.default_rng(seed)
    one, other = (_resampled(x, draw) for x in (treated, control))
    found = {}
    for name in ("ctr", "rpm"):
        with np.errstate(divide="ignore", invalid="ignore"):
            changes = one[name] / other[name] - 1
        low, high = np.nanquantile(changes, [0.025, 0.975])
        change = getattr(treated, name) / getattr(control, name) - 1
        found[name] = {
            "lift": round(float(change), 5),
            "interval": [round(float(low), 5), round(float(high), 5)],
        }
    return found


def summary(traffic: Traffic) -> dict[str, Any]:
    """Returns the figures of a bucket."""
    return {
        "people": len(traffic.impressions),
        "impressions": int(traffic.impressions.sum()),
        "clicks": int(traffic.clicks.sum()),
        "ctr": round(traffic.ctr, 6),
        "rpm": round(traffic.rpm, 4),
    }


def breadth(
    shown: np.ndarray, clicks: np.ndarray, new: np.ndarray, available: int
) -> Mapping[str, float]:
    """Returns how wide a bucket's lists are.

    Args:
        shown: [V, K] items, PAD where there was none.
        clicks: [V, K] bool.
        new: [N + 1] bool, the items of the last days.
        available: how many items can be had.

    Returns:
        `coverage`, the share of those that anybody was shown; `new`, the
        share of the impressions that are of new items; `new_clicks`, of the
        clicks.
    """
    there = shown > 0
    return {
        "coverage": round(len(np.unique(shown[there])) / available, 5),
        "new": round(_ratio(new[shown[there]].sum(), there.sum()), 5),
        "new_clicks": round(_ratio(new[shown[clicks]].sum(), clicks.sum()), 5),
    }


def _resampled(traffic, draw):
    """Returns CTR and RPM of people drawn with replacement, [draws] each."""
    count = len(traffic.impressions)
    often = draw.multinomial(count, np.full(count, 1 / count), _DRAWS)
    impressions = np.maximum(often @ traffic.impressions, 1)
    return {
        "ctr": often @ traffic.clicks / impressions,
        "rpm": 1000 * (often @ traffic.revenue) / impressions,
    }


def _ratio(part, whole):
    """Returns part over whole, 0 of nothing."""
    return float(part) / float(whole) if whole else 0.0
