"""Trains one method of the paper's Table 1, from prepared data to metrics.

    python -m experiments.train --method=jtm --data_dir=DATA --out_dir=RUN

Killed at any moment and started again with the same command, it goes on
where it was and ends with the same metrics. RUN/metrics.json has a record for
each iteration and, at the end, the test metrics of the best one; the best
model with its tree is RUN/best.keras; the learning curves are shown by
`tensorboard --logdir=RUN`.
"""

import json
import pathlib
import sys

import tensorflow as tf
from absl import flags
from absl import logging

from experiments import program
from jtm_tf import assignment
from jtm_tf import counting
from jtm_tf import joint
from jtm_tf import settings
from jtm_tf import training
from jtm_tf import tree_learning
from jtm_tf.data import interactions
from jtm_tf.models import scorers
from jtm_tf.models import tree_model

_DEFAULT = settings.JointConfig()

_METHOD = flags.DEFINE_enum(
    "method",
    None,
    [*counting.METHODS, *settings.METHODS],
    "Row of Table 1. jtm: tree learning and hierarchical representation; "
    "jtm_h: representation only; jtm_j: tree learning only; tdm: neither; "
    "dnn: all items scored, no tree; hsm: branch probabilities; youtube_dnn: "
    "inner product; tdm_cluster: hierarchical, trees by clustering. Without "
    "training: item_cf; popular, the best-sellers; repeat, a user's own items, "
    "then best-sellers.",
    required=True,
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "What experiments.prepare wrote.", required=True
)
_OUT_DIR = flags.DEFINE_string(
    "out_dir",
    None,
    "The run folder; a run of the same settings is continued, any other is "
    "refused.",
    required=True,
)
_SEED = flags.DEFINE_integer(
    "seed", _DEFAULT.seed, "Of initial tree, weights and samples."
)
_JOINT_ITERATIONS = flags.DEFINE_integer(
    "joint_iterations",
    _DEFAULT.joint_iterations,
    "Rounds of Algorithm 1: a model step, then a tree step (none after the "
    "last). Methods that leave the tree alone train as many epochs.",
    lower_bound=1,
)
_EPOCHS = flags.DEFINE_integer(
    "epochs_per_iteration",
    _DEFAULT.epochs_per_iteration,
    "Epochs of a model step.",
    lower_bound=1,
)
_TREE_STEPS = flags.DEFINE_integer(
    "tree_steps",
    _DEFAULT.tree_steps,
    "Tree steps at most; later iterations only train. More steps follow the "
    "training samples more closely, and generalise less.",
    lower_bound=0,
)
_BRANCHING = flags.DEFINE_integer(
    "branching", _DEFAULT.branching, "Children of a node.", lower_bound=2
)
_INITIAL_TREE = flags.DEFINE_enum(
    "initial_tree",
    _DEFAULT.initial_tree,
    settings.INITIAL_TREES,
    "How the first tree seats the items: sorted by category path, or at "
    "random (for data without categories).",
)
_CATEGORY_PARTS = flags.DEFINE_integer(
    "category_parts",
    _DEFAULT.category_parts,
    "Parts of a category path, from the coarsest, to make use of; all if not "
    "given.",
    lower_bound=1,
)
_EMBEDDING_DIM = flags.DEFINE_integer(
    "embedding_dim", _DEFAULT.embedding_dim, "Embedding size.", lower_bound=1
)
_WINDOWS = flags.DEFINE_list(
    "windows",
    [str(n) for n in _DEFAULT.windows],
    "Lengths of the history's time windows, oldest first; the model sees "
    "their sum of behaviours.",
)
_HIDDEN = flags.DEFINE_list(
    "hidden",
    [str(n) for n in _DEFAULT.hidden],
    "Widths of the scorer's hidden layers.",
)
_LOSS = flags.DEFINE_enum(
    "loss",
    _DEFAULT.loss,
    tree_model.LOSSES,
    "softmax: a positive against the negatives of its level; bce: each node "
    "on its own.",
)
_SCORER = flags.DEFINE_enum(
    "scorer",
    _DEFAULT.scorer,
    scorers.SCORERS,
    "mlp: as in the paper's experiments; attention: behaviours weighed by the "
    "scored node (DIN), slow; product: inner product.",
)
_VISITS = flags.DEFINE_enum(
    "visits",
    _DEFAULT.visits,
    settings.WHETHER,
    "Whether the scorer sees how often the history went through the node. "
    "auto: where users do repeat items.",
)
_PROFILE = flags.DEFINE_list(
    "profile", list(_DEFAULT.profile), "Profile columns to learn from."
)
_PATH_WEIGHT = flags.DEFINE_float(
    "path_weight",
    _DEFAULT.path_weight,
    "How much a node's rank in the search leans on its ancestors' scores; 0 "
    "is the paper's search.",
    lower_bound=0.0,
    upper_bound=1.0,
)
_NEGATIVES = flags.DEFINE_list(
    "negatives",
    [str(_DEFAULT.training.negatives)],
    "Negatives of a sample: one total, spread in proportion to the level, or "
    "a number for each level from the top.",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    _DEFAULT.training.batch_size,
    "Samples of a training step.",
    lower_bound=1,
)
_SAMPLES_PER_EPOCH = flags.DEFINE_integer(
    "samples_per_epoch",
    _DEFAULT.training.samples_per_epoch,
    "An epoch is that many random samples; all if not given.",
    lower_bound=1,
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate",
    _DEFAULT.training.learning_rate,
    "Of Adam.",
    lower_bound=0.0,
)
_ROW_RATE = flags.DEFINE_float(
    "row_rate",
    _DEFAULT.training.row_rate,
    "Learning rate of embeddings, as a multiple of --learning_rate.",
    lower_bound=0.0,
)
_GAP = flags.DEFINE_integer(
    "gap",
    _DEFAULT.tree_learning.gap,
    "d of Algorithm 2: levels decided at once.",
    lower_bound=1,
)
_SLACK = flags.DEFINE_float(
    "slack",
    _DEFAULT.tree_learning.slack,
    "Seats of a node over its fair share of the items; 1 keeps the tree "
    "balanced, inf leaves only the paper's capacity.",
    lower_bound=1.0,
)
_KIN_STRENGTH = flags.DEFINE_float(
    "kin_strength",
    _DEFAULT.tree_learning.kin_strength,
    "Pseudo-samples of its category that steady an item's weights.",
    lower_bound=0.0,
)
_MARGIN = flags.DEFINE_float(
    "margin",
    _DEFAULT.tree_learning.margin,
    "Nats a sample must gain before its item moves.",
    lower_bound=0.0,
)
_SOLVER = flags.DEFINE_enum(
    "solver",
    _DEFAULT.tree_learning.solver,
    tree_learning.SOLVERS,
    "How items are assigned to nodes. greedy: the paper's rebalancing; "
    "priced: the same after the nodes are priced by demand, near the "
    "optimum; exact: for small trees.",
)
_SCORE_LEAVES = flags.DEFINE_bool(
    "score_leaves",
    _DEFAULT.tree_learning.score_leaves,
    "Whether the tree learner scores the leaf level too; it says little "
    "where embeddings move with their items.",
)
_LAZY = flags.DEFINE_bool(
    "lazy",
    _DEFAULT.tree_learning.lazy,
    "Whether items of the old tree keep their seats first.",
)
_ORDER = flags.DEFINE_enum(
    "order",
    _DEFAULT.tree_learning.order,
    assignment.ORDERS,
    "Which items keep their seats in a node that is too full.",
)
_MAX_SAMPLES = flags.DEFINE_integer(
    "max_samples_per_item",
    _DEFAULT.tree_learning.max_samples_per_item,
    "Samples of an item that the tree learner scores; all if not given.",
    lower_bound=1,
)
_CARRY = flags.DEFINE_bool(
    "carry_embeddings",
    _DEFAULT.carry_embeddings,
    "Whether a leaf's vector moves with its item when the tree changes.",
)
_RENEW_INNER = flags.DEFINE_enum(
    "renew_inner",
    _DEFAULT.renew_inner,
    settings.WHETHER,
    "Whether inner nodes start anew from the mean of their items' vectors when "
    "the tree changes; auto: after clustering only.",
)
_COLD_START = flags.DEFINE_bool(
    "cold_start",
    _DEFAULT.cold_start,
    "Whether the model is drawn anew after each tree step.",
)
_CROSS_FIT = flags.DEFINE_bool(
    "cross_fit",
    _DEFAULT.cross_fit,
    "Whether the tree learner weighs samples of users that the model did not "
    "train on in its round.",
)
_NUM_RESULTS = flags.DEFINE_integer(
    "num_results", _DEFAULT.num_results, "M of the metrics.", lower_bound=1
)
_BEAM_WIDTH = flags.DEFINE_integer(
    "beam_width",
    _DEFAULT.beam_width,
    "Nodes that the search keeps on each level.",
    lower_bound=1,
)
_CUTS = flags.DEFINE_list(
    "cuts",
    [f"{m}:{k}" for m, k in _DEFAULT.cuts],
    "Further cuts of the test metrics, num_results:beam_width.",
)
_MEASURE_LOSS = flags.DEFINE_bool(
    "measure_loss",
    joint.RunOptions().measure_loss,
    "Note Eq. 2 after each model step and each tree step, on samples of "
    "training and of validation users.",
)
_CHECKPOINT_SECONDS = flags.DEFINE_float(
    "checkpoint_seconds",
    joint.RunOptions().checkpoint_seconds,
    "Time between checkpoints inside an epoch.",
    lower_bound=0.0,
)


