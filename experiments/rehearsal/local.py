"""The processes of a cluster, all on this machine."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from absl import logging

# Seconds until those who serve must have left, once the chief has.
_LEAVE = 120.0


class Cluster:
    """A chief, workers and parameter servers that run one command.

    What is lost begins anew at once, as it would where somebody watches over
    it; but for the chief and parameter servers, with whom all begin anew.

    Args:
        command: that each runs.
        sizes: processes by role but for the chief.
        logs: folder of what each says, but for the chief.
        environment: of each.
    """

    def __init__(
        self,
        command: Sequence[str],
        sizes: Mapping[str, int],
        logs: pathlib.Path,
        environment: Mapping[str, str],
    ):
        self._command, self._logs = list(command), logs
        self._environment = dict(environment)
        sizes = {"chief": 1, **sizes}
        ports = iter(_free_ports(sum(sizes.values())))
        self._hosts = {
            role: [f"127.0.0.1:{next(ports)}" for _ in range(size)]
            for role, size in sizes.items()
        }
        self._processes: dict[tuple[str, int], subprocess.Popen] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator["Cluster"]:
        """Starts all processes; ends those that are left after the block."""
        try:
            for role, hosts in self._hosts.items():
                for index in range(len(hosts)):
                    self.start(role, index)
            yield self
        finally:
            for process in self._processes.values():
                process.kill()
                process.wait()

    def start(self, role: str, index: int) -> None:
        """Starts a process, or another in its place."""
        task = {
            "cluster": self._hosts,
            "task": {"type": role, "index": index},
        }
        with contextlib.ExitStack() as stack:
            said = None  # the chief speaks for all
            if role != "chief":
                self._logs.mkdir(parents=True, exist_ok=True)
                log = self._logs / f"{role}-{index}.log"
                said = stack.enter_context(open(log, "ab"))
            self._processes[role, index] = subprocess.Popen(
                self._command,
                env={**self._environment, "TF_CONFIG": json.dumps(task)},
                stdout=said,
                stderr=said,
            )

    def kill(self, role: str, index: int) -> None:
        """Kills a process."""
        logging.info("Killing %s %d.", role, index)
        self._processes[role, index].kill()
        self._processes[role, index].wait()

    def actors(self) -> list[Any]:
        """Returns the chief's actors of Ray that are at work now.

        Raises:
            ValueError: psutil, of the extra cluster, is not installed.
        """
        try:
            import psutil  # pylint: disable=import-outside-toplevel
        except ImportError as error:
            raise ValueError(
                "To kill an actor takes psutil: pip install 'jtm_tf[cluster]'."
            ) from error
        found = []
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.chief.pid).children(True):
                with contextlib.suppress(psutil.Error):
                    # Ray names them so, while they do a piece of work; the
                    # system may cut a name off.
                    if process.name().startswith("ray::_Actor.w"):
                        found.append(process)
        return found

    def kill_actor(self) -> bool:
        """Kills an actor; returns whether there was one."""
        for actor in self.actors():
            logging.info("Killing the actor of process %d.", actor.pid)
            try:
                os.kill(actor.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it has ended meanwhile
            return True
        return False

    @property
    def chief(self) -> subprocess.Popen:
        """The process that runs the program."""
        return self._processes["chief", 0]

    def left(self) -> dict[str, int | None]:
        """Waits for those who serve; returns their exit statuses."""
        until = time.monotonic() + _LEAVE
        found: dict[str, int | None] = {}
        for (role, index), process in self._processes.items():
            if role == "chief":
                continue
            try:
                status = process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                status = None
            found[f"{role}-{index}"] = status
        return found


def environment(threads: int) -> dict[str, str]:
    """Returns the environment of processes with so many threads each."""
    return {
        **os.environ,
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
    }


def python(module: str, *flags: str) -> list[str]:
    """Returns the command of a program."""
    return [sys.executable, "-m", module, *flags]


def _free_ports(count):
    """Returns ports where nothing listens now."""
    with contextlib.ExitStack() as stack:
        plugs = [stack.enter_context(socket.socket()) for _ in range(count)]
        for plug in plugs:
            plug.bind(("127.0.0.1", 0))
        return [plug.getsockname()[1] for plug in plugs]
