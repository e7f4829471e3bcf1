"""Sets the pruned search of trained runs beside their exact one.

    python -m experiments.pruning --runs=runs/beauty/jtm-0,runs/beauty/jtm-1 \\
        --out=experiments/results/pruning/beauty.json

Reads each run's network out on the validation users (`jtm_tf.search.read_out`)
and searches for the test users: exactly, and with read-outs that walk in a beam
that widens to several widths. The runs are seeds of one method on one data set.
Nothing in their folders changes. Writes and prints JSON; a table goes to the
log.
"""

import json
from typing import Any

from absl import flags
from absl import logging

from experiments.trials import pruned
from jtm_tf import files
from jtm_tf.command_line import program
from jtm_tf.data import splits
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import trained

_RUNS = flags.DEFINE_list(
    "runs",
    None,
    "Run folders of experiments.train, seeds of one method on the same data.",
    required=True,
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The prepared data, if it has moved since training."
)
_CUTS = flags.DEFINE_list(
    "cuts",
    ["200:400", "200:200", "20:40", "20:20"],
    "What to judge at, num_results:beam_width.",
)
_WIDTHS = flags.DEFINE_list(
    "widths",
    ["1", "1.5", "2", "3", "4"],
    "How many times the beam the read-out widens to, numbers from 1.",
)
_OUT = flags.DEFINE_string("out", None, "JSON to write.", required=True)


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    cuts = [
        program.integers("cuts", cut.split(":"), count=2) for cut in _CUTS.value
    ]
    try:
        widths = [float(width) for width in _WIDTHS.value]
    except ValueError as error:
        raise ValueError(f"--widths takes numbers: {error}.") from None
    found: list[dict[str, Any]] = []
    made: dict[str, Any] = {}
    for path in _RUNS.value:
        run = trained.load(path, _DATA_DIR.value)
        of = {
            "method": run.settings.method,
            "data_fingerprint": run.data.manifest["fingerprint"],
        }
        if made and of != made:
            raise ValueError(
                f"{path} is of {of}; the runs before it are of {made}. Give "
                "seeds of one method on the same data."
            )
        made = of
        validation, test = (
            splits.held_out_users(
                run.data, split, run.model.max_history, run.settings.profile
            )
            for split in ("validation", "test")
        )
        found.append(pruned.measure(run.model, validation, test, cuts, widths))
        logging.info("%s: the walk chosen is %s", path, found[-1]["chosen"])
    code = {"code": run_folder.code_version()}
    report = made | code | pruned.report(found, cuts)
    for name, points in report["searches"].items():
        for point in points:
            logging.info("%s: %s", name, point)
    files.write_json(_OUT.value, report)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
