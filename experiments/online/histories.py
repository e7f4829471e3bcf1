"""What each person did last, kept as the day goes on."""

import numpy as np

from jtm_tf.types import PAD


class Histories:
    """The newest items of each person.

    Args:
        people: U.
        length: T, items kept of each.

    Attributes:
        newest: [U, T] int32, oldest to newest, left-padded with PAD.
    """

    def __init__(self, people: int, length: int):
        self.newest = np.full((people, length), PAD, np.int32)

    def add(self, people: np.ndarray, items: np.ndarray) -> None:
        """Adds what persons did, [R] each, in this order."""
        order = np.argsort(people, kind="stable")
        people, items = people[order], items[order]
        begins = np.flatnonzero(np.diff(people, prepend=-1))
        lengths = np.diff(begins, append=len(people))
        # The first item of everybody, then the second, ..: as many rounds as
        # the busiest person has items.
        for place in range(int(lengths.max(initial=0))):
            at = begins[lengths > place] + place
            rows = self.newest[people[at]]
            rows[:, :-1] = rows[:, 1:]
            rows[:, -1] = items[at]
            self.newest[people[at]] = rows
