"""The report of a run: what it shows, and that it is one page."""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pyarrow as pa
import pytest

from experiments.report import cells
from experiments.report import charts
from experiments.report import contents
from experiments.report import page
from experiments.report import person
from experiments.report import pictures
from experiments.report import projector
from experiments.report import source as source_lib
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import model_search
from jtm_tf.tree import initial
from jtm_tf.tree import statistics as tree_statistics
from jtm_tf.tree import tree as tree_lib
from tests.support import close
from tests.support import runs
from tests.support import served_models
from tests.support import shell
from tests.support import worlds

MAX_BYTES = 5_000_000


@pytest.fixture(name="run_dir", scope="module")
def _run_dir(tmp_path_factory):
    """A run of JTM."""
    folder = tmp_path_factory.mktemp("inspect") / "run"
    _, run_dir = runs.shared(tmp_path_factory)
    return shutil.copytree(run_dir, folder)  # projectors are written there


@pytest.fixture(name="source", scope="module")
def _source(run_dir):
    return source_lib.open_run(run_dir)


@pytest.fixture(name="told", scope="module")
def _told(run_dir, tmp_path_factory):
    """What the program says; it is asked for what does not exist."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    status, stdout, stderr = shell.run(
        "experiments.inspect",
        f"--run_dir={run_dir}",
        f"--out={out}",
        "--user=nobody",
        "--item=nothing",
    )
    assert (status, stderr) == (0, "")
    return json.loads(stdout)


@pytest.fixture(name="text", scope="module")
def _text(told):
    return pathlib.Path(told["report"]).read_text()


@pytest.fixture(name="report", scope="module")
def _report(text):
    return inside(text)


def inside(text):
    """Returns the report that a page holds."""
    found = re.search(r'id="report">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


def without_model(source, **changes):
    """Returns a source that need not be searched, to be fast."""
    return dataclasses.replace(source, model=None, **changes)


def of_tree(tree, paths, codes):
    """Returns the source of a mere tree whose item i has paths[codes[i]]."""
    raw = pa.array(np.arange(1, tree.num_items + 1))
    category = pa.DictionaryArray.from_arrays(codes, pa.array(paths))
    items = pa.table(
        {
            "raw_id": raw,
            "category": category.cast(pa.string()),
        }
    )
    item = np.repeat(np.arange(1, tree.num_items + 1), 2)
    data = interactions.Interactions(
        np.ones_like(item),
        item,
        item,
        items,
        pa.table({"user": [1], "raw_id": [1], "split": ["train"]}),
        {},
    )
    return source_lib.Source({}, {}, data, None, {0: tree})


def test_the_program(run_dir, told, text, report):
    assert told["notes"] == [
        "There is no user 'nobody'; another one is shown.",
        "There is no item 'nothing'; another one is shown.",
    ]
    assert told["bytes"] == len(text.encode()) < MAX_BYTES
    assert report["notes"] == told["notes"]
    names = {chart["id"] for chart in report["charts"]}
    assert names == set(charts.NAMES)
    drawn = [pathlib.Path(path) for path in told["pictures"]]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    wanted = {f"report-{name}.png" for name in names | {"tree"}}
    assert {path.name for path in drawn} == wanted
    folder = run_folder.RunFolder(run_dir).tensorboard
    rows = (folder / "nodes-metadata.tsv").read_text().splitlines()
    assert len(rows) == 1 + told["projected_nodes"]


def test_without_what_draws(run_dir, tmp_path):
    """A plain installation has no matplotlib: said, before anything is done."""
    out = tmp_path / "report.html"
    error = shell.the_error(
        shell.run(
            "experiments.inspect",
            f"--run_dir={run_dir}",
            f"--out={out}",
            without=["matplotlib"],
        )
    )
    assert error == (
        "Error: Pictures need matplotlib: install jtm_tf[demo], or pass "
        "--nopictures."
    )
    assert not out.exists()


def test_the_page_needs_nothing_else(text, report):
    outside = r"https?:|//\w+\.|\bsrc=|\bhref=|url\(|@import|import\(|fetch\("
    assert not re.findall(outside, text)
    assert "default-src 'none'" in text
    assert "{{" not in text
    assert page.render(report) == text


def test_a_name_is_no_markup(source):
    items = source.data.items
    at = items.column_names.index("category")
    nasty = pa.array(["</script><b>&amp;|x"] * len(items))
    data = dataclasses.replace(
        source.data, items=items.set_column(at, "category", nasty)
    )
    text = page.render(contents.gather(without_model(source, data=data)))
    assert "</script><b>" not in text
    assert "</script><b>&amp;" in inside(text)["labels"]


def test_cells(source, report):
    codes, paths = source_lib.paths(source.data)
    parts = [path.split("|") for path in paths]
    telling = next(  # the first part of which there are two
        i for i in (1, 2, 3) if len({tuple(p[:i]) for p in parts[1:]}) > 1
    )
    assert telling > 1
    assert [paths[c] for c in codes[1:]] == source.data.categories().tolist()
    assert [tree["name"] for tree in report["trees"]] == ["initial", "learned"]
    for drawn, tree in zip(
        report["trees"], [source.trees[0], source.model.tree]
    ):
        assert len(drawn["levels"]) == tree.max_level + 1
        for level, found in enumerate(drawn["levels"]):
            nodes = tree.ancestors(level)[1:]
            first = tree_lib.first_code(level, tree.branching)
            for place, items in enumerate(found["items"]):
                below = np.flatnonzero(nodes == first + place) + 1
                assert items == len(below)
                bought = np.isin(source.data.item, below).sum()
                assert found["popularity"][place] == bought
                if not items:
                    continue
                coarse = ["|".join(parts[c][:telling]) for c in codes[below]]
                most = max(coarse.count(name) for name in coarse)
                name = report["labels"][found["group"][place]]
                assert coarse.count(name) == most
                assert found["share"][place] == round(100 * most / items)
                label = report["labels"][found["label"][place]]
                full = [paths[c] for c in codes[below]]
                held = sum(f"{p}|".startswith(f"{label}|") for p in full)
                assert label == name or held >= items / 2


def test_charts(source, report):
    found = {chart["id"]: chart for chart in report["charts"]}
    categories = cells.Categories.of(*source_lib.paths(source.data))
    lines = {line["name"]: line for line in found["purity"]["lines"]}
    want = 100 * tree_statistics.purity(source.model.tree, categories.coarse)
    np.testing.assert_allclose(lines["learned"]["y"], want, atol=1e-4)
    mixed = lines["items at random"]["y"]
    assert np.mean(mixed) < np.mean(lines["initial"]["y"])
    (line,) = found["moves"]["lines"]
    record = source.iterations[0]
    assert line["y"][-1] == pytest.approx(100 * record["moved_items"] / 50)
    for name in tree_statistics.MEASURES:
        scale = 100 if name == "busiest" else 1
        solid = [line for line in found[name]["lines"] if not line["dashed"]]
        assert [x["name"] for x in solid] == ["initial", "after tree step 1"]
        for line, record in zip(solid, source.iterations):
            want = [scale * value for value in record["tree"][name]]
            np.testing.assert_allclose(line["y"], want, atol=1e-4)
            assert line["x"] == list(range(1, 1 + len(want)))
    lines = {line["name"]: line for line in found["recall"]["lines"]}
    widths = {beam_width for _, beam_width in runs.TINY.all_cuts}
    assert lines.keys() == {f"beam {width}" for width in widths}
    line = lines[f"beam {runs.TINY.beam_width}"]
    best = source.iterations[source.metrics["best_iteration"] - 1]
    want = [100 * share for share in best["level_recall"]]
    np.testing.assert_allclose(line["y"], want[line["x"][0] - 1 :], atol=1e-3)
    for line in found["heap"]["lines"]:
        assert 0 < max(line["y"]) <= 100
        assert line["x"][-1] == source.model.max_level - 1


def test_what_a_tree_tells_beyond_chance(source):
    """The hidden tree tells more than a random one; of shuffled items not."""
    hidden = worlds.draw().true_tree
    mixed = initial.random(hidden.num_items, seed=9)
    samples = splits.examples(source.data)
    _, information, _ = charts.measures(
        {"mixed": mixed, "hidden": hidden}, {"other": mixed}, samples
    )
    sums = {x["name"]: sum(x["y"]) for x in information["lines"]}
    assert list(sums) == [
        "mixed",
        "hidden",
        "other",
        "shuffled: mixed",
        "shuffled: hidden",
    ]
    chance = sums["shuffled: hidden"], sums["shuffled: mixed"]
    assert abs(chance[0] - chance[1]) < 0.2
    assert sums["hidden"] > 1.5 + sums["mixed"] > 1.5 + chance[1]
    assert sums["other"] == sums["mixed"]
    more = sums["hidden"] - sums["mixed"], chance[0] - chance[1]
    said = (
        f"information by {more[0]:+.2f}; with the items shuffled, by "
        f"{more[1]:+.2f}."
    )
    assert information["caption"].endswith(said)
    alone = charts.measures({"hidden": hidden}, {}, samples)[1]
    assert [line["dashed"] for line in alone["lines"]] == [False, True]
    assert alone["caption"].endswith("shuffled among the samples.")


def test_one_search(source, report):
    story, model = report["person"], source.model
    users = splits.held_out_users(source.data, "validation", 4)
    raw = [str(x) for x in source.data.users["raw_id"].to_pylist()]
    row = [raw[u - 1] for u in users.users].index(story["user"])
    found = model_search.recommend_users(
        model, users, num_results=5, beam_width=8
    )
    items = [record["item"] for record in story["rows"]]
    got = source.data.item_ids.numbers(items)[None]
    close.answers(model, users.history[[row]], got, found[[row]], beam_width=8)
    ranks = [record["rank"] for record in story["rows"]]
    for place, record in enumerate(story["rows"], 1):
        # Traced alone and to four digits, so the last digit may differ.
        last = record["steps"][-1]
        assert last["rank"] == pytest.approx(record["rank"], abs=2e-4)
        tied = pytest.approx(ranks[last["place"] - 1], abs=2e-4)
        assert last["place"] == place or ranks[place - 1] == tied
    asked = story["asked"]
    assert asked["later"] and asked["item"] not in items
    fell = next(s["level"] for s in asked["steps"] if not s["stays"])
    if fell < model.max_level:
        assert f"Lost on level {fell}:" in asked["verdict"]
    own, rank = asked["path"], 0.0
    for score, step in zip(own, asked["steps"]):
        rank = score + model.path_weight * rank
        if step["rank"] is not None:
            assert step["rank"] == pytest.approx(rank, abs=1e-3)
    for level, kept in story["beam"].items():
        assert len(kept) <= 8 and max(kept) < 4 ** int(level)


def test_why_this_item(source, report):
    user, item = report["person"]["user"], report["person"]["rows"][2]["item"]
    story, notes = person.describe(source, user=user, item=item, deepest=2)
    assert (story["user"], notes) == (user, [])
    assert set(story["beam"]) == {1, 2}
    assert story["asked"]["verdict"] == "Recommended, at place 3 of 5."


def test_a_flat_method(source):
    model = served_models.untrained(branching=50)
    flat = dataclasses.replace(source, model=model, notes=["flat"])
    report = contents.gather(flat)
    assert report["trees"] == [] and report["notes"] == ["flat"]
    names = [chart["id"] for chart in report["charts"]]
    assert names == ["learning", "recalls", "losses"]
    assert len(report["person"]["rows"]) == 5
    assert "All items are scored" in report["person"]["asked"]["verdict"]
    assert inside(page.render(report)) == json.loads(json.dumps(report))
    with pytest.raises(ValueError, match="no nodes to project"):
        projector.write(flat, "nowhere")


def test_an_older_run(run_dir, source, tmp_path):
    """One iteration, few fields, no trees: told, and the rest is shown."""
    old = run_folder.RunFolder(tmp_path / "old")
    shutil.copytree(run_dir, old.path)
    shutil.rmtree(old.path / "trees")
    metrics = old.read_metrics()
    first = metrics["iterations"][0]
    kept = {key: first[key] for key in ("iteration", "loss", "validation")}
    old.write_metrics({"iterations": [kept]})
    config = old.read_config()
    config["config"] = {"method": "jtm"}
    (old.path / "config.json").write_text(json.dumps(config))
    found = source_lib.open_run(old.path)
    assert len(found.notes) == 2
    assert "not finished" in found.notes[0]
    assert "initial tree" in found.notes[1]
    (old.path / "best.keras").write_bytes(b"PK")
    broken = source_lib.open_run(old.path)
    assert "cannot be loaded" in broken.notes[1]
    assert broken.tree is None
    report = contents.gather(broken)
    assert report["trees"] == report["charts"] == []
    source.trees[0].save(old.tree(0))
    report = contents.gather(source_lib.open_run(old.path))
    assert [tree["name"] for tree in report["trees"]] == [
        "initial, never changed"
    ]
    assert [chart["id"] for chart in report["charts"]] == [
        "purity",
        *tree_statistics.MEASURES,
    ]


def test_the_best_iteration_may_be_the_first(source):
    first = source.trees[0]
    for metrics, name in (
        ({}, "initial, never changed"),
        (source.metrics, "initial, of the best iteration"),
    ):
        kept = without_model(source, trees={0: first}, metrics=metrics)
        (tree,) = contents.gather(kept)["trees"]
        assert tree["name"] == name
    last = source.model.tree
    model = served_models.untrained()
    model.set_tree(first)
    later = dataclasses.replace(
        source, model=model, trees={0: first, 1: first, 2: last}
    )
    report = contents.gather(later, beside={"other": last})
    assert [tree["name"] for tree in report["trees"]] == [
        "after tree step 2",
        "other",
        "initial, of the best iteration",
    ]
    assert [t["searched"] for t in report["trees"]] == [False, False, True]


def test_malformed_records_are_noted_and_the_rest_is_shown(run_dir, tmp_path):
    odd = run_folder.RunFolder(tmp_path / "odd")
    shutil.copytree(run_dir, odd.path)
    odd.model.unlink()  # nothing is searched, to be fast
    metrics, config = odd.read_metrics(), odd.read_config()
    record = {"validation": {"recall": 0.1}}  # of no iteration
    diverged = {**metrics["iterations"][0], "level_losses": [1.0, np.nan]}
    metrics["iterations"] = [record, *metrics["iterations"], diverged, None]
    odd.write_metrics({**metrics, "test": {"users": 1}})
    config["config"] |= {"cuts": None, "profile": None}
    (odd.path / "config.json").write_text(json.dumps(config))
    source = source_lib.open_run(odd.path)
    report = contents.gather(source)
    noted = "\n".join(report["notes"])
    assert "its test metrics cannot be read" in noted
    assert "of 5 iterations 2 can be read" in noted
    assert [c["id"] for c in report["charts"]] == [
        "purity",
        "moves",
        *tree_statistics.MEASURES,
        "learning",
        "recalls",
        "losses",
    ]
    facts = dict(report["facts"])
    assert facts["iterations"] == "2"
    assert not [name for name in facts if name.startswith("test")]
    page.render(report)
    odd.write_metrics({**metrics, "iterations": "many"})
    report = contents.gather(source_lib.open_run(odd.path))
    assert [c["id"] for c in report["charts"]] == [
        "purity",
        "moves",
        *tree_statistics.MEASURES,
    ]


def test_weights_that_are_no_numbers_are_one_error(run_dir, tmp_path):
    folder = run_folder.RunFolder(tmp_path / "diverged")
    shutil.copytree(run_dir, folder.path)
    model = saving.load(folder.model)
    weights = model.trainable_variables[0]
    weights.assign(np.full(weights.shape, np.nan))
    saving.save(model, folder.model)
    with pytest.raises(ValueError, match="best.keras: .* not finite, .*lower"):
        source_lib.open_run(folder.path)


def test_questions_are_not_passed_over_in_silence(source):
    nothing = without_model(source)
    for asked in ({"user": "1"}, {"item": "1"}):
        report = contents.gather(nothing, contents.Request(**asked))
        assert report["notes"][-1].startswith("Nothing is searched: --user")
        assert report["person"] is None
    assert contents.gather(nothing)["notes"] == nothing.notes


def test_pictures_of_an_earlier_report_go(run_dir, tmp_path):
    out = tmp_path / "report.html"
    stale, own = tmp_path / "report-heap.png", tmp_path / "report-own.png"
    for path in (stale, own):
        path.write_bytes(b"old")
    status, _, stderr = shell.run(
        "experiments.inspect",
        f"--run_dir={run_dir}",
        f"--out={out}",
        "--nopictures",
        "--noprojector",
    )
    assert (status, stderr) == (0, "")
    assert sorted(tmp_path.iterdir()) == [own, out]


def test_trees_beside(run_dir, source):
    found = contents.trees_beside(source, {"a": run_dir, "b": run_dir})
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"].pi, source.tree.pi)
    with pytest.raises(ValueError, match="'learned' is what the run's own"):
        contents.trees_beside(source, {"learned": run_dir})
    other = initial.random(50, branching=3)
    for changes, message in (
        ({"trees": {}}, "has no tree to compare"),
        ({"trees": {0: other}}, r"are \(3, 4\), of the run's own \(4, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            contents.trees_beside(
                without_model(source, **changes), {"a": run_dir}
            )


def test_pictures_of_odd_names(source, tmp_path):
    """A dollar is a dollar, and every line is drawn."""
    items = source.data.items
    at = items.column_names.index("category")
    odd = pa.array([f"$5_to_$10 {i % 3}|{{\\frac" for i in range(len(items))])
    data = dataclasses.replace(
        source.data, items=items.set_column(at, "category", odd)
    )
    tree = source.trees[0]
    report = contents.gather(
        without_model(source, data=data),
        beside={f"tree $_{i}^": tree for i in range(7)},
    )
    written = pictures.write(report, tmp_path / "report.html")
    assert {path.name for path in written} >= {
        "report-tree.png",
        "report-purity.png",
    }
    (purity,) = [c for c in report["charts"] if c["id"] == "purity"]
    drawn = pictures.curves(purity).axes[0].get_legend().get_texts()
    assert len(drawn) == len(purity["lines"]) == 10


def test_no_categories(source):
    data = dataclasses.replace(
        source.data, items=source.data.items.drop_columns(["category"])
    )
    report = contents.gather(without_model(source, data=data))
    assert "no categories" in report["notes"][-1]
    assert not report["categories"]
    assert charts.purity({"a": source.trees[0]}, np.zeros(51, int)) == []
    assert not any(report["trees"][0]["levels"][2]["label"])
    nowhere = pathlib.Path("report.html")
    assert pictures.write({**report, "charts": []}, nowhere) == []


def test_a_large_tree_is_small_on_the_page():
    items = 300_000
    tree = initial.random(items)
    paths = [f"{i} {'long ' * 20}|{i}" for i in range(20_000)]
    codes = np.random.default_rng(0).integers(0, len(paths), items)
    source = of_tree(tree, paths, codes)
    report = contents.gather(source)
    assert sum(len(x["items"]) for x in report["trees"][0]["levels"]) <= 16384
    assert report["max_level"] > len(report["trees"][0]["levels"])
    assert len(page.render(report).encode()) < MAX_BYTES / 2


def test_the_projector_reads_it(source, tmp_path):
    count = projector.write(source, tmp_path, max_points=30)
    assert count == 4 + 16
    vectors = np.loadtxt(tmp_path / "nodes.tsv", delimiter="\t")
    nodes = np.arange(2, 2 + 4 + 16)
    want = source.model.embedding(nodes)
    np.testing.assert_allclose(vectors, want, rtol=1e-3)
    rows = (tmp_path / "nodes-metadata.tsv").read_text().splitlines()
    columns, *rows = [row.split("\t") for row in rows]
    assert columns[:3] == ["node", "level", "items"]
    assert [int(row[0]) for row in rows] == nodes.tolist()
    assert sum(int(row[2]) for row in rows if row[1] == "2") == 50
    config = (tmp_path / "projector_config.pbtxt").read_text()
    assert 'tensor_path: "nodes.tsv"' in config


@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="There is no chromium here."
)
def test_a_browser_draws_it(told, report, tmp_path):
    done = subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--virtual-time-budget=2000",
            "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"file://{told['report']}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for part in ("tree", "curves", "person"):
        assert f'<section id="{part}">' in done.stdout
    assert done.stdout.count("<figure>") == len(report["charts"])
    assert done.stdout.count('class="curve"') > 2 * len(report["charts"])
