"""A soak: a server asked, updated and annoyed for long, and watched."""

import contextlib
import dataclasses
import pathlib
import shutil
import tempfile
import threading
import time
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from export import serving
from export.artefact import origin
from export.artefact import versions
from export.calling import clients
from export.calling import grpc_wire
from export.calling import load
from export.calling import load_questions
from export.calling import questions
from export.calling import server_process
from export.calling import wire
from export.fuzzing import cases
from export.soaking import background
from export.soaking import catalogue as catalogue_lib
from export.soaking import deaf
from export.soaking import judgement
from export.soaking import rubbish as rubbish_lib
from export.soaking import tally as tally_lib

_SIGNATURE = "recommend"
# Users of a request of those who never read: what they ask for is long.
_DEAF_ROWS = 16
_DEAF_SECONDS = 1.0
# Versions that come before the load: then the server holds two and has held
# three, which is as many as it ever will.
_BEFORE = 2
# Looks at the folder until the last version that has gone is forgotten.
_LOOKS = 3


@dataclasses.dataclass(frozen=True)
class Config:
    """How to soak.

    Attributes:
        model_base: a folder of versions; it stays as it is.
        seconds: how long.
        fraction: of the capacity, to load with.
        capacity_seconds: how long each number of callers is tried.
        version_seconds: from one version to the next.
        share: of the items, those that leave at a time.
        sample_seconds: from one look at the server to the next.
        rubbish_rate: bad requests a second.
        client_seconds: how patient the server is with slow clients.
        questions: how many histories are asked.
        max_history: ids in the longest of them.
        timeout: seconds until a request has failed.
        seed: of all that is drawn.
    """

    model_base: str
    seconds: float = 1800.0
    fraction: float = 0.6
    capacity_seconds: float = 5.0
    version_seconds: float = 60.0
    share: float = 0.01
    sample_seconds: float = 30.0
    rubbish_rate: float = 5.0
    client_seconds: float = 5.0
    questions: int = 256
    max_history: int = 50
    timeout: float = 30.0
    seed: int = 0


def soak(config: Config) -> dict[str, Any]:
    """Soaks a server of the newest version in a folder; returns a report.

    Raises:
        ValueError: there is no such version, it cannot be served or updated,
            or the soak is too short to judge.
        OSError: the server has ended or is not on Linux, or a version cannot
            be written.
    """
    source = pathlib.Path(config.model_base).resolve()
    there = versions.existing(source)
    if not there:
        raise ValueError(f"{source} has no version; export one to begin with.")
    newest = source / str(there[-1])
    origin.read_items(newest)  # else no version follows
    with tempfile.TemporaryDirectory() as scratch:
        base = pathlib.Path(scratch) / source.name
        shutil.copytree(newest, base / newest.name)
        flags = {"client_seconds": config.client_seconds}
        with server_process.running(base, flags) as server:
            report = _soak(config, base, server)
            report["exit_status"] = server.stop()
    report["broken"] = judgement.broken(report)
    return report


def _soak(config, base, server):
    """Soaks a server that runs."""
    target = f"127.0.0.1:{server.ports['grpc']}"
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(
            clients.Client(
                target=target, model=base.name, timeout=config.timeout
            )
        )
        histories = load_questions.draw(
            client,
            config.questions,
            max_history=config.max_history,
            seed=config.seed,
        )
        asked = load_questions.requests(client, histories, _SIGNATURE)
        generator = stack.enter_context(
            load.Generator(target, asked, config.timeout)
        )
        tally = tally_lib.Tally(generator.in_turn()[0])
        catalogue = catalogue_lib.Catalogue(
            base,
            client.transport.available,
            share=config.share,
            seed=config.seed,
        )
        for _ in range(_BEFORE):
            catalogue.turn()
        capacity = load.find_capacity(
            generator, seconds=config.capacity_seconds
        )
        logging.info("capacity: %s", capacity)
        rate = config.fraction * capacity["rate"]
        world = _world(config, base.name, server.ports, client)
        stack.callback(world.close)
        rubbish = rubbish_lib.Rubbish(world, config.seed)
        deaf_clients = _deaf_clients(base.name, server.ports, client, histories)
        samples: list[dict[str, Any]] = []
        start = time.monotonic()

        def sample(turn):
            del turn
            samples.append(
                {
                    "seconds": round(time.monotonic() - start, 1),
                    **dataclasses.asdict(server.holdings()),
                    "published": len(catalogue.published) - _BEFORE,
                }
            )
            logging.info("%s", samples[-1])

        failed = threading.Event()
        with contextlib.ExitStack() as beside:
            for step, seconds in (
                (sample, config.sample_seconds),
                (catalogue.turn, config.version_seconds),
                (rubbish.send, 1 / config.rubbish_rate),
                *((one.ask, _DEAF_SECONDS) for one in deaf_clients.values()),
            ):
                turns = background.Background(step, seconds, failed=failed)
                beside.enter_context(turns)
            due = load.arrivals(rate, config.seconds, config.seed)
            generator.send_when_due(due, tally.heed, failed)
        for one in deaf_clients.values():
            one.close()
        # Cut-off clients and versions that have gone are forgotten by then.
        time.sleep(
            2 * config.client_seconds + _LOOKS * serving.Config().poll_seconds
        )
        sample(None)
    good = tally.summary()
    published = catalogue.published[_BEFORE:]
    return {
        "model": base.name,
        "seconds": config.seconds,
        "fraction": config.fraction,
        "rate": round(rate, 2),
        "capacity": capacity,
        "good": good,
        "versions": {
            "published": len(published),
            "seen": len(set(published) & set(tally.versions)),
            "items_removed": catalogue.removed,
            "items_added": catalogue.added,
            "taken_up_seconds": _spread(catalogue.seconds),
        },
        "rubbish": rubbish.summary(),
        "never_read": {
            name: {"asked": one.asked, "connections": one.connections}
            for name, one in deaf_clients.items()
        },
        "end_over_warm": judgement.ratios(samples, config.seconds),
        "samples": samples,
    }


def _world(config, name, ports, client):
    """Returns what those who send rubbish know of the server."""
    history = client.signatures()["serving_default"]["history"]
    limits = serving.Config(client_seconds=config.client_seconds)
    return cases.World(
        name, ports, tf.as_dtype(history.dtype), dataclasses.asdict(limits)
    )


def _deaf_clients(name, ports, client, histories):
    """Returns those who never read, by protocol."""
    rows = (histories * _DEAF_ROWS)[:_DEAF_ROWS]
    signature, inputs = client.encode(questions.Question(rows, _SIGNATURE))
    body = {
        "signature_name": signature,
        "inputs": {key: tensor.values for key, tensor in inputs.items()},
    }
    one = {
        key: wire.Tensor(tensor.dtype, tensor.values[:1])
        for key, tensor in inputs.items()
    }
    message = grpc_wire.request(name, signature, one).SerializeToString()
    path = f"/v1/models/{name}:predict"
    return {
        "grpc": deaf.DeafClient(ports["grpc"], deaf.by_grpc(message)),
        "rest": deaf.DeafClient(ports["rest"], deaf.by_rest(path, body)),
    }


def _spread(seconds):
    """Returns the median and the maximum; {} of nothing."""
    if not seconds:
        return {}
    return {
        "median": round(float(np.median(seconds)), 3),
        "max": round(max(seconds), 3),
    }
