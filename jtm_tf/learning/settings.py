"""The settings of a run: the method, a row of Table 1, and all its numbers.

All methods share data, network parts, training and evaluation; what tells
them apart are the few facts of `Method`.
"""

import dataclasses
import difflib
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from typing import Any

from jtm_tf.models import choices
from jtm_tf.tree import assignment
from jtm_tf.tree import learning as tree_learning_lib

WHETHER = ("auto", "yes", "no")

# Share of the samples whose item the user had before, from which on `visits`
# are worth their time.
REPEATS = 0.05


@dataclasses.dataclass(frozen=True)
class Method:
    """What makes a row of Table 1.

    Attributes:
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

    hierarchical: bool = False
    learner: str = "none"
    flat: bool = False
    siblings: bool = False
    scorer: str | None = None


METHODS = {  # In the order of Table 1; the last is Figure 2's rival.
    "youtube_dnn": Method(flat=True, scorer="product"),
    "hsm": Method(siblings=True),
    "tdm": Method(),
    "dnn": Method(flat=True),
    "jtm_j": Method(learner="joint"),
    "jtm_h": Method(hierarchical=True),
    "jtm": Method(hierarchical=True, learner="joint"),
    "tdm_cluster": Method(hierarchical=True, learner="cluster"),
}

# How the first tree may be made; a file that ends so holds one made before.
INITIAL_TREES = ("auto", "category", "random", "factors")
TREE_FILE = ".npz"

# The values of those settings that have few.
CHOICES: Mapping[str, Collection[str]] = {
    "method": METHODS,
    "initial_vectors": ("random", "factors"),
    "loss": choices.LOSSES,
    "scorer": choices.SCORERS,
    "spread": ("level", "nodes"),
    "visits": WHETHER,
    "search": ("auto", "exact", "pruned"),
    "renew_inner": (*WHETHER, "shift"),
    "clusters_first": WHETHER,
    "solver": tree_learning_lib.SOLVERS,
    "order": assignment.ORDERS,
    "weights": tree_learning_lib.WEIGHTS,
}

# What runs did before there were these settings: an older run is continued
# and read as one that asks for it.
BEFORE: Mapping[str, Any] = {
    "tree_tries": 0,
    "initial_vectors": "random",
    "factor_folds": 1,
    "final_rate": 1.0,
    "row_epsilon": 1e-7,
    "whole_history": 0,
    "direct": False,
    "train_beam": 40,
    "targets": 5,
    "horizon": None,
    "stratum": 50,
    "spread": "level",
    "weights": "likelihood",
    "histories_per_user": None,
    "search": "exact",
    "continue_from": None,
    "new_share": 0.5,  # only where it is known what is new
    "pseudo_targets": False,
    "rounds_anew": 0,
    "clusters_first": "no",
    "cluster_below": 0,
    "problem_weights": 2**27,  # which no run has come to
}

# What the paper does where the defaults do more: it trains from nothing, by
# sampled negatives, for the next item alone, and takes every tree that
# Algorithm 2 finds.
AS_PUBLISHED: Mapping[str, Any] = {
    "initial_tree": "category",
    "initial_vectors": "random",
    "factor_folds": 1,
    "direct": False,
    "whole_history": 0,
    "loss": "softmax",
    "row_rate": 5.0,
    "row_epsilon": 1e-7,
    "final_rate": 1.0,
    "tree_tries": 0,
    "clusters_first": "no",
    "cluster_below": 0,
    "path_weight": 0.5,
    "histories_per_user": None,
    "search": "exact",
}

_LEAST = {
    "joint_iterations": 1,
    "rounds_anew": 0,
    "epochs_per_iteration": 1,
    "tree_steps": 0,
    "tree_tries": 0,
    "branching": 2,
    "category_parts": 1,
    "embedding_dim": 1,
    "factor_folds": 1,
    "whole_history": 0,
    "num_results": 1,
    "beam_width": 1,
}


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How theta is trained.

    Attributes:
        batch_size: samples of a training step, B; with loss=beam, targets.
        learning_rate: of Adam.
        row_rate: learning rate of embeddings, as a multiple of
            `learning_rate`.
        row_epsilon: Adam's epsilon of embeddings: where all that a batch says
            of a node is smaller, its step is too.
        final_rate: learning rate at the end of the run, as a share of that at
            its beginning, from which it falls evenly; 1 for none of that.
        negatives: negatives of a sample: one total, or a number n_l for each
            level from the top. None are drawn with loss=beam.
        spread: how a total of negatives is spread. level: in proportion to the
            level; nodes: to the square root of a level's nodes, more on the
            lower levels.
        samples_per_epoch: an epoch is that many samples, drawn at random for
            each; all of them by default. With loss=beam, targets.
        train_beam: nodes kept on each level in training with loss=beam, k of
            its search.
        targets: items that follow one history, m, with loss=beam: it is
            described and searched once for all of them.
        horizon: among how many of the following items the targets are, 1 for
            the next alone; all that the user took later by default.
        pseudo_targets: whether, with loss=beam, a target counts only as far up
            as the model finds it: on its leaf, and on an ancestor whose best
            child leads to a target.
        stratum: nodes drawn on the last level, r, with loss=beam, for all
            that the beam does not meet there, half of them evenly, half as
            often as they are a target's; fewer above it, by the square root
            of a level's nodes.
    """

    batch_size: int = 256
    learning_rate: float = 1e-3
    row_rate: float = 1.0
    row_epsilon: float = 1e-3
    final_rate: float = 0.05
    negatives: int | tuple[int, ...] = 100
    spread: str = "level"
    samples_per_epoch: int | None = None
    train_beam: int = 40
    targets: int = 5
    horizon: int | None = None
    pseudo_targets: bool = False
    stratum: int = 50

    def __post_init__(self):
        for name in (field.name for field in dataclasses.fields(self)):
            if name in ("negatives", "spread", "pseudo_targets"):
                continue
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive; got {value}.")
        if self.spread not in CHOICES["spread"]:
            raise ValueError(
                f"spread must be one of {sorted(CHOICES['spread'])}; got "
                f"{self.spread!r}."
            )
        if self.final_rate > 1:
            raise ValueError(
                f"final_rate is a share, at most 1; got {self.final_rate}."
            )


