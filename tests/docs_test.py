"""Tests of the documentation: links lead somewhere, commands exist."""

import ast
import dataclasses
import re
import shlex

import pytest

import jtm_tf
from jtm_tf.baselines import rivals
from jtm_tf.learning import settings
from jtm_tf.tree import learning as tree_learning
from tests.support import shell

PAGES = sorted(
    [
        shell.ROOT / "README.md",
        shell.ROOT / "WORKSPACE.md",
        shell.ROOT / "CHANGELOG.md",
        *(shell.ROOT / "docs").glob("*.md"),
        *(shell.ROOT / "experiments").rglob("*.md"),
        *(shell.ROOT / "export").rglob("*.md"),
    ]
)
OURS = ("experiments", "export", "benchmarks", "jtm_tf")
# Whether each is a yes or no.
SETTINGS = {
    field.name: field.type is bool
    for part in (
        settings.JointConfig,
        settings.TrainingConfig,
        tree_learning.TreeLearningConfig,
        settings.RunOptions,
    )
    for field in dataclasses.fields(part)
}
# absl's own, and pytest's, which are not ours to check.
COMMON = {"help", "helpfull"}


def name_of(path):
    return str(path.relative_to(shell.ROOT))


def anchors(text):
    """Returns what a page's headings are called in links."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in titles
    }


def commands(text):
    """Returns each `python -m module --flags` of a page, as (module, flags).

    In a table or a sentence a command stands in backticks; else it goes on
    where its line ends in a backslash, and a comment ends it.
    """
    text = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(r"python -m ([\w.]+)([^\n`]*)", text)
    return [
        (module, shlex.split(rest.split(" #")[0].split("|")[0], comments=True))
        for module, rest in found
        if module.split(".")[0] in OURS
    ]


def flags_of(module):
    """Returns the flags that a program and its imports define, unrun."""
    seen, waiting, flags = set(), [module], set()
    while waiting:
        name = waiting.pop()
        path = shell.ROOT / (name.replace(".", "/") + ".py")
        if name in seen or not path.is_file():
            continue
        seen.add(name)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in (
                *OURS,
                "jtm_tf.pools",
            ):
                waiting += [f"{node.module}.{x.name}" for x in node.names]
            elif isinstance(node, ast.Call) and node.args:
                called = getattr(node.func, "attr", "")
                first = getattr(node.args[0], "value", None)
                if called.startswith("DEFINE_") and isinstance(first, str):
                    flags.add(first)
                    if called == "DEFINE_bool":
                        flags.add(f"no{first}")
    if "experiments.train_flags" in seen:  # which makes flags of fields
        flags |= {*SETTINGS, *(f"no{x}" for x in SETTINGS if SETTINGS[x])}
        flags |= {
            f"{method}_{name}"
            for method, rival in rivals.METHODS.items()
            for name in rival.names()
        }
    return flags


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(there.read_text()), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page):
    for module, words in commands(page.read_text()):
        path = shell.ROOT / module.replace(".", "/")
        assert (
            path.with_suffix(".py").is_file()
            or (path / "__main__.py").is_file()
        ), module
        known = flags_of(module) | COMMON
        for word in words:
            if word.startswith("--"):
                flag = word[2:].partition("=")[0]
                assert flag in known, f"{module} has no --{flag}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_examples_use_what_there_is(page):
    blocks = r"^```python\n(.*?)^```"
    for block in re.findall(blocks, page.read_text(), re.M | re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute):
                if getattr(node.value, "id", None) == "jtm_tf":
                    assert node.attr in jtm_tf.__all__
            elif isinstance(node, ast.ImportFrom) and node.module in OURS:
                for alias in node.names:
                    path = shell.ROOT / node.module / alias.name
                    assert path.exists() or path.with_suffix(".py").exists()


def test_the_reference_is_of_modules_that_exist():
    makefile = (shell.ROOT / "Makefile").read_text()
    named = re.search(r"pdoc (?:.*\\\n)+.*", makefile).group(0)
    modules = re.findall(r"\bjtm_tf\.[\w.]+", named)
    assert modules
    for module in modules:
        path = shell.ROOT / (module.replace(".", "/") + ".py")
        assert path.is_file(), module


def test_the_tests_see_flags_and_commands():
    text = (
        "`python -m experiments.train --gap=3` | x\n\n    python -m "
        "export.export_model \\\n        --nowarmup --run_dir='a b' # why"
    )
    assert commands(text) == [
        ("experiments.train", ["--gap=3"]),
        ("export.export_model", ["--nowarmup", "--run_dir=a b"]),
    ]
    assert {"gap", "lazy", "nolazy"} <= flags_of("experiments.train")
    assert not {"input", "nogap"} & flags_of("experiments.train")
    assert anchors("# A b\n## Where `we` depart, now") == {
        "a-b",
        "where-we-depart-now",
    }
