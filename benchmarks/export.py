"""Measures what is exported: the signatures of SavedModels, loaded again.

    python -m benchmarks.export --json

Models are drawn at random, of the size that is trained by default, on a tree
of --items leaves, on one of --large_items and on a flat list; k = M = 200. What
is compared runs in turns in one process, and medians are compared.

roofline_batch32, roofline_batch1: operations that the scored nodes need, a
    second of `recommend`, over the rate of a [1024, 1024] float32 product in
    TensorFlow with the same threads. Only the network's own operations count,
    the user's part of the first layer once a level. At batch 1 as many users
    as of a batch come one by one: of a single call a third is what other work
    left of the caches.
own_products_batch32: the first over the rate of the network's own products
    alone, 24, 128, 64 and 32 wide: what is left to win.
scan_ratio: milliseconds a user of a linear scan of the same network over
    those of `recommend`.
growth_2_24_over_2_20: time of `recommend` on the large tree (24 levels) over
    the other (20 levels), batch 32.
filtered_ratio: time of `recommend_filtered` over `recommend`, batch 32: 100
    items excluded and one category of eight allowed.
filtered_few_ratio: the same with one category of 1,024 allowed.
pruned_scan_ratio, pruned_filtered_ratio, pruned_filtered_few_ratio: the same
    of the pruned search.
few_found: items that those allowed few get, of M = 200, the fewest.
pruned_over_exact_batch32, pruned_over_exact_batch1: time of `recommend` by a
    read-out, in the narrowest walk that is tried by default, over that of the
    exact search.
pairs_scored, pairs_exact: nodes that the network scores for a user in each.
load_seconds_10m, resident_gib_10m: loading the large one in a fresh process,
    and what that holds after answering both signatures; peak_gib_10m is the
    most that it ever held. The same with _float16: of half-precision tables.
float16_over_float32_batch32: time of `recommend` with such tables over that
    with the others, exactly searched.
"""

import dataclasses
import gc
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf
from absl import flags

from experiments.search_cost import timing
from export.artefact import saved_model
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.models import choices
from jtm_tf.models import frozen
from jtm_tf.models import readout
from jtm_tf.models import tree_model
from jtm_tf.search import read_out
from jtm_tf.tree import tree as tree_lib

_ITEMS = flags.DEFINE_integer(
    "items", 1_000_000, "Items of the tree and of the list.", lower_bound=400
)
_LARGE_ITEMS = flags.DEFINE_integer(
    "large_items", 10_000_000, "Items of the large tree.", lower_bound=400
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 20, "Times that everything is measured.", lower_bound=1
)
_BATCH = flags.DEFINE_integer(
    "batch", 32, "Users of a large batch.", lower_bound=1
)
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object on stdout.")

_CONFIG = saved_model.SearchConfig(beam_width=200, num_results=200)
_HISTORY = sum(choices.WINDOWS)
_EXCLUDED = 100
_CATEGORIES = 1024  # in eight coarse ones
# Of the items, about the shares that they allow.
_ALLOWED = {"an eighth": "c3", "one in a thousand": "c3|f390"}

# Loads a SavedModel and answers, with nothing of this project imported.
_STRANGER = """
import json, resource, sys, time
import tensorflow as tf

def gib(field):
    with open("/proc/self/status") as lines:
        kib = next(x.split()[1] for x in lines if x.startswith(field))
    return int(kib) / 2**20

before = gib("VmRSS")
began = time.perf_counter()
signatures = tf.saved_model.load(sys.argv[1]).signatures
loaded = time.perf_counter() - began
batch, history = int(sys.argv[2]), int(sys.argv[3])
users = tf.fill([batch, history], tf.constant(int(sys.argv[4]), tf.int64))
signatures["recommend"](history=users)["item_ids"].numpy()
answered = time.perf_counter() - began
signatures["recommend_filtered"](
    history=users, exclude=users, allow_categories=tf.fill([batch, 1], "")
)["item_ids"].numpy()
print(json.dumps({
    "load_seconds_10m": round(loaded, 2),
    "first_answer_seconds_10m": round(answered, 2),
    "resident_gib_10m": round(gib("VmRSS"), 3),
    "peak_gib_10m": round(gib("VmHWM"), 3),
    "tensorflow_gib": round(before, 3),
}))
"""


def raw_ids(items: np.ndarray) -> np.ndarray:
    """Maps items to ids as scattered as those of a shop, [...] int64."""
    return items.astype(np.int64) * 2_654_435_761 % (1 << 40)  # one to one


