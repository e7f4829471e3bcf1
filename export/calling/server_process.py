"""A server in a process of its own, and what that process holds.

What it holds is read from /proc, which Linux has.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Holdings:
    """What a process holds: MiB of memory, open files, threads."""

    resident_mib: float
    handles: int
    threads: int


class ServerProcess:
    """A server that runs.

    Args:
        process: of `export.serve`.
        ports: where it listens, {"grpc": port, "rest": port}.

    Attributes:
        ports: the same.
    """

    def __init__(self, process: subprocess.Popen[str], ports: dict[str, int]):
        self._process, self.ports = process, ports

    def stop(self) -> int:
        """Asks it to end; returns its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(600)

    def holdings(self) -> Holdings:
        """Returns what it holds now.

        Raises:
            OSError: it has ended, or the system has no /proc.
        """
        folder = pathlib.Path(f"/proc/{self._process.pid}")
        if (status := self._process.poll()) is not None:
            raise ChildProcessError(f"The server has ended, status {status}.")
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is not there: memory, files and threads of a "
                "process are read from /proc, so run this on Linux."
            )
        facts = _status(folder)
        return Holdings(
            round(facts["VmRSS"] / _MIB, 1),
            len(os.listdir(folder / "fd")),
            facts["Threads"],
        )

    def peak_gib(self) -> float | None:
        """Returns the largest memory it has had; None if unknown."""
        try:
            facts = _status(pathlib.Path(f"/proc/{self._process.pid}"))
        except OSError:
            return None
        return round(facts["VmHWM"] / 2**30, 3)


@contextlib.contextmanager
def running(
    base: pathlib.Path, flags: Mapping[str, Any]
) -> Iterator[ServerProcess]:
    """Yields a server of the versions in a folder; it ends with the block.

    It ends too where this process is told to (SIGTERM).

    Args:
        base: the folder.
        flags: of `export.serve`, by name, beside the ports: free ones.

    Raises:
        ValueError: the folder cannot be served; the server has said why.
    """
    named = {"model_base": base, "port": 0, "rest_port": 0, **flags}
    command = [sys.executable, "-m", "export.serve"]
    command += [f"--{name}={value}" for name, value in named.items()]
    with (
        _leaving_when_told(),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            ports = process.stdout.readline() if process.stdout else ""
            if not ports:
                raise ValueError(f"{base} cannot be served; see above.")
            yield ServerProcess(process, json.loads(ports))
        finally:
            process.kill()


@contextlib.contextmanager
def _leaving_when_told():
    """Makes SIGTERM an exit, by which blocks end; the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number, frame):
        del frame
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _status(folder):
    """Returns the numbers in a process's status, sizes in bytes."""
    text = (folder / "status").read_text(encoding="utf-8")
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdecimal():
            unit = 1024 if words[1:] == ["kB"] else 1
            found[name] = int(words[0]) * unit
    return found
