"""How far chance alone moves an online test: Item-CF against itself.

    python -m experiments.online_noise --out_dir=runs/noise --seeds=20 \\
        --out=experiments/results/online/noise.json

Weeks of `experiments.online_test` in which the only small buckets are Item-CF
and Item-CF again, a week a seed. Of a hundred intervals of 95 % some
ninety-five hold the truth, a lift of zero: are they fewer, so are those of a
test too narrow. Stopped and started again, the program goes on. Writes and
prints JSON.
"""

import json
import pathlib
import sys

from absl import flags
from absl import logging

from experiments.online import week
from jtm_tf import files
from jtm_tf.command_line import program
from jtm_tf.runs import folder as run_folder

_DEFAULT = week.Config()

_OUT_DIR = flags.DEFINE_string(
    "out_dir", None, "Folder of the weeks.", required=True
)
_OUT = flags.DEFINE_string("out", None, "JSON to write.", required=True)
_SEEDS = flags.DEFINE_integer("seeds", 20, "How many weeks.", lower_bound=1)
_PEOPLE = flags.DEFINE_integer(
    "people", _DEFAULT.people, "How many there are.", lower_bound=10
)
_ITEMS = flags.DEFINE_integer(
    "items", _DEFAULT.items, "How many are sold.", lower_bound=50
)
_DAYS = flags.DEFINE_integer(
    "days", _DEFAULT.days, "That are measured.", lower_bound=1
)
_BUCKET_SHARE = flags.DEFINE_float(
    "bucket_share", _DEFAULT.bucket_share, "Share of the people in each."
)


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    lifts = []
    for seed in range(_SEEDS.value):
        config = week.Config(
            people=_PEOPLE.value,
            items=_ITEMS.value,
            days=_DAYS.value,
            buckets=(week.CONTROL, week.AGAIN),
            bucket_share=_BUCKET_SHARE.value,
            seed=seed,
        )
        folder = pathlib.Path(_OUT_DIR.value, str(seed))
        report = week.Week(config, folder).run()
        lift = report["buckets"][week.AGAIN].get("over_control")
        if not lift:
            raise ValueError(
                f"In the week of seed {seed} nobody of the control clicked; "
                "take more people, days or a larger bucket_share."
            )
        lifts.append(lift)
        logging.info("Seed %d: %s", seed, lifts[-1])
    report = {
        "seeds": len(lifts),
        "hold_zero": {
            name: sum(
                low <= 0 <= high
                for low, high in (lift[name]["interval"] for lift in lifts)
            )
            for name in lifts[0]
        },
        "lifts": lifts,
        "command": program.command("experiments.online_noise", sys.argv[1:]),
        "code": run_folder.code_version(),
    }
    files.write_json(_OUT.value, report)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
