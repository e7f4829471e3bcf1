"""The flags of `experiments.train`, by what they are for.

A flag that decides the outcome has the name of its setting, see
`settings.from_flat`; the others are named here in capitals.
"""

from absl import flags

from jtm_tf.baselines import run as baselines_run
from jtm_tf.command_line import flag_groups
from jtm_tf.command_line import program
from jtm_tf.learning import settings
from jtm_tf.models import choices
from jtm_tf.tree import assignment
from jtm_tf.tree import learning as tree_learning

_DEFAULT = settings.JointConfig()

with flag_groups.group("The run"):
    METHOD = flags.DEFINE_enum(
        "method",
        None,
        [*baselines_run.METHODS, *settings.METHODS],
        "Row of Table 1. jtm: tree learning and hierarchical representation; "
        "jtm_h: representation only; jtm_j: tree learning only; tdm: neither; "
        "dnn: all items scored, no tree; hsm: branch probabilities; "
        "youtube_dnn: inner product; tdm_cluster: hierarchical, trees by "
        "clustering. Without training: item_cf; popular, the best-sellers; "
        "repeat, a user's own items, then best-sellers.",
        required=True,
    )
    DATA_DIR = flags.DEFINE_string(
        "data_dir", None, "What experiments.prepare wrote.", required=True
    )
    OUT_DIR = flags.DEFINE_string(
        "out_dir",
        None,
        "The run folder; a run of the same settings is continued, any other is "
        "refused.",
        required=True,
    )
    SEED = flags.DEFINE_integer(
        "seed", _DEFAULT.seed, "Of initial tree, weights and samples."
    )
    CHECKPOINT_SECONDS = flags.DEFINE_float(
        "checkpoint_seconds",
        settings.RunOptions().checkpoint_seconds,
        "Time between checkpoints inside an epoch.",
        lower_bound=0.0,
    )
    MEASURE_LOSS = flags.DEFINE_bool(
        "measure_loss",
        settings.RunOptions().measure_loss,
        "Note Eq. 2 after each model step and each tree step, on samples of "
        "training and of validation users.",
    )

with flag_groups.group("How long to learn"):
    flags.DEFINE_integer(
        "joint_iterations",
        _DEFAULT.joint_iterations,
        "Rounds of Algorithm 1: a model step, then a tree step (none after the "
        "last). Methods that leave the tree alone train as many epochs.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "tree_steps",
        _DEFAULT.tree_steps,
        "Tree steps at most; later iterations only train. More steps follow "
        "the training samples more closely, and generalise less.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "epochs_per_iteration",
        _DEFAULT.epochs_per_iteration,
        "Epochs of a model step.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "samples_per_epoch",
        _DEFAULT.training.samples_per_epoch,
        "An epoch is that many random samples; all if not given.",
        lower_bound=1,
    )

with flag_groups.group("The first tree"):
    flags.DEFINE_integer(
        "branching", _DEFAULT.branching, "Children of a node.", lower_bound=2
    )
    flags.DEFINE_enum(
        "initial_tree",
        _DEFAULT.initial_tree,
        settings.INITIAL_TREES,
        "How the first tree seats the items: sorted by category path, or at "
        "random (for data without categories).",
    )
    flags.DEFINE_integer(
        "category_parts",
        _DEFAULT.category_parts,
        "Parts of a category path, from the coarsest, to make use of; all if "
        "not given.",
        lower_bound=1,
    )

with flag_groups.group("The model"):
    flags.DEFINE_enum(
        "scorer",
        _DEFAULT.scorer,
        choices.SCORERS,
        "mlp: as in the paper's experiments; attention: behaviours weighed by "
        "the scored node (DIN), slow; product: inner product.",
    )
    flags.DEFINE_integer(
        "embedding_dim",
        _DEFAULT.embedding_dim,
        "Embedding size.",
        lower_bound=1,
    )
    flags.DEFINE_list(
        "windows",
        [str(n) for n in _DEFAULT.windows],
        "Lengths of the history's time windows, oldest first; the model sees "
        "their sum of behaviours.",
    )
    flags.DEFINE_list(
        "hidden",
        [str(n) for n in _DEFAULT.hidden],
        "Widths of the scorer's hidden layers.",
    )
    flags.DEFINE_enum(
        "visits",
        _DEFAULT.visits,
        settings.WHETHER,
        "Whether the scorer sees how often the history went through the node. "
        "auto: where users do repeat items.",
    )
    flags.DEFINE_list(
        "profile", list(_DEFAULT.profile), "Profile columns to learn from."
    )

