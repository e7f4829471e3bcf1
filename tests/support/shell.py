"""Runs programs as a shell would."""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[2]

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.support.warm"])


class Program:
    """A program that runs in a process of its own, forked from a warm one.

    It is `python -m MODULE FLAGS` but for two things: imports of others are
    done, see `warm`; and what others registered with `atexit` is not called.
    For what comes of either, use `run_cold`.

    Args:
        module: the program.
        *flags: its flags.
        cwd: where it runs.
        without: modules that are not installed, and none that `warm` has.

    Attributes:
        process: kills it, waits for it, knows its exit code.
    """

    def __init__(
        self,
        module: str,
        *flags: str,
        cwd: pathlib.Path = ROOT,
        without: Sequence[str] = (),
    ):
        self._folder = tempfile.TemporaryDirectory()
        self._said = [pathlib.Path(self._folder.name, x) for x in "12"]
        for path in self._said:
            path.touch()
        self.process = _FORKS.Process(
            target=_run,
            args=(module, flags, cwd, without, dict(os.environ), self._said),
            daemon=True,
        )
        self.process.start()

    def line_with(self, text: str) -> str:
        """Returns the first line on stdout that has a text, once it is there.

        Lines that are not ended yet do not count.
        """
        while True:
            *lines, _ = self._said[0].read_text().split("\n")
            for line in lines:
                if text in line:
                    return line
            assert self.process.is_alive(), self._said[1].read_text()
            time.sleep(0.01)

    def first_line(self) -> str:
        """Returns the first line on stdout, once it is there."""
        return self.line_with("")

    def result(self) -> tuple[int, str, str]:
        """Waits for the end; returns exit status, stdout and stderr."""
        self.process.join()
        stdout, stderr = (path.read_text() for path in self._said)
        self._folder.cleanup()
        return self.process.exitcode, stdout, stderr


def _run(module, flags, cwd, without, environment, said):
    """Becomes a program: what a child process does."""
    os.environ.clear()  # the server's, of when it was started
    os.environ.update(environment)
    for descriptor, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    os.chdir(cwd)
    sys.path.insert(0, str(cwd))
    sys.modules.update(dict.fromkeys(without))
    sys.argv = [module, *flags]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def run(module: str, *flags: str, **options) -> tuple[int, str, str]:
    """Runs a `Program`; returns exit status, stdout and stderr."""
    return Program(module, *flags, **options).result()


def run_cold(*arguments: str, **options) -> tuple[int, str, str]:
    """Runs Python with arguments from the very start; returns the same."""
    done = subprocess.run(
        [sys.executable, *arguments],
        **{"cwd": ROOT, **options},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def the_error(result: tuple[int, str, str]) -> str:
    """Returns the one line that a failed program says."""
    status, _, stderr = result
    assert status == 1
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    return lines[0]
