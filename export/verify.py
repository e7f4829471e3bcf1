"""Asks an endpoint for a run's test users: evaluated = served?

    python -m export.verify --run_dir=RUN --target=127.0.0.1:8500 --model=jtm

Recommends to the test users by the run's own model, as experiments.evaluate
does, and by the endpoint, which has to serve an export of it with the same
--num_results, --beam_width, --search and --tables. Prints JSON last; exit
status 1 if anybody gets other items, or others first, and no tie within float32
rounding explains it (`jtm_tf.search.rounding`).
"""

import json
import sys

from absl import flags

from export.artefact import saved_model
from export.calling import agreement
from export.calling import clients
from jtm_tf.command_line import program
from jtm_tf.models import frozen
from jtm_tf.runs import trained
from jtm_tf.search import model_search

_DEFAULT = saved_model.SearchConfig()

_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "The --out_dir of experiments.train.", required=True
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The prepared data, if it has moved since training."
)
_TARGET = flags.DEFINE_string("target", None, "HOST:PORT, to ask by gRPC.")
_REST = flags.DEFINE_string(
    "rest", None, "http://HOST:PORT, to ask by REST instead."
)
_MODEL = flags.DEFINE_string(
    "model", None, "The model's name on the server.", required=True
)
_NUM_RESULTS = flags.DEFINE_integer(
    "num_results", _DEFAULT.num_results, "M of the export.", lower_bound=1
)
_BEAM_WIDTH = flags.DEFINE_integer(
    "beam_width", _DEFAULT.beam_width, "k of the export.", lower_bound=1
)
_SEARCH = flags.DEFINE_enum(
    "search", "own", model_search.CHOICES, "--search of the export."
)
_TABLES = flags.DEFINE_enum(
    "tables", _DEFAULT.tables, frozen.DTYPES, "--tables of the export."
)
_BATCH = flags.DEFINE_integer("batch", 64, "Users a request.", lower_bound=1)


@program.entry
def main() -> None:
    with clients.Client(
        target=_TARGET.value, rest=_REST.value, model=_MODEL.value
    ) as client:
        client.signatures()  # an endpoint that is not there fails at once
        run = trained.load(_RUN_DIR.value, _DATA_DIR.value)
        model_search.choose(run.model, _SEARCH.value)
        frozen.round_vectors(run.model, _TABLES.value)
        result = agreement.compare(
            run,
            client.recommend,
            num_results=_NUM_RESULTS.value,
            beam_width=_BEAM_WIDTH.value,
            batch_size=_BATCH.value,
        )
    print(json.dumps(result))
    if result["different"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
