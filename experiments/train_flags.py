"""The flags of `experiments.train`, by what they are for.

A flag that decides the outcome is a setting: name, default, type and meaning
are those of its field in `settings.JointConfig` or a part of it; one of a
rival's settings is named METHOD_SETTING and takes all values to try. The
others are named here in capitals.
"""

import inspect
import re
import typing

from absl import flags

from jtm_tf.baselines import rivals
from jtm_tf.baselines import run as baselines_run
from jtm_tf.command_line import flag_groups
from jtm_tf.command_line import program
from jtm_tf.learning import settings
from jtm_tf.pools import pool_flags

_GROUPS = {
    "How long to learn": (
        "continue_from",
        "new_share",
        "joint_iterations",
        "rounds_anew",
        "tree_steps",
        "epochs_per_iteration",
        "samples_per_epoch",
    ),
    "The first tree": (
        "branching",
        "initial_tree",
        "category_parts",
    ),
    "The model": (
        "scorer",
        "direct",
        "embedding_dim",
        "initial_vectors",
        "factor_folds",
        "windows",
        "whole_history",
        "hidden",
        "visits",
        "profile",
    ),
    "The model step": (
        "loss",
        "train_beam",
        "targets",
        "horizon",
        "pseudo_targets",
        "stratum",
        "negatives",
        "spread",
        "batch_size",
        "learning_rate",
        "row_rate",
        "row_epsilon",
        "final_rate",
    ),
    "The tree step (Algorithm 2)": (
        "tree_tries",
        "clusters_first",
        "cluster_below",
        "gap",
        "slack",
        "weights",
        "kin_strength",
        "margin",
        "solver",
        "order",
        "lazy",
        "score_leaves",
        "max_samples_per_item",
        "histories_per_user",
        "cross_fit",
        "carry_embeddings",
        "renew_inner",
        "cold_start",
    ),
    "Search and metrics": (
        "num_results",
        "beam_width",
        "path_weight",
        "search",
        "cuts",
    ),
}


def _meanings(kind: type) -> dict[str, str]:
    """Returns what a docstring says of each attribute, as sentences."""
    _, _, text = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    text = text.replace("`", "")
    found = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", text, re.M)
    return {
        name: " ".join(f"{meaning[0].upper()}{meaning[1:]}".split())
        for name, meaning in found
    }


_DEFAULT = settings.JointConfig()
_OWNERS = (
    _DEFAULT,
    _DEFAULT.training,
    _DEFAULT.tree_learning,
    settings.RunOptions(),
)


def _define(name: str) -> flags.FlagHolder:
    """Defines the flag of a field of the settings."""
    owner = next(owner for owner in _OWNERS if hasattr(owner, name))
    default, meaning = getattr(owner, name), _meanings(type(owner))[name]
    kind = typing.get_type_hints(type(owner))[name]
    if name in settings.CHOICES:
        return flags.DEFINE_enum(
            name, default, [*settings.CHOICES[name]], meaning
        )
    if kind in (str, str | None):
        return flags.DEFINE_string(name, default, meaning)
    if kind is bool:
        return flags.DEFINE_bool(name, default, meaning)
    if kind in (int, int | None):
        return flags.DEFINE_integer(name, default, meaning)
    if kind is float:
        return flags.DEFINE_float(name, default, meaning)
    return flags.DEFINE_list(name, _words(default), meaning)


def _words(value):
    """Returns a tuple, of pairs too, as the words of a list flag."""
    values = value if isinstance(value, tuple) else (value,)
    return [
        ":".join(map(str, x)) if isinstance(x, tuple) else str(x)
        for x in values
    ]


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
        "repeat, a user's own items, then best-sellers. Not in the paper, the "
        "rivals of today: als, ease, sasrec.",
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
    _define("seed")
    AS_PUBLISHED = flags.DEFINE_bool(
        "as_published",
        False,
        "Train as the paper does: from random vectors, by sampled negatives, "
        "taking every tree. Sets "
        + ", ".join(settings.AS_PUBLISHED)
        + "; those that are given too have what is given.",
    )
    CHECKPOINT_SECONDS = _define("checkpoint_seconds")
    MEASURE_LOSS = _define("measure_loss")

with flag_groups.group("On many machines: the same command on each"):
    STRATEGY = flags.DEFINE_enum(
        "strategy",
        "single",
        ["single", "mirrored", "parameter_server"],
        "single: one device of this machine. mirrored: all its devices (GPUs), "
        "each with its share of every batch and the whole model, and those of "
        "the other machines where TF_CONFIG names some, a chief and workers. "
        "parameter_server: workers take the steps, and the vectors of nodes "
        "lie on parameter servers; TF_CONFIG tells each process which part of "
        "the cluster it is, chief, worker or ps, and all see --out_dir under "
        "the same name.",
    )
    TABLE_SHARDS = flags.DEFINE_integer(
        "table_shards",
        None,
        "Variables that the vectors of nodes lie in, spread over the parameter "
        "servers; as many as there are of those by default. A run goes on with "
        "as many as it began with.",
        lower_bound=1,
    )
    POOL, RAY_ADDRESS = pool_flags.define(
        "weighs samples for the tree step", "--out_dir"
    )
    STEPS_PER_CALL = flags.DEFINE_integer(
        "steps_per_call",
        100,
        "Steps that a worker takes at a call of the chief.",
        lower_bound=1,
    )

for _title, _names in _GROUPS.items():
    with flag_groups.group(_title):
        for _name in _names:
            _define(_name)

with flag_groups.group("The rivals of today: of several values, the best"):
    for _method, _rival in rivals.METHODS.items():
        for _name, _values in _rival.tries().items():
            flags.DEFINE_list(
                f"{_method}_{_name}",
                _words(_values),
                _meanings(_rival.settings)[_name],
            )


Config = (
    settings.JointConfig | baselines_run.CountingConfig | rivals.RivalConfig
)


def config() -> Config:
    """Builds the frozen configuration from the flags.

    Raises:
        ValueError: a value is out of range.
    """
    names = [name for name in settings.names() if name in flags.FLAGS]
    values = {name: flags.FLAGS[name].value for name in names}
    if AS_PUBLISHED.value:
        values |= {
            name: value
            for name, value in settings.AS_PUBLISHED.items()
            if not flags.FLAGS[name].present
        }
    for name in ("windows", "hidden", "negatives"):
        values[name] = program.integers(name, values[name])
    if len(values["negatives"]) == 1:
        values["negatives"] = values["negatives"][0]
    values["profile"] = tuple(values["profile"])
    values["cuts"] = tuple(
        program.integers("cuts", cut.split(":"), count=2)
        for cut in values["cuts"]
    )
    method = METHOD.value
    if method in settings.METHODS:
        return settings.from_flat(**values)
    names = ["method", "seed", "num_results", "cuts"]
    common = {name: values[name] for name in names}
    if method in baselines_run.COUNTING:
        return baselines_run.CountingConfig(**common)
    tries = {}
    for name, default in rivals.METHODS[method].tries().items():
        flag = f"{method}_{name}"
        kind = type(default[0])
        tries[name] = program.numbers(flag, flags.FLAGS[flag].value, kind)
    return rivals.RivalConfig(**common, tries=tries)
