"""Runs what one machine does of a job of 10^8 items, at its true size.

    python -m benchmarks.pieces [--items=100000000] [--folder=..] [--parts=..]

Each part runs in a process of its own, with drawn numbers in the place of a
trained model's; prints seconds and the most memory that each held, pages of
files that it mapped among it, as JSON last. Wants 20 GiB of memory and 40 GB of
disk at the default size.

prepare: raw Parquet files of ten rows a user, every item once, to a prepared
    folder.
decide: the block of Algorithm 2 next to the root, which all items are in, once
    the weights are there.
weigh: a piece of work of the tree step as a pool's worker does it: the edge
    weights, four levels, of a million items with a sample each. The vectors
    lie in a file of the true size, whose pages are zeros.
place: a hundredth of the items as new ones on free leaves, by category.
freeze: tables of float16 for a server, from vectors in a file.
"""

import json
import os
import pathlib
import sys
import tempfile
import time

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import flags

from benchmarks import children
from benchmarks import worlds
from experiments.rehearsal import local
from experiments.search_cost import timing
from jtm_tf import categories
from jtm_tf import files
from jtm_tf.command_line import program
from jtm_tf.data.preparing import preparation
from jtm_tf.learning import pooled_weights
from jtm_tf.models import frozen
from jtm_tf.models import saving
from jtm_tf.pools import serial
from jtm_tf.tree import edge_weights
from jtm_tf.tree import learning as tree_learning
from jtm_tf.tree import placement
from jtm_tf.tree import tree as tree_lib

_PARTS = ("prepare", "decide", "weigh", "place", "freeze")
_ITEMS = flags.DEFINE_integer(
    "items", 100_000_000, "Of the corpus.", lower_bound=1000
)
_FOLDER = flags.DEFINE_string(
    "folder", None, "Where there is disk; the system's for temporary files."
)
_WHICH = flags.DEFINE_list("parts", [*_PARTS], "Which parts, in this order.")
_STEP = flags.DEFINE_enum(
    "step", None, ["ready", "run"], "For the processes that this one starts."
)
_ROWS_A_USER, _FILES, _CATEGORY, _BLOCK = 10, 16, 1000, 1 << 20
_DIM, _GAP, _NEW = 24, 4, 0.01


@program.entry
def main() -> None:
    wrong = sorted(set(_WHICH.value) - set(_PARTS))
    if wrong:
        raise ValueError(
            f"--parts takes {', '.join(_PARTS)}; got {', '.join(wrong)}."
        )
    if _STEP.value is not None:
        if _FOLDER.value is None:
            raise ValueError("--step is of the program itself: see --parts.")
        return _take(_WHICH.value[0])
    os.environ.update(local.environment(1))
    found = {}
    for part in _WHICH.value:
        with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
            for step in ("ready", "run"):
                done = children.run(
                    "benchmarks.pieces",
                    f"--items={_ITEMS.value}",
                    f"--folder={folder}",
                    f"--parts={part}",
                    f"--step={step}",
                )
        told = json.loads(done.stdout.splitlines()[-1])
        found[part] = {**told, "peak_gib": round(done.peak_gib, 2)}
        print(f"{part}: {found[part]}", file=sys.stderr, flush=True)
    print(
        json.dumps(
            {"items": _ITEMS.value, **found, "machine": timing.machine()}
        )
    )


def _take(part):
    """Makes a part ready, or runs it and prints what it took."""
    items, folder = _ITEMS.value, pathlib.Path(_FOLDER.value)
    ready, run = {
        "prepare": (_raw_files, _prepare),
        "decide": (_nothing, _decide),
        "weigh": (_samples, _weigh),
        "place": (_nothing, _place),
        "freeze": (_open_model, _freeze),
    }[part]
    if _STEP.value == "ready":
        ready(items, folder)
        return
    began = time.monotonic()
    told = run(items, folder)
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"seconds": seconds, **told}))


def _nothing(items, folder):
    """Makes nothing ready."""
    del items, folder