@dataclasses.dataclass(frozen=True)
class JointConfig:
    """Everything that decides the outcome of a run, beside the data.

    Attributes:
        method: row of Table 1, a key of `METHODS`.
        seed: of initial tree, initial weights and samples.
        joint_iterations: rounds of Algorithm 1: a model step, then a tree
            step (none after the last). A method that leaves the tree alone
            trains as many epochs and is judged as often.
        rounds_anew: rounds after those, of a model that begins anew from the
            tree that was learned, as a run of jtm_h with that as initial_tree
            does: it has nothing to unlearn. Of methods that learn a tree, on
            one machine.
        epochs_per_iteration: epochs of a model step.
        tree_steps: tree steps at most; later rounds only train. A tree is
            best learned early, by a model that has not memorised its samples:
            more steps follow those more closely, and generalise less.
        tree_tries: how often a tree step is solved at most. Where Eq. 2 of
            the validation users' samples, with histories told in the new pi,
            is higher after it, it is not taken but solved anew with a larger
            margin, and after the last try the tree stays. 0 takes the first,
            whatever comes of it.
        clusters_first: whether a tree step begins, in place of from pi, from
            clusters of the items' vectors, as trained: those know of items
            with few samples what others tell. auto: from both, and whichever
            tree has the lower Eq. 2 is taken; needs tree_tries. Where
            carry_embeddings is off, from pi.
        continue_from: a finished run of the same shape on earlier data, whose
            tree and theta this one begins with: items are the same where their
            raw ids are, new ones are seated on free leaves. In place of
            initial_tree; a round or two is enough.
        new_share: with continue_from, the share, among the samples to learn
            from, of those that the earlier run was not trained on: all of
            these, and a replay of as many others as make up the rest, drawn
            once; more where the new ones are few. 0 for all samples alike.
        branching: children of a node, b.
        initial_tree: how the first tree seats the items. category: sorted by
            category path; factors: by clusters of what a factorisation makes
            of who took what; auto: by category where the data have any, else
            by factors; random: as a yardstick. Or a file, such as
            trees/iteration_003.npz of a run on the same data: that tree.
        initial_vectors: how the vectors of nodes start. random; factors: from
            the same factorisation, inner nodes from the mean of their items.
        factor_folds: parts of the training users, with initial_vectors=
            factors: while those of one part are trained on, the factors are
            those that the others made, so that the model learns what they
            tell of strangers. 1 for one factorisation of all.
        category_parts: parts of a category path, from the coarsest, that the
            first tree and the tree learner make use of; all by default.
        embedding_dim: embedding size, E.
        windows: lengths of the history's time windows, oldest first; the
            model sees their sum of behaviours, T, or whole_history if larger.
        whole_history: behaviours of one more window, that of the whole
            history; as many as those of all windows by default, 0 for none.
            Attention has none.
        hidden: widths of the scorer's hidden layers.
        loss: how Eq. 2 is read. softmax: a positive against the negatives of
            its level; bce: each node on its own; beam: a positive against
            what the search itself scores there, and some that stand for the
            rest; of HSM and methods without a tree it is the softmax.
        scorer: what scores nodes, unless the method has its own. mlp: as in
            the paper's experiments; attention: behaviours weighed by the
            scored node (DIN), slow; product: inner product.
        direct: whether the products of node and windows, which the mlp sees,
            also add to the score as they are.
        visits: whether the scorer sees how often the history went through the
            node. auto: where users do repeat items.
        profile: profile columns that describe a user beside the history.
        path_weight: how much a node's rank in the search leans on its
            ancestors' scores; 0 is the paper's search.
        search: how the trained model searches. exact: the scorer ranks every
            node that the search comes to, as in the paper and in training;
            pruned: inner products walk in its place, in a beam that widens,
            and it ranks the leaves they come to, see `models.readout`; auto:
            pruned where validation users lose no more by it than chance makes.
        carry_embeddings: whether a leaf's vector moves with its item when the
            tree changes.
        renew_inner: whether inner nodes start anew, from the mean of their
            items' vectors, when the tree changes, or, with shift, move by
            what that mean changes. auto: anew after clustering, where a code
            no longer means what it did; as shift where a step may be taken
            back, see tree_tries; else not at all.
        cold_start: whether the model is drawn anew after each tree step.
        cross_fit: whether the tree step weighs samples of users that the
            model step of the round left out: one half of them, the halves in
            turn.
        num_results: items returned, M of the metrics.
        beam_width: nodes that the search keeps on each level, k of the
            metrics.
        cuts: further cuts of the test metrics, num_results:beam_width.
        training: how theta is trained.
        tree_learning: how pi is learned.
    """

    method: str = "jtm"
    seed: int = 0
    joint_iterations: int = 6
    rounds_anew: int = 0
    epochs_per_iteration: int = 1
    tree_steps: int = 3
    tree_tries: int = 3
    clusters_first: str = "auto"
    continue_from: str | None = None
    new_share: float = 0.5
    branching: int = 2
    initial_tree: str = "auto"
    initial_vectors: str = "factors"
    factor_folds: int = 4
    category_parts: int | None = None
    embedding_dim: int = 24
    windows: tuple[int, ...] = choices.WINDOWS
    whole_history: int | None = None
    hidden: tuple[int, ...] = (128, 64, 32)
    loss: str = "beam"
    scorer: str = "mlp"
    direct: bool = True
    visits: str = "auto"
    profile: tuple[str, ...] = ()
    path_weight: float = 0.25
    search: str = "auto"
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
            kin_strength=5.0, score_leaves=False, cluster_below=20_000
        )
    )

    def __post_init__(self):
        for name in (field.name for field in dataclasses.fields(self)):
            value, allowed = getattr(self, name), CHOICES.get(name)
            if allowed is not None and value not in allowed:
                raise ValueError(
                    f"{name} must be one of {sorted(allowed)}; got {value!r}."
                )
        tree = self.initial_tree
        if tree not in INITIAL_TREES and not tree.endswith(TREE_FILE):
            raise ValueError(
                f"initial_tree must be one of {sorted(INITIAL_TREES)} or a "
                f"file *{TREE_FILE}; got {tree!r}."
            )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be >= {least}; got {value}.")
        if self.search == "pruned" and not self.may_prune:
            raise ValueError(
                "search=pruned is of a tree and scorer=mlp, no softmax among "
                f"siblings; method {self.method} has "
                f"scorer={self.traits.scorer or self.scorer}. Use search=auto."
            )
        if self.rounds_anew and self.traits.learner == "none":
            learning = [x for x in METHODS if METHODS[x].learner != "none"]
            raise ValueError(
                "rounds_anew begin from a tree that was learned: of "
                f"{', '.join(learning)}; method {self.method} learns none."
            )
        for name in ("path_weight", "new_share"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1]; got {value}.")

    @property
    def traits(self) -> Method:
        """What the method's name stands for."""
        return METHODS[self.method]

    @property
    def rounds(self) -> int:
        """Rounds of the whole run."""
        return self.joint_iterations + self.rounds_anew

    @property
    def method_loss(self) -> str:
        """The loss that the method is trained with."""
        beamless = self.traits.flat or self.traits.siblings
        return "softmax" if beamless and self.loss == "beam" else self.loss

    @property
    def may_prune(self) -> bool:
        """Whether the method's scorer has a first layer to read out."""
        linear = (self.traits.scorer or self.scorer) == "mlp"
        return linear and not self.traits.flat and not self.traits.siblings

    @property
    def max_history(self) -> int:
        """T, the behaviours that a user is described by."""
        return max(sum(self.windows), self.whole_window)

    @property
    def whole_window(self) -> int:
        """Behaviours of the window of the whole history, 0 for none."""
        if (self.traits.scorer or self.scorer) == "attention":
            return 0
        if self.whole_history is None:
            return sum(self.windows)
        return self.whole_history

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
            samples of training users and of validation users.
        on_record: called with the record of each iteration as it ends, and
            first with those that a continued run has already.
        cluster: a `remote_step.Cluster` of workers who take the steps; None
            to take them here. Of several workers no two runs are equal.
        mirrored: a `tf.distribute.MirroredStrategy`, whose replicas share
            each batch; None for one device.
        hosts: the `hosts.Hosts` whose replicas those of `mirrored` are; None
            for one machine.
        pool: of `jtm_tf.pools`, whose workers weigh samples for the tree step,
            and cluster vectors; None to do it here.
        table_shards: variables that the vectors of nodes lie in, on as many
            parameter servers; a checkpoint has as many.
    """

    data_dir: str | None = None
    checkpoint_seconds: float = 120.0
    progress: bool = False
    measure_loss: bool = False
    on_record: Callable[[dict[str, Any]], None] = lambda record: None
    cluster: Any = None
    mirrored: Any = None
    hosts: Any = None
    pool: Any = None
    table_shards: int = 1


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

    The run may be of another version: a setting that it does not know is what
    it was `BEFORE` or has its default, one that is no more is passed over.

    Args:
        values: `JointConfig` as JSON has it, its parts apart.

    Raises:
        ValueError: a value is not allowed any more.
    """
    default = JointConfig()
    parts = {
        name: _replaced(
            getattr(default, name), {**BEFORE, **values.get(name, {})}
        )
        for name in _PARTS
    }
    return _replaced(default, {**BEFORE, **values, **parts})


def _replaced(settings, values):
    """Returns settings with those of the values that they know of."""
    known = {field.name for field in dataclasses.fields(settings)}
    picked = {n: _tuples(v) for n, v in values.items() if n in known}
    return dataclasses.replace(settings, **picked)


def _tuples(value):
    """Returns a value with its lists as tuples, as settings have them."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
