"""Runs the methods that have no tree, in a run folder's form.

Item-CF is the paper's first rival; best-sellers and own purchases are what
any model has to beat before it is worth its training; and `rivals` are what
people would take today.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from absl import logging

from jtm_tf import files
from jtm_tf.baselines import item_cf
from jtm_tf.baselines import rivals
from jtm_tf.baselines import rules
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import settings
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import judging

COUNTING: dict[str, Callable[..., rules.Baseline]] = {
    "item_cf": item_cf.ItemCF.fit,
    "popular": rules.Popular.fit,
    "repeat": rules.Repeat.fit,
}
METHODS = (*COUNTING, *rivals.METHODS)

# Whom they are judged beside.
_TRAINED = settings.JointConfig()


@dataclasses.dataclass(frozen=True)
class CountingConfig:
    """Everything that decides the outcome, beside the data.

    Attributes:
        method: a key of `COUNTING`.
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
        if self.method not in COUNTING:
            raise ValueError(
                f"method must be one of {sorted(COUNTING)}; got "
                f"{self.method!r}."
            )
        if self.num_results < 1:
            raise ValueError(
                f"num_results must be >= 1; got {self.num_results}."
            )

    def fit(
        self, examples: splits.Examples, num_items: int, judge: rivals.Judge
    ) -> rivals.Fitted:
        """Counts; nothing is chosen, so nothing was tried."""
        own = [self.neighbours] if self.method == "item_cf" else []
        model, rounds = rivals.at_once(COUNTING[self.method])(
            examples, num_items, *own, judge=judge
        )
        return rivals.Fitted(model, rounds)


def run(
    config: CountingConfig | rivals.RivalConfig,
    data: interactions.Interactions,
    out_dir: files.Path,
    *,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Fits, judges and writes the run folder; see `joint.run`.

    Killed before its end, a run begins anew.

    Returns:
        The contents of `metrics.json`.

    Raises:
        ValueError: `out_dir` holds a run of other settings or other data, or
            see the method's `fit`.
    """
    folder = run_folder.RunFolder(pathlib.Path(out_dir))
    header = folder.check(
        dataclasses.asdict(config),
        data_fingerprint=data.manifest["fingerprint"],
    )
    metrics = folder.read_metrics()
    if "test" in metrics:
        return metrics
    first = (config.num_results, config.num_results)

    def judge(model):
        users = _users(data, "validation")
        (found,), _ = judging.judge_cuts(
            lambda num_results, _: model.recommend_users(users, num_results),
            users,
            [first],
            scans=True,
        )
        logging.info("validation recall %.4f", found["recall"])
        return found

    fitted = config.fit(splits.examples(data), data.num_items, judge)
    folder.claim(header, data_dir=data_dir)
    tested, table = _tested(fitted.model, data, [first, *config.cuts])
    folder.write_test_users(table)
    metrics = {
        **header,
        **fitted.records(),
        **tested,
    }
    folder.write_metrics(metrics)
    return metrics


def _users(data, split):
    """Returns the users of a split, whose whole histories are looked at."""
    return splits.held_out_users(data, split, max_history=1)


def _tested(model, data, cuts):
    """Judges on test users; see `judging.tested`."""
    users = _users(data, "test")
    most = int(users.full_history.counts.max(initial=0))

    def rank(num_results, _):
        return model.recommend_users(users, num_results + most)

    return judging.tested(rank, users, cuts, scans=True)
