"""Attacks a server by requests that are wrong in every way we know of.

    python -m export.fuzz --model_base=BASE --requests=10000

Starts export.serve on BASE in a process of its own, with small limits, and
sends it good and bad requests by both protocols from several threads: wrong
dtypes, ranks and names, ragged rows, huge shapes, bodies that are too large,
half requests, slow clients, random bytes. Each must get the right class of
answer, and a good request the same answer, but for rounding, between them and
after. Request i is a function of (seed, i). Prints JSON last; fails if an
answer was wrong.
"""

import json
import pathlib
import time

from absl import flags

from export.calling import server_process
from export.fuzzing import attack
from jtm_tf.command_line import program

_MODEL_BASE = flags.DEFINE_string(
    "model_base", None, "A folder of exported versions.", required=True
)
_REQUESTS = flags.DEFINE_integer(
    "requests", 10_000, "How many to send.", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the requests.")
_OUT = flags.DEFINE_string("out", None, "Where to write the JSON as well.")


@program.entry
def main() -> None:
    base = pathlib.Path(_MODEL_BASE.value).resolve()
    started = time.monotonic()
    with server_process.running(base, attack.LIMITS) as server:
        found = attack.attack(
            base.name, server.ports, _REQUESTS.value, _SEED.value
        )
        found["resident_gib"] = server.peak_gib()
        found["exit_status"] = server.stop()
    found["seconds"] = round(time.monotonic() - started, 1)
    if _OUT.value:
        text = json.dumps(found, indent=1) + "\n"
        pathlib.Path(_OUT.value).write_text(text, encoding="utf-8")
    print(json.dumps(found))
    if found["wrong"] or found["differed"] or found["exit_status"]:
        raise ValueError(
            f"{found['wrong']} wrong answers, {found['differed']} that "
            f"differed, exit status {found['exit_status']}; see the JSON."
        )


if __name__ == "__main__":
    main()
