"""Figure 2 from run folders and from runs.json."""

import numpy as np
import pytest

from experiments.pictures import curves
from experiments.pictures import plots
from experiments.runs import finished as finished_runs
from tests.support import fake_runs
from tests.support import shell

METHODS = ("jtm", "tdm_cluster", "jtm_h")


@pytest.fixture(name="runs_dir")
def _runs_dir(tmp_path):
    """Two data sets; the second has no clustering, and both a run apart."""
    runs_dir = tmp_path / "runs"
    for seed in (0, 1):
        for method in (*METHODS, "item_cf"):
            fake_runs.write(runs_dir, "beauty", method, seed)
        for method in ("jtm", "jtm_h"):
            fake_runs.write(runs_dir, "toys", method, seed)
    fake_runs.write(runs_dir, "toys", "tdm_cluster", 0, finished=False)
    (runs_dir / "beauty" / "jtm-0.log").write_text("$ train\n")
    return runs_dir


@pytest.fixture(name="draw")
def _draw(monkeypatch):
    """Draws; returns the figure that was saved."""
    saved = []
    save = plots.save

    def keep(figure, path):
        saved.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "save", keep)

    def draw(*args, **kwargs):
        curves.draw(*args, **kwargs)
        return saved[-1]

    return draw


def test_lines_and_bands(runs_dir, tmp_path, draw):
    out = tmp_path / "figure2.png"
    figure = draw(runs_dir, out, titles={"beauty": "Amazon Beauty"})
    assert out.read_bytes().startswith(b"\x89PNG")
    grid = np.array(figure.axes).reshape(2, 3)  # data sets, metrics
    assert [[len(axes.lines) for axes in row] for row in grid] == [
        [3, 3, 3],
        [2, 2, 2],
    ]
    assert [len(axes.collections) for axes in grid[0]] == [3, 3, 3]
    assert [axes.get_title() for axes in grid[0]] == [
        "Precision@200, %",
        "Recall@200, %",
        "F-measure@200, %",
    ]
    assert grid[0, 0].get_ylabel() == "Amazon Beauty"
    assert grid[1, 0].get_ylabel() == "toys"
    (legend,) = figure.legends
    texts = {text.get_text() for text in legend.get_texts()}
    assert texts == set(curves.LINES.values())
    # Recall of seed s at iteration i is 0.1 i + 0.01 s.
    np.testing.assert_allclose(
        grid[0, 1].lines[0].get_xydata(), [[1, 10.5], [2, 20.5], [3, 30.5]]
    )
    band = grid[0, 1].collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(30.5 + 0.5**0.5)
    # A method has one colour everywhere, JTM-H a thin grey one.
    colors = [[x.get_color() for x in axes.lines] for axes in grid[:, 0]]
    assert colors[0][::2] == colors[1]
    assert len(set(colors[0])) == 3
    red, green, blue = (int(colors[0][2][i : i + 2], 16) for i in (1, 3, 5))
    assert red == green == blue


def test_the_kept_summary_draws_the_same(runs_dir, tmp_path, draw):
    runs = finished_runs.read_all(
        runs_dir, ["beauty", "toys"], ("item_cf", *METHODS), [0, 1]
    )
    finished_runs.write_summaries(tmp_path / "runs.json", runs)
    draw(runs_dir, tmp_path / "a" / "figure2.svg")
    draw(tmp_path / "runs.json", tmp_path / "b" / "figure2.svg")
    first = (tmp_path / "a" / "figure2.svg").read_bytes()
    assert b"<svg" in first
    assert first == (tmp_path / "b" / "figure2.svg").read_bytes()


def test_one_seed_has_no_band(tmp_path, draw):
    fake_runs.write(tmp_path, "toys", "jtm", 0)
    figure = draw(tmp_path, tmp_path / "figure2.svg")
    for axes in figure.axes:
        assert (len(axes.lines), len(axes.collections)) == (1, 0)


def test_choice_of_data(runs_dir, tmp_path, draw):
    figure = draw(runs_dir, tmp_path / "figure2.svg", data=["toys"])
    assert len(figure.axes) == 3
    with pytest.raises(ValueError, match="no finished run .* on books"):
        draw(runs_dir, tmp_path / "figure2.svg", data=["books"])


def test_refusals(runs_dir, tmp_path, draw):
    out = tmp_path / "figure2.svg"
    with pytest.raises(ValueError, match="--out must end in .svg"):
        draw(runs_dir, tmp_path / "figure2.txt")
    with pytest.raises(FileNotFoundError, match="neither a runs.json nor"):
        draw(tmp_path / "nothing", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="it has none"):
        draw(tmp_path / "empty", out)
    fake_runs.write(runs_dir, "toys", "jtm", 1, config={"method": "jtm"})
    with pytest.raises(ValueError, match="Unlike runs, .*: config"):
        draw(runs_dir, out)
    assert not out.exists()


def test_the_program(runs_dir, tmp_path):
    """Flags in, picture out, and a word about the run that is missing."""
    out = tmp_path / "figure2.png"
    status, stdout, stderr = shell.run(
        "experiments.figure2",
        f"--runs={runs_dir}",
        f"--out={out}",
        "--titles=beauty=Amazon Beauty",
    )
    assert (status, stdout) == (0, f"{out}\n"), stderr
    assert "tdm_cluster-0 is unfinished; left out" in stderr
    assert out.read_bytes().startswith(b"\x89PNG")
