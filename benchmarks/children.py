"""Runs a program as a child process and measures what that one child took."""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

# Linux counts kibibytes, macOS bytes.
_UNITS_A_GIB = 2 ** (30 if sys.platform == "darwin" else 20)


@dataclasses.dataclass(frozen=True)
class Child:
    """What a program printed and what it took.

    Attributes:
        stdout: what it printed.
        seconds: from its start to its end.
        cpu_seconds: on the processors; on a busy machine the steadier figure.
        peak_gib: its largest resident set.
    """

    stdout: str
    seconds: float
    cpu_seconds: float
    peak_gib: float

    def costs(self) -> dict[str, Any]:
        """Returns the figures by name, rounded."""
        return {
            "seconds": round(self.seconds, 2),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "peak_gib": round(self.peak_gib, 3),
        }


def run(module: str, *arguments: str) -> Child:
    """Runs `python -m module` with the Python that runs this.

    Raises:
        RuntimeError: it failed; it has said why on stderr.
    """
    command: Sequence[str] = [sys.executable, "-m", module, *arguments]
    with tempfile.TemporaryFile() as stdout:
        began = time.monotonic()
        # No Popen.wait: the usage is wanted of this one child.
        child = subprocess.Popen(command, stdout=stdout)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(
                f"{' '.join(command)} failed with {child.returncode}."
            )
        stdout.seek(0)
        return Child(
            stdout.read().decode(),
            seconds,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / _UNITS_A_GIB,
        )
