"""Trains every method of Table 1 on some data sets and writes the table.

    python -m experiments.table1 --data=beauty=data/beauty,toys=data/toys \\
        --runs_dir=runs/table1 --seeds=0,1,2 --paper=beauty=books,toys=books

Runs are RUNS_DIR/DATA/METHOD-SEED, what a run says is in METHOD-SEED.log.
Stopped (Ctrl-C) and started again, it goes on: the finished runs stay as they
are, whatever the flags, the others continue where they were. A run that fails
is reported, the rest goes on, and the exit status is 1. The table is table1.md
and table1.csv; runs.json, from which experiments.figure2 draws, has settings
and curves of all runs. A long command may go into a file of flags, one a line:
--flagfile=FILE.
"""

import pathlib
import sys

from absl import flags
from absl import logging

from experiments.runs import paper
from experiments.table import make
from jtm_tf.command_line import program

_DATA = flags.DEFINE_list(
    "data",
    None,
    "NAME=FOLDER pairs: what experiments.prepare wrote, and what to call it.",
    required=True,
)
_RUNS_DIR = flags.DEFINE_string(
    "runs_dir", "runs/table1", "Parent of the run folders."
)
_METHODS = flags.DEFINE_list(
    "methods",
    list(paper.NAMES),
    "Rows of the table, the paper's order whatever is given here.",
)
_SEEDS = flags.DEFINE_list(
    "seeds", ["0", "1", "2"], "Seeds to train and average over."
)
_OUT_DIR = flags.DEFINE_string(
    "out_dir", "experiments/results/table1", "Folder of the table."
)
_COLLECT_ONLY = flags.DEFINE_bool(
    "collect_only", False, "Train nothing; the table of what is finished."
)
_TRAIN_FLAGS = flags.DEFINE_multi_string(
    "train_flags",
    [],
    "DATA:FLAGS, DATA/METHOD:FLAGS or */METHOD:FLAGS, further flags of "
    "experiments.train, such as ta_feng:--samples_per_epoch=150000; can be "
    "given many times, later ones win.",
)
_JOBS = flags.DEFINE_integer(
    "jobs",
    1,
    "Runs trained at a time. More than one share the cores, which pays "
    "where a run cannot use them all.",
    lower_bound=1,
)
_PAPER = flags.DEFINE_list(
    "paper",
    [],
    "NAME=books or NAME=userbehavior: the data set of the paper whose "
    "figures stand beside; sparse data are nearer to books.",
)
_ALLOW_CODE_VERSIONS = flags.DEFINE_bool(
    "allow_code_versions",
    False,
    "Accept runs made by different versions of the code.",
)


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    config = make.TableConfig(
        data_dirs=program.pairs("data", _DATA.value),
        runs_dir=_RUNS_DIR.value,
        out_dir=_OUT_DIR.value,
        methods=_METHODS.value,
        seeds=program.integers("seeds", _SEEDS.value, allow_zero=True),
        compared_with=program.pairs("paper", _PAPER.value),
        collect_only=_COLLECT_ONLY.value,
        train_flags=_TRAIN_FLAGS.value,
        jobs=_JOBS.value,
        allow_code_versions=_ALLOW_CODE_VERSIONS.value,
    )
    failed = make.make(
        config,
        command=program.command("experiments.table1", sys.argv[1:]),
        progress=sys.stderr.isatty(),
    )
    print(pathlib.Path(config.out_dir) / "table1.md")
    if failed:
        names = ", ".join(job.name for job in failed)
        sys.exit(
            f"Error: {len(failed)} runs failed: {names}. Their logs are in "
            f"{config.runs_dir}; start the same command again to go on."
        )


if __name__ == "__main__":
    main()
