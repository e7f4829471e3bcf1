"""The rooms as a test: imports point one way, as WORKSPACE.md's table says."""

import ast
import graphlib
import pathlib
import re
import subprocess
import sys

import pytest

from tests.support import shell

PACKAGES = ("jtm_tf", "export", "experiments", "benchmarks")
# What a room without TensorFlow may not import: nothing there talks to a
# terminal either, but for `command_line`, which does nothing else.
HEAVY = {"tensorflow", "keras"}
TALKING = {"absl", "tqdm", "logging"}


def table():
    """Reads WORKSPACE.md: (rooms, TensorFlow, files that differ) by row."""
    text = (shell.ROOT / "WORKSPACE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (`.+?) \| (.+?) \|$", text, re.M)
    assert [int(number) for number, _, _ in rows] == [
        *range(1, len(rows) + 1)
    ], "rows are numbered from 1"
    return [
        (names_in(rooms), tf.startswith("yes"), names_in(tf))
        for _, rooms, tf in rows
    ]


def names_in(cell):
    """Returns what stands in backticks, as dotted names."""
    return [name.replace("/", ".") for name in re.findall(r"`(.+?)`", cell)]


ROWS = table()
ROW_OF = {room: row for row, (rooms, _, _) in enumerate(ROWS) for room in rooms}


def modules():
    """Returns every file of the packages by module name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((shell.ROOT / package).rglob("*.py")):
            parts = path.relative_to(shell.ROOT).with_suffix("").parts
            if parts[-1] != "__init__":
                found[".".join(parts)] = path
    return found


MODULES = modules()


def room_of(module):
    """Returns the room of the table that a module stands in.

    A file that the table names by itself is a room of its own.
    """
    rooms = [r for r in ROW_OF if module == r or module.startswith(f"{r}.")]
    assert rooms, f"{module} has no room: give it one in WORKSPACE.md"
    return max(rooms, key=len)


def imports_of(path):
    """Returns every module that a file imports, ours by their full names."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {name for node in nodes for name in imports_of_node(node)}


def imports_of_node(node):
    """Yields what one statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"relative import of {node.module}"
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            # `from jtm_tf.types import PAD` imports the module.
            yield node.module if node.module in MODULES else name


def ours(path):
    """Returns the modules of this project that a file imports."""
    names = imports_of(path)
    return {name for name in names if name.split(".")[0] in PACKAGES}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    here = room_of(module)
    for name in ours(MODULES[module]):
        if name.rpartition(".")[0] in PACKAGES and name not in MODULES:
            continue  # jtm_tf.fit and other public names
        if name in PACKAGES:
            continue
        there = room_of(name)
        assert name in MODULES, f"{module} -> {name}: import modules."
        assert there == here or ROW_OF[there] < ROW_OF[here], (
            f"{module} -> {name}: {there} is not below {here}"
        )


def test_no_circle():
    graph = {name: ours(path) & set(MODULES) for name, path in MODULES.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def without_tensorflow():
    """Returns the modules that the table says do without TensorFlow."""
    return [module for module in MODULES if not has_tensorflow(module)]


def has_tensorflow(module):
    """Tells what the table says: the room's word, but for the files named."""
    _, room_has_it, others = ROWS[ROW_OF[room_of(module)]]
    return room_has_it != (module in others)


def test_rooms_without_tensorflow_import_where_there_is_none():
    names = without_tensorflow()
    assert len(names) > 20
    code = (
        "import importlib, sys\n"
        "for name in ('tensorflow', 'keras'): sys.modules[name] = None\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *names],
        cwd=shell.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", without_tensorflow())
def test_pure_rooms_are_silent(module):
    tops = {name.split(".")[0] for name in imports_of(MODULES[module])}
    of_programs = "command_line" in module or module.endswith("_flags")
    talking = set() if of_programs else TALKING
    assert not tops & (HEAVY | talking), module


@pytest.mark.parametrize("module", [m for m in MODULES if "jtm_tf" in m])
def test_the_library_prints_nothing(module):
    if module.startswith("jtm_tf.command_line."):
        pytest.skip("programs talk through it")
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not calls, f"{module} prints in lines {calls}."


def test_packages_import_nothing():
    for path in (shell.ROOT / "jtm_tf").rglob("__init__.py"):
        tree = ast.parse(path.read_text())
        names = {name for node in tree.body for name in imports_of_node(node)}
        # What must be said before Keras is imported, first of all.
        told = {"jtm_tf.command_line.keras_backend"} & set(names)
        assert names - told <= {"importlib", "typing"}, path


# What a server needs of ours: itself and the frame of programs.
ALONE = {"export.serving": "jtm_tf.command_line", "jtm_tf.command_line": None}


@pytest.mark.parametrize("room", ALONE)
def test_rooms_that_need_nothing_else(room):
    allowed = tuple(f"{name}." for name in (room, ALONE[room]) if name)
    for path in (shell.ROOT / room.replace(".", "/")).rglob("*.py"):
        for name in ours(path):
            assert name.startswith(allowed), f"{path} -> {name}"


def test_the_house_is_small():
    """A stranger finds the room from the listing."""
    entries = list((shell.ROOT / "jtm_tf").iterdir())
    listed = [path for path in entries if path.suffix == ".py"]
    assert len(listed) <= 6, sorted(path.name for path in listed)


def test_every_room_of_the_table_is_there():
    for room in ROW_OF:
        path = pathlib.Path(shell.ROOT, *room.split("."))
        assert path.is_dir() or path.with_suffix(".py").exists(), room
