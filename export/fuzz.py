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
import signal
import subprocess
import sys
import time

from absl import flags

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
    limits = [f"--{name}={value}" for name, value in attack.LIMITS.items()]
    started = time.monotonic()
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "export.serve",
            f"--model_base={base}",
            "--port=0",
            "--rest_port=0",
            *limits,
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            ports = server.stdout.readline() if server.stdout else ""
            if not ports:
                raise ValueError(f"{base} cannot be served; see above.")
            found = attack.attack(
                base.name, json.loads(ports), _REQUESTS.value, _SEED.value
            )
            found["resident_gib"] = _resident_gib(server.pid)
            server.send_signal(signal.SIGTERM)
            found["exit_status"] = server.wait(600)
        finally:
            server.kill()
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


def _resident_gib(pid):
    """Returns the largest memory a process has had; None if unknown."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    kilobytes = status.partition("VmHWM:")[2].split()[0]
    return round(int(kilobytes) / 2**20, 3)


if __name__ == "__main__":
    main()
