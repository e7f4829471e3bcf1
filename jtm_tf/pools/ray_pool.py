"""Work done by Ray's actors, on this machine or a cluster of them.

A piece of work whose actor is lost is done again by another, so that it must
depend on nothing but itself.
"""

import contextlib
import functools
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

    @contextlib.contextmanager
    def workers(
        self, make: Callable[[], Callable[[Any], Any]]
    ) -> Iterator[serial.Map]:
        """Yields what maps pieces of work to their results.

        Args:
            make: returns the function of a piece of work; it travels to each
                actor, where the same package is installed.
        """
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
        actors = [kind(_Actor).remote(make) for _ in range(count)]
        try:
            yield functools.partial(self._map, ray.util.ActorPool(actors))
        finally:
            for actor in actors:
                ray.kill(actor)
            if mine:
                ray.shutdown()

    def _map(self, pool, pieces):
        """Yields the results of pieces of work.

        What a piece raises is raised here as it was there: Ray's error would
        be a traceback of another machine.
        """
        try:
            yield from pool.map(
                lambda actor, piece: actor.work.remote(piece), pieces
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
    """Makes its function once, and does pieces of work by it."""

    def __init__(self, make):
        self._work = make()

    def work(self, piece):
        return self._work(piece)
