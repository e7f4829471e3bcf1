"""A method behind an endpoint: trained, exported and swapped every night.

Each step is the program that a shop would run, in a process of its own; the
endpoint is `export.serve`, asked by the client.
"""

import contextlib
import pathlib
import shlex
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from experiments.runs import launch
from export.artefact import versions
from export.calling import clients
from export.calling import load
from export.calling import server_process
from export.calling import swaps
from export.soaking import background
from jtm_tf.runs import folder as run_folder
from jtm_tf.types import PAD

# Users of a request by day; the server takes 256.
_ROWS = 64
# Seconds between two requests while a version is made and taken up.
_PAUSE = 0.05
# Seconds until a version must answer.
_PATIENCE = 300.0
# Flags of the search that training and export share.
_SEARCH = ("--num_results", "--beam_width")


class Served:
    """A method of experiments.train as a service.

    Args:
        folder: for its runs, versions and logs.
        flags: of experiments.train, `--method` among them.
        stack: ends its server.
        workers: such methods whose nights are at the same time.

    Attributes:
        failed: requests without an answer, by night and by day.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        flags: str,
        stack: contextlib.ExitStack,
        workers: int = 1,
    ):
        self._workers = workers
        self._folder, self._flags, self._stack = folder, flags, stack
        self._client: clients.Client | None = None
        self._target = ""
        self.failed = 0

    def retrieve(self, newest: np.ndarray, count: int) -> np.ndarray:
        """Asks for items of some people.

        Args:
            newest: [V, T] items of each, PAD where there is none.
            count: M, at most what the version gives.

        Returns:
            [V, M] int32, PAD where the service gave fewer, or failed.
        """
        found = np.full((len(newest), count), PAD, np.int32)
        for begin in range(0, len(newest), _ROWS):
            rows = newest[begin : begin + _ROWS]
            try:
                answer = _ask(self._client, rows)
            except (OSError, ValueError) as error:
                logging.warning("No answer: %s", error)
                self.failed += 1
                continue
            for row, ids in enumerate(answer.ids, begin):
                found[row, : len(ids[:count])] = ids[:count]
        return found

    def night(
        self,
        day: int,
        data_dir: pathlib.Path,
        newest: np.ndarray,
        train_flags: str,
    ) -> dict[str, Any]:
        """Makes the version of a day from yesterday's, under traffic.

        What fails leaves yesterday's version as it is, and is told. Nothing
        serves the first version until `serve` does.

        Args:
            day: from 1; the first is trained from nothing.
            data_dir: the prepared log.
            newest: [V, T] items of those who ask meanwhile.
            train_flags: of experiments.train, beside the method's own.

        Returns:
            What the report says of it: `seconds` of each step, `latency_ms`
            of requests meanwhile, see `load.milliseconds`, `failed` of them,
            and `error`, None if all went well.

        Raises:
            ValueError: the first version failed: there is none to serve.
        """
        seconds: dict[str, float] = {}
        record = {"day": day, "seconds": seconds, "error": None}
        with self._traffic(newest) as asked:
            try:
                self._make(day, data_dir, train_flags, seconds)
            except (ValueError, TimeoutError) as error:
                if self._client is None:
                    raise
                logging.error("Yesterday's version stays: %s", error)
                record["error"] = str(error)
        times = [took for took, failure in asked if failure is None]
        record["requests"] = len(asked)
        record["failed"] = len(asked) - len(times)
        self.failed += record["failed"]
        record["latency_ms"] = load.milliseconds(times)
        return record

    def _make(self, day, data_dir, train_flags, seconds):
        """Trains, exports, and waits until the version answers."""
        run = self._folder / "runs" / str(day)
        before = self._last_run(day)
        flags = shlex.split(f"{self._flags} {train_flags}")
        if before is not None:
            flags += [f"--continue_from={before}", "--joint_iterations=1"]
        commands = {
            "train": [
                "experiments.train",
                f"--data_dir={data_dir}",
                f"--out_dir={run}",
                *flags,
            ],
            "export": [
                "export.export_model",
                f"--run_dir={run}",
                f"--export_dir={self._base}",
                *(x for x in flags if x.startswith(_SEARCH)),
            ],
        }
        for name, command in commands.items():
            began = time.monotonic()
            self._run(command, f"{name}-{day}.log")
            seconds[name] = round(time.monotonic() - began, 1)
        if self._client is not None:
            began = time.monotonic()
            swaps.wait_until_answers(
                versions.existing(self._base)[-1],
                self._client.transport.available,
                patience=_PATIENCE,
            )
            seconds["swap"] = round(time.monotonic() - began, 1)

    def _last_run(self, day):
        """Returns the newest finished run of the days before, None if none."""
        for earlier in range(day - 1, 0, -1):
            run = run_folder.RunFolder(self._folder / "runs" / str(earlier))
            if "test" in run.read_metrics():
                return run.path
        return None

    def _run(self, command, name):
        """Runs a program, which writes to a log."""
        log = self._folder / "logs" / name
        whole = [sys.executable, "-m", *command]
        if launch.start(whole, log, launch.environment(self._workers)):
            raise ValueError(f"{command[0]} failed; {log} says why.")

    @property
    def _base(self):
        """The folder of its versions."""
        return self._folder / "served" / self._folder.name

    def _new_client(self):
        """Returns a client, of one thread."""
        return clients.Client(target=self._target, model=self._folder.name)

    def serve(self) -> None:
        """Starts its server, unless it runs, of what was made already.

        In the main thread, which ends it where SIGTERM ends the program.
        Where the newest version fails, it serves the one before.

        Raises:
            ValueError: nothing can be served.
        """
        if self._client is None:
            running = server_process.running(self._base, {})
            server = self._stack.enter_context(running)
            self._target = f"127.0.0.1:{server.ports['grpc']}"
            self._client = self._stack.enter_context(self._new_client())

    @contextlib.contextmanager
    def _traffic(self, newest) -> Iterator[list[tuple[float, str | None]]]:
        """Yields the seconds, and the failure, of requests in the block."""
        asked: list[tuple[float, str | None]] = []
        if self._client is None:
            yield asked
            return
        with self._new_client() as client:

            def ask(turn):
                began, failure = time.monotonic(), None
                try:
                    _ask(client, newest[[turn % len(newest)]])
                except (OSError, ValueError) as error:
                    failure = str(error)
                asked.append((time.monotonic() - began, failure))

            with background.Background(ask, _PAUSE, first=0.0):
                yield asked


def _ask(client, newest):
    """Asks for the items of some histories, [V, T]."""
    return client.recommend([row[row != PAD].tolist() for row in newest])
