"""Which versions are served: the newest of a folder that work.

The folder is looked at again and again. A new version is loaded and warmed up
beside those that serve, and only then takes over; an old one is freed when its
last request is answered. A version that does not work is told of once, and
tried again when its files have changed and then stay as they are.
"""

import contextlib
import ctypes
import gc
import pathlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from absl import logging
from tensorflow_serving.apis import get_model_status_pb2

from export.serving import errors
from export.serving import loaded
from export.serving import metrics as metrics_lib
from export.serving import version_names

# Seconds after which a thread is asked to leave the interpreter to another
# while a version is loaded, one at a time.
_TURN, _TURNS = 5e-4, threading.Lock()
# Rounds of the collector for one among all objects: versions are looked through
# when one has come or gone.
_OLD = 1000
# A new version is warmed up in steps of up to a second or two of a processor:
# so many times as long those who answer have it back, some seconds at most.
_REST, _LONGEST_REST = 2.0, 5.0

State = get_model_status_pb2.ModelVersionStatus.State


class Watcher:
    """The versions of one model.

    Args:
        base: the folder, with a folder for each version in it.
        name: of the model.
        keep: how many versions are served at a time.
        metrics: told about what is loaded.
    """

    def __init__(
        self,
        base: pathlib.Path,
        name: str,
        *,
        keep: int,
        metrics: metrics_lib.Metrics,
    ):
        self.base, self.name = base, name
        self._keep, self._metrics = keep, metrics
        self._lock = threading.Lock()
        self._versions: dict[int, loaded.LoadedVersion] = {}
        self._states: dict[int, tuple[Any, str]] = {}
        # Of versions that failed: their files then, and at the last look.
        self._failed: dict[int, tuple[Any, Any]] = {}
        self._complaint = ""
        self._odd: set[str] = set()  # names that were told of
        # Whether versions came or went since memory was last settled.
        self._unsettled = False
        self._thresholds: tuple[int, int, int] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, poll_seconds: float) -> None:
        """Loads what is there, then watches.

        Raises:
            ValueError: no version of the folder works.
        """
        version_names.check_base(self.base)
        self._thresholds = _set_aside()
        self.poll()
        if not self._versions:
            raise ValueError(
                f"{self.base} has no version that can be served, a folder "
                "with an integer name and a SavedModel inside; export one "
                "with export.export_model."
            )
        self._thread = threading.Thread(
            target=self._watch, args=[poll_seconds], name="watcher", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch and frees all versions as they become idle."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            numbers = list(self._versions)
        for number in numbers:
            self._retire(number)
        if self._thresholds is not None:
            gc.set_threshold(*self._thresholds)
            gc.unfreeze()

    def acquire(self, number: int | None = None) -> loaded.LoadedVersion:
        """Returns a version, counted as used: the newest, or the one given.

        Raises:
            ServingError: it is not served.
        """
        with self._lock:
            wanted = max(self._versions, default=None)
            if number is not None:
                wanted = number
            if wanted not in self._versions:
                asked = "Latest" if number is None else f"Version {number}"
                raise errors.ServingError(
                    errors.Code.NOT_FOUND,
                    f"Servable not found for request: {asked} of {self.name}; "
                    f"served: {sorted(self._versions)}.",
                )
            version = self._versions[wanted]
            version.acquire()
            return version

    def states(self) -> list[tuple[int, Any, str]]:
        """Returns number, state and error of each version, newest first."""
        with self._lock:
            return [
                (number, *state)
                for number, state in sorted(self._states.items(), reverse=True)
            ]

    def poll(self) -> None:
        """Looks at the folder once, and follows what has changed."""
        try:
            there = version_names.folders(self.base)
            odd = version_names.passed_over(self.base)
        except OSError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                logging.warning("Cannot look for versions: %s", error)
            return
        self._complaint = ""
        if set(odd) - self._odd:
            logging.warning("%s", version_names.complaint(self.base, odd))
        self._odd = set(odd)
        chosen: list[int] = []
        for number in sorted(there, reverse=True):
            if len(chosen) == self._keep or self._stop.is_set():
                break
            if number in self._versions or self._load(number, there[number]):
                chosen.append(number)
        if not chosen and self._versions:
            # All are gone, or broken: better an old answer than none.
            chosen = [max(self._versions)]
        for number in [x for x in self._versions if x not in chosen]:
            self._retire(number)
        for number in [x for x in self._failed if x not in there]:
            self._failed.pop(number)
            self._note(number, None)
        with self._lock:
            available = sorted(self._versions)
        self._metrics.versions(available)
        if self._unsettled:
            self._unsettled = False
            _settle()

    def _watch(self, poll_seconds):
        while not self._stop.wait(poll_seconds):
            try:
                self.poll()
            except Exception as error:  # pylint: disable=broad-except
                logging.error("A look for versions failed.", exc_info=error)

    def _load(self, number, folder):
        """Loads a version and lets it serve; returns whether it does."""
        files = _fingerprint(folder)
        if number in self._failed:
            failed_as, last = self._failed[number]
            self._failed[number] = failed_as, files
            if files == failed_as or files != last:
                return False
        self._note(number, State.LOADING)
        try:
            with _short_turns():
                version = loaded.LoadedVersion(number, folder)
                requests = version.warm_up(self._rest)
        except Exception as error:  # pylint: disable=broad-except
            self._failed[number] = files, files
            self._unsettled = True
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:500]
            self._note(number, State.END, reason)
            self._metrics.load(False)
            logging.warning(
                "Skipped version %d of %s until its files change: %s",
                number,
                self.name,
                reason,
            )
            return False
        self._failed.pop(number, None)
        with self._lock:
            self._versions[number] = version
            self._states[number] = State.AVAILABLE, ""
        self._metrics.load(True)
        self._unsettled = True
        logging.info(
            "Serving version %d of %s, warmed up by %d requests.",
            number,
            self.name,
            requests,
        )
        return True

    def _rest(self, took):
        """Waits after a warm-up request, if another version answers."""
        if self._versions:
            self._stop.wait(min(_REST * took, _LONGEST_REST))

    def _retire(self, number):
        """Takes a version out of service; it is freed once idle."""
        with self._lock:
            version = self._versions.pop(number)
            self._states[number] = State.UNLOADING, ""

        def released():
            self._note(number, None)
            self._unsettled = True
            logging.info("Released version %d of %s.", number, self.name)

        version.retire(released)

    def _note(self, number, state, message=""):
        with self._lock:
            if state is None:
                self._states.pop(number, None)
            else:
                self._states[number] = state, message


def _set_aside() -> tuple[int, int, int] | None:
    """Takes all there is out of the garbage collector's rounds.

    TensorFlow is some hundred thousand Python objects; looking through them
    stops all threads for tenths of a second, again and again.

    Returns:
        The collector's thresholds as they were; None where another server of
        this process has set them already.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    before = gc.get_threshold()
    if before[2] == _OLD:
        return None
    gc.set_threshold(*before[:2], _OLD)
    return before


def _settle() -> None:
    """Frees released versions, and gives their memory back to the system."""
    gc.collect()
    # Of the C library, where it is GNU's: else what a version leaves, between
    # what others have taken meanwhile, is kept for the next.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    """Lets threads have the interpreter soon after they ask for it.

    To load a graph takes a second of it, and a request takes several turns.
    """
    with _TURNS:
        before = sys.getswitchinterval()
        sys.setswitchinterval(_TURN)
        try:
            yield
        finally:
            sys.setswitchinterval(before)


def _fingerprint(folder: pathlib.Path) -> Any:
    """Returns names, sizes and times of a version's files."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            facts = path.stat()
        except OSError:  # it went while we looked
            continue
        found.append((str(path), facts.st_size, facts.st_mtime_ns))
    return found
