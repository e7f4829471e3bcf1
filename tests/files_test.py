"""Files appear whole or not at all."""

import ast
import errno
import os
import pathlib
import tempfile
import threading

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf import files
from tests.support import shell


def test_replaces_on_success(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    for text in ("first", "second"):
        with files.replacing(path) as temporary:
            temporary.write_text(text)
            assert temporary.suffix == ".txt"
        assert path.read_text() == text
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_failure_leaves_what_stood_there(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert files.read_json(path) == {"a": 1}


def test_scratch_lies_beside_and_goes(tmp_path, monkeypatch):
    path = tmp_path / "best.keras"
    with files.scratch(path) as first, files.scratch(path) as second:
        assert first != second and first.parent == tmp_path
        assert first.name.endswith(".best.keras")
        first.touch()
    assert not list(tmp_path.iterdir())
    with files.scratch(path) as killed:
        killed.touch()
        files.remove_leftovers(tmp_path)
        assert not killed.exists()
    monkeypatch.setattr(files.os, "access", lambda *_: False)
    with files.scratch(path) as elsewhere:
        assert elsewhere.parent == pathlib.Path(tempfile.gettempdir())


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "whatever the language"),
        RuntimeError("Unable to write (errno = 28, No space left on device)"),
        tf.errors.ResourceExhaustedError(
            None, None, "x; No space left on device"
        ),
    ],
)
def test_a_full_disk_is_told_by_name(error, tmp_path):
    path = tmp_path / "best.keras"
    path.write_text("old", "utf-8")
    with pytest.raises(OSError, match="No space .*free some.*best.keras'"):
        with files.replacing(path) as temporary:
            temporary.write_text("half", "utf-8")
            raise error
    assert path.read_text("utf-8") == "old"
    assert [x.name for x in tmp_path.iterdir()] == ["best.keras"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_disk_that_is_full(tmp_path):
    with pytest.raises(OSError, match="free some space.*tree.npz'"):
        with files.replacing(tmp_path / "tree.npz"):
            with open("/dev/full", "wb") as out:
                np.savez(out, pi=np.zeros(10_000))


def test_removes_what_killed_runs_left_and_nothing_else(tmp_path):
    for name in (".123.best.keras", ".gitignore", "123.json", ".12x.json"):
        (tmp_path / name).touch()
    files.remove_leftovers(tmp_path)
    files.remove_leftovers(tmp_path / "missing")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".12x.json", ".gitignore", "123.json"]


def test_json_comes_back_as_said(tmp_path):
    value = {"windows": (2, 1), "rate": 0.1, "none": None, "nested": [{}]}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == files.as_json(value)
    assert files.as_json(value)["windows"] == [2, 1]


@pytest.mark.parametrize("text", ["", "{", '{"a": 1'])
def test_broken_json_is_named(tmp_path, text):
    path = pathlib.Path(tmp_path, "broken.json")
    path.write_text(text)
    with pytest.raises(ValueError, match="broken.json is not valid JSON"):
        files.read_json(path)


@pytest.mark.parametrize(
    "have, want, found",
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, [("a.c", 2, 3)]),
        ({"a": {"b": 1}}, {}, [("a.b", 1, None)]),
        ({"b": 1, "a": [1]}, {"a": [2]}, [("a", [1], [2]), ("b", 1, None)]),
        ({"a": {"b": 1}}, {"a": 0}, [("a", {"b": 1}, 0)]),
        ({"a": 0}, {"a": None}, [("a", 0, None)]),
        ({"a": None}, {}, []),
        ("1.0", "2.0", [("", "1.0", "2.0")]),
    ],
)
def test_differences_are_named(have, want, found):
    assert list(files.differences(have, want)) == found
    turned = [(name, theirs, ours) for name, ours, theirs in found]
    assert list(files.differences(want, have)) == turned
    assert not list(files.differences(have, have))


# The arguments of those before their encoding.
_BEFORE_ENCODING = {"open": 2, "write_text": 1, "read_text": 0}


def test_text_is_utf_8_whatever_the_locale():
    for package in ("jtm_tf", "experiments", "export", "benchmarks"):
        for path in sorted((shell.ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    where = f"{path}:{node.lineno}"
                    assert _says_its_encoding(node), where


def _says_its_encoding(call):
    """Tells whether a call opens no file as text of an unnamed encoding."""
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    owner = getattr(getattr(call.func, "value", None), "id", None)
    if name not in _BEFORE_ENCODING or owner in ("os", "archive", "files"):
        return True
    words = {keyword.arg for keyword in call.keywords}
    modes = [x.value for x in call.args if isinstance(x, ast.Constant)]
    if name == "open":
        return "encoding" in words or any("b" in str(x) for x in modes)
    return "encoding" in words or len(call.args) > _BEFORE_ENCODING[name]


def test_a_file_of_another_machine_is_waited_for(tmp_path):
    path = tmp_path / "late"
    timer = threading.Timer(0.3, path.touch)
    timer.start()
    files.wait_for(path)
    timer.join()
    with pytest.raises(FileNotFoundError, match="must see the folder under"):
        files.wait_for(tmp_path / "never", seconds=0.3)


def test_an_unnamed_file_leaves_nothing(tmp_path):
    """Where it is read after it was closed, and its folder does not exist."""
    with files.unnamed(tmp_path / "run" / "deep") as file:
        file.write(b"123")
        file.flush()
        mapped = np.memmap(file, np.uint8, "r")
    assert bytes(mapped) == b"123"
    files.let_go(mapped)  # and the file has it still
    assert bytes(mapped) == b"123"
    assert not list(tmp_path.iterdir())
