"""Measures `experiments.inspect` on runs over a million items and more.

    python -m benchmarks.report --json [--items=1000000,10000000]

A run is made first, and not timed: items in 4,096 categories, twice as many
rows as items, a short training of JTM-H on the tree by category, and a second
tree in which every other family has changed seats, as a tree step would leave
it. Then the program writes its report and pictures in a child process.

For each size, "1,000,000 items" and "10,000,000 items" by default: seconds,
cpu_seconds, peak_gib (the child's largest resident set), page_bytes, notes,
what the report lacks, and training_peak_gib, the same of the training.
"""

import json
import pathlib
import tempfile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import flags

from benchmarks import children
from jtm_tf.command_line import program
from jtm_tf.data.preparing import preparation
from jtm_tf.runs import folder as run_folder
from jtm_tf.tree import tree as tree_lib

_ITEMS = flags.DEFINE_list("items", ["1000000", "10000000"], "Sizes.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of rows, weights and samples.")
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object on stdout.")

_ROWS_A_USER = 20
_COARSE, _FINE = 32, 128  # Categories of the first part, and below each.
_JUDGES = 1000  # Users of validation, and of test, about.


def measure(num_items: int, *, seed: int) -> dict[str, Any]:
    """Makes a run over so many items and returns the figures."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        prepare(folder, num_items, seed=seed)
        trained = train(folder, seed=seed)
        child = children.run(
            "experiments.inspect", f"--run_dir={folder / 'run'}"
        )
        told = json.loads(child.stdout.splitlines()[-1])
        return {
            **child.costs(),
            "page_bytes": told["bytes"],
            "notes": told["notes"],
            "training_peak_gib": trained.costs()["peak_gib"],
        }


def prepare(folder: pathlib.Path, num_items: int, *, seed: int) -> None:
    """Draws rows in which every item occurs and prepares them."""
    rng = np.random.default_rng(seed)
    popular = (num_items * rng.random(num_items) ** 3).astype(np.int64) + 1
    item = rng.permutation(
        np.concatenate([rng.permutation(num_items) + 1, popular])
    )
    row = np.arange(len(item))
    num_users = len(item) // _ROWS_A_USER
    fine = item * 2_654_435_761 % (_COARSE * _FINE)  # scattered, not in order
    paths = pa.array([f"c{i // _FINE}|f{i}" for i in range(_COARSE * _FINE)])
    table = pa.table(
        {
            "user": np.minimum(row // _ROWS_A_USER, num_users - 1),
            "item": item,
            "timestamp": row,
            "category": pa.DictionaryArray.from_arrays(fine, paths).cast(
                pa.string()
            ),
        }
    )
    pq.write_table(table, folder / "rows.parquet")
    del table
    share = min(0.1, _JUDGES / num_users)
    preparation.run(
        preparation.Config(
            "parquet",
            str(folder / "data"),
            str(folder / "rows.parquet"),
            seed=seed,
            validation_share=share,
            test_share=share,
        )
    )


def train(folder: pathlib.Path, *, seed: int) -> children.Child:
    """Trains a little, and adds a tree in which families changed seats."""
    child = children.run(
        "experiments.train",
        "--method=jtm_h",
        f"--data_dir={folder / 'data'}",
        f"--out_dir={folder / 'run'}",
        "--joint_iterations=1",
        "--epochs_per_iteration=1",
        "--samples_per_epoch=2560",
        f"--seed={seed}",
    )
    run = run_folder.RunFolder(folder / "run")
    tree = tree_lib.Tree.load(run.tree(0))
    family = tree_lib.parent(tree.pi, tree.branching)
    # Odd families and the even ones beside them, leaf for leaf; where a leaf
    # is free on one side, all stay.
    swap = tree.branching * (1 - 2 * ((family - tree.first_leaf) & 1))
    pi = np.where(tree.pi, tree.pi + swap, 0)
    taken = np.bincount(tree.pi, minlength=tree.num_codes) > 0
    pi = np.where(taken[np.minimum(pi, tree.num_codes - 1)], pi, tree.pi)
    tree.replace_pi(pi).save(run.tree(1))
    return child


@program.entry
def main() -> None:
    results = {
        f"{int(items):,} items": measure(int(items), seed=_SEED.value)
        for items in _ITEMS.value
    }
    if _JSON.value:
        print(json.dumps(results))
        return
    for items, found in results.items():
        for name, value in found.items():
            print(f"{items:<18} {name:<12} {value}")


if __name__ == "__main__":
    main()
