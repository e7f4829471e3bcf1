"""Runs what the documentation shows: each command and each example.

A page's commands run in the order of the page, in a folder of its own where
the files that it names lie, small ones; what takes long is shrunk by further
flags. What cannot run here is in `ELSEWHERE`, with the file that vouches for
it. Commands are run by hand, `-m slow`, as examples are of pages other than the
README; the flags of all commands are looked at always.
"""

import contextlib
import csv
import gzip
import re
import shlex
import shutil
import subprocess
import zipfile

import numpy as np
import pandas
import pytest

import jtm_tf
from jtm_tf.data import planted_world
from jtm_tf.data.preparing import preparation
from tests.support import calls
from tests.support import shell

PAGES = (
    "README.md",
    *(
        f"docs/{path.name}"
        for path in sorted((shell.ROOT / "docs").glob("*.md"))
    ),
)
SOME_BY_HAND = [
    pytest.param(page, marks=[pytest.mark.slow] * (page != "README.md"))
    for page in PAGES
]


def _text(value):
    """Returns a setting as a flag has it."""
    numbers = value if isinstance(value, tuple) else (value,)
    return ",".join(map(str, numbers))


_SMALL = {
    "branching": 8,
    "samples_per_epoch": 400,
    "embedding_dim": 4,
    "windows": (3, 1),
    "hidden": (8,),
    "negatives": 12,
    "gap": 3,
    "num_results": 20,
    "beam_width": 20,
}
SHRUNK = {
    "experiments.train": [
        "--joint_iterations=1",
        *(f"--{name}={_text(value)}" for name, value in _SMALL.items()),
    ],
    "experiments.inspect": ["--nopictures", "--noprojector", "--num_users=8"],
    "export.export_model": ["--num_results=20", "--beam_width=20"],
    "export.verify": ["--num_results=20", "--beam_width=20"],
    # Well below what other work leaves of the machine.
    "export.load_test": [
        "--seconds=3",
        "--capacity_seconds=0.3",
        "--fraction=0.2",
    ],
}

# Commands that begin so run elsewhere, or their output is committed.
ELSEWHERE = {
    "BASE=$PWD/exported/jtm docker compose": "tests/export/tf_serving_test.py",
    "python -m experiments.cost": "experiments/results/cost/beauty.json",
    "python -m experiments.pruning": "tests/experiments/pruning_test.py",
    "python -m experiments.rehearse_cluster": "tests/learning/cluster_test.py",
    "python -m export.soak": "tests/export/soak_test.py",
    "python -m export.cpp.build": "tests/export/cpp_loader_test.py",
    "build/recommend-*": "tests/export/cpp_loader_test.py",
}


def shell_commands(text):
    """Returns the commands of a page, in order, each as one line."""
    text = re.sub(r"^```python\n.*?^```", "", text, flags=re.M | re.S)
    text = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(
        r"(?:^    |`|^(?=python ))"
        r"((?:python -m |make |curl |tensorboard |build/|BASE=)[^`\n]*)",
        text,
        re.M,
    )
    return [" ".join(line.split(" #")[0].split()) for line in found]