with flag_groups.group("The model step"):
    flags.DEFINE_enum(
        "loss",
        _DEFAULT.loss,
        choices.LOSSES,
        "softmax: a positive against the negatives of its level; bce: each "
        "node on its own.",
    )
    flags.DEFINE_list(
        "negatives",
        [str(_DEFAULT.training.negatives)],
        "Negatives of a sample: one total, spread in proportion to the level, "
        "or a number for each level from the top.",
    )
    flags.DEFINE_integer(
        "batch_size",
        _DEFAULT.training.batch_size,
        "Samples of a training step.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "learning_rate",
        _DEFAULT.training.learning_rate,
        "Of Adam.",
        lower_bound=0.0,
    )
    flags.DEFINE_float(
        "row_rate",
        _DEFAULT.training.row_rate,
        "Learning rate of embeddings, as a multiple of --learning_rate.",
        lower_bound=0.0,
    )

with flag_groups.group("The tree step (Algorithm 2)"):
    flags.DEFINE_integer(
        "gap",
        _DEFAULT.tree_learning.gap,
        "d of Algorithm 2: levels decided at once.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "slack",
        _DEFAULT.tree_learning.slack,
        "Seats of a node over its fair share of the items; 1 keeps the tree "
        "balanced, inf leaves only the paper's capacity.",
        lower_bound=1.0,
    )
    flags.DEFINE_float(
        "kin_strength",
        _DEFAULT.tree_learning.kin_strength,
        "Pseudo-samples of its category that steady an item's weights.",
        lower_bound=0.0,
    )
    flags.DEFINE_float(
        "margin",
        _DEFAULT.tree_learning.margin,
        "Nats a sample must gain before its item moves.",
        lower_bound=0.0,
    )
    flags.DEFINE_enum(
        "solver",
        _DEFAULT.tree_learning.solver,
        tree_learning.SOLVERS,
        "How items are assigned to nodes. greedy: the paper's rebalancing; "
        "priced: the same after the nodes are priced by demand, near the "
        "optimum; exact: for small trees.",
    )
    flags.DEFINE_enum(
        "order",
        _DEFAULT.tree_learning.order,
        assignment.ORDERS,
        "Which items keep their seats in a node that is too full.",
    )
    flags.DEFINE_bool(
        "lazy",
        _DEFAULT.tree_learning.lazy,
        "Whether items of the old tree keep their seats first.",
    )
    flags.DEFINE_bool(
        "score_leaves",
        _DEFAULT.tree_learning.score_leaves,
        "Whether the tree learner scores the leaf level too; it says little "
        "where embeddings move with their items.",
    )
    flags.DEFINE_integer(
        "max_samples_per_item",
        _DEFAULT.tree_learning.max_samples_per_item,
        "Samples of an item that the tree learner scores; all if not given.",
        lower_bound=1,
    )
    flags.DEFINE_bool(
        "cross_fit",
        _DEFAULT.cross_fit,
        "Whether the tree learner weighs samples of users that the model did "
        "not train on in its round.",
    )
    flags.DEFINE_bool(
        "carry_embeddings",
        _DEFAULT.carry_embeddings,
        "Whether a leaf's vector moves with its item when the tree changes.",
    )
    flags.DEFINE_enum(
        "renew_inner",
        _DEFAULT.renew_inner,
        settings.WHETHER,
        "Whether inner nodes start anew from the mean of their items' vectors "
        "when the tree changes; auto: after clustering only.",
    )
    flags.DEFINE_bool(
        "cold_start",
        _DEFAULT.cold_start,
        "Whether the model is drawn anew after each tree step.",
    )

with flag_groups.group("Search and metrics"):
    NUM_RESULTS = flags.DEFINE_integer(
        "num_results", _DEFAULT.num_results, "M of the metrics.", lower_bound=1
    )
    flags.DEFINE_integer(
        "beam_width",
        _DEFAULT.beam_width,
        "Nodes that the search keeps on each level.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "path_weight",
        _DEFAULT.path_weight,
        "How much a node's rank in the search leans on its ancestors' scores; "
        "0 is the paper's search.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    flags.DEFINE_list(
        "cuts",
        [f"{m}:{k}" for m, k in _DEFAULT.cuts],
        "Further cuts of the test metrics, num_results:beam_width.",
    )


def cuts() -> tuple[tuple[int, ...], ...]:
    """Returns the pairs of --cuts."""
    return tuple(
        program.integers("cuts", cut.split(":"), count=2)
        for cut in flags.FLAGS.cuts
    )


def config() -> settings.JointConfig:
    """Builds the frozen configuration from the flags."""
    names = [name for name in settings.names() if name in flags.FLAGS]
    values = {name: flags.FLAGS[name].value for name in names}
    for name in ("windows", "hidden", "negatives"):
        values[name] = program.integers(name, values[name])
    if len(values["negatives"]) == 1:
        values["negatives"] = values["negatives"][0]
    values["profile"] = tuple(values["profile"])
    return settings.from_flat(**values | {"cuts": cuts()})
