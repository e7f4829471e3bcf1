"""Runs the methods that count instead of training, in a run folder's form.

Item-CF is the paper's first rival; best-sellers and own purchases are what
any model has to beat before it is worth its training.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

from jtm_tf import files
from jtm_tf.baselines import item_cf
from jtm_tf.baselines import rules
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import settings
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import judging

METHODS: dict[str, Callable[..., rules.Baseline]] = {
    "item_cf": item_cf.ItemCF.fit,
    "popular": rules.Popular.fit,
    "repeat": rules.Repeat.fit,
}

# Whom they are judged beside.
_TRAINED = settings.JointConfig()


@dataclasses.dataclass(frozen=True)
class CountingConfig:
    """Everything that decides the outcome, beside the data.

    Attributes:
        method: a key of `METHODS`.
        seed: of no effect; every run has one.
        num_results: M of the metrics.
        cuts: further (M, k) to judge at; k is of no effect.
        neighbours: settings of Item-CF.
    """

    method: str
    seed: int = 0
    num_results: int = _TRAINED.num_results
    cuts: tuple[tuple[int, int], ...] = _TRAINED.cuts
    neighbours: item_cf.ItemCFConfig = item_cf.ItemCFConfig()

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(
                f"method must be one of {sorted(METHODS)}; got {self.method!r}."
            )
        if self.num_results < 1:
            raise ValueError(
                f"num_results must be >= 1; got {self.num_results}."
            )


def run(
    config: CountingConfig,
    data: interactions.Interactions,
    out_dir: files.Path,
    *,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Counts, judges and writes the run folder; see `joint.run`.

    Returns:
        The contents of `metrics.json`.

    Raises:
        ValueError: `out_dir` holds a run of other settings or other data.
    """
    folder = run_folder.RunFolder(pathlib.Path(out_dir))
    header = folder.check(
        dataclasses.asdict(config),
        data_fingerprint=data.manifest["fingerprint"],
    )
    metrics = folder.read_metrics()
    if "test" in metrics:
        return metrics
    folder.claim(header, data_dir=data_dir)
    started = time.monotonic()
    model = _fitted(config, data)
    seconds = time.monotonic() - started
    first = (config.num_results, config.num_results)
    validation, _ = _judged(model, data, "validation", [first])
    cuts, table = _judged(model, data, "test", [first, *config.cuts])
    folder.write_test_users(table)
    record = {
        "iteration": 1,
        "validation": validation[0],
        "seconds_model": round(seconds, 2),
        "seconds_tree": 0.0,
        "moved_items": 0,
    }
    metrics = {
        **header,
        "iterations": [record],
        "best_iteration": 1,
        "test": cuts[0],
        "cuts": cuts,
    }
    folder.write_metrics(metrics)
    return metrics


def _fitted(config, data):
    """Returns the method after it has counted."""
    examples, items = splits.examples(data), data.num_items
    if config.method == "item_cf":
        return item_cf.ItemCF.fit(examples, items, config.neighbours)
    return METHODS[config.method](examples, items)


def _judged(model, data, split, cuts):
    """Returns the metrics at each cut, and a table of the users'."""
    # The shortest there is: what counts looks at whole histories.
    users = splits.held_out_users(data, split, max_history=1)
    return judging.judge_cuts(
        lambda num_results, _: model.recommend_users(users, num_results),
        users,
        cuts,
        scans=True,
    )
