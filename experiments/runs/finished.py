"""Reads finished runs and refuses to put unlike ones together.

A table of runs is only as good as their likeness: the same data for all
methods, the same settings for all seeds of a method, the same code for all.
Runs come from their folders, RUNS/DATA/METHOD-SEED, or from the runs.json
that experiments.table1 keeps of them.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from jtm_tf import files
from jtm_tf.runs import folder as run_folder
from jtm_tf.search import metrics as metrics_lib

Cut = tuple[int, int]  # M, beam width

_RECORD = (
    "iteration",
    "loss",
    "validation",
    "seconds_model",
    "seconds_tree",
    "moved_items",
)
_NO_BEAM = -1


@dataclasses.dataclass(frozen=True)
class Run:
    """The figures of a finished run.

    Attributes:
        data: short name of the data set.
        metrics: what metrics.json holds, or its entry in runs.json.
        folder: of the run; None of an entry in runs.json.
    """

    data: str
    metrics: Mapping[str, Any]
    folder: run_folder.RunFolder | None = None

    @property
    def id(self) -> str:
        """Tells the run from others in runs.json."""
        return f"{self.data}/{self.method}/{self.seed}"

    @property
    def where(self) -> str:
        """Names the run to people."""
        if self.folder is None:
            return f"{self.id} of runs.json"
        return str(self.folder.path)

    @property
    def method(self) -> str:
        return self.metrics["method"]

    @property
    def seed(self) -> int:
        return self.metrics["seed"]

    @property
    def minutes(self) -> float:
        """Time of training, of model and tree."""
        return (
            sum(
                record["seconds_model"] + record["seconds_tree"]
                for record in self.metrics["iterations"]
            )
            / 60
        )

    def cut(self, cut: Cut) -> dict[str, Any]:
        """Returns the test metrics at (M, beam width).

        Raises:
            ValueError: the run was not tested there.
        """
        for found in self.metrics.get("cuts", ()):
            if _is_cut(found["num_results"], found["beam_width"], cut):
                return found
        raise ValueError(
            f"{self.where} was not tested at M = {cut[0]}, beam {cut[1]}. "
            "Train it with this version of experiments.train."
        )

    def filtered(self, cut: Cut) -> dict[str, Any] | None:
        """Returns the test metrics without known items; None of old runs."""
        for found in self.metrics.get("filtered", ()):
            if _is_cut(found["num_results"], found["beam_width"], cut):
                return found
        return None

    def user_recall(
        self, cuts: Sequence[Cut], *, filtered: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads each test user's recall from test_users.parquet.

        Args:
            cuts: C pairs of M and beam width.
            filtered: the recall without known items instead; NaN of old runs.

        Returns:
            users: [U] int32, ascending.
            recall: [U, C] float64.

        Raises:
            FileNotFoundError: the run has no such table.
            ValueError: a cut is missing, or the table is not of this run.
        """
        if self.folder is None or not self.folder.test_users.exists():
            raise FileNotFoundError(
                f"{self.where} is finished but has no test_users.parquet. "
                "Delete the folder and train again."
            )
        table = pq.read_table(self.folder.test_users)
        users = np.unique(table["user"].to_numpy())
        columns = [self._recall_of(users, table, cut, filtered) for cut in cuts]
        return users, np.stack(columns, axis=1)

    def _recall_of(self, users, table, cut, filtered):
        """Returns the users' recall at a cut, if it is that of the metrics."""
        user, num_results, recall = (
            table[name].to_numpy() for name in ("user", "num_results", "recall")
        )
        beam = table["beam_width"].fill_null(_NO_BEAM).to_numpy()
        rows = np.flatnonzero(
            (num_results == cut[0]) & ((beam == cut[1]) | (beam == _NO_BEAM))
        )
        rows = rows[np.argsort(user[rows], kind="stable")]
        mean = recall[rows].mean() if len(rows) else np.nan
        want = self.cut(cut)["recall"]
        # metrics.json is rounded.
        is_of_the_run = np.isclose(mean, want, atol=1e-5)
        if not np.array_equal(users, user[rows]) or not is_of_the_run:
            raise ValueError(
                f"{self.where}/test_users.parquet must have each test user "
                f"once at M = {cut[0]}, beam {cut[1]}, of mean recall {want}; "
                f"got {len(rows)} rows of mean {mean:.6f}. Delete the folder "
                "and train again."
            )
        if not filtered:
            return recall[rows]
        if "filtered_recall" not in table.column_names:
            return np.full(len(rows), np.nan)
        return table["filtered_recall"].to_numpy()[rows]

    def summary(self) -> dict[str, Any]:
        """Returns what runs.json keeps: no path, nothing by level or user."""
        kept = (
            "config",
            "data_fingerprint",
            "code",
            "best_iteration",
            "test",
            "cuts",
            "filtered",
            "chosen",
            "tuned",
        )
        return {
            "id": self.id,
            "data": self.data,
            "method": self.method,
            "seed": self.seed,
            **{x: self.metrics[x] for x in kept if x in self.metrics},
            "iterations": [
                {name: record[name] for name in _RECORD if name in record}
                for record in self.metrics["iterations"]
            ],
        }


