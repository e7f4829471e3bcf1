"""Who is who in a cluster: chief, workers and parameter servers.

A chief that begins anew is another one: it says so in a file, and who served
the one before leaves, since what lies in its memory is of no use any more.

TF_CONFIG tells each process, as TensorFlow has it: {"cluster": {"chief":
[HOST:PORT], "worker": [..], "ps": [..]}, "task": {"type": .., "index": ..}}.
The chief runs the program; the others do what it asks and leave when it has
ended.
"""

import contextlib
import json
import os
import pathlib
import secrets
import socket
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from absl import logging

from jtm_tf import files
from jtm_tf.learning import remote_step

_ROLES = ("chief", "worker", "ps")
# Seconds between two looks at another machine, between two words about one
# that is waited for, until a chief that was there is given up, and until who
# served the chief before has left.
_LOOK, _WORD, _PATIENCE, _LEAVING = 1.0, 30.0, 30.0, 5.0


def task(roles: Sequence[str] = _ROLES) -> dict[str, Any]:
    """Returns TF_CONFIG, checked.

    Args:
        roles: of the cluster's processes; there is one chief.

    Raises:
        ValueError: it is missing or is not that of such a cluster.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        found = json.loads(text or "{}")
        cluster, own = found["cluster"], found["task"]
        right = all(_are_hosts(cluster[role]) for role in roles)
        right &= not set(_ROLES) - set(roles) & set(cluster)
        right &= len(cluster["chief"]) == 1 and own["type"] in roles
        right &= 0 <= own["index"] < len(cluster[own["type"]])
    except (ValueError, KeyError, TypeError):
        right = False
    if not right:
        example = {
            "cluster": {role: ["HOST:PORT"] for role in roles},
            "task": {"type": "chief", "index": 0},
        }
        raise ValueError(
            "This --strategy takes the cluster, and which part of it this "
            f"process is, from TF_CONFIG, such as {json.dumps(example)}; got "
            f"{text or 'nothing'}."
        )
    return found


def is_one() -> bool:
    """Tells whether TF_CONFIG names no other process, or is not there."""
    try:
        hosts = json.loads(os.environ.get("TF_CONFIG") or "{}")["cluster"]
        return sum(map(len, hosts.values())) < 2
    except KeyError:
        return True
    except (ValueError, TypeError, AttributeError):
        return False  # `task` says what is wrong


def serve(finished: Callable[[], bool], lead: pathlib.Path) -> None:
    """Is a worker or a parameter server until the chief's program ends.

    Args:
        finished: tells whether it has; asked again and again.
        lead: where chiefs say who they are; see `chief`.

    Raises:
        ValueError: see `task`.
        OSError: the chief was there and is gone, or another one is there.
    """
    found = task()
    cluster, own = found["cluster"], found["task"]
    os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")
    config = tf.compat.v1.ConfigProto()
    # A server with fewer threads than callers may wait for itself.
    callers = len(cluster["worker"]) + 1
    config.inter_op_parallelism_threads = max(callers, os.cpu_count() or 1)
    server = tf.distribute.Server(
        tf.train.ClusterSpec(cluster),
        job_name=own["type"],
        task_index=own["index"],
        protocol="grpc",
        config=config,
    )
    logging.info(
        "%s %d serves at %s.", own["type"], own["index"], server.target
    )
    chief, served = Chief(cluster["chief"][0]), None
    while not succeeds(finished):
        time.sleep(_LOOK)
        if chief.answers():
            # A chief listens only when it has said who it is.
            served = served or _leader(lead)
        if served is not None and _leader(lead) not in (None, served):
            raise chief.is_another()


@contextlib.contextmanager
def chief(
    folder: pathlib.Path, lead: pathlib.Path, steps_per_call: int
) -> Iterator[remote_step.Cluster]:
    """Yields the cluster to the process that runs the program.

    Args:
        folder: for work files; all machines see it under this name.
        lead: a file beside it, to say which chief this is.
        steps_per_call: steps of a worker without a word of the chief.

    Raises:
        ValueError: see `task`.
        OSError: a parameter server was lost.
    """
    cluster = task()["cluster"]
    os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")
    another = _leader(lead) is not None
    files.write_json(lead, {"chief": secrets.token_hex(8)})
    if another:
        time.sleep(_LEAVING)
    for host in [*cluster["ps"], *cluster["worker"]]:
        _wait_for(host)
    with losses_told("A parameter server", folder.parent):
        strategy = tf.distribute.ParameterServerStrategy(
            tf.distribute.cluster_resolver.TFConfigClusterResolver(
                rpc_layer="grpc"
            )
        )
        if strategy.num_replicas_in_sync > 1:
            raise ValueError(
                f"Workers have {strategy.num_replicas_in_sync} GPUs each; a "
                "worker takes its steps on one. Start a worker for each GPU, "
                "by CUDA_VISIBLE_DEVICES."
            )
        coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        yield remote_step.Cluster(
            strategy,
            coordinator,
            len(cluster["worker"]),
            folder,
            steps_per_call,
        )


@contextlib.contextmanager
def losses_told(who: str, run: pathlib.Path) -> Iterator[None]:
    """Says what to do when a machine is lost in the block.

    Args:
        who: one of those without whom the run cannot go on.
        run: the folder that all machines see.

    Raises:
        OSError: one is lost, or misses a file.
    """
    try:
        yield
    except tf.errors.NotFoundError as error:
        raise OSError(
            f"A machine misses a file that the chief wrote: {_gist(error)} "
            f"All machines must see {run} under this name."
        ) from error
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.FailedPreconditionError,
        tf.errors.UnknownError,
    ) as error:
        raise OSError(
            f"{who} is lost. Start all processes again; the run goes on from "
            f"its checkpoint. TensorFlow says: {_gist(error)}"
        ) from error


def _gist(error):
    """Returns the line of an error of TensorFlow that says what it is."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    # Before it may come where in the graph, and in what code.
    places = ("Graph execution error", "Detected at node", " ", "\t")
    said = [line for line in lines if not line.startswith(places)]
    return (said or lines or [type(error).__name__])[0]


