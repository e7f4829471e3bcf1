"""The layers of the library, as a test: imports only ever point upwards."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# A module of `jtm_tf` imports only from rows above its own.
ROWS = [
    ["types", "files"],
    ["data.encoding", "data.skipping", "data.raw_ids"],
    ["tree", "assignment", "evaluation", "run_folder"]
    + ["data.interactions", "data.sources"],
    ["tree_init", "tree_cluster", "edge_weights"]
    + ["data.splits", "data.synthetic", "data.market"]
    + ["data.amazon", "data.reading"],
    ["tree_learning", "tree_statistics", "placement", "models.rules"]
    + ["data.published", "data.tables", "data.planted"],
    ["models.item_cf", "data.preparation"],
    ["data.frames"],
    # TensorFlow begins here.
    ["tree_ops", "optimizers"],
    ["data.samples", "models.layers", "models.scorers", "retrieval"],
    ["models.attention"],
    ["models.preference"],
    ["models.tree_model"],
    ["models.hsm", "models.frozen", "training", "growing"],
    ["judge", "models.saving"],
    ["settings", "counting", "diagnosis", "beam_trace"],
    ["tree_step", "trained", "max_heap"],
    ["joint"],
    ["recommender"],
]
FIRST_TF_ROW = 7
ROW_OF = {
    f"jtm_tf.{name}": row for row, names in enumerate(ROWS) for name in names
}

# Above the library; it never imports them.
PROGRAMS = ("experiments", "export", "benchmarks", "tests")
# What talks to a terminal or needs TensorFlow.
NOT_PURE = ("tensorflow", "keras", "absl", "tqdm", "logging")


def modules():
    """Returns the library's files by module name, packages left out."""
    paths = sorted((ROOT / "jtm_tf").rglob("*.py"))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in paths
        if path.name != "__init__.py"
    }


def imports_of(path):
    """Returns every name that a file imports, `from a import b` as a.b."""
    nodes = ast.walk(ast.parse(path.read_text()))
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
            yield node.module if node.module in ROW_OF else name


@pytest.mark.parametrize("module", modules())
def test_imports_point_upwards(module):
    assert module in ROW_OF, f"{module} has no row; give it one in ROWS."
    row = ROW_OF[module]
    for name in imports_of(modules()[module]):
        top = name.split(".")[0]
        assert top not in PROGRAMS, f"{module} -> {name}"
        if top in NOT_PURE:
            assert row >= FIRST_TF_ROW, f"{module} -> {name}"
        if top == "jtm_tf":
            assert name in ROW_OF, f"{module} -> {name}: import modules."
            assert ROW_OF[name] < row, f"{module} -> {name}"


@pytest.mark.parametrize("module", modules())
def test_the_library_prints_nothing(module):
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(modules()[module].read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not calls, f"{module} prints in lines {calls}."


def test_packages_import_nothing():
    for path in (ROOT / "jtm_tf").rglob("__init__.py"):
        tree = ast.parse(path.read_text())
        names = {
            name for node in tree.body for name in imports_of_node(node)
        }
        assert names <= {"importlib", "typing"}, path


# Of the packages, each imports only from those before it.
PACKAGES = ("jtm_tf", "benchmarks", "export", "experiments")
# Rooms that need nothing of ours but themselves: serving does without the
# library.
ALONE = ("export.command_line", "export.serving")


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_point_one_way(package):
    later = PACKAGES[PACKAGES.index(package) + 1 :]
    for path in (ROOT / package).rglob("*.py"):
        for name in imports_of(path):
            assert name.split(".")[0] not in later, f"{path} -> {name}"


@pytest.mark.parametrize("room", ALONE)
def test_rooms_that_need_nothing_else(room):
    for path in (ROOT / room.replace(".", "/")).rglob("*.py"):
        for name in imports_of(path):
            ours = name.split(".")[0] in PACKAGES
            assert not ours or name.startswith(f"{room}."), f"{path} -> {name}"
