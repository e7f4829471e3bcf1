"""SASRec: causal self-attention over a user's last items.

Kang & McAuley, "Self-Attentive Sequential Recommendation" (ICDM 2018), with
the loss that became usual after it: a softmax of the target among many items
drawn evenly. An item's vector describes it in histories and scores it as a
target.

A history is padded on the right: attention looks back only, so that nothing
ever sees the padding.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from jtm_tf import ragged
from jtm_tf.baselines import rules
from jtm_tf.baselines import scan
from jtm_tf.data import splits
from jtm_tf.models import numerics
from jtm_tf.types import PAD


@dataclasses.dataclass(frozen=True)
class SASRecConfig:
    """The network and how it is trained.

    Attributes:
        targets: a position predicts one of the next so many items, drawn
            anew each time; 1 is the paper's.
        dim: size of its vectors.
        blocks: blocks of attention, one after the other.
        heads: heads of each block.
        dropout: share of inputs left out in training.
        max_history: newest items that are looked at.
        negatives: items drawn for all positions of a batch.
        batch_size: windows of up to `max_history` items a step.
        learning_rate: learning rate of Adam.
        rounds: passes over the training users, at most.
        patience: rounds without a better validation recall before the end.
        seed: of weights, order, targets and negatives.
    """

    targets: int = 5
    dim: int = 64
    blocks: int = 2
    heads: int = 1
    dropout: float = 0.5
    max_history: int = 69
    negatives: int = 1024
    batch_size: int = 64
    learning_rate: float = 1e-3
    rounds: int = 200
    patience: int = 5
    seed: int = 0

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, int) and name != "seed" and value < 1:
                raise ValueError(f"{name} must be >= 1; got {value}.")
        if self.dim % self.heads:
            raise ValueError(
                f"dim must be a multiple of heads; got {self.dim} and "
                f"{self.heads}."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1); got {self.dropout}.")
        if not 0 < self.learning_rate < np.inf:
            raise ValueError(
                f"learning_rate must be finite, > 0; got {self.learning_rate}."
            )


# What is tried by default; the best on validation users is taken.
GRID = {"targets": (1, 5)}


class Block(numerics.Layer):
    """Attention to what came before, then two dense layers a position."""

    def __init__(self, config: SASRecConfig):
        super().__init__()
        self.before = keras.layers.LayerNormalization(dtype=numerics.FLOAT32)
        self.attention = keras.layers.MultiHeadAttention(
            config.heads,
            config.dim // config.heads,
            dropout=config.dropout,
            dtype=numerics.FLOAT32,
        )
        self.after = keras.layers.LayerNormalization(dtype=numerics.FLOAT32)
        self.inner = keras.layers.Dense(
            config.dim, activation="relu", dtype=numerics.FLOAT32
        )
        self.outer = keras.layers.Dense(config.dim, dtype=numerics.FLOAT32)
        self.dropout = keras.layers.Dropout(
            config.dropout, dtype=numerics.FLOAT32
        )

    def call(self, states, training=None):
        """Maps [B, T, E] to [B, T, E]."""
        query = self.before(states)
        states = query + self.attention(
            query, states, use_causal_mask=True, training=training
        )
        states = self.after(states)
        inner = self.dropout(self.inner(states), training=training)
        return states + self.dropout(self.outer(inner), training=training)


class Network(numerics.Model):
    """Describes a user by [B, T] items, at every position."""

    def __init__(self, num_items: int, config: SASRecConfig):
        super().__init__()
        self.config = config
        small = keras.initializers.RandomNormal(stddev=0.02)
        self.items = keras.layers.Embedding(
            num_items + 1,
            config.dim,
            embeddings_initializer=small,
            dtype=numerics.FLOAT32,
        )
        self.places = keras.layers.Embedding(
            config.max_history,
            config.dim,
            embeddings_initializer=small,
            dtype=numerics.FLOAT32,
        )
        self.dropout = keras.layers.Dropout(
            config.dropout, dtype=numerics.FLOAT32
        )
        self.blocks = [Block(config) for _ in range(config.blocks)]
        self.norm = keras.layers.LayerNormalization(dtype=numerics.FLOAT32)

    def call(self, history, training=None):
        """Maps [B, T] int32 items, right-padded, to states [B, T, E].

        A state knows its own item and those before it.
        """
        scale = self.config.dim**0.5
        places = self.places(tf.range(tf.shape(history)[1]))
        states = self.items(history) * scale + places
        states = self.dropout(states, training=training)
        for block in self.blocks:
            states = block(states, training=training)
        return self.norm(states)

    @tf.function(
        input_signature=[tf.TensorSpec([None, None], tf.int32)],
        autograph=False,
    )
    def scores(self, history):
        """Maps [B, T] items to the scores of all, [B, N + 1] float32.

        Of whom nothing is known, all scores are 0.
        """
        lengths = tf.math.count_nonzero(history, axis=1, dtype=tf.int32)
        last = tf.maximum(lengths - 1, 0)
        state = tf.gather(self(history), last, axis=1, batch_dims=1)
        state *= tf.cast(lengths > 0, state.dtype)[:, None]
        return tf.matmul(state, self.items.embeddings, transpose_b=True)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Returns the mean of -log softmax of the targets.

        Each stands among the same items, drawn for the whole batch.

        Args:
            x: unused.
            y: [B, T] int32 targets, `PAD` where there is none.
            y_pred: [B, T, E] states.
            sample_weight: unused.
            training: unused.
        """
        del x, sample_weight, training
        there = tf.not_equal(y, PAD)
        targets = tf.cast(tf.boolean_mask(y, there), tf.int64)[:, None]
        table = tf.convert_to_tensor(self.items.embeddings)
        size = table.shape[0]
        count = min(self.config.negatives, size)
        losses = tf.nn.sampled_softmax_loss(
            table,
            tf.zeros(size),
            targets,
            tf.boolean_mask(y_pred, there),
            num_sampled=count,
            num_classes=size,
            sampled_values=tf.random.uniform_candidate_sampler(
                targets, 1, count, True, size, seed=self.config.seed
            ),
        )
        return tf.reduce_mean(losses)


