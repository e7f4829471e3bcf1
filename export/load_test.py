"""Loads a gRPC endpoint on this machine and measures how it bears it.

    python -m export.load_test --target=127.0.0.1:8500 --model=jtm \\
        --rate=100 --seconds=60
    python -m export.load_test --target=127.0.0.1:8500 --model=jtm \\
        --find_capacity --fraction=0.7 --seconds=60
    python -m export.load_test --target=127.0.0.1:8500 --model=jtm \\
        --find_capacity --fraction=0.7 --seconds=60 --swap_base=BASE

The load is open-loop: requests of one user each are due at times drawn
beforehand, a Poisson process, and latency counts from then, so that a slow
server is asked no less and cannot hide. --find_capacity first asks in a
closed loop, with ever more callers, for the highest rate that is answered.

With --swap_base, new versions appear meanwhile in the folder that the server
watches: copies, in turns, of those it answers with at the start. Two that
differ make the check sharp. Each answer is compared with what the version
that it names has answered before the load. The copies stay.

Prints JSON last. Exit status 1 if a request failed, or a version was mixed.
"""

import json
import sys
from typing import Any

import numpy as np
from absl import flags
from absl import logging

from export.calling import clients
from export.calling import load
from export.calling import load_questions
from export.calling import swaps
from export.calling import user_lines
from jtm_tf.command_line import program

_TARGET = flags.DEFINE_string(
    "target", None, "HOST:PORT of gRPC, on this machine.", required=True
)
_MODEL = flags.DEFINE_string(
    "model", None, "The model's name on the server.", required=True
)
_SIGNATURE = flags.DEFINE_string("signature", "recommend", "What to ask for.")
_RATE = flags.DEFINE_float(
    "rate", None, "Requests a second, on average.", lower_bound=0.001
)
_SECONDS = flags.DEFINE_float(
    "seconds", 10.0, "How long requests come.", lower_bound=0.1
)
_FIND_CAPACITY = flags.DEFINE_bool(
    "find_capacity", False, "Measure the highest rate that is answered."
)
_CAPACITY_SECONDS = flags.DEFINE_float(
    "capacity_seconds",
    5.0,
    "How long each number of callers is tried.",
    lower_bound=0.1,
)
_FRACTION = flags.DEFINE_float(
    "fraction",
    None,
    "Share of the capacity to load with, instead of --rate.",
    lower_bound=0.001,
)
_HISTORIES = flags.DEFINE_string(
    "histories",
    None,
    "Users, a line each as export.client reads them; random histories of ids "
    "that the model itself recommends if not given.",
)
_QUESTIONS = flags.DEFINE_integer(
    "questions", 256, "How many random histories to ask.", lower_bound=1
)
_MAX_HISTORY = flags.DEFINE_integer(
    "max_history", 50, "Ids in the longest of them.", lower_bound=1
)
_SWAP_BASE = flags.DEFINE_string(
    "swap_base", None, "Folder of versions to publish new ones in."
)
_SWAPS = flags.DEFINE_integer(
    "swaps", 10, "How many versions to publish.", lower_bound=1
)
_TIMEOUT = flags.DEFINE_float(
    "timeout", 30.0, "Seconds until a request has failed.", lower_bound=0.001
)
_SEED = flags.DEFINE_integer("seed", 0, "Of arrivals and random histories.")


@program.entry
def main() -> None:
    _check_flags()
    load.require_loopback(_TARGET.value)
    with clients.Client(
        target=_TARGET.value, model=_MODEL.value, timeout=_TIMEOUT.value
    ) as client:
        report = _run(client)
    print(json.dumps(report))
    swapped = report.get("swaps", {"mixed": 0, "unseen": []})
    if report.get("load", {}).get("errors") or any(
        swapped[key] for key in ("mixed", "unseen")
    ):
        sys.exit(1)


def _check_flags():
    """Refuses flags that do not fit together."""
    if _FRACTION.value is not None and not _FIND_CAPACITY.value:
        raise ValueError("--fraction is of --find_capacity; give that too.")
    if _FRACTION.value is not None and _RATE.value is not None:
        raise ValueError("Give --rate or --fraction, one of them.")
    loaded = _RATE.value is not None or _FRACTION.value is not None
    if not loaded and not _FIND_CAPACITY.value:
        raise ValueError("Give --rate, --find_capacity, or both.")
    if not loaded and _SWAP_BASE.value is not None:
        raise ValueError("--swap_base swaps under load; give a --rate.")


def _run(client) -> dict[str, Any]:
    """Measures what the flags ask for."""
    histories = _histories(client)
    asked = load_questions.requests(client, histories, _SIGNATURE.value)
    report: dict[str, Any] = {
        "target": _TARGET.value,
        "model": _MODEL.value,
        "signature": _SIGNATURE.value,
        "questions": len(asked),
    }
    with load.Generator(_TARGET.value, asked, _TIMEOUT.value) as generator:
        rate = _RATE.value
        if _FIND_CAPACITY.value:
            report["capacity"] = load.find_capacity(
                generator, seconds=_CAPACITY_SECONDS.value
            )
            logging.info("capacity: %s", report["capacity"])
            if _FRACTION.value is not None:
                rate = _FRACTION.value * report["capacity"]["rate"]
        if rate is not None:
            due = load.arrivals(rate, _SECONDS.value, _SEED.value)
            report["rate"] = round(rate, 2)
            report.update(_load(client, generator, due, histories))
    return report


def _load(client, generator, due, histories) -> dict[str, Any]:
    """Loads the endpoint, with swaps where they are asked for."""
    if _SWAP_BASE.value is None:
        results = generator.open_loop(due)
        return {"load": load.summary(results, _SECONDS.value)}
    publisher = swaps.Publisher(
        _SWAP_BASE.value, _SWAPS.value, client.transport.available
    )
    expected = {
        version: _answers(client, histories, version)
        for version in publisher.sources
    }
    publisher.start(_SECONDS.value)
    results = generator.open_loop(due)
    publisher.wait()
    checked = swaps.check(results, publisher.published, expected)
    return {
        "load": load.summary(results, _SECONDS.value),
        "swaps": {
            "published": len(publisher.published),
            "copies_of": publisher.sources,
            "taken_up_seconds": {
                "median": round(float(np.median(publisher.seconds)), 3),
                "max": round(max(publisher.seconds), 3),
            },
            **checked,
        },
    }


def _answers(client, histories, version):
    """Returns what one version answers, asked one by one."""
    asked = load_questions.requests(
        client, histories, _SIGNATURE.value, version
    )
    with load.Generator(_TARGET.value, asked, _TIMEOUT.value) as generator:
        return generator.in_turn()


def _histories(client):
    """Returns the histories to ask with."""
    if _HISTORIES.value is None:
        return load_questions.draw(
            client,
            _QUESTIONS.value,
            max_history=_MAX_HISTORY.value,
            seed=_SEED.value,
        )
    with open(_HISTORIES.value, encoding="utf-8") as lines:
        found = user_lines.columns(user_lines.parse(lines))
    if not found["histories"]:
        raise ValueError(f"--histories={_HISTORIES.value} has no lines.")
    return found["histories"]


if __name__ == "__main__":
    main()
