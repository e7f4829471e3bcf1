"""Joins requests that wait at the same time into one call of the graph.

Requests share a batch if they are for the same signature of the same version
and agree in dtypes and in all shapes but the rows. One that fails in company
is run again alone, so that it fails alone.
"""

import collections
import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Hashable

import numpy as np

from export.serving import errors
from export.serving import metrics as metrics_lib
from export.serving import signature as signature_lib
from export.serving.config import Config


@dataclasses.dataclass
class _Job:
    """A request in the queue.

    since: when it came, in monotonic seconds.
    """

    signature: signature_lib.Signature
    inputs: signature_lib.Arrays
    rows: int
    future: concurrent.futures.Future
    since: float


class Batcher:
    """A bounded queue and the threads that work on it.

    Args:
        config: limits of batches and of the queue.
        metrics: told about every batch and every change of the queue.
    """

    def __init__(self, config: Config, metrics: metrics_lib.Metrics):
        self._config, self._metrics = config, metrics
        self._changed = threading.Condition()
        # Jobs that may share a batch, in order of arrival.
        self._groups: dict[Hashable, collections.deque[_Job]] = {}
        self._pending = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{i}", daemon=True)
            for i in range(config.num_workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        signature: signature_lib.Signature,
        inputs: signature_lib.Arrays,
        rows: int,
    ) -> concurrent.futures.Future:
        """Queues a request that has been checked.

        Args:
            signature: to be called.
            inputs: its inputs.
            rows: their size in dimension 0.

        Returns:
            A future of the outputs. Cancelled before a worker has taken the
            request, it is never run.

        Raises:
            ServingError: the queue is full or closed.
        """
        job = _Job(
            signature,
            inputs,
            rows,
            concurrent.futures.Future(),
            time.monotonic(),
        )
        key: Hashable = object()
        if signature.batched:
            kinds = [(k, x.dtype.str, x.shape[1:]) for k, x in inputs.items()]
            key = (signature, *sorted(kinds))
        with self._changed:
            if self._closed:
                raise errors.ServingError(
                    errors.Code.UNAVAILABLE, "The server is stopping."
                )
            if self._pending >= self._config.max_queue:
                raise errors.ServingError(
                    errors.Code.UNAVAILABLE,
                    f"{self._pending} requests are waiting already; try again "
                    "later.",
                )
            self._pending += 1
            self._groups.setdefault(key, collections.deque()).append(job)
            self._changed.notify()
        self._metrics.queued(1)
        job.future.add_done_callback(self._done)
        return job.future

    def close(self) -> None:
        """Refuses new requests, runs those that wait, ends the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _done(self, _):
        with self._changed:
            self._pending -= 1
        self._metrics.queued(-1)

    def _work(self):
        while (jobs := self._next()) is not None:
            live = [x for x in jobs if x.future.set_running_or_notify_cancel()]
            if live:
                self._run(live)

    def _next(self):
        """Waits for jobs that may run together; None once closed and empty."""
        with self._changed:
            while True:
                wait = None
                if self._groups:
                    key = min(self._groups, key=self._due)
                    wait = self._due(key) - time.monotonic()
                    if wait <= 0:
                        return self._take(key)
                elif self._closed:
                    return None
                self._changed.wait(wait)

    def _due(self, key):
        """Returns when a group is to run, in monotonic seconds."""
        group = self._groups[key]
        full = sum(job.rows for job in group) >= self._config.max_batch
        patience = 0.0 if full or self._closed else self._config.batch_wait_ms
        return group[0].since + patience / 1000

    def _take(self, key):
        """Removes and returns a batch of a group; one large job is one."""
        group, jobs, rows = self._groups[key], [], 0
        while group and (
            not jobs or rows + group[0].rows <= self._config.max_batch
        ):
            jobs.append(group.popleft())
            rows += jobs[-1].rows
        if not group:
            del self._groups[key]
        return jobs

    def _run(self, jobs):
        """Answers jobs by one call, or one by one where that fails."""
        signature = jobs[0].signature
        rows = [job.rows for job in jobs]
        try:
            inputs = {
                name: np.concatenate([job.inputs[name] for job in jobs])
                if len(jobs) > 1
                else jobs[0].inputs[name]
                for name in jobs[0].inputs
            }
            started = time.monotonic()
            outputs = signature.run(inputs)
            self._metrics.batch(sum(rows), time.monotonic() - started)
            ends = np.cumsum(rows)
        except Exception as error:  # pylint: disable=broad-except
            if len(jobs) > 1:
                for job in jobs:
                    self._run([job])
            else:
                jobs[0].future.set_exception(errors.from_exception(error))
            return
        for job, end in zip(jobs, ends):
            job.future.set_result(
                {
                    name: value[end - job.rows : end]
                    if signature.batched
                    else value
                    for name, value in outputs.items()
                }
            )