@dataclasses.dataclass(frozen=True, eq=False)
class SASRec:
    """A trained network as a recommender.

    Attributes:
        network: of its best round.
        popular: best-sellers, for users of whom nothing is known.
    """

    network: Network
    popular: rules.Popular

    @classmethod
    def fit(
        cls,
        examples: splits.Examples,
        num_items: int,
        config: SASRecConfig,
        judge: Callable[["SASRec"], dict[str, Any]],
    ) -> tuple["SASRec", list[dict[str, Any]]]:
        """Trains until the validation recall rises no more.

        Args:
            examples: the training samples; `starts` tells users apart.
            num_items: N.
            config: see there.
            judge: returns what the validation users find of a round, with
                its `recall`.

        Returns:
            The best round's, and a record a round: `loss`, `validation` and
            `seconds_model`.

        Raises:
            ValueError: an item is not in 1..N, or no user has two.
        """
        keras.utils.set_random_seed(config.seed)
        network = Network(num_items, config)
        network.compile(
            keras.optimizers.Adam(config.learning_rate, beta_2=0.98)
        )
        model = cls(network, rules.Popular.fit(examples, num_items))
        records: list[dict[str, Any]] = []
        best, weights = -1, network.get_weights()
        while len(records) < min(config.rounds, best + 1 + config.patience):
            began = time.monotonic()
            stream = dataset(examples, config, number=len(records))
            history = network.fit(stream, shuffle=False, verbose=0).history
            seconds = time.monotonic() - began
            records.append(
                {
                    "loss": round(history["loss"][0], 6),
                    "validation": judge(model),
                    "seconds_model": round(seconds, 2),
                }
            )
            recalls = [record["validation"]["recall"] for record in records]
            if int(np.argmax(recalls)) != best:
                best, weights = len(recalls) - 1, network.get_weights()
        network.set_weights(weights)
        return model, records

    def recommend_users(
        self, users: splits.HeldOutUsers, num_results: int
    ) -> np.ndarray:
        """Returns each user's M items of largest score, [U, M] int32."""
        known = users.full_history
        ends = known.offsets[1:]
        width = self.network.config.max_history
        begins = np.maximum(known.offsets[:-1], ends - width)
        # One more: of nobody who is known at all there are no items.
        items = np.append(known.values, np.int32(PAD))

        def scores(rows):
            history, _ = _padded(items, begins[rows], ends[rows])
            return self.network.scores(history)

        return scan.recommend(scores, len(users), num_results, self.popular)


