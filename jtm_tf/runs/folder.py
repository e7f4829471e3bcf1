"""A run's folder on disk: what it was asked for and what came out.

config.json     settings, data, code version; another run is refused
metrics.json    one record an iteration, at the end the test metrics
test_users.parquet  the test metrics of every user
best.keras      the best iteration by validation recall: model and tree
trees/          pi of each iteration; iteration_000.npz is the initial tree
checkpoints/    the state from which a killed run goes on
tensorboard/    the learning curves
"""

import dataclasses
import importlib.metadata
import pathlib
import subprocess
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
    def model(self) -> pathlib.Path:
        """The best iteration's model with its tree."""
        return self.path / "best.keras"

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

    def claim(
        self,
        config: dict[str, Any],
        *,
        data_fingerprint: str,
        data_dir: str | None = None,
    ) -> dict[str, Any]:
        """Makes the folder this run's, or checks that it is already.

        Args:
            config: the settings that decide the outcome; `method` and `seed`
                among them.
            data_fingerprint: of the prepared data.
            data_dir: where the data lies, for whoever reads the run later.

        Returns:
            What `metrics.json` begins with: how its figures were made.

        Raises:
            ValueError: the folder belongs to a run of other settings.
        """
        path = self.path / "config.json"
        files.remove_leftovers(self.path)
        # Through JSON, so that tuples compare equal to what was read back.
        asked = files.as_json({"config": config, "data": data_fingerprint})
        header = {
            "method": config["method"],
            "seed": config["seed"],
            "config": asked["config"],
            "data_fingerprint": data_fingerprint,
            "code": code_version(),
        }
        if path.exists():
            found = files.read_json(path)
            differences = [
                f"{name}: {have!r} there, {want!r} asked"
                for name, have, want in _differences(
                    {key: found.get(key) for key in asked}, asked
                )
            ]
            if differences:
                raise ValueError(
                    f"{self.path} holds another run ({'; '.join(differences)})."
                    " Choose another --out_dir, or delete it."
                )
            return header
        if self.path.is_dir() and any(self.path.iterdir()):
            raise ValueError(
                f"{self.path} is neither empty nor a run folder; choose "
                "another --out_dir."
            )
        files.write_json(
            path, {**asked, "data_dir": data_dir, "code": header["code"]}
        )
        return header

    def read_config(self) -> dict[str, Any]:
        """Returns what `claim` wrote.

        Raises:
            FileNotFoundError: there is no run here.
        """
        path = self.path / "config.json"
        if not path.exists():
            raise FileNotFoundError(
                f"{self.path} is not a run folder: it has no config.json. "
                "Give the --out_dir of experiments.train."
            )
        return files.read_json(path)

    def read_metrics(self) -> dict[str, Any]:
        """Returns `metrics.json`, empty before the first iteration ends."""
        path = self.path / "metrics.json"
        return files.read_json(path) if path.exists() else {}

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Replaces `metrics.json`."""
        files.write_json(self.path / "metrics.json", metrics)

    def write_test_users(self, table: pa.Table) -> None:
        """Replaces `test_users.parquet`; columns as `judging.judge_cuts`."""
        with files.replacing(self.path / "test_users.parquet") as temporary:
            pq.write_table(table, temporary)


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


def _differences(have, want, name=""):
    """Yields (dotted name, have, want) wherever two JSON values differ."""
    if isinstance(have, dict) and isinstance(want, dict):
        for key in sorted(have.keys() | want.keys()):
            yield from _differences(
                have.get(key), want.get(key), f"{name}.{key}".lstrip(".")
            )
    elif have != want:
        yield name, have, want
