"""Times training steps: does a step grow with the corpus, is it fast?

    python -m benchmarks.training [--json] [--quick]

corpus_growth: time per scored (user, node) pair of a step at 4,000,000 items
    over one at 65,000 items, same batch; at most 1.3.
keras_adam_growth: the same with Keras's Adam at 4,000,000 items.
plain_speedup: time of a step of the plain network over ours, at 65,000 items;
    at least 2. The plain network pools every place of the history, padding
    masked, and takes [user; node], 264 wide, for every pair.
beam_over_sampling: time of a step under the beam (loss=beam and its defaults)
    over one with sampled negatives (loss=softmax and its default), as many
    targets, at 65,000 items; beam_narrow_over_sampling with --train_beam=20.
*_processor: the same in processor time, which other programs disturb less.
"""

import itertools

import keras
import tensorflow as tf

from benchmarks import figures
from benchmarks import worlds
from experiments.search_cost import timing
from jtm_tf.learning import samples
from jtm_tf.learning import settings
from jtm_tf.models import scorers
from jtm_tf.models import user_representation
from jtm_tf.tree import ops as tree_ops
from jtm_tf.types import PAD

BATCH = 256
DEFAULT = settings.TrainingConfig()
NEGATIVES = 200  # what the paper draws for its 4 million items
SMALL, LARGE = 65_000, 4_000_000


@keras.saving.register_keras_serializable("jtm_tf_benchmarks")
class PlainUsers(user_representation.UserRepresentation):
    """The same representation, every place looked up, padding masked."""

    def call(self, leaves, *, embedding, tree, levels):
        pooled = []
        for level in levels:
            nodes = tree_ops.lift(leaves, level, tree)
            known = tf.cast(nodes != PAD, tf.float32)[..., None]
            vectors = embedding(nodes) * known  # [B, T, E]
            means = [
                tf.reduce_sum(v, 1) / tf.maximum(tf.reduce_sum(k, 1), 1.0)
                for v, k in zip(
                    tf.split(vectors, self.windows, 1),
                    tf.split(known, self.windows, 1),
                )
            ]
            pooled.append(tf.concat(means, 1))
        return pooled


@keras.saving.register_keras_serializable("jtm_tf_benchmarks")
class PlainScorer(scorers.NodeScorer):
    """The same network on [user; node; products] for every pair."""

    def of_users(self, users):
        return users

    def score(self, of_users, nodes, pairs=None):
        users = of_users
        batch, width = tf.shape(nodes)[0], tf.shape(nodes)[1]
        windows = users[:, : self.products * self.node_dim]
        windows = tf.reshape(windows, [-1, self.products, self.node_dim])
        alike = tf.matmul(nodes, windows, transpose_b=True)
        x = tf.concat([tf.repeat(users[:, None], width, 1), nodes, alike], 2)
        x = tf.reshape(x, [batch * width, x.shape[2]])
        kernel = tf.concat(
            [self.user_kernel, self.node_kernel, self.product_kernel], 0
        )
        kernels = [kernel, *self.kernels]
        for kernel, bias in zip(kernels, self.biases):
            x = tf.nn.bias_add(tf.matmul(x, kernel), bias)
            if kernel.shape[1] > 1:
                x = tf.nn.leaky_relu(x, scorers.SLOPE)
        return tf.reshape(x, [batch, width])


def plain_model(tree):
    """Returns the model with its layers written the plain way."""
    model = worlds.random_model(tree)
    plain = PlainScorer.from_config(model.scorer.get_config())
    plain.build()
    model.scorer = plain
    model.user_representation = PlainUsers(model.windows)
    return model


def stepper(model, tree, negatives=NEGATIVES):
    """Returns a call that takes one step on the next of a few batches."""
    return _steps(
        samples.dataset, model, tree, negatives=negatives, batch_size=BATCH
    )


def beam_stepper(tree, train_beam=DEFAULT.train_beam):
    """Returns a call that takes one step under the beam, as many targets."""
    model = worlds.with_optimizer(
        worlds.random_model(tree, loss="beam", train_beam=train_beam)
    )
    return _steps(
        samples.beam_dataset,
        model,
        tree,
        strata=model.beam_loss.strata(DEFAULT.stratum),
        targets=DEFAULT.targets,
        horizon=DEFAULT.horizon,
        batch_size=BATCH // DEFAULT.targets,
    )


def _steps(dataset, model, tree, **options):
    """Returns a call that trains on the next of a few batches."""
    stream = dataset(
        worlds.random_examples(tree.num_items, 20 * BATCH),
        tree,
        max_history=model.max_history,
        **options,
    )
    batches = itertools.cycle(stream.take(8))
    step = tf.function(model.step)
    return lambda: step(next(batches)).numpy()


def pairs(tree):
    """Returns the pairs that a step scores."""
    counts = samples.negatives_per_level(NEGATIVES, tree)
    return BATCH * (sum(counts) + len(counts))


def run(quick: bool = False):
    """Returns the figures of the module's docstring."""
    rounds = 10 if quick else 30
    small, large = worlds.random_tree(SMALL), worlds.random_tree(LARGE)
    times, processor = timing.seconds(
        {
            "small": stepper(
                worlds.with_optimizer(worlds.random_model(small)), small
            ),
            "large": stepper(
                worlds.with_optimizer(worlds.random_model(large)), large
            ),
            "plain": stepper(worlds.with_optimizer(plain_model(small)), small),
        },
        rounds=rounds,
    )
    beam, beam_processor = timing.seconds(
        {
            "sampling": stepper(
                worlds.with_optimizer(worlds.random_model(small)),
                small,
                DEFAULT.negatives,
            ),
            "beam": beam_stepper(small),
            "beam_narrow": beam_stepper(small, train_beam=20),
        },
        rounds=rounds,
    )
    dense = worlds.with_optimizer(
        worlds.random_model(large), keras.optimizers.Adam
    )
    times |= timing.seconds({"keras": stepper(dense, large)}, rounds=1)[0]
    per_pair = times["small"] / pairs(small)
    return {
        "corpus_growth": round(times["large"] / pairs(large) / per_pair, 3),
        "keras_adam_growth": round(times["keras"] / pairs(large) / per_pair, 3),
        "corpus_growth_processor": round(
            processor["large"]
            / processor["small"]
            * pairs(small)
            / pairs(large),
            3,
        ),
        "plain_speedup_processor": round(
            processor["plain"] / processor["small"], 3
        ),
        "plain_speedup": round(times["plain"] / times["small"], 3),
        **{
            f"{name}_over_sampling{kind}": round(
                seconds[name] / seconds["sampling"], 3
            )
            for name in ("beam", "beam_narrow")
            for kind, seconds in (("", beam), ("_processor", beam_processor))
        },
        "batch": BATCH,
        "pairs_a_step": {"65k": pairs(small), "4m": pairs(large)},
        "milliseconds_a_step": {
            "65k": round(1e3 * times["small"], 1),
            "4m": round(1e3 * times["large"], 1),
            "4m_keras_adam": round(1e3 * times["keras"], 1),
            "65k_plain": round(1e3 * times["plain"], 1),
        },
    }


if __name__ == "__main__":
    figures.main(run, __doc__)