def data_on(tree: tree_lib.Tree) -> interactions.Interactions:
    """Returns items without interactions; categories are ranges of leaves."""
    place = (tree.pi[1:].astype(np.int64) - tree.first_leaf) * _CATEGORIES
    fine = pa.array((place // tree.num_leaves).astype(np.int32))
    paths = pa.array(
        [f"c{8 * i // _CATEGORIES}|f{i}" for i in range(_CATEGORIES)]
    )
    category = pa.DictionaryArray.from_arrays(fine, paths)
    items = np.arange(1, tree.num_items + 1, dtype=np.int32)
    return interactions.Interactions(
        user=np.zeros(0, np.int32),
        item=np.zeros(0, np.int32),
        timestamp=np.zeros(0, np.int64),
        items=pa.table(
            {"item": items, "raw_id": raw_ids(items), "category": category}
        ),
        users=pa.table({"user": [], "raw_id": [], "split": []}),
        manifest={},
    )


def export(
    folder: pathlib.Path,
    items: int,
    *,
    flat: bool = False,
    width: float | None = None,
    tables: str = "float32",
) -> tuple[float, int]:
    """Exports a model drawn at random.

    Args:
        folder: of the SavedModel.
        items: of the tree.
        flat: whether it is a mere list.
        width: of the walk by a read-out; None for the exact search.
        tables: dtype of the nodes' vectors.

    Returns:
        The network's operations for a user, and the nodes that it scores.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(items) + 1
    branching = items if flat else 2
    tree = tree_lib.Tree.from_order(order, branching=branching)
    keras.utils.set_random_seed(0)
    weight = 0.0 if flat else 0.5
    model = tree_model.TreeModel(2, 1, path_weight=weight)
    # The table is drawn apart: Keras would take three times its memory.
    shape = tree.num_codes, model.embedding_dim
    table = rng.standard_normal(shape, np.float32)
    table *= 0.1
    large = frozen.FrozenModel(model, (tree, table), tables)
    del table
    if width is not None:
        large.readout = readout.Readout(
            tree.max_level,
            model.embedding_dim,
            model.scorer.products,
            width=width,
        )
        large.readout.build()
        kernel = large.readout.kernel
        kernel.assign(rng.standard_normal(kernel.shape))
        large.theta.append(kernel.value)
    config = dataclasses.replace(_CONFIG, tables=tables)
    served = saved_model.ServedModel(large, data_on(tree), config=config)
    served.save(folder)
    per_user, per_pair = timing.scorer_operations(
        model.scorer.user_dim, model.embedding_dim, model.hidden
    )
    widths = [
        min(branching**level, _CONFIG.beam_width * branching)
        for level in range(1, tree.max_level + 1)
    ]
    if width is not None:
        widths = widths[-1:]
    pairs = sum(widths)
    return len(widths) * per_user + pairs * per_pair, pairs


def own_products(rows: int, hidden=(128, 64, 32), dim: int = 24):
    """Returns a call of a beam step's products, and its operations."""
    widths = (dim, *hidden, 1)
    x = tf.random.stateless_normal([rows, dim], [0, 0])
    kernels = [
        tf.random.stateless_normal(shape, [0, 0]) * 0.1
        for shape in zip(widths, widths[1:])
    ]

    @tf.function
    def products(x):
        for kernel in kernels:
            x = tf.matmul(x, kernel)
        return x

    operations = rows * timing.scorer_operations(0, dim, hidden)[1]
    return lambda: products(x).numpy(), operations


class Caller:
    """Calls signatures of a SavedModel with users drawn at random.

    Args:
        folder: of the SavedModel.
        items: of its vocabulary.
    """

    def __init__(self, folder: pathlib.Path, items: int):
        self._loaded = tf.saved_model.load(str(folder))
        self._items = items
        self._rng = np.random.default_rng(0)

    def __call__(self, signature: str, batch: int, allow: str = "an eighth"):
        """Returns a call without arguments that waits for its answer.

        `allow` is of `_ALLOWED`, and for recommend_filtered.
        """
        rng = self._rng

        def draw(width):
            drawn = rng.integers(1, self._items + 1, (batch, width))
            return tf.constant(raw_ids(drawn))

        inputs = {"history": draw(_HISTORY)}
        if signature == "recommend_filtered":
            inputs["exclude"] = draw(_EXCLUDED)
            inputs["allow_categories"] = tf.constant(
                [[_ALLOWED[allow]]] * batch
            )
        function = self._loaded.signatures[signature]
        return lambda: function(**inputs)["item_ids"].numpy()

    def one_by_one(self, users: int):
        """Returns a call that recommends for so many users, each alone."""
        calls = [self("recommend", 1) for _ in range(users)]
        return lambda: [call() for call in calls]


def load_elsewhere(folder: pathlib.Path, batch: int) -> dict[str, Any]:
    """Loads and asks a SavedModel in a process of its own."""
    some_id = raw_ids(np.array(1))
    arguments = map(str, (folder, batch, _HISTORY, some_id))
    done = subprocess.run(
        [sys.executable, "-c", _STRANGER, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"The loading process failed: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(
    *, items: int, large_items: int, rounds: int, batch: int
) -> dict[str, Any]:
    """Returns the figures of the module's docstring."""
    with tempfile.TemporaryDirectory() as temporary:
        tree, large, flat, pruned, half = (
            pathlib.Path(temporary) / name
            for name in ("tree", "large", "flat", "pruned", "half")
        )
        loading = {}
        for tables in ("float16", "float32"):
            export(large, large_items, tables=tables)
            gc.collect()  # models and their graphs are cycles
            name = "10m" if tables == "float32" else f"10m_{tables}"
            for key, value in load_elsewhere(large, batch).items():
                loading[key.replace("10m", name)] = value
            if tables == "float16":
                shutil.rmtree(large)
        operations, exact_pairs = export(tree, items)
        _, pairs = export(pruned, items, width=read_out.WIDTHS[0])
        export(half, items, tables="float16")
        export(flat, items, flat=True)
        gc.collect()
        call, scan = Caller(tree, items), Caller(flat, items)
        sooner = Caller(pruned, items)
        product = timing.MatrixProduct()
        width = 2 * _CONFIG.beam_width
        products, products_operations = own_products(batch * width)
        calls = {
            "product": product,
            "products": products,
            "batch": call("recommend", batch),
            "batch1": call.one_by_one(batch),
            "filtered": call("recommend_filtered", batch),
            "pruned": sooner("recommend", batch),
            "pruned1": sooner.one_by_one(batch),
            "pruned_filtered": sooner("recommend_filtered", batch),
            "few": call("recommend_filtered", batch, "one in a thousand"),
            "pruned_few": sooner(
                "recommend_filtered", batch, "one in a thousand"
            ),
            "half": Caller(half, items)("recommend", batch),
            "large": Caller(large, large_items)("recommend", batch),
        }
        found = calls["pruned_few"]()
        times, processor = timing.seconds(calls, rounds=rounds)
        # A scan takes seconds: a few will do, the search beside them again.
        slow = {
            "scan": scan("recommend", batch),
            "batch": calls["batch"],
            "pruned": calls["pruned"],
        }
        scans, _ = timing.seconds(slow, rounds=min(rounds, 3))
    rate = product.operations / times["product"]
    needed = batch * operations
    return {
        "roofline_batch32": round(needed / times["batch"] / rate, 3),
        "roofline_batch1": round(needed / times["batch1"] / rate, 3),
        "own_products_batch32": round(
            needed / times["batch"] * times["products"] / products_operations,
            3,
        ),
        "roofline_batch32_processor": round(
            needed
            / product.operations
            * processor["product"]
            / processor["batch"],
            3,
        ),
        "scan_ratio": round(scans["scan"] / scans["batch"], 1),
        "growth_2_24_over_2_20": round(times["large"] / times["batch"], 3),
        "pruned_over_exact_batch32": round(times["pruned"] / times["batch"], 3),
        "pruned_over_exact_batch1": round(
            times["pruned1"] / times["batch1"], 3
        ),
        "float16_over_float32_batch32": round(
            times["half"] / times["batch"], 3
        ),
        "pruned_scan_ratio": round(scans["scan"] / scans["pruned"], 1),
        "pruned_filtered_ratio": round(
            times["pruned_filtered"] / times["pruned"], 3
        ),
        "filtered_few_ratio": round(times["few"] / times["batch"], 3),
        "pruned_filtered_few_ratio": round(
            times["pruned_few"] / times["pruned"], 3
        ),
        "few_found": int(np.min(np.sum(found > 0, axis=1))),
        "pairs_scored": pairs,
        "pairs_exact": exact_pairs,
        "filtered_ratio": round(times["filtered"] / times["batch"], 3),
        **loading,
        "items": items,
        "large_items": large_items,
        "batch": batch,
        "gflops_product_1024": round(rate / 1e9, 1),
        "milliseconds": {
            name: round(1e3 * seconds, 2)
            for name, seconds in {**scans, **times}.items()
        },
        "machine": timing.machine(),
    }


@program.entry
def main() -> None:
    tf.get_logger().setLevel("WARNING")
    result = measure(
        items=_ITEMS.value,
        large_items=_LARGE_ITEMS.value,
        rounds=_ROUNDS.value,
        batch=_BATCH.value,
    )
    if _JSON.value:
        print(json.dumps(result))
    else:
        width = max(map(len, result))
        for name, value in result.items():
            print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