def _cuts() -> tuple[tuple[int, ...], ...]:
    return tuple(
        program.integers("cuts", cut.split(":"), count=2)
        for cut in _CUTS.value
    )


def _config() -> settings.JointConfig:
    """Builds the frozen configuration from the flags."""
    negatives = program.integers("negatives", _NEGATIVES.value)
    return settings.JointConfig(
        method=_METHOD.value,
        seed=_SEED.value,
        joint_iterations=_JOINT_ITERATIONS.value,
        epochs_per_iteration=_EPOCHS.value,
        tree_steps=_TREE_STEPS.value,
        branching=_BRANCHING.value,
        initial_tree=_INITIAL_TREE.value,
        category_parts=_CATEGORY_PARTS.value,
        embedding_dim=_EMBEDDING_DIM.value,
        windows=program.integers("windows", _WINDOWS.value),
        hidden=program.integers("hidden", _HIDDEN.value),
        loss=_LOSS.value,
        scorer=_SCORER.value,
        visits=_VISITS.value,
        profile=tuple(_PROFILE.value),
        path_weight=_PATH_WEIGHT.value,
        renew_inner=_RENEW_INNER.value,
        cold_start=_COLD_START.value,
        cross_fit=_CROSS_FIT.value,
        carry_embeddings=_CARRY.value,
        num_results=_NUM_RESULTS.value,
        beam_width=_BEAM_WIDTH.value,
        cuts=_cuts(),
        training=training.TrainingConfig(
            batch_size=_BATCH_SIZE.value,
            learning_rate=_LEARNING_RATE.value,
            row_rate=_ROW_RATE.value,
            samples_per_epoch=_SAMPLES_PER_EPOCH.value,
            negatives=negatives[0] if len(negatives) == 1 else negatives,
        ),
        tree_learning=tree_learning.TreeLearningConfig(
            gap=_GAP.value,
            slack=_SLACK.value,
            kin_strength=_KIN_STRENGTH.value,
            margin=_MARGIN.value,
            solver=_SOLVER.value,
            lazy=_LAZY.value,
            order=_ORDER.value,
            score_leaves=_SCORE_LEAVES.value,
            max_samples_per_item=_MAX_SAMPLES.value,
            seed=_SEED.value,
        ),
    )


def main(argv: list[str]) -> None:
    program.no_arguments(argv)
    logging.set_verbosity(logging.INFO)
    data = interactions.load(_DATA_DIR.value)
    data_dir = str(pathlib.Path(_DATA_DIR.value).resolve())
    if _METHOD.value in counting.METHODS:
        metrics = counting.run(
            counting.CountingConfig(
                method=_METHOD.value,
                seed=_SEED.value,
                num_results=_NUM_RESULTS.value,
                cuts=_cuts(),
            ),
            data,
            _OUT_DIR.value,
            data_dir=data_dir,
        )
    else:
        # The same sums in the same order, so that a resumed run ends equal.
        tf.config.experimental.enable_op_determinism()
        metrics = joint.run(
            _config(),
            data,
            _OUT_DIR.value,
            joint.RunOptions(
                data_dir=data_dir,
                checkpoint_seconds=_CHECKPOINT_SECONDS.value,
                measure_loss=_MEASURE_LOSS.value,
                progress=sys.stderr.isatty(),
            ),
        )
    print(json.dumps(metrics["test"]))


if __name__ == "__main__":
    program.run(main)
