"""Runs programs as a shell would."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def run(module: str, *flags: str) -> tuple[int, str, str]:
    """Runs a module with flags; returns exit status, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", module, *flags],
        cwd=ROOT,
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
