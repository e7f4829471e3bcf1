"""TensorFlow does not outlive a fork: its threads stay with the parent.

A child that runs an operation then waits for ever, and says nothing.
"""

import os

_process: int | None = None


def check() -> None:
    """Notes that this process runs TensorFlow; to be called before it does.

    Raises:
        RuntimeError: the process was forked from one that ran it.
    """
    global _process
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        raise RuntimeError(
            f"Process {os.getpid()} was forked from {_process}, which had "
            "used TensorFlow already, and would wait for ever. Start it anew: "
            "multiprocessing.get_context('spawn'), or load and fit models in "
            "the children only."
        )
