"""A run folder belongs to one run."""

import pytest

from jtm_tf import files
from jtm_tf.runs import folder as run_folder

CONFIG = {
    "method": "jtm",
    "seed": 0,
    "windows": (2, 1),
    "training": {"rate": 0.1},
}


@pytest.fixture(name="folder")
def _folder(tmp_path):
    folder = run_folder.RunFolder(tmp_path / "run")
    claim(folder, data_dir="data")
    return folder


def claim(folder, *, data_dir=None):
    """Makes the folder a run's, as a run does; returns its header."""
    header = folder.check(CONFIG, data_fingerprint="abc")
    folder.claim(header, data_dir=data_dir)
    return header


def test_the_same_run_may_come_back(folder):
    before = (folder.path / "config.json").read_bytes()
    header = claim(folder, data_dir="moved")
    assert (header["method"], header["seed"]) == ("jtm", 0)
    assert header["config"] == files.as_json(CONFIG)
    assert header["data_fingerprint"] == "abc" and header["code"]
    assert (folder.path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "change, fingerprint, named",
    [
        ({"method": "tdm"}, "abc", "config.method: 'jtm' there, 'tdm' asked"),
        ({"windows": (2, 2)}, "abc", r"config.windows: \[2, 1\] there"),
        ({"training": {"rate": 0.2}}, "abc", "config.training.rate: 0.1"),
        ({"gap": 7}, "abc", "config.gap: None there, 7 asked"),
        ({}, "xyz", "data: 'abc' there, 'xyz' asked"),
    ],
)
def test_another_run_is_refused_and_told_why(
    folder, change, fingerprint, named
):
    before = (folder.path / "config.json").read_bytes()
    with pytest.raises(ValueError, match=named):
        folder.check({**CONFIG, **change}, data_fingerprint=fingerprint)
    assert (folder.path / "config.json").read_bytes() == before


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    folder = run_folder.RunFolder(tmp_path)
    with pytest.raises(ValueError, match="neither empty nor a run folder"):
        folder.check(CONFIG, data_fingerprint="abc")
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


def test_what_a_killed_run_left_is_no_obstacle(tmp_path):
    (tmp_path / ".123.config.json").write_text("{")
    claim(run_folder.RunFolder(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_a_free_folder_stays_free_until_it_is_claimed(tmp_path):
    folder = run_folder.RunFolder(tmp_path / "run")
    folder.check(CONFIG, data_fingerprint="abc")
    assert not folder.path.exists()


def test_reads_what_was_claimed(folder):
    config = folder.read_config()
    assert config["config"]["windows"] == [2, 1]
    assert (config["data"], config["data_dir"]) == ("abc", "data")
    assert config["code"] == run_folder.code_version()


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        run_folder.RunFolder(tmp_path).read_config()


def test_metrics(folder):
    assert folder.read_metrics() == {}
    folder.write_metrics({"iterations": []})
    assert folder.read_metrics() == {"iterations": []}
    path = folder.path / "metrics.json"
    path.write_text('{"iterations": [')
    with pytest.raises(ValueError, match="metrics.json is not valid JSON"):
        folder.read_metrics()


def test_trees_sort_by_iteration(folder):
    names = [folder.tree(i).name for i in (0, 9, 10, 100)]
    assert names == sorted(names)


def test_a_setting_that_came_later_changes_no_run(folder):
    """What a folder does not name is as it was before there was the name."""
    before = {"whole": 0, "targets": 5}
    later = {**CONFIG, "training": {"rate": 0.1, "targets": 5}, "whole": 0}
    folder.check(later, data_fingerprint="abc", before=before)
    for other, told in (
        ({"whole": 69}, "whole: 0 there, 69 asked"),
        ({"training": {"rate": 0.1, "targets": 1}}, "targets: 5 there, 1"),
        ({"gap": 7}, "gap: None there, 7 asked"),
    ):
        with pytest.raises(ValueError, match=told):
            folder.check(
                {**later, **other}, data_fingerprint="abc", before=before
            )
