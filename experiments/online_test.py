"""An online test in a simulated shop: clicks and revenue, night after night.

    python -m experiments.online_test --out_dir=runs/online \\
        --out=experiments/results/online/week

People whose tastes only the simulation knows (`experiments.online.people`) come
to a shop for a week. Small buckets of them are served by the methods to
compare: Item-CF, the same again (A/A), TDM and JTM, as published and by the
defaults. Each is one source of candidates, behind which the rest of the shop is
the same (`experiments.online.shop`). Every night yesterday's log is prepared,
each model is continued (`--continue_from`), exported and swapped while it is
asked; the endpoint is export.serve. CTR and RPM are those of the paper's
Table 2. Stopped and started again, the program goes on with the day it was in.
Writes OUT.json, OUT.md and OUT.svg; prints the table.
"""

import json
import pathlib
import sys

from absl import flags
from absl import logging

from experiments import week_flags
from experiments.online import week
from experiments.pictures import online
from experiments.pictures import plots
from jtm_tf import files
from jtm_tf.command_line import program
from jtm_tf.runs import folder as run_folder

_DEFAULT = week.Config()

_OUT_DIR = flags.DEFINE_string(
    "out_dir", None, "Folder of data, runs and versions.", required=True
)
_OUT = flags.DEFINE_string(
    "out", None, "The report, without its suffix.", required=True
)
_SIZE = week_flags.define()
flags.adopt_module_key_flags(week_flags)
_BUCKETS = flags.DEFINE_list(
    "buckets", list(_DEFAULT.buckets), "Whom to compare; item_cf is one."
)
_TRAIN_FLAGS = flags.DEFINE_string(
    "train_flags",
    _DEFAULT.train_flags,
    "Further flags of experiments.train, for all methods and nights.",
)
_FIRST_FLAGS = flags.DEFINE_string(
    "first_flags", _DEFAULT.first_flags, "More for the first night."
)
_JOBS = flags.DEFINE_integer(
    "jobs",
    3,
    "Methods trained and exported at a time, which share the cores.",
    lower_bound=1,
)
_SEED = flags.DEFINE_integer("seed", _DEFAULT.seed, "Of all that is drawn.")


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    config = week_flags.config(
        _SIZE,
        buckets=tuple(_BUCKETS.value),
        train_flags=_TRAIN_FLAGS.value,
        first_flags=_FIRST_FLAGS.value,
        seed=_SEED.value,
    )
    folder = pathlib.Path(_OUT_DIR.value)
    report = week.Week(config, folder, jobs=_JOBS.value).run()
    report["command"] = program.command("experiments.online_test", sys.argv[1:])
    report["code"] = run_folder.code_version()
    out = pathlib.Path(_OUT.value)
    files.write_json(out.with_suffix(".json"), report)
    table = online.table(report)
    with files.replacing(out.with_suffix(".md")) as temporary:
        temporary.write_text(table + "\n", "utf-8")
    plots.save(online.week(report), out.with_suffix(".svg"))
    print(table)
    logging.info("%s", json.dumps(report["failed_requests"]))


if __name__ == "__main__":
    main()
