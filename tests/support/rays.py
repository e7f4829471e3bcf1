"""Ray in tests that share a process with others."""

import contextlib
import gc
import warnings
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Skips a test without Ray; with it the block leaves nothing behind.

    No token under HOME, and no processes that Ray lets end by themselves to be
    found by whichever test comes later.
    """
    pytest.importorskip("ray", reason="needs the extra `cluster`")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
