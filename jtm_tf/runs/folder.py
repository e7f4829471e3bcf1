"""A run's folder on disk: what it was asked for and what came out.

config.json     settings, data, code version; another run is refused
metrics.json    one record an iteration, at the end the test metrics
test_users.parquet  the test metrics of every user
best.keras      the best iteration by validation recall: model and tree
trees/          pi of each iteration; iteration_000.npz is the initial tree
carried.json    what a run took over from the one that it continues
known_until.npy  up to when that one knew each user, until it is finished
factors.npy     vectors of items that a run starts from, until it is finished
checkpoints/    the state from which a killed run goes on
tensorboard/    the learning curves
report.html     what experiments.inspect writes
"""

import dataclasses
import importlib.metadata
import pathlib
import subprocess
import types
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jtm_tf import files


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Names the files of a run and guards them against another run's.

    Attributes:
        path: the folder; it need not exist yet.
    """

    path: pathlib.Path

    def __post_init__(self):
        object.__setattr__(self, "path", pathlib.Path(self.path))

    @property
    def config(self) -> pathlib.Path:
        """What was asked for: a folder that has it is a run's."""
        return self.path / "config.json"

    @property
    def metrics(self) -> pathlib.Path:
        """What came out."""
        return self.path / "metrics.json"

    @property
    def test_users(self) -> pathlib.Path:
        """What came out for each test user."""
        return self.path / "test_users.parquet"

    @property
    def report(self) -> pathlib.Path:
        """The page that `experiments.inspect` writes."""
        return self.path / "report.html"

    @property
    def model(self) -> pathlib.Path:
        """The best iteration's model with its tree."""
        return self.path / "best.keras"

    @property
    def carried(self) -> pathlib.Path:
        """What was taken over from another run."""
        return self.path / "carried.json"

    @property
    def known_until(self) -> pathlib.Path:
        """Up to when the earlier run knew each user."""
        return self.path / "known_until.npy"

    @property
    def factors(self) -> pathlib.Path:
        """The vectors of items that the run starts from."""
        return self.path / "factors.npy"

    @property
    def cluster(self) -> pathlib.Path:
        """What workers read: users and trees, while the run goes on."""
        return self.path / "cluster"

    @property
    def chief(self) -> pathlib.Path:
        """Which chief leads a cluster, while the run goes on."""
        return self.path / "chief.json"

    @property
    def samples(self) -> pathlib.Path:
        """What a pool weighs for the tree step, while the run goes on."""
        return self.path / "samples"

    @property
    def checkpoints(self) -> pathlib.Path:
        """Folder of the resumable state."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> pathlib.Path:
        """Folder of the learning curves."""
        return self.path / "tensorboard"

    def tree(self, iteration: int) -> pathlib.Path:
        """The tree after `iteration` tree steps; 0 is the initial tree."""
        return self.path / "trees" / f"iteration_{iteration:03d}.npz"

    def check(
        self,
        config: dict[str, Any],
        *,
        data_fingerprint: str,
        before: Mapping[str, Any] = types.MappingProxyType({}),
    ) -> dict[str, Any]:
        """Checks that the folder is this run's, or free for it.

        Args:
            config: the settings that decide the outcome; `method` and `seed`
                among them.
            data_fingerprint: of the prepared data.
            before: by name, what stands for a setting that the folder's run
                did not know yet.

        Returns:
            What `metrics.json` begins with, see `header`.

        Raises:
            ValueError: the folder belongs to a run of other settings.
        """
        files.remove_leftovers(self.path)
        # Through JSON, so that tuples compare equal to what was read back.
        asked = files.as_json({"config": config, "data": data_fingerprint})
        if self.config.exists():
            self._refuse_another(asked, before)
        elif self.path.is_dir() and {*self.path.iterdir()} - {self.chief}:
            raise ValueError(
                f"{self.path} is neither empty nor a run folder; choose "
                "another --out_dir."
            )
        return header(config, data_fingerprint)

    def claim(
        self, header: dict[str, Any], *, data_dir: str | None = None
    ) -> None:
        """Makes the folder this run's, if it is not yet.

        Args:
            header: what `check` returned.
            data_dir: where the data lies, for whoever reads the run later.
        """
        if not self.config.exists():
            files.write_json(
                self.config,
                {
                    "config": header["config"],
                    "data": header["data_fingerprint"],
                    "data_dir": data_dir,
                    "code": header["code"],
                },
            )

    def _refuse_another(self, asked, before):
        """Raises if config.json asks for anything else."""
        found = files.read_json(self.config)
        known = found.get("config")
        if isinstance(known, dict):
            # Written before there were these settings.
            found["config"] = _completed(known, asked["config"], before)
        differences = [
            f"{name}: {have!r} there, {want!r} asked"
            for name, have, want in files.differences(
                {key: found.get(key) for key in asked}, asked
            )
        ]
        if differences:
            raise ValueError(
                f"{self.path} holds another run ({'; '.join(differences)})."
                " Choose another --out_dir, or delete it."
            )

    def read_config(self) -> dict[str, Any]:
        """Returns what `claim` wrote.

        Raises:
            FileNotFoundError: there is no run here.
        """
        if not self.config.exists():
            raise FileNotFoundError(
                f"{self.path} is not a run folder: it has no "
                f"{self.config.name}. Give the --out_dir of experiments.train."
            )
        return files.read_json(self.config)

    def read_metrics(self) -> dict[str, Any]:
        """Returns `metrics.json`, empty before the first iteration ends."""
        exists = self.metrics.exists()
        return files.read_json(self.metrics) if exists else {}

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Replaces `metrics.json`."""
        files.write_json(self.metrics, metrics)

    def write_test_users(self, table: pa.Table) -> None:
        """Replaces `test_users.parquet`; columns as `judging.judge_cuts`."""
        with files.replacing(self.test_users) as temporary:
            pq.write_table(table, temporary)


def header(config: dict[str, Any], data_fingerprint: str) -> dict[str, Any]:
    """Returns what `metrics.json` begins with: how its figures are made.

    Args:
        config: the settings that decide the outcome; `method` and `seed` among
            them.
        data_fingerprint: of the prepared data.
    """
    return {
        "method": config["method"],
        "seed": config["seed"],
        "config": files.as_json(config),
        "data_fingerprint": data_fingerprint,
        "code": code_version(),
    }


def refuse_other_data(
    run: files.Path,
    trained_on: str | None,
    fingerprint: str,
    *,
    data: str = "these data",
    instead: str,
) -> None:
    """Raises a `ValueError` where a run was trained on other data.

    Args:
        run: the run's folder, or what people know it by.
        trained_on: the fingerprint of its data.
        fingerprint: of the data at hand.
        data: what people know those by.
        instead: what to do.
    """
    if trained_on != fingerprint:
        raise ValueError(
            f"{run} was not trained on {data}: its data fingerprint is "
            f"{trained_on}, expected {fingerprint}. {instead}"
        )


def _completed(known, asked, before):
    """Returns settings with those that they lack, parts among them too."""
    completed = dict(known)
    for name, value in asked.items():
        if name not in known and name in before:
            completed[name] = before[name]
        elif isinstance(value, dict) and isinstance(known.get(name), dict):
            completed[name] = _completed(known[name], value, before)
    return completed


def code_version() -> str:
    """Returns the package's version and, in a checkout, its git commit."""
    try:
        version = importlib.metadata.version("jtm_tf")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = described.stdout.strip()
    return f"{version}+{commit}" if commit else version
