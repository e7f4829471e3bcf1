"""New versions under load, and whether each answer is of one version.

A new version is a copy of one that is there, so what it must answer is known
beforehand. With two different versions to copy, in turns, a mixture of old and
new would be an answer that neither gives.
"""

import pathlib
import shutil
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorflow_serving.apis import predict_pb2

from export.artefact import versions
from export.calling import grpc_wire
from export.calling import load
from jtm_tf.search import rounding

# Seconds until a server must have taken a version up.
PATIENCE = 600.0
# Seconds without any answer until it counts as gone: one that loads a version
# beside all its requests may refuse a look.
_SILENCE = 10.0


class Publisher:
    """Copies versions to new ones while requests are being answered.

    Args:
        base: the folder that the server watches.
        count: how many versions to publish.
        available: returns the versions that answer.
        patience: seconds until a server must have taken a version up.

    Attributes:
        sources: the versions to copy, in turns.
        published: new version to the one it is a copy of.
        seconds: for each, from its rename until the server answers with it.

    Raises:
        ValueError: there is no version to copy.
    """

    def __init__(
        self,
        base: str,
        count: int,
        available: Callable[[], Sequence[int]],
        *,
        patience: float = PATIENCE,
    ):
        self._base, self._count = pathlib.Path(base), count
        self._available, self._patience = available, patience
        there = set(versions.existing(base))
        self.sources = [v for v in available() if v in there]
        if not self.sources:
            raise ValueError(
                f"The server answers with versions {list(available())}, and "
                f"{base} has {sorted(there)}: none to copy."
            )
        self.published: dict[int, int] = {}
        self.seconds: list[float] = []
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def start(self, seconds: float) -> None:
        """Publishes in the background, evenly over this time.

        The last one has two gaps left to be taken up and seen.
        """
        gap = seconds / (self._count + 2)
        self._thread = threading.Thread(target=self._publish_all, args=[gap])
        self._thread.start()

    def wait(self) -> None:
        """Waits until all are published and taken up.

        Raises:
            TimeoutError: the server did not take a version up.
            OSError: a version could not be written.
        """
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _publish_all(self, gap):
        start = time.perf_counter()
        try:
            for index in range(self._count):
                due = start + (index + 1) * gap
                time.sleep(max(0.0, due - time.perf_counter()))
                # Each differs from the newest, which is the last source.
                source = self.sources[index % len(self.sources)]
                self._publish(source)
        except Exception as error:  # pylint: disable=broad-except
            self._error = error  # raised where `wait` is called

    def _publish(self, source):
        """Copies one version and waits until the server answers with it."""
        version = versions.choose(self._base)
        with versions.publishing(self._base, version) as folder:
            shutil.copytree(
                self._base / str(source), folder, dirs_exist_ok=True
            )
        self.published[version] = source
        self.seconds.append(
            wait_until_answers(
                version, self._available, patience=self._patience
            )
        )


def wait_until_answers(
    version: int,
    available: Callable[[], Sequence[int]],
    *,
    patience: float = PATIENCE,
) -> float:
    """Waits until a server answers with a version; returns the seconds.

    Args:
        version: that was published.
        available: returns the versions that answer.
        patience: seconds until a server must have taken it up.

    Raises:
        TimeoutError: it has not.
        OSError: nobody has answered for seconds.
    """
    start = heard = time.perf_counter()
    while True:
        try:
            there = version in available()
            heard = time.perf_counter()
        except OSError:
            if time.perf_counter() - heard > min(patience, _SILENCE):
                raise
            there = False
        if there:
            return time.perf_counter() - start
        if time.perf_counter() - start > patience:
            raise TimeoutError(
                f"The server has not taken up version {version} in "
                f"{patience:g} s."
            )
        time.sleep(0.05)


def check(
    results: Sequence[load.Result],
    published: Mapping[int, int],
    expected: Mapping[int, Sequence[predict_pb2.PredictResponse]],
) -> dict[str, Any]:
    """Compares each answer with that of the version it names.

    Args:
        results: of the load.
        published: new version to the one it is a copy of.
        expected: a version's answer to each request, for versions that were
            there before.

    Returns:
        `answers` that were compared; `telling`, those where the versions
        there before differ from each other; `identical` to the bit;
        `rounded`, whose scores differ by less than `rounding.TOLERANCE`, as
        they may with the rows that a server puts into a batch, and whose ids
        differ by ties of such scores only; `mixed`, all others; `unseen`,
        published versions that no answer names.
    """
    arrays = {
        version: [_arrays(answer) for answer in answers]
        for version, answers in expected.items()
    }
    first, *others = arrays.values()
    counts = {"answers": 0, "telling": 0, "identical": 0, "rounded": 0}
    counts["mixed"], seen = 0, set()
    for result in results:
        if result.answer is None:
            continue
        response = result.response()
        version = response.model_spec.version.value
        seen.add(version)
        of_version = arrays.get(published.get(version, version))
        got = _arrays(response)
        kind = "mixed"
        if of_version is not None:
            kind = _compare(got, of_version[result.question])
        counts[kind] += 1
        counts["answers"] += 1
        counts["telling"] += any(
            _compare(other[result.question], first[result.question])
            != "identical"
            for other in others
        )
    return {**counts, "unseen": sorted(set(published) - seen)}


def _arrays(response):
    """Returns the outputs of an answer by name, as NumPy arrays."""
    return {
        name: np.asarray(values)
        for name, values in grpc_wire.unpack(response).items()
    }


def _compare(got, want):
    """Tells whether answers are identical, rounded or mixed."""
    if set(got) != set(want) or any(
        got[name].shape != want[name].shape for name in want
    ):
        return "mixed"
    if all(np.array_equal(got[name], want[name]) for name in want):
        return "identical"
    if "item_ids" in want and np.any(got["item_ids"] != want["item_ids"]):
        near = rounding.slack(want["scores"])
        names = "item_ids", "scores"
        rows = zip(*(side[name] for side in (got, want) for name in names))
        tied = all(rounding.same_ranking(*row, near=near) for row in rows)
        return "rounded" if tied else "mixed"
    same = all(
        rounding.same_scores(got[name], values)
        if values.dtype.kind == "f"
        else np.array_equal(got[name], values)
        for name, values in want.items()
    )
    return "rounded" if same else "mixed"