def dataset(
    examples: splits.Examples, config: SASRecConfig, *, number: int
) -> tf.data.Dataset:
    """Streams the training users' windows once, batches in random order.

    Args:
        examples: the training samples; `starts` tells users apart.
        config: see there.
        number: of the round; each draws order and targets anew.

    Returns:
        A dataset of ([B, T] int32 items, [B, T] int32 targets), T the longest
        of the batch.

    Raises:
        ValueError: no user has two items, so that there is no target.
    """
    firsts, at = np.unique(examples.starts, return_index=True)
    lasts = np.maximum.reduceat(examples.targets, at)
    if not np.any(lasts > firsts):
        raise ValueError("No training user has two items; check the splits.")
    generator = np.random.default_rng([config.seed, number])
    begins, ends, owner = _windows(firsts, lasts, config.max_history, generator)
    # Windows of about the same length go together: little is padding.
    length = np.log(ends - begins) + generator.normal(0, 0.2, len(begins))
    order = np.argsort(length)
    items = tf.constant(examples.items)

    def read(index, rows):
        begins, ends, lasts = rows
        history, at = _padded(items, begins, ends)
        # As many as there are, where a user's last item is nearer.
        choices = tf.minimum(lasts[:, None] - at, config.targets)
        draw = tf.random.stateless_uniform(
            tf.shape(at), [config.seed, number * len(order) + index]
        )
        ahead = tf.cast(draw * tf.cast(choices, draw.dtype), at.dtype)
        targets = tf.gather(items, tf.minimum(at + 1 + ahead, lasts[:, None]))
        return history, tf.where(history == PAD, PAD, targets)

    batches = tf.data.Dataset.from_tensor_slices(
        (begins[order], ends[order], lasts[owner][order])
    ).batch(config.batch_size)
    shuffled = batches.shuffle(
        batches.cardinality(), seed=generator.integers(1 << 31)
    )
    return shuffled.enumerate().map(read).prefetch(tf.data.AUTOTUNE)


def _windows(firsts, lasts, width, generator):
    """Cuts each user's items but the last into windows.

    Users of more than `width` get a first window of random length, so that no
    target always stands at a window's begin.

    Returns:
        [W] begins, ends and users of the windows.
    """
    lengths = lasts - firsts
    phase = generator.integers(0, width, len(lengths)) * (lengths > width)
    counts = -(-(lengths + phase) // width)
    owner = np.repeat(np.arange(len(lengths)), counts)
    nominal = (firsts - phase)[owner] + ragged.ranges(counts) * width
    begins = np.maximum(nominal, firsts[owner])
    return begins, np.minimum(nominal + width, lasts[owner]), owner


def _padded(items, begins, ends):
    """Returns items[begin:end] a row, right-padded, and where they stand.

    Returns:
        [B, T] int32 and [B, T] int64, T the longest of the rows, at least 1.
    """
    width = tf.maximum(tf.reduce_max(ends - begins), 1)
    at = begins[:, None] + tf.range(width)
    there = at < ends[:, None]
    return tf.where(there, tf.gather(items, tf.where(there, at, 0)), PAD), at
