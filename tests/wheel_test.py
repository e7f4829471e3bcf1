"""What is installed: a wheel has every module and every file they read."""

import os
import subprocess
import sys
import zipfile

import pytest

from tests.support import shell

PACKAGES = ("jtm_tf", "experiments", "export")
SCRIPTS = ("prepare", "train", "evaluate", "export", "serve", "client")

# Imports and runs what reads files beside its own, away from the checkout.
STRANGER = """
import importlib.resources
import pathlib
import sys

import jtm_tf
from experiments.report import page
from export.cpp import build

site = pathlib.Path(sys.argv[1])
assert pathlib.Path(jtm_tf.__file__).is_relative_to(site), jtm_tf.__file__
assert set(jtm_tf.__all__) <= set(dir(jtm_tf))
report = {"title": "t", "facts": [], "notes": [], "trees": [], "charts": []}
assert "<title>t</title>" in page.render(report)
assert build.SOURCE.is_file(), build.SOURCE
"""


def python(*arguments, cwd, env=None):
    """Runs Python; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def checked_in():
    """Returns the files of the checkout, as git knows them."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=shell.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    names = done.stdout.strip("\0").split("\0")
    return [name for name in names if (shell.ROOT / name).is_file()]


@pytest.fixture(name="wheel", scope="module")
def _wheel(tmp_path_factory):
    """A wheel, built from a copy: building leaves files in the source."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in checked_in():
        copy = folder / "source" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((shell.ROOT / name).read_bytes())
    python(
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir=out",
        "./source",
        cwd=folder,
    )
    (path,) = (folder / "out").glob("*.whl")
    return path


def test_has_every_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        there = set(archive.namelist())
        metadata = next(n for n in there if n.endswith("/METADATA"))
        described = archive.read(metadata).decode()
    wanted = {
        name
        for name in checked_in()
        if name.split("/")[0] in PACKAGES
        and not name.startswith("experiments/results/")
        and not name.endswith((".md", ".svg", "benchmarks/results.json"))
    }
    assert wanted <= there, sorted(wanted - there)
    strange = {n for n in there if ".dist-info/" not in n} - wanted
    assert not strange, sorted(strange)
    assert "# jtm_tf" in described, "the README is its description"
    assert "License: Apache-2.0" in described
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in there)


@pytest.mark.slow
def test_works_away_from_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    python(
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        f"--target={site}",
        str(wheel),
        cwd=tmp_path,
    )
    env = {**os.environ, "PYTHONPATH": str(site)}
    python("-c", STRANGER, str(site), cwd=tmp_path, env=env)
    said = python("-m", "experiments.train", "--help", cwd=tmp_path, env=env)
    assert "How long to learn" in said
    scripts = {name: site / "bin" / f"jtm-{name}" for name in SCRIPTS}
    assert set((site / "bin").iterdir()) == set(scripts.values())
    same = python(scripts["train"], "--help", cwd=tmp_path, env=env)
    assert same == said
    said = python(
        scripts["prepare"],
        "--dataset=planted",
        "--num_items=2000",
        "--num_rows=20000",
        "--data_dir=data",
        cwd=tmp_path,
        env=env,
    )
    assert said.startswith("Prepared data\n")
    assert (tmp_path / "data" / "manifest.json").is_file()
