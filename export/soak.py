"""Soaks a server: load, new versions, rubbish and deaf clients, for long.

    python -m export.soak --model_base=BASE --json=soak.json

Starts export.serve, in a process of its own, on a copy of the newest version
in BASE, measures its capacity and then asks, open-loop, for a fraction of it.
Meanwhile items leave the catalogue by one version and return by the next, each
made by export.update_items; old versions are removed. One client sends the
requests of export.fuzz; others ask by either protocol and never read. Memory,
open files and threads of the server are noted all the while; Linux only.

Prints JSON last. Exit status 1, with a line for each broken promise: a good
request failed, a bad one was answered wrongly, or the server grew.
"""

import dataclasses
import json
import sys

from absl import flags
from absl import logging

from export.soaking import run
from jtm_tf import files
from jtm_tf.command_line import program

_DEFAULT = run.Config("")

_MODEL_BASE = flags.DEFINE_string(
    "model_base",
    None,
    "The --export_dir of export.export_model: a folder of versions.",
    required=True,
)
_SECONDS = flags.DEFINE_float(
    "seconds", _DEFAULT.seconds, "How long requests come.", lower_bound=1.0
)
_FRACTION = flags.DEFINE_float(
    "fraction",
    _DEFAULT.fraction,
    "Share of the capacity to load with.",
    lower_bound=0.001,
)
_CAPACITY_SECONDS = flags.DEFINE_float(
    "capacity_seconds",
    _DEFAULT.capacity_seconds,
    "How long each number of callers is tried.",
    lower_bound=0.1,
)
_VERSION_SECONDS = flags.DEFINE_float(
    "version_seconds",
    _DEFAULT.version_seconds,
    "From one version to the next.",
    lower_bound=0.1,
)
_SHARE = flags.DEFINE_float(
    "share",
    _DEFAULT.share,
    "Of the items, those that leave at a time.",
    lower_bound=0.0,
    upper_bound=0.5,
)
_SAMPLE_SECONDS = flags.DEFINE_float(
    "sample_seconds",
    _DEFAULT.sample_seconds,
    "From one look at the server to the next.",
    lower_bound=0.1,
)
_RUBBISH_RATE = flags.DEFINE_float(
    "rubbish_rate",
    _DEFAULT.rubbish_rate,
    "Bad requests a second.",
    lower_bound=0.001,
)
_CLIENT_SECONDS = flags.DEFINE_float(
    "client_seconds",
    _DEFAULT.client_seconds,
    "How patient the server is with slow clients.",
    lower_bound=0.1,
)
_QUESTIONS = flags.DEFINE_integer(
    "questions",
    _DEFAULT.questions,
    "How many random histories to ask.",
    lower_bound=1,
)
_MAX_HISTORY = flags.DEFINE_integer(
    "max_history",
    _DEFAULT.max_history,
    "Ids in the longest of them.",
    lower_bound=1,
)
_TIMEOUT = flags.DEFINE_float(
    "timeout",
    _DEFAULT.timeout,
    "Seconds until a request has failed.",
    lower_bound=0.001,
)
_SEED = flags.DEFINE_integer("seed", _DEFAULT.seed, "Of all that is drawn.")
_JSON = flags.DEFINE_string("json", None, "Where to write the JSON as well.")


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    values = flags.FLAGS.flag_values_dict()
    names = [field.name for field in dataclasses.fields(run.Config)]
    report = run.soak(run.Config(**{name: values[name] for name in names}))
    if _JSON.value:
        files.write_json(_JSON.value, report)
    print(json.dumps(report))
    if report["broken"]:
        sys.exit("\n".join(f"Error: {line}" for line in report["broken"]))


if __name__ == "__main__":
    main()