def _raw_files(items, folder):
    """Writes the log, a file after the other."""
    raw = folder / "raw"
    raw.mkdir()
    users = items // _ROWS_A_USER
    for number, some in enumerate(np.array_split(np.arange(users), _FILES)):
        # A user takes items of one category, each of which is somebody's.
        start = some[0] * _ROWS_A_USER
        taken = np.arange(start, start + len(some) * _ROWS_A_USER)
        pq.write_table(
            pa.table(
                {
                    "user": np.repeat(some, _ROWS_A_USER),
                    "item": taken,
                    "category": (taken // _CATEGORY).astype(np.int32),
                    "timestamp": np.tile(np.arange(_ROWS_A_USER), len(some)),
                }
            ),
            raw / f"part-{number}.parquet",
        )


def _prepare(items, folder):
    """Prepares the log."""
    del items
    config = preparation.Config(
        dataset="parquet",
        input=str(folder / "raw"),
        data_dir=str(folder / "data"),
    )
    manifest, _ = preparation.run(config, pool=serial.Pool())
    counts = manifest["counts"]
    return {"rows": counts["rows_kept"], "items": counts["items"]}


class _Drawn(edge_weights.Weights):
    """Edge weights that nobody summed."""

    def _sums(self, items, nodes, level, gap, progress):
        del nodes, level, progress
        rng = np.random.default_rng(0)
        return rng.random((len(items), 2**gap), np.float32)


def _decide(items, folder):
    """Decides one block."""
    del folder
    tree = _tree(items)
    config = tree_learning.TreeLearningConfig(
        gap=_GAP, cluster_below=items // 2 + 1
    )
    ones = np.ones(items, np.int32)
    weigh = _Drawn(tree, ones, ones, score_leaves=True, informative=False)
    result = tree_learning.solve(tree, weigh, config)
    return {"levels": result.level, "moved_items": int(result.moved_items)}


def _tree(items):
    """Returns a tree of items in their order."""
    return tree_lib.Tree.from_order(np.arange(1, items + 1, dtype=np.int32))


def _open_model(items, folder):
    """Writes a model as `saving.unpack` does, but for the vectors' numbers."""
    tree = _tree(items)
    small = worlds.random_model(worlds.random_tree(1000), direct=True)
    saving.unpack(small, folder / "model")
    path = folder / "model" / "config.json"
    config = files.read_json(path)
    config["config"] |= {"num_items": items, "max_level": tree.max_level}
    files.write_json(path, config)
    with h5py.File(folder / "model" / "model.weights.h5", "a") as weights:
        del weights["embedding/vars/0"], weights["vars/0"]
        weights["vars/0"] = tree.pi
        # Pages that are never written are zeros, and take no disk.
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        h5py.h5d.create(
            weights["embedding/vars"].id,
            b"0",
            h5py.h5t.IEEE_F32LE,
            h5py.h5s.create_simple((tree.num_codes, _DIM)),
            layout,
        )


def _samples(items, folder):
    """Writes a model, and samples with the nodes that are asked for."""
    _open_model(items, folder)
    count = min(items, _BLOCK)
    rng = np.random.default_rng(0)
    width = worlds.random_model(worlds.random_tree(1000)).max_history
    users = count // _ROWS_A_USER
    targets = np.arange(1, count + 1, dtype=np.int32)
    pooled_weights.write_samples(
        folder / "samples.parquet",
        targets,
        rng.integers(1, items + 1, (users, width), np.int32),
        (targets - 1) * users // count,
    )
    tree = _tree(items)
    nodes = tree.ancestors(_level(tree) - _GAP)[targets]
    np.savez(
        folder / "asked.npz",
        items=targets - 1,
        nodes=nodes,
        level=_level(tree),
    )


def _level(tree):
    """Returns the level that is asked for."""
    return min(tree.max_level, 12)


def _weigh(items, folder):
    """Does a worker's piece of work."""
    del items
    asked = np.load(folder / "asked.npz")
    config = tree_learning.TreeLearningConfig(gap=_GAP)
    weights, pairs = pooled_weights.Weigher(config)(
        pooled_weights.Piece(
            str(folder / "samples.parquet"),
            str(folder / "model"),
            0,
            len(asked["items"]),
            asked["items"],
            asked["nodes"],
            int(asked["level"]),
            _GAP,
        )
    )
    assert np.isfinite(weights).all()
    return {"samples": len(weights), "pairs": pairs}


def _place(items, folder):
    """Places new items."""
    del folder
    new = int(_NEW * items)
    tree = _tree(items - new)
    of = np.arange(items, dtype=np.int32) // _CATEGORY
    names = pa.array([f"c{x}" for x in range(int(of.max()) + 1)])
    paths = pa.DictionaryArray.from_arrays(pa.array(of), names)
    # New ones are like items of any category.
    known, fresh = paths[: items - new], paths[: 100 * new : 100]
    placed = placement.add(
        tree, new, kin=categories.nearest_kin(known, fresh), gap=_GAP
    )
    return {"new": new, "items": placed.num_items}


def _freeze(items, folder):
    """Makes a server's tables."""
    del items
    model = saving.load_unpacked(folder / "model")
    laid_out = frozen.FrozenModel(model, dtype="float16")
    tables = (laid_out.embedding.inner, laid_out.embedding.items)
    held = sum(2 * int(table.shape.num_elements()) for table in tables)
    return {"tables_gib": round(held / 2**30, 2)}


if __name__ == "__main__":
    main()
