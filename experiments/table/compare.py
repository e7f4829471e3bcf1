"""Averages runs over seeds and compares each method with JTM.

Pure NumPy over runs that `runs.finished` found alike.
"""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.runs import finished
from experiments.runs import paper
from jtm_tf.search import metrics as metrics_lib

_RESAMPLES = 10_000
_LEVEL = 0.95
_CHUNK = 1 << 22  # users drawn at a time: bounds the memory


@dataclasses.dataclass(frozen=True)
class Versus:
    """JTM against a row, over the seeds that both have.

    Attributes:
        seeds: how many.
        lift: JTM's mean recall over the row's, less 1; None if the row has
            none to be divided by.
        difference: JTM's mean recall minus the row's.
        interval: of the difference, 95 %, over test users.
    """

    seeds: int
    lift: float | None
    difference: float
    interval: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Row:
    """A method on a data set at a cut.

    Attributes:
        data: short name of the data set.
        method: key of `paper.NAMES`.
        cut: M and beam width.
        missing: seeds asked for without a finished run.
        seeds: seeds with one.
        metrics: mean and spread (None of a single seed) by name; empty
            without runs.
        users: test users; None without runs.
        minutes: of training, mean over seeds; None without runs.
        versus: None for JTM itself and where a side has no runs.
        filtered: mean and spread of the recall without what users are known
            to have; None where a run was not judged so.
        versus_filtered: as `versus`, without what users are known to have.
    """

    data: str
    method: str
    cut: finished.Cut
    seeds: tuple[int, ...]
    missing: tuple[int, ...]
    metrics: Mapping[str, tuple[float, float | None]]
    users: int | None
    minutes: float | None
    versus: Versus | None
    filtered: tuple[float, float | None] | None = None
    versus_filtered: Versus | None = None


def mean_and_spread(values: npt.ArrayLike) -> tuple[Any, Any]:
    """Returns mean and sample standard deviation over the first axis.

    Args:
        values: [S, ...] float, one a seed.

    Returns:
        Two [...] float64; None instead of the spread of a single seed.
    """
    values = np.asarray(values, np.float64)
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else None
    return values.mean(axis=0), spread


def bootstrap(
    differences: np.ndarray,
    *,
    resamples: int = _RESAMPLES,
    level: float = _LEVEL,
    seed: int = 0,
    chunk: int = _CHUNK,
) -> np.ndarray:
    """Returns percentile intervals of means over resampled users.

    All columns see the same resamples. The result does not depend on
    `chunk`, and is that of `scipy.stats.bootstrap`, which gathers every
    column of every resample: 4 to 8 times the time for the 30 columns of a
    table, and 30 times the memory.

    Args:
        differences: [U, C] float, paired: one user, two methods.
        resamples: how often U users are drawn with replacement.
        level: share of the resampled means inside the interval.
        seed: of the draws.
        chunk: users drawn at a time, at least U.

    Returns:
        [C, 2] float64, lower and upper end.
    """
    if differences.ndim != 2 or len(differences) == 0:
        raise ValueError(
            f"differences must be [U > 0, C]; got {differences.shape}."
        )
    users = len(differences)
    generator = np.random.default_rng(seed)
    rows = max(chunk // users, 1)
    means = []
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = generator.integers(users, size=(count, users))
        drawn += users * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * users)
        means.append(times.reshape(count, users) @ differences / users)
    tail = (1 - level) / 2
    return np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0).T


def rows(
    runs: Sequence[finished.Run],
    data: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    *,
    cuts: Sequence[finished.Cut] = paper.CUTS,
) -> list[Row]:
    """Returns the rows of a data set, cut by cut, in the order of `methods`.

    Args:
        runs: finished runs, alike; of any data set.
        data: the data set.
        methods: the rows wanted, with runs or without.
        seeds: the seeds wanted.
        cuts: M and beam width of each table.

    Raises:
        ValueError: runs were tested on different users or not at all cuts.
    """
    found: dict[str, dict[int, finished.Run]] = {name: {} for name in methods}
    for run in runs:
        if run.data == data and run.method in found and run.seed in seeds:
            found[run.method][run.seed] = run
    versus, versus_filtered = (
        _versus_all(found, cuts, filtered) for filtered in (False, True)
    )
    return [
        _row(
            data,
            method,
            found[method],
            seeds,
            cut,
            versus.get((method, at)),
            versus_filtered.get((method, at)),
        )
        for at, cut in enumerate(cuts)
        for method in methods
    ]


def _row(data, method, by_seed, seeds, cut, versus, versus_filtered):
    """Returns one method's row; without runs it has no figures."""
    figures = [run.cut(cut) for run in by_seed.values()]
    metrics, users, minutes = {}, None, None
    if figures:
        metrics = {
            name: mean_and_spread([figure[name] for figure in figures])
            for name in metrics_lib.NAMES
        }
        users = figures[0]["users"]
        minutes = float(np.mean([run.minutes for run in by_seed.values()]))
    filtered = [run.filtered(cut) for run in by_seed.values()]
    known = [figure["recall"] for figure in filtered if figure is not None]
    return Row(
        data=data,
        method=method,
        cut=cut,
        seeds=tuple(by_seed),
        missing=tuple(seed for seed in seeds if seed not in by_seed),
        metrics=metrics,
        users=users,
        minutes=minutes,
        versus=versus,
        filtered=(
            mean_and_spread(known)
            if known and len(known) == len(filtered)
            else None
        ),
        versus_filtered=versus_filtered,
    )


def _versus_all(found, cuts, filtered):
    """Returns `Versus` by (method, index of the cut)."""
    recall = _recalls(found, cuts, filtered)
    ours = recall.get(paper.OURS, {})
    keys, sides = [], []
    for method, by_seed in recall.items():
        common = [seed for seed in ours if seed in by_seed]
        if method == paper.OURS or not common:
            continue
        keys.append((method, len(common)))
        sides.append(
            [np.mean([x[s] for s in common], 0) for x in (ours, by_seed)]
        )
    if not keys:
        return {}
    jtm, other = np.moveaxis(np.array(sides), 1, 0)  # [R, U, C] each
    difference = np.moveaxis(jtm - other, 1, 0)  # [U, R, C]
    shape = difference.shape
    intervals = bootstrap(difference.reshape(shape[0], -1))
    intervals = intervals.reshape(shape[1:] + (2,))  # [R, C, 2]
    result = {}
    for row, (method, num_seeds) in enumerate(keys):
        for at in range(len(cuts)):
            mine = jtm[row, :, at].mean()
            theirs = other[row, :, at].mean()
            result[method, at] = Versus(
                seeds=num_seeds,
                lift=float(mine / theirs - 1) if theirs > 0 else None,
                difference=float(mine - theirs),
                interval=tuple(intervals[row, at].tolist()),
            )
    return result


def _recalls(found, cuts, filtered):
    """Returns [U, C] recall by method and seed, of the same users in all.

    `filtered`: without what users are known to have, of the runs that were
    judged so.
    """
    recall, first = {}, None
    for method, by_seed in found.items():
        recall[method] = {}
        for seed, run in by_seed.items():
            users, values = run.user_recall(cuts, filtered=filtered)
            if not np.isnan(values).any():
                recall[method][seed] = values
            first = first or (users, run)
            if not np.array_equal(users, first[0]):
                raise ValueError(
                    f"{run.where} and {first[1].where} must be tested on the "
                    f"same users; got {len(users)} and {len(first[0])}, not "
                    "all the same. Train one of them again."
                )
    return recall
