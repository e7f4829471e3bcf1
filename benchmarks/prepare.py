"""Measures `experiments.prepare` on generated rows shaped like UserBehavior.

    python -m benchmarks.prepare --json [--rows=10000000] [--shuffle]

The rows have the published file's proportions: about a hundred a user, users
together in the order of their ids as text, times ascending within a user,
popular items far more often than others, one category an item. Generation is
not timed. The child process is: start, fingerprint, reading, writing, all.

The JSON object, last on stdout: rows, rows_per_second, seconds, cpu_seconds
(on a busy machine the steadier figure), peak_gib (the child's largest resident
set), input_bytes, shuffled.
"""

import json
import pathlib
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.csv
from absl import flags

from benchmarks import children
from jtm_tf.command_line import program

_ROWS = flags.DEFINE_integer(
    "rows", 10_000_000, "Rows to generate.", lower_bound=10_000
)
_SHUFFLE = flags.DEFINE_bool(
    "shuffle", False, "Put the rows in random order instead of by user."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the generated rows.")
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object on stdout.")

_BLOCK = 1 << 20
_ROWS_A_USER = 100
_ITEMS = 4_162_024  # of the published file, with its categories and days
_CATEGORIES = 9_439
_FIRST_SECOND, _SECONDS = 1511539200, 9 * 86400


def generate(
    path: pathlib.Path, rows: int, *, seed: int, shuffle: bool = False
) -> None:
    """Writes rows in UserBehavior's format, block by block.

    Args:
        path: the CSV file to write.
        rows: how many.
        seed: decides the rows, together with the other arguments.
        shuffle: give each row a user of its own, not a run of rows to each.
    """
    num_users = max(rows // _ROWS_A_USER, 1)
    users = np.sort(np.arange(1, num_users + 1).astype(str)).astype(np.int64)
    behaviours = pa.array(["pv", "cart", "fav", "buy"])
    options = pyarrow.csv.WriteOptions(
        include_header=False, quoting_style="none"
    )
    with open(path, "wb") as out:
        for start in range(0, rows, _BLOCK):
            # By (seed, start), so that blocks do not depend on each other.
            rng = np.random.default_rng([seed, start])
            size = min(_BLOCK, rows - start)
            row = np.arange(start, start + size)
            user = np.minimum(row // _ROWS_A_USER, num_users - 1)
            if shuffle:
                user = rng.integers(0, num_users, size)
            # The cube crowds draws on the first items; a prime spreads ids.
            rank = (_ITEMS * rng.random(size) ** 3).astype(np.int64)
            item = rank * 2_654_435_761 % 5_163_071 + 1
            seconds = rng.integers(0, _SECONDS, size)
            if not shuffle:
                seconds = seconds[np.lexsort((seconds, user))]
            behaviour = np.searchsorted([0.9, 0.95, 0.98], rng.random(size))
            block = pa.table(
                {
                    "user": users[user],
                    "item": item,
                    "category": item * 40_503 % _CATEGORIES + 1,
                    "behaviour": behaviours.take(pa.array(behaviour)),
                    "timestamp": seconds + _FIRST_SECOND,
                }
            )
            pyarrow.csv.write_csv(block, out, options)


def measure(rows: int, *, seed: int, shuffle: bool = False) -> dict:
    """Prepares generated rows in a child process and returns the figures."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "UserBehavior.csv"
        generate(source, rows, seed=seed, shuffle=shuffle)
        child = children.run(
            "experiments.prepare",
            "--dataset=userbehavior",
            f"--input={source}",
            f"--data_dir={folder}/prepared",
        )
        return {
            "rows": rows,
            "rows_per_second": round(rows / child.seconds),
            **child.costs(),
            "input_bytes": source.stat().st_size,
            "shuffled": shuffle,
        }


@program.entry
def main() -> None:
    result = measure(_ROWS.value, seed=_SEED.value, shuffle=_SHUFFLE.value)
    if _JSON.value:
        print(json.dumps(result))
    else:
        print(
            f"{result['rows_per_second']:,} rows/s, {result['seconds']} s "
            f"({result['cpu_seconds']} s of CPU), {result['peak_gib']} GiB"
        )


if __name__ == "__main__":
    main()
