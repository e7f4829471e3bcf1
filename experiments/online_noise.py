"""Whether an online test's intervals hold: Item-CF against itself (A/A).

    python -m experiments.online_noise --out_dir=runs/noise --seeds=40 \\
        --out=experiments/results/online/noise.json

Weeks of `experiments.online_test` in which the only small buckets are Item-CF
and Item-CF again, a week a seed. Of intervals of 95 % as many should hold the
truth, a lift of zero; `coverage` says between which shares the true one lies,
given how many did (Clopper and Pearson, 95 %). Stopped and started again, the
program goes on. Writes and prints JSON.
"""

import json
import pathlib
import sys

import numpy as np
from absl import flags
from absl import logging
from scipy import stats

from experiments import week_flags
from experiments.online import week
from jtm_tf import files
from jtm_tf.command_line import program
from jtm_tf.runs import folder as run_folder

_OUT_DIR = flags.DEFINE_string(
    "out_dir", None, "Folder of the weeks.", required=True
)
_OUT = flags.DEFINE_string("out", None, "JSON to write.", required=True)
_SEEDS = flags.DEFINE_integer("seeds", 40, "How many weeks.", lower_bound=1)
_SIZE = week_flags.define()
flags.adopt_module_key_flags(week_flags)


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    lifts = []
    for seed in range(_SEEDS.value):
        config = week_flags.config(
            _SIZE, buckets=(week.CONTROL, week.AGAIN), seed=seed
        )
        folder = pathlib.Path(_OUT_DIR.value, str(seed))
        report = week.Week(config, folder).run()
        lift = report["buckets"][week.AGAIN].get("over_control")
        if not lift:
            raise ValueError(
                f"The week of seed {seed} has nobody to compare; take more "
                "people, days or a larger bucket_share."
            )
        lifts.append(lift)
        logging.info("Seed %d: %s", seed, lifts[-1])
    report = {
        "seeds": len(lifts),
        **{name: _spread([x[name] for x in lifts]) for name in lifts[0]},
        "lifts": lifts,
        "command": program.command("experiments.online_noise", sys.argv[1:]),
        "code": run_folder.code_version(),
    }
    files.write_json(_OUT.value, report)
    print(json.dumps(report))


def _spread(lifts):
    """Returns how lifts of nothing vary, and how many intervals know that."""
    low, high = np.transpose([x["interval"] for x in lifts])
    held = int(np.count_nonzero((low <= 0) & (0 <= high)))
    sure = stats.binomtest(held, len(lifts)).proportion_ci()
    return {
        "hold_zero": held,
        "coverage": [round(sure.low, 3), round(sure.high, 3)],
        "mean_width": round(float(np.mean(high - low)), 5),
        "root_mean_square": round(
            float(np.sqrt(np.mean(np.square([x["lift"] for x in lifts])))), 5
        ),
    }


if __name__ == "__main__":
    main()
