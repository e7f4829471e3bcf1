"""Tests of `support.shell`: what it runs is as if a shell had."""

import signal

import pytest

from tests.support import shell

PROGRAM = """
import os
import sys
import time

imported = "tensorflow" in sys.modules
from tensorflow.python.eager import context

fresh = imported and context.context()._context_handle is None
match sys.argv[1]:
    case "tell":
        print(fresh, __name__, os.getcwd(), os.environ.get("TASTE"))
        sys.stderr.write("aside")
    case "need":
        import scipy.sparse
    case "raise":
        raise KeyError("salt")
    case "wait":
        print("here", flush=True)
        time.sleep(600)
    case status:
        sys.exit(int(status) if status.isdigit() else status)
"""


@pytest.fixture(name="folder")
def _folder(tmp_path):
    (tmp_path / "dish.py").write_text(PROGRAM)
    return tmp_path


def test_it_is_told_and_tells(folder, monkeypatch):
    for taste in ("sweet", "sour"):
        monkeypatch.setenv("TASTE", taste)
        told = shell.run("dish", "tell", cwd=folder)
        assert told == (0, f"True __main__ {folder} {taste}\n", "aside")
    monkeypatch.delenv("TASTE")
    assert shell.run("dish", "tell", cwd=folder)[1].endswith(" None\n")


def test_how_it_ends(folder):
    assert shell.run("dish", "3", cwd=folder) == (3, "", "")
    assert shell.the_error(shell.run("dish", "salty", cwd=folder)) == "salty"
    for flag, error in (("raise", "KeyError"), ("need", "ModuleNotFound")):
        status, stdout, stderr = shell.run(
            "dish", flag, cwd=folder, without=["scipy.sparse"]
        )
        assert (status, stdout) == (1, "")
        assert stderr.splitlines()[-1].startswith(error)
    program = shell.Program("dish", "wait", cwd=folder)
    assert program.first_line() == "here"
    program.process.kill()
    assert program.result() == (-signal.SIGKILL, "here\n", "")