class Chief:
    """The chief, as the others see it.

    Args:
        address: where it listens.
        there: whether it is known to have been there.
    """

    def __init__(self, address: str, *, there: bool = False):
        self.address = address
        self._last = time.monotonic() if there else None

    def answers(self) -> bool:
        """Tells whether it is there now.

        Raises:
            OSError: it was, and has been gone for too long.
        """
        now = time.monotonic()
        if _answers(self.address):
            self._last = now
            return True
        if self._last is not None and now - self._last > _PATIENCE:
            raise OSError(
                f"The chief at {self.address} has gone before its run ended. "
                "Start all processes again; the run goes on from its "
                "checkpoint."
            )
        return False

    def is_another(self) -> OSError:
        """Returns what to raise when another one leads from that address."""
        return OSError(
            f"The chief at {self.address} has begun anew. Start this process "
            "again; the run goes on from its checkpoint."
        )


def said(file: pathlib.Path) -> dict[str, Any]:
    """Returns what a chief says in its file; {} if that cannot be read now."""
    try:
        return files.read_json(file)
    except (OSError, ValueError):  # not, or not yet whole, to be seen
        return {}


def succeeds(finished: Callable[[], bool]) -> bool:
    """Tells whether a run is finished; what cannot be read now is not yet."""
    try:
        return finished()
    except (OSError, ValueError) as error:
        logging.warning("Looking for the run's end: %s", error)
        return False


def _leader(lead):
    """Returns which chief leads; None where that is not, or not yet, said."""
    return said(lead).get("chief")


def _are_hosts(hosts):
    """Tells whether there are some, HOST:PORT each."""
    return bool(hosts) and all(":" in host for host in hosts)


def _answers(address):
    """Tells whether something listens there."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_LOOK):
            return True
    except OSError:
        return False


def _wait_for(address):
    """Waits until something listens there, and now and then says so."""
    told = time.monotonic() - _WORD
    while not _answers(address):
        if time.monotonic() - told > _WORD:
            logging.info("Waiting for %s.", address)
            told = time.monotonic()
        time.sleep(_LOOK)
