"""Exports the best model of a run as a SavedModel of stock TensorFlow ops.

    python -m export.export_model --run_dir=RUN --export_dir=BASE

Writes BASE/<version>, for TensorFlow Serving or `tf.saved_model.load`; the
version appears by one rename when all of it is written and has been read
back. BASE/<version>/model_card.md says how to speak to it. Prints JSON last.
"""

import json
import pathlib

from absl import flags

from export.artefact import origin
from export.artefact import publishing
from export.artefact import saved_model
from export.artefact import versions
from jtm_tf.command_line import program
from jtm_tf.models import frozen
from jtm_tf.runs import trained
from jtm_tf.search import model_search

_DEFAULT = saved_model.SearchConfig()

_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "The --out_dir of experiments.train.", required=True
)
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir",
    None,
    "Where versions are written; its name is the served model's.",
    required=True,
)
_VERSION = flags.DEFINE_integer(
    "version",
    None,
    "Number of the version, one that does not exist; the next one if not "
    "given.",
    lower_bound=1,
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The prepared data, if it has moved since training."
)
_BEAM_WIDTH = flags.DEFINE_integer(
    "beam_width",
    _DEFAULT.beam_width,
    "Nodes that the search keeps on each level; fewer are faster and find "
    "less.",
    lower_bound=1,
)
_NUM_RESULTS = flags.DEFINE_integer(
    "num_results",
    _DEFAULT.num_results,
    "M, the items returned to a user.",
    lower_bound=1,
)
_SEARCH = flags.DEFINE_enum(
    "search",
    "own",
    model_search.CHOICES,
    "own: as the model was trained to; exact: the network scores every node; "
    "pruned: inner products walk down to the leaves, or an error.",
)
_TABLES = flags.DEFINE_enum(
    "tables",
    _DEFAULT.tables,
    frozen.DTYPES,
    "Of the nodes' vectors: float16 takes half the memory.",
)
_WARMUP = flags.DEFINE_bool(
    "warmup", True, "Write requests that warm a server up."
)
_MAX_HISTORY = flags.DEFINE_integer(
    "max_history",
    _DEFAULT.max_history,
    "The widest history of a request; wider ones are refused. Of its ids the "
    "newest that the model can see count.",
    lower_bound=1,
)
_MAX_EXCLUSIONS = flags.DEFINE_integer(
    "max_exclusions",
    _DEFAULT.max_exclusions,
    "The most items that a request excludes for a user; more are refused.",
    lower_bound=0,
)


@program.entry
def main() -> None:
    base = pathlib.Path(_EXPORT_DIR.value).resolve()
    version = versions.choose(base, _VERSION.value)
    # What is served is another table: there is memory for one.
    run = trained.load(_RUN_DIR.value, _DATA_DIR.value, mapped=True)
    model_search.choose(run.model, _SEARCH.value)
    made = origin.Origin(
        run,
        saved_model.SearchConfig(
            beam_width=_BEAM_WIDTH.value,
            num_results=_NUM_RESULTS.value,
            max_history=_MAX_HISTORY.value,
            max_exclusions=_MAX_EXCLUSIONS.value,
            tables=_TABLES.value,
        ),
        warming=_WARMUP.value,
    )
    path = publishing.publish(made, base, version)
    print(json.dumps({"version": version, "path": str(path)}))


if __name__ == "__main__":
    main()
