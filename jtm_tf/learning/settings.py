"""The settings of a run: the method, a row of Table 1, and all its numbers.

All methods share data, network parts, training and evaluation; what tells
them apart are the few facts of `Method`.
"""

import dataclasses
import difflib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from jtm_tf.models import choices
from jtm_tf.tree import learning as tree_learning_lib

INITIAL_TREES = ("category", "random")
WHETHER = ("auto", "yes", "no")

# Share of the samples whose item the user had before, from which on `visits`
# are worth their time.
REPEATS = 0.05


@dataclasses.dataclass(frozen=True)
class Method:
    """What makes a row of Table 1.

    Attributes:
        title: the paper's name.
        hierarchical: describe users in nodes of the scored level (Sec. 2.3),
            rather than in leaves on every level.
        learner: how pi is learned between model steps: "joint" by Algorithm
            2, "cluster" by TDM's clustering, or not at all.
        flat: the tree is a root with all items below it: no index, every
            item is scored.
        siblings: a node competes with its siblings only, and a path has the
            product of its branch probabilities.
        scorer: the only scorer that makes sense, None for any.
    """

    title: str
    hierarchical: bool = False
    learner: str = "none"
    flat: bool = False
    siblings: bool = False
    scorer: str | None = None


METHODS = {  # In the order of Table 1; the last is Figure 2's rival.
    "youtube_dnn": Method("YouTube product-DNN", flat=True, scorer="product"),
    "hsm": Method("HSM", siblings=True),
    "tdm": Method("TDM"),
    "dnn": Method("DNN", flat=True),
    "jtm_j": Method("JTM-J", learner="joint"),
    "jtm_h": Method("JTM-H", hierarchical=True),
    "jtm": Method("JTM", hierarchical=True, learner="joint"),
    "tdm_cluster": Method("Clustering", hierarchical=True, learner="cluster"),
}


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How theta is trained.

    Attributes:
        batch_size: B, samples a step.
        learning_rate: of Adam.
        row_rate: learning rate of the node table's rows, as a multiple of
            `learning_rate`.
        negatives: n_l, a total over all levels or one number a level.
        samples_per_epoch: an epoch is that many samples, drawn anew for
            each; None for all of them.
    """

    batch_size: int = 256
    learning_rate: float = 1e-3
    row_rate: float = 5.0
    negatives: int | tuple[int, ...] = 100
    samples_per_epoch: int | None = None

    def __post_init__(self):
        for name in (
            "batch_size",
            "learning_rate",
            "row_rate",
            "samples_per_epoch",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive; got {value}.")


@dataclasses.dataclass(frozen=True)
class JointConfig:
    """Everything that decides the outcome of a run, beside the data.

    Attributes:
        method: row of Table 1, a key of `METHODS`.
        seed: of initial tree, initial weights and samples.
        joint_iterations: rounds of Algorithm 1. A method that leaves the
            tree alone trains as many epochs and is judged as often.
        epochs_per_iteration: epochs of a model step.
        tree_steps: tree steps at most; later rounds only train. A tree is
            best learned early, by a model that has not memorised its samples.
        branching: b.
        initial_tree: how pi_0 seats the items, one of `INITIAL_TREES`.
        category_parts: how many parts of a category path, from the coarsest,
            the initial tree and the tree learner know of; None for all.
        embedding_dim: E.
        windows: lengths of the history's time windows; T is their sum.
        hidden: widths of the scorer's hidden layers.
        loss: one of `choices.LOSSES`.
        scorer: one of `choices.SCORERS`, unless the method has its own.
        visits: whether the scorer sees how often the history went through a
            node: "yes", "no", or "auto": where users do repeat items, in more
            than `REPEATS` of the training samples.
        profile: profile columns that describe a user beside the history.
        path_weight: how much a node's rank leans on its ancestors'.
        carry_embeddings: whether a leaf's vector moves with its item.
        renew_inner: whether inner nodes start anew, from the mean of their
            items' vectors, when the tree changes: "yes", "no", or "auto":
            after clustering only, where a code no longer means what it did.
        cold_start: whether theta is drawn anew after a tree step.
        cross_fit: whether the tree step weighs samples of users that the
            round's model step left out: one half of them, the halves in turn.
        num_results: M of the metrics.
        beam_width: k of the metrics.
        cuts: further (M, k) that the test users are judged at.
        training: how theta is trained.
        tree_learning: how pi is learned.
    """

    method: str = "jtm"
    seed: int = 0
    joint_iterations: int = 6
    epochs_per_iteration: int = 1
    tree_steps: int = 3
    branching: int = 2
    initial_tree: str = "category"
    category_parts: int | None = None
    embedding_dim: int = 24
    windows: tuple[int, ...] = choices.WINDOWS
    hidden: tuple[int, ...] = (128, 64, 32)
    loss: str = "softmax"
    scorer: str = "mlp"
    visits: str = "auto"
    profile: tuple[str, ...] = ()
    path_weight: float = 0.5
    carry_embeddings: bool = True
    renew_inner: str = "auto"
    cold_start: bool = False
    cross_fit: bool = False
    num_results: int = 200
    beam_width: int = 400
    cuts: tuple[tuple[int, int], ...] = ((20, 40), (20, 20))
    training: TrainingConfig = TrainingConfig()
    tree_learning: tree_learning_lib.TreeLearningConfig = (
        tree_learning_lib.TreeLearningConfig(
            kin_strength=5.0, score_leaves=False
        )
    )

    def __post_init__(self):
        for name, allowed in (
            ("method", METHODS),
            ("initial_tree", INITIAL_TREES),
            ("loss", choices.LOSSES),
            ("scorer", choices.SCORERS),
            ("visits", WHETHER),
            ("renew_inner", WHETHER),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(
                    f"{name} must be one of {sorted(allowed)}; got {value!r}."
                )
        if min(self.joint_iterations, self.epochs_per_iteration) < 1:
            raise ValueError(
                "joint_iterations and epochs_per_iteration must be >= 1; got "
                f"{self.joint_iterations} and {self.epochs_per_iteration}."
            )
        if self.tree_steps < 0:
            raise ValueError(f"tree_steps must be >= 0; got {self.tree_steps}.")
        if self.category_parts is not None and self.category_parts < 1:
            raise ValueError(
                f"category_parts must be >= 1; got {self.category_parts}."
            )
        if not 0 <= self.path_weight <= 1:
            raise ValueError(
                f"path_weight must be in [0, 1]; got {self.path_weight}."
            )

    @property
    def traits(self) -> Method:
        """What the method's name stands for."""
        return METHODS[self.method]

    @property
    def all_cuts(self) -> tuple[tuple[int, int], ...]:
        """Every (M, k) that the test users are judged at, the first first."""
        return ((self.num_results, self.beam_width), *self.cuts)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What a run does beside its outcome: no result depends on it.

    Attributes:
        data_dir: where the data came from, noted for `experiments.evaluate`.
        checkpoint_seconds: time between checkpoints inside an epoch.
        progress: whether to draw progress bars.
        measure_loss: whether each record says, as `half_steps`, what Eq. 2
            is after the model step and after the tree step, on the same
            training samples and the same samples of validation users.
        on_record: called with the record of each iteration as it ends, and
            first with those that a continued run has already.
    """

    data_dir: str | None = None
    checkpoint_seconds: float = 120.0
    progress: bool = False
    measure_loss: bool = False
    on_record: Callable[[dict[str, Any]], None] = lambda record: None


_PARTS = {
    "training": TrainingConfig,
    "tree_learning": tree_learning_lib.TreeLearningConfig,
}


def names() -> list[str]:
    """Returns the names that `from_flat` takes."""
    own = [field.name for field in dataclasses.fields(JointConfig)]
    parts = [
        field.name
        for part in _PARTS.values()
        for field in dataclasses.fields(part)
    ]
    return list(dict.fromkeys(n for n in own + parts if n not in _PARTS))


def from_flat(**values: Any) -> JointConfig:
    """Returns settings whose parts are not told apart.

    Args:
        **values: by the names of `JointConfig`, `TrainingConfig` and
            `tree.learning.TreeLearningConfig`: the flags of
            `experiments.train`. What is missing has its default; `seed` is
            that of all parts.

    Raises:
        ValueError: an unknown name, or a value out of range.
    """
    for name in values:
        if name not in names():
            close = difflib.get_close_matches(name, names(), 3, 0.5)
            raise ValueError(
                f"There is no setting {name!r}; "
                + (
                    f"did you mean {' or '.join(close)}?"
                    if close
                    else f"expected one of {names()}."
                )
            )
    default = JointConfig()
    parts = {name: _replaced(getattr(default, name), values) for name in _PARTS}
    return _replaced(default, values | parts)


def from_json(values: Mapping[str, Any]) -> JointConfig:
    """Returns the settings that a run's config.json holds.

    The run may be of another version: a setting that it does not know has its
    default here, one that is no more is passed over.

    Args:
        values: `JointConfig` as JSON has it, its parts apart.

    Raises:
        ValueError: a value is not allowed any more.
    """
    default = JointConfig()
    parts = {
        name: _replaced(getattr(default, name), values.get(name, {}))
        for name in _PARTS
    }
    return _replaced(default, {**values, **parts})


def _replaced(settings, values):
    """Returns settings with those of the values that they know of."""
    known = {field.name for field in dataclasses.fields(settings)}
    picked = {n: _tuples(v) for n, v in values.items() if n in known}
    return dataclasses.replace(settings, **picked)


def _tuples(value):
    """Returns a value with its lists as tuples, as settings have them."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
