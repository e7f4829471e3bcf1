"""Evaluates the best model of a run by beam search; prints JSON last.

    python -m experiments.evaluate --run_dir=RUN --split=test \\
        --num_results=200 --beam_width=400

Many users are searched for by many, --pool=ray.
"""

import json

from absl import flags

from jtm_tf.command_line import program
from jtm_tf.data import splits
from jtm_tf.models import frozen
from jtm_tf.pools import pool_flags
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import trained
from jtm_tf.search import judging
from jtm_tf.search import model_search
from jtm_tf.search import pooled

_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "The --out_dir of experiments.train.", required=True
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The prepared data, if it has moved since training."
)
_SPLIT = flags.DEFINE_enum(
    "split", "test", splits.SPLITS[1:], "The users to judge on."
)
_NUM_RESULTS = flags.DEFINE_integer(
    "num_results", 200, "M, the items returned to a user.", lower_bound=1
)
_BEAM_WIDTH = flags.DEFINE_integer(
    "beam_width",
    None,
    "Nodes that the search keeps on each level; twice num_results if not "
    "given.",
    lower_bound=1,
)
_SEARCH = flags.DEFINE_enum(
    "search",
    "own",
    model_search.CHOICES,
    "own: as the model was trained to; exact: the network scores every node; "
    "pruned: by the read-out, or an error.",
)
_TABLES = flags.DEFINE_enum(
    "tables",
    "float32",
    frozen.DTYPES,
    "Of the nodes' vectors: as an export with the same flag has them.",
)
_FILTER_HISTORY = flags.DEFINE_bool(
    "filter_history", False, "Never return what the user is known to have."
)
_POOL, _RAY_ADDRESS = pool_flags.define("searches for users", "--run_dir")
flags.adopt_module_key_flags(pool_flags)


@program.entry
def main() -> None:
    pool = pool_flags.chosen(_POOL, _RAY_ADDRESS)
    # Whoever rounds vectors needs them in memory.
    mapped = pool is not None and _TABLES.value == "float32"
    run = trained.load(_RUN_DIR.value, _DATA_DIR.value, mapped=mapped)
    users = splits.held_out_users(
        run.data, _SPLIT.value, run.model.max_history, run.settings.profile
    )
    asked = {
        "num_results": _NUM_RESULTS.value,
        "beam_width": _BEAM_WIDTH.value or 2 * _NUM_RESULTS.value,
        "filter_history": _FILTER_HISTORY.value,
    }
    model_search.choose(run.model, _SEARCH.value)
    frozen.round_vectors(run.model, _TABLES.value)
    if pool is None:
        items = model_search.recommend_users(run.model, users, **asked)
    else:
        items = pooled.recommend_users(
            pool,
            run.model,
            run_folder.RunFolder(_RUN_DIR.value).path.resolve(),
            users,
            search=_SEARCH.value,
            **asked,
        )
    result = judging.judgement(
        items,
        users,
        num_results=asked["num_results"],
        beam_width=None if run.model.flat else asked["beam_width"],
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
