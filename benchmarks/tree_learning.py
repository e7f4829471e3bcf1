"""Times Algorithm 2: 100,000 items, 500,000 samples, the paper's gap of 7.

    python -m benchmarks.tree_learning [--json] [--quick]

scoring_share: share of the time that is spent inside the model; at least 0.8.
roofline: operations that the scored pairs need, a second of scoring, over the
    rate of a [1024, 1024] product in TensorFlow, taken between the samples'
    batches.
"""

import time

import numpy as np

from benchmarks import figures
from benchmarks import worlds
from experiments.search_cost import timing
from jtm_tf.models import log_prob as log_prob_lib
from jtm_tf.tree import learning as tree_learning

ITEMS, SAMPLES = 100_000, 500_000
# Samples scored: all would take minutes; the share hardly depends on it.
PER_ITEM = 2


def run(quick: bool = False):
    """Returns the figures of the module's docstring."""
    items, count = (10_000, 30_000) if quick else (ITEMS, SAMPLES)
    tree = worlds.random_tree(items)
    model = worlds.random_model(tree)
    examples = worlds.random_examples(items, count)
    product, products = timing.MatrixProduct(), []
    product()
    log_prob, rows = log_prob_lib.LogProb(model), {}

    def counted(history, levels):
        for level in levels:
            rows[level] = rows.get(level, 0) + len(history)
        return log_prob.describe(history, levels)

    def sample_product(done, total):
        del done, total
        begin = time.perf_counter()
        product()
        products.append(time.perf_counter() - begin)

    result = tree_learning.learn(
        tree,
        examples.target_items(),
        lambda chosen: examples.histories(chosen, model.max_history),
        log_prob,
        tree_learning.TreeLearningConfig(
            max_samples_per_item=None if quick else PER_ITEM
        ),
        describe=counted,
        progress=sample_product,
    )
    seconds = result.seconds - sum(products)
    per_user, per_pair = timing.scorer_operations(
        model.scorer.user_dim, model.embedding_dim, model.hidden
    )
    operations = result.scored_pairs * per_pair + sum(rows.values()) * per_user
    scoring = operations / result.seconds_scoring
    rate = product.operations / np.median(products)
    return {
        "scoring_share": round(result.seconds_scoring / seconds, 3),
        "roofline": round(scoring / rate, 3),
        "items": items,
        "samples": len(examples),
        "scored_pairs": result.scored_pairs,
        "seconds": round(seconds, 2),
        "seconds_scoring": round(result.seconds_scoring, 2),
        "million_pairs_per_second": round(
            result.scored_pairs / result.seconds_scoring / 1e6, 2
        ),
        "gflops": {
            "product_1024": round(rate / 1e9, 1),
            "scoring": round(scoring / 1e9, 1),
        },
    }


if __name__ == "__main__":
    figures.main(run, __doc__)
