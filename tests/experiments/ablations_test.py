"""The ablation report, from runs of a tiny world."""

import json

import pytest

from experiments.pictures import plots
from experiments.trials import variants
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.models import saving
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import judging
from tests.support import close
from tests.support import runs


@pytest.fixture(name="judged", scope="module")
def _judged(tmp_path_factory):
    """The data, a finished run's folder and what the report says of it."""
    data_dir, run_dir = runs.shared(tmp_path_factory)
    data, run = interactions.load(data_dir), run_folder.RunFolder(run_dir)
    return data, run, variants.judge_run(run, data, beams=[20, 40])


def test_figures_are_of_the_validation_users(judged):
    data, folder, found = judged
    model = saving.load(folder.model)
    users = splits.held_out_users(data, "validation", model.max_history)
    for cut, (num_results, beam_width) in zip(found["cuts"], variants.CUTS):
        want = judging.judge_model(
            model, users, num_results=num_results, beam_width=beam_width
        )
        assert cut == want
    records = folder.read_metrics()["iterations"]
    assert found["recall_by_iteration"] == [
        record["validation"]["recall"] for record in records
    ]
    assert found["half_steps"][0]["tree_step"]["train"] > 0
    last = max(found["level_recall"], key=int)
    narrow = {c["beam_width"]: c for c in found["cuts"]}[variants.NARROW]
    tied = close.doubt(
        model,
        users.history,
        num_results=variants.NARROW,
        beam_width=variants.NARROW,
    )
    assert found["level_recall"][last] == pytest.approx(
        narrow["recall"], abs=1e-4 + tied
    )


def test_the_report_has_every_run_and_no_other(judged):
    text = variants.report(
        {"jtm": judged[2], "no_kin": judged[2]}, "python -m x \\\n    --y"
    )
    rows = [line for line in text.splitlines() if line.startswith("| no_kin")]
    assert len(rows) == 3 + 2  # recalls, levels, beams, Eq. 2 in two rounds
    assert "`--kin_strength=0`" in rows[0]
    assert "margin" not in text
    assert text.endswith("    python -m x \\\n        --y")


def test_wider_beams_are_judged_too(judged):
    _, _, found = judged
    narrow = {c["beam_width"]: c for c in found["cuts"]}
    assert found["beams"] == [narrow[20], narrow[40]]


def test_an_earlier_report_keeps_its_variants(judged, tmp_path):
    _, _, found = judged
    path = tmp_path / "report.json"
    fingerprint = found["data_fingerprint"]
    assert variants.earlier(path, fingerprint, 0) == {}
    path.write_text(json.dumps({"no_kin": found}))
    kept = variants.earlier(path, fingerprint, found["seed"])
    assert kept["no_kin"]["cuts"] == found["cuts"]
    for other in (("another", found["seed"]), (fingerprint, 7)):
        with pytest.raises(ValueError, match="no_kin.*another --out"):
            variants.earlier(path, *other)


def test_half_steps_are_drawn_where_they_were_measured(judged):
    _, _, found = judged
    blind = {**found, "half_steps": [{} for _ in found["half_steps"]]}
    figure = plots.half_steps({"a": found, "b": blind}, {"a": "A", "b": "B"})
    for axes, users in zip(figure.axes, ("train", "validation")):
        (line,) = axes.lines
        drawn = line.get_ydata()
        assert drawn[0] == found["half_steps"][0]["model_step"][users]
        assert drawn[1] == found["half_steps"][0]["tree_step"][users]
        assert len(drawn) == 2 * len(found["half_steps"]) - 1


def test_variants_have_names_of_their_own():
    names = [variant.name for variant in variants.VARIANTS]
    assert len(set(names)) == len(names)
    changes = [(v.method, v.flags) for v in variants.VARIANTS]
    assert len(set(changes)) == len(changes)
