"""Times the beam search over 1,000,000 leaves against the matrix product.

    python -m benchmarks.retrieval [--json] [--quick]

roofline_batch32, roofline_batch1: operations that the scored nodes need, a
    second of search, over the rate of a [1024, 1024] product in TensorFlow,
    float32, with the same threads and in turns with the search. k = M = 200.
roofline_batch32_processor: the same in processor time, which other programs
    on the machine disturb less.
own_products_batch32: the first over the rate of the search's own products
    alone, [32 * 400, 24] x [24, 128] and so on: what is left to win by doing
    nothing but products.
"""

import numpy as np
import tensorflow as tf

from benchmarks import figures
from benchmarks import worlds
from experiments.search_cost import timing
from jtm_tf.search import retrieval

ITEMS, BEAM, BATCH = 1_000_000, 200, 32


def operations(tree, model, batch):
    """Returns the operations that the nodes of a search need."""
    per_user, per_pair = timing.scorer_operations(
        model.scorer.user_dim, model.embedding_dim, model.hidden
    )
    total = 0
    width = 0
    for level in range(tree.max_level + 1):
        occupied = len(tree.occupied(level))
        if not width and occupied <= BEAM and level < tree.max_level:
            continue  # nothing is pruned above the first level
        width = min(width, BEAM) * tree.branching if width else occupied
        total += batch * (per_user + width * per_pair)
    return total


def own_products(model):
    """Returns a call with the products of a beam step, and its operations."""
    rows, width = BATCH * BEAM * 2, model.embedding_dim
    x = tf.random.stateless_normal([rows, width], [0, 0])
    kernels = [model.scorer.node_kernel, *model.scorer.kernels]
    kernels = [tf.constant(kernel.numpy()) for kernel in kernels]

    @tf.function
    def products(x):
        for kernel in kernels:
            x = tf.matmul(x, kernel)
        return x

    _, per_pair = timing.scorer_operations(0, width, model.hidden)
    return lambda: products(x).numpy(), rows * per_pair


def run(quick: bool = False):
    """Returns the figures of the module's docstring."""
    tree = worlds.random_tree(ITEMS // 10 if quick else ITEMS)
    model = worlds.random_model(tree)
    search = retrieval.TreeRetriever(
        model.score,
        tree,
        beam_width=BEAM,
        num_results=BEAM,
        user_width=model.user_width,
    )
    rng = np.random.default_rng(0)
    history = tf.constant(
        rng.integers(1, tree.num_items + 1, (BATCH, model.max_history)),
        tf.int32,
    )
    product = timing.MatrixProduct()
    products, products_operations = own_products(model)
    times, processor = timing.seconds(
        {
            "product": product,
            "batch32": lambda: search.recommend(history)[0].numpy(),
            "batch1": lambda: search.recommend(history[:1])[0].numpy(),
            "products": products,
        },
        rounds=10 if quick else 30,
    )
    rate = product.operations / times["product"]
    rate32 = operations(tree, model, BATCH) / times["batch32"]
    rate1 = operations(tree, model, 1) / times["batch1"]
    own = products_operations / times["products"]
    needed = operations(tree, model, BATCH) / product.operations
    return {
        "roofline_batch32": round(rate32 / rate, 3),
        "roofline_batch1": round(rate1 / rate, 3),
        "roofline_batch32_processor": round(
            needed * processor["product"] / processor["batch32"], 3
        ),
        "own_products_batch32": round(rate32 / own, 3),
        "items": tree.num_items,
        "beam_width": BEAM,
        "gflops": {
            "product_1024": round(rate / 1e9, 1),
            "own_products": round(own / 1e9, 1),
            "batch32": round(rate32 / 1e9, 1),
            "batch1": round(rate1 / 1e9, 1),
        },
        "milliseconds": {
            "batch32": round(1e3 * times["batch32"], 2),
            "batch1": round(1e3 * times["batch1"], 2),
        },
        "users_per_second_batch32": round(BATCH / times["batch32"], 1),
    }


if __name__ == "__main__":
    figures.main(run, __doc__)
