"""A client that sends rubbish: the requests of `export.fuzz`, one by one."""

import collections
from typing import Any

import numpy as np

from export.fuzzing import cases

# Wrong answers that are told in full.
_SHOWN = 10


class Rubbish:
    """Sends requests that are wrong in some way, and looks at the answers.

    Args:
        world: what is known of the server.
        seed: request i is a function of (seed, i).
    """

    def __init__(self, world: cases.World, seed: int):
        self._world, self._seed = world, seed
        self._answers: collections.Counter[str] = collections.Counter()
        self._wrong: list[tuple[int, str, str]] = []

    def send(self, turn: int) -> None:
        """Sends request number `turn`."""
        rng = np.random.default_rng((self._seed, turn))
        case = cases.draw(rng)
        answer = case(rng, self._world)
        self._answers[answer] += 1
        if answer not in cases.CASES[case]:
            self._wrong.append((turn, case.__name__, answer))

    def summary(self) -> dict[str, Any]:
        """Returns what was answered, as JSON values."""
        return {
            "sent": self._answers.total(),
            "wrong": len(self._wrong),
            "wrong_examples": self._wrong[:_SHOWN],
            "answers": dict(sorted(self._answers.items())),
        }
