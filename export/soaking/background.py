"""Something done again and again in a thread, beside what a soak measures."""

import threading
import time
from collections.abc import Callable

from absl import logging


class Background:
    """Does something in turns, from the block's start to its end.

    Args:
        step: what to do; it takes the number of the turn, from 0.
        seconds: from the start of a turn to that of the next one, which comes
            at once where a turn took longer.
        first: seconds until the first turn; `seconds` if None.
        failed: set as soon as a turn raises, so that the block may end.

    Raises:
        Exception: at the end of the block, what a turn raised; it was the
            last.
    """

    def __init__(
        self,
        step: Callable[[int], None],
        seconds: float,
        first: float | None = None,
        failed: threading.Event | None = None,
    ):
        self._step, self._seconds = step, seconds
        self._first = seconds if first is None else first
        self._failed = threading.Event() if failed is None else failed
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Background":
        self._thread.start()
        return self

    def __exit__(self, kind, *_) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def _work(self):
        due, turn = time.monotonic() + self._first, 0
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._seconds, time.monotonic())
            try:
                self._step(turn)
            except Exception as error:  # pylint: disable=broad-except
                logging.error("Turn %d: %s", turn, error)
                self._error = error  # raised where the block ends
                self._failed.set()
                return
            turn += 1