def _is_cut(num_results, beam_width, cut):
    """Tells whether a figure counts at `cut`; a scan counts at any beam."""
    return num_results == cut[0] and beam_width in (None, cut[1])


def run_dir(
    runs_dir: files.Path, data: str, method: str, seed: int
) -> pathlib.Path:
    """Returns where a run of Table 1 lives."""
    return pathlib.Path(runs_dir) / data / f"{method}-{seed}"


def read_any(path: files.Path, *, data: str) -> Run | None:
    """Reads a run folder of whatever method and seed; None if unfinished."""
    folder = run_folder.RunFolder(pathlib.Path(path))
    metrics = folder.read_metrics()
    return Run(data, metrics, folder) if "test" in metrics else None


def read(path: files.Path, *, data: str, method: str, seed: int) -> Run | None:
    """Reads a run folder; None if it is missing or unfinished.

    Raises:
        ValueError: the folder holds a run of another method or seed.
    """
    run = read_any(path, data=data)
    if run is None:
        return None
    for name, want in (("method", method), ("seed", seed)):
        if run.metrics[name] != want:
            raise ValueError(
                f"{path} must hold {name} {want!r}; got "
                f"{run.metrics[name]!r}. Move the folder to its own name, "
                "METHOD-SEED, or delete it."
            )
    return run


def read_all(
    runs_dir: files.Path,
    data: Iterable[str],
    methods: Iterable[str],
    seeds: Iterable[int],
) -> list[Run]:
    """Reads those runs that are finished, by data set, method and seed."""
    found = (
        read(run_dir(runs_dir, d, m, s), data=d, method=m, seed=s)
        for d, m, s in itertools.product(data, methods, seeds)
    )
    return [run for run in found if run is not None]


def write_summaries(path: files.Path, runs: Iterable[Run]) -> None:
    """Writes runs.json."""
    files.write_json(path, [run.summary() for run in runs])


def read_summaries(path: files.Path) -> list[Run]:
    """Reads runs.json."""
    return [Run(entry["data"], entry) for entry in files.read_json(path)]


def code_versions(runs: Iterable[Run]) -> list[str]:
    """Returns the code versions that made the runs."""
    return sorted({run.metrics["code"] for run in runs})


def refuse_unlike(
    runs: Sequence[Run],
    *,
    fingerprints: Mapping[str, str] | None = None,
    allow_code_versions: bool = False,
) -> None:
    """Checks that the runs may stand in one table.

    Args:
        runs: finished runs.
        fingerprints: of the prepared data, by name; those of the runs are
            otherwise compared among themselves.
        allow_code_versions: whether different versions of the code may be
            mixed.

    Raises:
        ValueError: naming the settings that differ, and the two runs.
    """
    first: dict[Any, Run] = {}
    for run in runs:
        found = run.metrics["data_fingerprint"]
        want = (fingerprints or {}).get(run.data, found)
        run_folder.refuse_other_data(
            run.where,
            found,
            want,
            data=f"this {run.data}",
            instead="Give the data of the run as --data, or another "
            "--runs_dir.",
        )
        like = first.setdefault(("data", run.data), run)
        _compare(like, run, "data_fingerprint")
        if not allow_code_versions:
            like = first.setdefault("code", run)
            _compare(like, run, "code")
        like = first.setdefault((run.data, run.method), run)
        _compare(like, run, "config")


def _compare(a, b, name):
    """Raises a `ValueError` if two runs differ in a part of their metrics."""
    differences = [
        f"{key} is {left!r} and {right!r}"
        for key, left, right in files.differences(
            a.metrics[name], b.metrics[name], name
        )
        if key.rpartition(".")[2] != "seed"  # of these there are to be many
    ]
    if differences:
        allow = ", or pass --allow_code_versions" * (name == "code")
        raise ValueError(
            f"Unlike runs, {a.where} and {b.where}: {'; '.join(differences)}. "
            f"Train one of them again, or leave it out{allow}."
        )


def validation_curve(run: Run) -> dict[str, np.ndarray]:
    """Returns iteration and the validation metrics, [iterations] each."""
    records = run.metrics["iterations"]
    return {
        "iteration": np.array([record["iteration"] for record in records]),
        **{
            name: np.array([r["validation"][name] for r in records])
            for name in metrics_lib.NAMES
        },
    }