def examples(text):
    """Returns the Python of a page, block by block."""
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def write_files(folder):
    """Writes the files that the pages name."""
    world = planted_world.planted_world(60, 300, 20, 0)
    path_of = ["", *(x.replace("c0", "Snacks", 1) for x in world.categories)]
    # A row a day, from 7 November 2023 on.
    times = 1699315200 + 86400 * (np.arange(len(world.user)) % 20)
    rows = [
        (u, i, t, path_of[i], f"{20 + u % 3}0-")
        for u, i, t in zip(world.user, world.item, times)
    ]
    with open(folder / "log.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["user", "item", "timestamp", "category"])
        out.writerows(row[:4] for row in rows)
    with gzip.open(folder / "log.csv.gz", "wt", newline="") as file:
        out = csv.writer(file)
        out.writerow(["customer", "sku", "time", "path", "age_group"])
        out.writerows(rows)
    days = pandas.to_datetime(world.timestamp % 100, unit="D", origin="2000")
    with zipfile.ZipFile(folder / "ta_feng.csv.zip", "w") as archive:
        lines = [
            "TRANSACTION_DT,CUSTOMER_ID,AGE_GROUP,PIN_CODE,"
            "PRODUCT_SUBCLASS,PRODUCT_ID"
        ]
        for day, (user, item, *_) in zip(days, rows):
            lines.append(
                f"{day.month}/{day.day}/{day.year},{user:08},25-29,115,"
                f"{110000 + item % 7},{4710114128037 + int(item)}"
            )
        archive.writestr("ta_feng.csv", "\n".join(lines))
    (folder / "new.csv").write_text("raw_id,category\n900,Snacks\n")
    (folder / "gone.csv").write_text(f"raw_id\n{rows[0][1]}\n")


def prepare_log(folder):
    """Makes what the guides call data/log, and a run of it."""
    preparation.run(
        preparation.Config(
            "csv",
            str(folder / "data/log"),
            str(folder / "log.csv.gz"),
            columns={
                "user": "customer",
                "item": "sku",
                "timestamp": "time",
                "category": "path",
            },
            profile=("age_group",),
        )
    )


class Page:
    """Runs the commands of a page in its folder.

    `guide` is a folder that has what the guides take for granted.
    """

    def __init__(self, folder, stack, guide):
        self._folder, self._stack, self._guide = folder, stack, guide
        self._ports = dict(zip(("8500", "8501"), calls.free_ports(2)))
        self._server = None

    def run(self, line):
        """Runs a command, a server for as long as the page is read."""
        for port, free in self._ports.items():
            line = re.sub(rf"\b{port}\b", str(free), line)
        words = shlex.split(line)
        if words[0] == "tensorboard":
            return self._tensorboard(words)
        if words[:2] == ["python", "-m"]:
            words = words[2:]
            words += self._more(words)
            if words[0] == "export.serve":
                return self._serve(words)
            status, stdout, stderr = shell.run(*words, cwd=self._folder)
        else:
            done = subprocess.run(
                words,
                cwd=self._folder,
                capture_output=True,
                text=True,
                check=False,
            )
            status, stdout, stderr = done.returncode, done.stdout, done.stderr
        assert status == 0, f"{line}\n{stderr}"
        assert "Traceback" not in stderr, f"{line}\n{stderr}"
        assert '"error"' not in stdout, f"{line}\n{stdout}"
        return None

    def take(self, name):
        """Takes runs/jtm or exported/jtm, unless the page made it."""
        if not (self._folder / name).exists():
            shutil.copytree(self._guide / name, self._folder / name)

    def _more(self, words):
        """Returns flags that make a command quick, and keep it apart."""
        if words[-1] == "--help":
            return []
        if words[0] == "export.serve":
            grpc, rest = self._ports.values()
            return [f"--port={grpc}", f"--rest_port={rest}"]
        more = SHRUNK.get(words[0], [])
        if "--dataset=planted" in words:
            return [*more, "--num_items=3000", "--num_rows=60000"]
        if any(x.startswith("--initial_tree=data/") for x in words):
            return [*more, "--branching=2"]  # as the tree in the file has
        return more

    def _start(self, words):
        program = shell.Program(*words, cwd=self._folder)
        self._stack.callback(program.result)
        self._stack.callback(program.process.kill)
        return program

    def make_a_server(self):
        """Serves what guides call exported/jtm, unless the page does."""
        if self._server is None:
            self.take("exported/jtm")
            self.run(
                "python -m export.serve --model_base=exported/jtm "
                "--port=8500 --rest_port=8501"
            )

    def _serve(self, words):
        if self._server is not None:
            self._server.process.terminate()
            self._server.process.join()
        self._server = self._start(words)
        assert self._server.first_line()

    def _tensorboard(self, words):
        """Starts it and asks for what the guide says is there."""
        port = calls.free_ports(1)[0]
        self._start(["tensorboard.main", *words[1:], f"--port={port}"])
        tags = calls.get_json(
            f"http://127.0.0.1:{port}/data/plugin/scalars/tags", patience=60
        )
        shown = {tag for run in tags.values() for tag in run}
        assert {"loss", "validation/recall", "moved_items"} <= shown
        assert {"recall_by_level/01", "loss_by_level/01"} <= shown


@pytest.fixture(name="guide", scope="module")
def _guide(tmp_path_factory):
    """A folder with data/log, a run of it and an exported version."""
    folder = tmp_path_factory.mktemp("guide")
    write_files(folder)
    prepare_log(folder)
    page = Page(folder, contextlib.ExitStack(), None)
    page.run(
        "python -m experiments.train --method=jtm --data_dir=data/log "
        "--out_dir=runs/jtm"
    )
    page.run(
        "python -m export.export_model --run_dir=runs/jtm "
        "--export_dir=exported/jtm"
    )
    return folder


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.slow
def test_commands(page, guide, tmp_path):
    lines = shell_commands((shell.ROOT / page).read_text())
    if not lines:
        return
    write_files(tmp_path)
    made = [x for x in lines if "experiments.prepare " in x]
    if not any("--data_dir=data/log" in line for line in made):
        prepare_log(tmp_path)
    with contextlib.ExitStack() as stack:
        reader = Page(tmp_path, stack, guide)
        for line in lines:
            begins = [b for b in ELSEWHERE if line.startswith(b)]
            if begins:
                assert (shell.ROOT / ELSEWHERE[begins[0]]).exists()
            elif line.startswith("make "):  # the Makefile runs by itself
                target = re.escape(line.split()[1])
                text = (shell.ROOT / "Makefile").read_text()
                assert re.search(rf"^{target}:", text, re.M), line
            elif shutil.which("curl") or not line.startswith("curl "):
                _set_up(reader, line)
                reader.run(line)


@pytest.mark.parametrize("page", PAGES)
def test_flags_are_known(page):
    """Of commands that are run by hand."""
    for line in shell_commands((shell.ROOT / page).read_text()):
        words = shlex.split(line)
        if words[:2] == ["python", "-m"] and any(
            word.startswith("--") for word in words
        ):
            result = shell.run(*words[2:], "--only_check_args")
            assert result[0] == 0, f"{line}\n{result[2]}"


def _set_up(reader, line):
    """Makes what a command takes for granted."""
    if "--run_dir=runs/jtm" in line or "--logdir=runs/jtm" in line:
        reader.take("runs/jtm")
    if "exported/jtm" in line and "export_model" not in line:
        reader.take("exported/jtm")
    if "127.0.0.1:850" in line:
        reader.make_a_server()


@pytest.mark.parametrize("page", SOME_BY_HAND)
def test_examples(page, tmp_path, monkeypatch):
    shown = examples((shell.ROOT / page).read_text())
    if not shown:
        return
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    fit = jtm_tf.fit
    small = {**_SMALL, "rounds": 1, "cuts": ()}
    monkeypatch.setattr(
        jtm_tf, "fit", lambda *args, **shown: fit(*args, **{**shown, **small})
    )
    known = {
        "histories": [[17, 4], [4]],
        "jtm_tf": jtm_tf,
        "frame": pandas.read_csv("log.csv"),
    }
    if "jtm_tf.prepare" not in shown[0]:
        data = jtm_tf.prepare("log.csv", "data")
        known["model"] = jtm_tf.fit(data, "run", rounds=1)
    for source in shown:
        exec(compile(source, page, "exec"), known)  # pylint: disable=exec-used


def test_the_test_sees_commands():
    text = (
        "`make demo` then\n\n    python -m a.b --x=1 \\\n        --y=2  # why\n"
        "make fewer\n```python\nmake = 1\n```\n\n    curl -d '{}' h\n"
        "```\npython -m c --z\n```\n"
    )
    assert shell_commands(text) == [
        "make demo",
        "python -m a.b --x=1 --y=2",
        "curl -d '{}' h",
        "python -m c --z",
    ]
    assert examples(text) == ["make = 1\n"]
