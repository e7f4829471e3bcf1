"""The programs as people meet them: help, mistakes, refusals."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.learning import settings
from tests.support import shell
from tests.support import worlds

PROGRAMS = (
    "prepare",
    "train",
    "evaluate",
    "table1",
    "figure2",
    "cost",
    "ablations",
    "demo",
    "paired",
    "placement",
    "pruning",
    "inspect",
    "notebooks",
)


def run(name, *flags, **options):
    """Runs a program; returns its exit status, stdout and stderr."""
    return shell.run(f"experiments.{name}", *flags, **options)


@pytest.fixture(name="data_dir", scope="module")
def _data_dir(tmp_path_factory):
    return worlds.prepare(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_docstrings_show_a_command_to_copy(name):
    source = (shell.ROOT / "experiments" / f"{name}.py").read_text()
    shown = ast.get_docstring(ast.parse(source), clean=False)
    assert f"    python -m experiments.{name} --" in shown


def test_help():
    _, stdout, _ = run("train", "--help")
    assert "python -m experiments.train --method=jtm" in stdout
    assert max(len(line) for line in stdout.splitlines()) <= 80
    titles = re.findall("^(?:The |How ).*", stdout, re.M)
    assert titles == [
        "The run",
        "How long to learn",
        "The first tree",
        "The model",
        "The model step",
        "The tree step (Algorithm 2)",
        "The rivals of today: of several values, the best",
    ]
    for flag in settings.names():
        inner = flag in (
            "batch_samples",
            "batch_nodes",
            "group_weights",
            "problem_weights",
        )
        shown = re.findall(rf"^  --(?:\[no\])?{flag}\b", stdout, re.M)
        assert len(shown) == (not inner), flag
    assert "  --slack=FLOAT\n" in stdout and "(default: 1.0)" in stdout


def test_flags_are_settings():
    """Left alone they are the defaults; given, they are what was given."""
    program = (
        "import sys\n"
        "from absl import flags\n"
        "from experiments import train_flags\n"
        "from jtm_tf.learning import settings\n"
        "always = ['train', '--method=jtm', '--data_dir=d', '--out_dir=o']\n"
        "flags.FLAGS(always)\n"
        "assert train_flags.config() == settings.JointConfig()\n"
        "flags.FLAGS([*always, '--negatives=3,4', '--cuts=7:9', '--slack=inf',"
        "'--nolazy', '--profile=age', '--windows=2,1', '--visits=no',"
        "'--samples_per_epoch=5', '--seed=2'])\n"
        "given = dict(negatives=(3, 4), "
        "cuts=((7, 9),), slack=float('inf'), lazy=False, profile=('age',), "
        "windows=(2, 1), visits='no', samples_per_epoch=5, seed=2)\n"
        "assert train_flags.config() == settings.from_flat(**given)\n"
        "flags.FLAGS([*always, '--as_published', '--loss=bce'])\n"
        "given |= {**settings.AS_PUBLISHED, 'loss': 'bce'}\n"
        "assert train_flags.config() == settings.from_flat(**given)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=shell.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "flag, error",
    [
        ("--gap=0", "Error: gap must be >= 1; got 0."),
        ("--branching=1", "Error: branching must be >= 2; got 1."),
        ("--num_results=0", "Error: num_results must be >= 1; got 0."),
    ],
)
def test_a_setting_out_of_range_is_refused(flag, error):
    given = ("--method=jtm", "--data_dir=none", "--out_dir=none")
    assert shell.the_error(run("train", *given, flag)) == error


def test_help_of_few_flags():
    status, stdout, stderr = run("evaluate", "--help")
    assert (status, stderr) == (0, "")
    assert "python -m experiments.evaluate --run_dir=RUN" in stdout
    shown = re.findall(r"^  --(?:\[no\])?(\w+)", stdout, re.M)
    assert shown == [
        "run_dir",
        "data_dir",
        "split",
        "num_results",
        "beam_width",
        "search",
        "tables",
        "filter_history",
        "pool",
        "ray_address",
    ]


def test_an_unknown_flag_is_refused():
    status, _, stderr = run("prepare", "--no_such_flag=1")
    assert status == 1
    assert "no_such_flag" in stderr
    assert "Traceback" not in stderr


def test_arguments_that_are_no_flags():
    program.no_arguments(["train"])
    with pytest.raises(ValueError, match="epochs=3"):
        program.no_arguments(["train", "epochs=3"])


@pytest.mark.parametrize("values", [[], ["8", "x"], ["0"], ["-1"], ["1.5"]])
def test_lists_of_positive_integers(values):
    assert program.integers("hidden", ["8", "16"]) == (8, 16)
    with pytest.raises(ValueError, match="--hidden takes positive integers"):
        program.integers("hidden", values)


@pytest.mark.parametrize("values", [[], ["8", "x"], ["1.5"]])
def test_lists_of_numbers(values):
    assert program.numbers("factors", ["8", "-1"], int) == (8, -1)
    assert program.numbers("rate", ["8", "0.5"], float) == (8, 0.5)
    with pytest.raises(ValueError, match="--factors takes integers; got"):
        program.numbers("factors", values, int)


def test_an_error_is_one_line(tmp_path):
    error = shell.the_error(run("evaluate", f"--run_dir={tmp_path}"))
    assert "is not a run folder" in error


def test_a_life_in_the_shell(data_dir, tmp_path):
    """Train, meet each refusal, and evaluate, all on one run folder."""
    tiny = [
        "--method=jtm_h",
        f"--data_dir={data_dir}",
        f"--out_dir={tmp_path / 'run'}",
        "--joint_iterations=1",
        "--epochs_per_iteration=1",
        "--embedding_dim=4",
        "--windows=3,1",
        "--hidden=8",
        "--negatives=12",
        "--branching=4",
        "--num_results=5",
        "--beam_width=8",
    ]
    # From the start of Python: TensorFlow has much to say when imported.
    status, _, stderr = shell.run_cold("-m", "experiments.train", *tiny)
    assert status == 0, stderr
    notes = ("cuda", "oneDNN", "InitializeLog", "Sharding", "retracing")
    assert not [note for note in notes if note in stderr]

    error = shell.the_error(run("train", *tiny, "--seed=1"))
    assert "config.seed: 0 there, 1 asked" in error

    (tmp_path / "run" / "best.keras").write_bytes(b"PK")
    error = shell.the_error(run("evaluate", f"--run_dir={tmp_path / 'run'}"))
    assert "best.keras is missing or damaged" in error


def test_a_rival_in_the_shell(data_dir, tmp_path):
    """Tunes, leaves what every method leaves, and is refused in one line."""
    out_dir = tmp_path / "run"
    asked = ["--method=ease", f"--data_dir={data_dir}", f"--out_dir={out_dir}"]
    asked += ["--num_results=5", "--ease_regularization=10,100"]
    status, stdout, stderr = run("train", *asked)
    assert status == 0, stderr
    assert stderr.count("validation recall 0.") == 2
    metrics = json.loads((out_dir / "metrics.json").read_text())
    assert metrics["test"] == json.loads(stdout)
    assert metrics["test"]["beam_width"] is None
    assert [x["num_results"] for x in metrics["cuts"]] == [5, 20]
    assert [x["num_results"] for x in metrics["filtered"]] == [5, 20]
    tried = {x["regularization"]: x["recall"] for x in metrics["tuned"]}
    assert tried.keys() == {10, 100}
    assert tried[metrics["chosen"]["regularization"]] == max(tried.values())
    assert (out_dir / "test_users.parquet").exists()

    asked[2] = f"--out_dir={tmp_path / 'large'}"
    error = shell.the_error(run("train", *asked, "--ease_max_gib=1e-6"))
    assert "it may take 1e-06" in error

    asked[0], asked[2] = "--method=als", f"--out_dir={tmp_path / 'als'}"
    error = shell.the_error(run("train", *asked, without=["implicit"]))
    assert "pip install .[rivals]" in error


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.slow
def test_demo_on_other_data(again, data_dir, tmp_path):
    flags = [
        f"--out_dir={tmp_path / 'demo'}",
        f"--data_dir={data_dir}",
        "--joint_iterations=1",
        "--samples_per_iteration=500",
        "--households=2",
    ]
    demo = shell.Program("experiments.demo", *flags, "--keep")
    url = demo.line_with("Try it yourself: ").split()[3]
    with urllib.request.urlopen(url + "page/about.json") as answer:
        samples = json.load(answer)["samples"]
    assert [x["name"].split()[0] for x in samples] == ["household"] * 2
    assert all(x["history"] for x in samples)
    os.kill(demo.process.pid, signal.SIGINT)
    status, stdout, stderr = demo.result()
    assert (status, stderr) == (0, "")
    lines = [x for x in stdout.splitlines() if str(tmp_path) not in x]
    assert max(map(len, lines)) <= 80
    for text in ("TDM", "JTM", "recall", "Household"):
        assert text in stdout
    assert "Version 1 of jtm, served by gRPC, recommends" in stdout
    assert "more: what the model itself recommends.\n" in stdout
    picture = tmp_path / "demo" / "learning_curve.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    if again:  # nothing is done twice
        status, told, stderr = run("demo", *flags)
        assert (status, stderr) == (0, "")
        assert told.splitlines()[-1] == "To try it on a page: make demo KEEP=1"
        assert told.partition("\nTo try")[0] == stdout.partition("\nTry it")[0]


@pytest.mark.parametrize("name", ["data", "lücke", "数"])
def test_any_letters_in_a_locale_that_has_none(name, tmp_path):
    rows = [f"u{u % 7}👤,é{u % 5},{1700000000 + u}" for u in range(140)]
    log = tmp_path / f"{name}.csv"
    log.write_text("\n".join(["user,item,timestamp", *rows, "👤,é"]), "utf-8")
    env = dict(os.environ, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    ended = subprocess.run(
        [sys.executable, "-m", "experiments.prepare", "--dataset=csv"]
        + [f"--input={log}", f"--data_dir={tmp_path / name}"],
        cwd=shell.ROOT,
        env=env,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert ended.returncode == 0, ended.stderr
    shown = "👤,é" if name != "data" else "\\U0001f464,\\xe9"
    assert f"line 142: {shown}" in ended.stdout
    assert interactions.load(tmp_path / name).item_ids.number("é3")
