"""Trains many runs as processes of their own, some at a time."""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import tqdm
from absl import logging

from experiments.runs import finished
from jtm_tf import files

EVERY = "*"


class _Group:
    """Processes that threads started together; stopped, it starts no more."""

    def __init__(self):
        self._lock, self._stopped = threading.Lock(), False
        self._running: set[subprocess.Popen] = set()

    def run(self, command, **options) -> int:
        """Runs a process to its end; returns its status."""
        with self._lock:
            if self._stopped:
                return -signal.SIGTERM
            process = subprocess.Popen(command, **options)
            self._running.add(process)
        try:
            return process.wait()
        except BaseException:  # of this thread's own, such as Ctrl-C
            process.kill()
            process.wait()
            raise
        finally:
            self._running.remove(process)

    def stop(self) -> None:
        """Ends what runs."""
        with self._lock:
            self._stopped = True
            for process in list(self._running):
                process.terminate()


# The group of a thread, `of`, in those that `together` makes.
_THREAD = threading.local()


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of experiments.train.

    Attributes:
        data: short name of the data set.
        data_dir: the prepared data.
        method: a method of experiments.train.
        seed: its --seed.
        out_dir: the run folder.
        extra: further flags.
    """

    data: str
    data_dir: str
    method: str
    seed: int
    out_dir: pathlib.Path
    extra: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.data}/{self.method}-{self.seed}"

    @property
    def log(self) -> pathlib.Path:
        """Where the process writes; beside the run folder, not in it."""
        return self.out_dir.with_name(self.out_dir.name + ".log")

    @property
    def command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "experiments.train",
            f"--method={self.method}",
            f"--data_dir={self.data_dir}",
            f"--out_dir={self.out_dir}",
            f"--seed={self.seed}",
            *self.extra,
        ]

    def is_finished(self) -> bool:
        """Tells whether the folder has the run's test metrics."""
        run = finished.read(
            self.out_dir, data=self.data, method=self.method, seed=self.seed
        )
        return run is not None


def schedule(
    data_dirs: Mapping[str, str],
    methods: Sequence[str],
    seeds: Sequence[int],
    runs_dir: files.Path,
    train_flags: Sequence[str] = (),
) -> list[Job]:
    """Returns all runs; one seed of everything comes before the next seed.

    Args:
        data_dirs: prepared folder by short name.
        methods: methods of experiments.train.
        seeds: of each.
        runs_dir: run folders are RUNS_DIR/DATA/METHOD-SEED.
        train_flags: SCOPE:FLAGS, where SCOPE is DATA or DATA/METHOD and `*`
            stands for all; later ones win.

    Raises:
        ValueError: a scope fits nothing.
    """
    scopes = [_scope(text, data_dirs, methods) for text in train_flags]
    return [
        Job(
            data=data,
            data_dir=data_dirs[data],
            method=method,
            seed=seed,
            out_dir=finished.run_dir(runs_dir, data, method, seed),
            extra=tuple(
                flag
                for of_data, of_method, extra in scopes
                if of_data in (EVERY, data) and of_method in (EVERY, method)
                for flag in extra
            ),
        )
        for seed, data, method in itertools.product(seeds, data_dirs, methods)
    ]


def _scope(text, data, methods):
    """Parses SCOPE:FLAGS; returns data set, method and flags."""
    scope, _, extra = text.partition(":")
    of_data, _, of_method = scope.partition("/")
    of_method = of_method or EVERY
    if (
        of_data not in (EVERY, *data)
        or of_method not in (EVERY, *methods)
        or not extra.startswith("--")
    ):
        raise ValueError(
            "--train_flags takes DATA:--FLAG=VALUE or DATA/METHOD:--FLAG=VALUE"
            f", DATA one of {', '.join([*data, EVERY])} and METHOD one of "
            f"{', '.join([*methods, EVERY])}; got {text!r}."
        )
    return of_data, of_method, shlex.split(extra)


def run_all(
    jobs: Sequence[Job], *, workers: int = 1, progress: bool = False
) -> list[Job]:
    """Runs what is not finished; a failure is reported and the rest goes on.

    Args:
        jobs: in order of their start.
        workers: processes at a time, which share the cores.
        progress: whether to draw a progress bar.

    Returns:
        The jobs that failed.
    """
    todo = [job for job in jobs if not job.is_finished()]
    failed = []
    bar = tqdm.tqdm(
        total=len(jobs),
        initial=len(jobs) - len(todo),
        unit="run",
        disable=not progress,
    )
    with bar, together(workers) as pool:
        futures = {
            pool.submit(_run, job, environment(workers)): job for job in todo
        }
        for future in concurrent.futures.as_completed(futures):
            job = futures[future]
            reason = future.result()
            if reason:
                logging.error("%s failed: %s", job.name, reason)
                failed.append(job)
            bar.set_postfix_str(f"{job.name}, {len(failed)} failed")
            bar.update()
    return failed


@contextlib.contextmanager
def together(
    workers: int,
) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Yields threads that `start` processes.

    Where the block is left by an exception, Ctrl-C among them, no more are
    started, and those that run are ended.

    Args:
        workers: processes at a time.
    """
    group = _Group()
    with concurrent.futures.ThreadPoolExecutor(
        workers, initializer=lambda: setattr(_THREAD, "of", group)
    ) as pool:
        try:
            yield pool
        except BaseException:
            # Else the pool would go through its queue first.
            pool.shutdown(wait=False, cancel_futures=True)
            group.stop()
            raise


def environment(workers: int) -> dict[str, str]:
    """Returns a child's environment: its share of the cores, if shared.

    Args:
        workers: processes at a time.
    """
    if workers == 1:
        return dict(os.environ)
    threads = str(max((os.cpu_count() or 1) // workers, 1))
    return {
        **os.environ,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
    }


def _run(job, environment):
    """Runs one job; returns why it failed, or None."""
    status = start(job.command, job.log, environment)
    if status == 0 and job.is_finished():
        return None
    lines = job.log.read_text("utf-8", errors="replace").splitlines()
    last = lines[-1] if lines else "it said nothing"
    return f"exit status {status}, see {job.log}: {last}"


def start(
    command: Sequence[str],
    log: pathlib.Path,
    environment: Mapping[str, str],
) -> int:
    """Runs a process to its end, adds what it says to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", errors="backslashreplace") as out:
        out.write(f"$ {shlex.join(command)}\n")
        out.flush()
        group = getattr(_THREAD, "of", None) or _Group()
        return group.run(command, stdout=out, stderr=out, env=environment)
