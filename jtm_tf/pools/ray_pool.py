"""Work done by Ray's actors, on this machine or a cluster of them.

A piece of work whose actor is lost is done again by another, so that it must
depend on nothing but itself.
"""

import contextlib
import functools
import gc
import itertools
import os
import sys
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from jtm_tf.pools import serial

# How often an actor begins anew, and a piece of work is tried again: what ends
# its actor each time, for want of memory, is no accident.
_RESTARTS, _RETRIES = 20, 4


class Pool:
    """Actors of Ray, one a processor.

    Args:
        address: of a cluster, "auto" for the one that this machine belongs
            to; by default one is started here, and ends with the block.
        actors: how many; as many as the cluster has free processors by
            default.
        threads: of TensorFlow in each.

    Raises:
        ValueError: Ray is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        actors: int | None = None,
        threads: int = 1,
    ):
        try:
            import ray  # pylint: disable=import-outside-toplevel
        except ImportError as error:
            raise ValueError(
                "--pool=ray needs Ray: pip install 'jtm_tf[cluster]', or take "
                "--pool=serial."
            ) from error
        self._ray, self._address = ray, address
        self._actors, self._threads = actors, str(threads)
        self._numbers = itertools.count()
        self._kept: list[Any] | None = None

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keeps actors, and a Ray of its own, until the block ends.

        They are those of all `workers` in it: to come up and to import
        TensorFlow takes an actor many seconds.
        """
        if self._kept is not None:
            yield
            return
        ray = self._ray
        mine = not ray.is_initialized()
        if mine:
            self._connect()
        # An actor that finds no processor would be waited for.
        free = int(ray.available_resources().get("CPU", 1))
        count = self._actors or max(1, free)
        kind = ray.remote(
            num_cpus=1, max_restarts=_RESTARTS, max_task_retries=_RETRIES
        )
        self._kept = [kind(_Actor).remote() for _ in range(count)]
        try:
            # Ray tells of accidents on stdout, which is for results.
            with contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            actors, self._kept = self._kept, None
            try:
                for actor in actors:
                    ray.kill(actor)
            finally:
                if mine:
                    ray.shutdown()

    @contextlib.contextmanager
    def workers(
        self, make: Callable[[], Callable[[Any], Any]]
    ) -> Iterator[serial.Map]:
        """Yields what maps pieces of work to their results.

        Args:
            make: returns the function of a piece of work; it travels to each
                actor, where the same package is installed.
        """
        with self.kept():
            made = next(self._numbers), self._ray.put(make)
            yield functools.partial(self._map, made)

    def _map(self, made, pieces):
        """Yields the results of pieces of work.

        What a piece raises is raised here as it was there: Ray's error would
        be a traceback of another machine.
        """
        try:
            yield from self._ray.util.ActorPool(self._kept).map(
                lambda actor, piece: actor.work.remote(*made, piece), pieces
            )
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error

    def _connect(self):
        """Joins the cluster, or starts one."""
        threads = self._threads
        variables = {
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            # Of a checkout that is not installed.
            "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
        }
        options: dict[str, Any] = {}
        if self._address is None:
            options = {"include_dashboard": False, "log_to_driver": False}
        else:
            del variables["PYTHONPATH"]
        self._ray.init(
            address=self._address,
            runtime_env={"env_vars": variables},
            **options,
        )


class _Actor:
    """Does pieces of work, each by a function that it makes once."""

    def __init__(self):
        # Of the last function that was asked for: there is memory for one.
        self._number, self._work = None, None

    def work(self, number, make, piece):
        """Returns what the function of that number makes of a piece."""
        if number != self._number:
            self._number, self._work = number, None
            gc.collect()  # graphs hold on to themselves
            self._work = make()
        return self._work(piece)
