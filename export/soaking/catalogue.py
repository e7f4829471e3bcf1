"""A catalogue that never rests: items leave by one version and return by the
next, each made by `export.update_items` while requests are answered.
"""

import csv
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from export.artefact import origin
from export.artefact import versions
from export.calling import swaps

# An update gives way to the server, where the system knows how; but not so far
# that it never ends where the server is never idle.
_NICE = ("nice", "-n", "5")


class Catalogue:
    """Publishes versions, removes old ones, and keeps count.

    Args:
        base: the folder that the server watches.
        available: returns the versions that answer.
        share: of the items, those that leave at a time.
        seed: of the draws.

    Attributes:
        published: versions, in order.
        seconds: for each, until the server answered with it.
        removed: items that left so far.
        added: items that came back.
    """

    def __init__(
        self,
        base: pathlib.Path,
        available: Callable[[], Sequence[int]],
        *,
        share: float,
        seed: int,
    ):
        self._base, self._available = base, available
        self._share, self._seed = share, seed
        self.published: list[int] = []
        self.seconds: list[float] = []
        self.removed = self.added = 0

    def turn(self, number: int | None = None) -> None:
        """Publishes a version; items leave by the first and return by the next.

        Args:
            number: of no effect, as the published ones count the turns.

        Raises:
            ValueError: the update failed.
            TimeoutError: the server did not take it up.
        """
        del number
        gone = self._base.parent / "gone.csv"
        leaving = len(self.published) % 2 == 0
        newest = versions.existing(self._base)[-1]
        if leaving:
            count = self._write(gone, newest)
            self.removed += count
        self._update("--remove" if leaving else "--add", gone)
        if not leaving:
            self.added = self.removed
        self.published.append(versions.existing(self._base)[-1])
        self.seconds.append(
            swaps.wait_until_answers(self.published[-1], self._available)
        )
        self._clean()

    def _write(self, path, version):
        """Draws the items that leave, and lists them; returns their number."""
        items = origin.read_items(self._base / str(version))
        count = max(1, int(self._share * items.num_rows))
        rng = np.random.default_rng((self._seed, version))
        rows = rng.choice(items.num_rows, count, replace=False)
        known = {"raw_id", "category", "name"}
        kept = items.select([x for x in items.column_names if x in known])
        with open(path, "w", encoding="utf-8", newline="") as stream:
            lines = csv.DictWriter(stream, kept.column_names)
            lines.writeheader()
            lines.writerows(kept.take(np.sort(rows)).to_pylist())
        return count

    def _update(self, flag, path):
        """Runs the program."""
        command = [sys.executable, "-m", "export.update_items"]
        command += [f"--model_dir={self._base}", f"{flag}={path}"]
        if shutil.which(_NICE[0]):
            command = [*_NICE, *command]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ValueError(f"An update failed: {done.stderr.strip()}")

    def _clean(self):
        """Removes all but the newest, which answers, and the one before."""
        for version in versions.existing(self._base)[:-2]:
            shutil.rmtree(self._base / str(version))
