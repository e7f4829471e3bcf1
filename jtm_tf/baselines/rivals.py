"""The rivals of today, tuned: what people would pick instead.

None of them is in the paper. Each tries every combination of a few settings
and keeps the one of the best validation recall, as our own defaults were
chosen, so that none loses for want of care.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

from jtm_tf.baselines import als
from jtm_tf.baselines import ease
from jtm_tf.baselines import rules
from jtm_tf.baselines import sasrec
from jtm_tf.data import splits
from jtm_tf.learning import settings as settings_lib

# Whom they are judged beside.
_TRAINED = settings_lib.JointConfig()

# What validation users find of a recommender, see `judging.judgement`.
Judge = Callable[[rules.Baseline], dict[str, Any]]

# A record a round: `validation`, `seconds_model`, and `loss` where there is.
Rounds = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """What came out of fitting.

    Attributes:
        model: the best by validation recall.
        rounds: how its training went.
        chosen: its settings, where there was something to choose.
        tuned: all settings that were tried, each with its validation
            `recall` and `seconds` of training.
    """

    model: rules.Baseline
    rounds: Rounds
    chosen: dict[str, Any] | None = None
    tuned: list[dict[str, Any]] | None = None

    def records(self) -> dict[str, Any]:
        """Returns what metrics.json tells of it."""
        rest = {"seconds_tree": 0.0, "moved_items": 0}
        told = {
            "iterations": [
                {"iteration": number, **record, **rest}
                for number, record in enumerate(self.rounds, 1)
            ],
            "best_iteration": 1 + int(np.argmax(recalls(self.rounds))),
        }
        if self.chosen:
            told |= {"chosen": self.chosen, "tuned": self.tuned}
        return told


def recalls(rounds: Rounds) -> list[float]:
    """Returns the validation recall of each round."""
    return [record["validation"]["recall"] for record in rounds]


def at_once(fit: Callable[..., rules.Baseline]) -> Callable:
    """Makes a method of one round out of `fit`."""

    def judged(*arguments, judge):
        began = time.monotonic()
        model = fit(*arguments)
        seconds = round(time.monotonic() - began, 2)
        return model, [{"validation": judge(model), "seconds_model": seconds}]

    return judged


@dataclasses.dataclass(frozen=True)
class Rival:
    """A method to be tuned.

    Attributes:
        settings: a dataclass of what there is to set; `seed` may be among it.
        grid: what is tried of some of it unless told otherwise.
        fit: maps samples, N, settings and a judge to a recommender and its
            rounds.
    """

    settings: type
    grid: Mapping[str, tuple]
    fit: Callable[..., tuple[rules.Baseline, Rounds]]

    def names(self) -> list[str]:
        """Returns what can be tuned."""
        fields = dataclasses.fields(self.settings)
        return [field.name for field in fields if field.name != "seed"]

    def tries(self) -> dict[str, tuple]:
        """Returns the values of each setting that are tried by default."""
        default = self.settings()
        return {
            name: self.grid.get(name, (getattr(default, name),))
            for name in self.names()
        }


METHODS = {
    "als": Rival(als.ALSConfig, als.GRID, at_once(als.ALS.fit)),
    "ease": Rival(ease.EASEConfig, ease.GRID, at_once(ease.EASE.fit)),
    "sasrec": Rival(sasrec.SASRecConfig, sasrec.GRID, sasrec.SASRec.fit),
}


@dataclasses.dataclass(frozen=True)
class RivalConfig:
    """Everything that decides the outcome, beside the data.

    Attributes:
        method: a key of `METHODS`.
        seed: of the method, if it draws anything.
        num_results: M of the metrics, and of the recall that chooses.
        cuts: further (M, k) to judge at; k is of no effect.
        tries: values of each setting; every combination is tried. What is
            missing is as in `Rival.tries`.
    """

    method: str
    seed: int = 0
    num_results: int = _TRAINED.num_results
    cuts: tuple[tuple[int, int], ...] = _TRAINED.cuts
    tries: Mapping[str, tuple] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(
                f"method must be one of {sorted(METHODS)}; got {self.method!r}."
            )
        if self.num_results < 1:
            raise ValueError(
                f"num_results must be >= 1; got {self.num_results}."
            )
        default = METHODS[self.method].tries()
        unknown = self.tries.keys() - default.keys()
        if unknown:
            raise ValueError(
                f"{self.method} has the settings {', '.join(default)}; got "
                f"{', '.join(sorted(unknown))}."
            )
        object.__setattr__(self, "tries", default | self.tries)
        self.candidates()

    def candidates(self) -> list[Any]:
        """Returns all settings to try.

        Raises:
            ValueError: a value is out of range.
        """
        settings = METHODS[self.method].settings
        fields = {field.name for field in dataclasses.fields(settings)}
        seed = {"seed": self.seed} if "seed" in fields else {}
        return [
            settings(**dict(zip(self.tries, values)), **seed)
            for values in itertools.product(*self.tries.values())
        ]

    def fit(
        self, examples: splits.Examples, num_items: int, judge: Judge
    ) -> Fitted:
        """Fits every candidate and keeps the best by validation recall.

        Raises:
            ValueError: see the method's `fit`.
        """
        tuned: list[dict[str, Any]] = []

        def fitted(candidate):
            model, rounds = METHODS[self.method].fit(
                examples, num_items, candidate, judge=judge
            )
            chosen = {name: getattr(candidate, name) for name in self.tries}
            seconds = sum(record["seconds_model"] for record in rounds)
            found = {
                "recall": max(recalls(rounds)),
                "seconds": round(seconds, 2),
            }
            tuned.append(chosen | found)
            return Fitted(model, rounds, chosen, tuned)

        # One after the other: the best so far and the next are in memory.
        return max(
            map(fitted, self.candidates()),
            key=lambda found: max(recalls(found.rounds)),
        )
