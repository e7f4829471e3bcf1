"""A wall clock that somebody sets back again and again."""

import itertools
import time

import pytest


def jumping_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the wall clock, at each look, an hour less than at the last."""
    now = itertools.count(int(time.time()), -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
