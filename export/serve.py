"""Serves exported versions by TensorFlow Serving's own protocols.

    python -m export.serve --model_base=BASE --port=8500 --rest_port=8501

Loads the newest versions in BASE and follows the folder: a new version is
warmed up and takes over while requests run. Prints one line of JSON, the
ports, once it serves; SIGTERM or SIGINT answers what is under way and ends
it. gRPC and REST are those of TensorFlow Serving, so its clients work. At / of
the REST port is a page to try it.
"""

import dataclasses
import json
import logging as python_logging

from absl import flags
from absl import logging

from export import serving
from jtm_tf.command_line import program

_DEFAULT = serving.Config()

_MODEL_BASE = flags.DEFINE_string(
    "model_base",
    None,
    "The --export_dir of export.export_model: a folder of versions.",
    required=True,
)
_NAME = flags.DEFINE_string(
    "name", None, "Of the model, as clients call it; BASE's if not given."
)
_HOST = flags.DEFINE_string(
    "host",
    _DEFAULT.host,
    "The address to listen on. There is no password: open it to a network "
    "that you trust, or put a proxy before it.",
)
_PORT = flags.DEFINE_integer("port", 8500, "Of gRPC; 0 picks a free one.")
_REST_PORT = flags.DEFINE_integer(
    "rest_port", 8501, "Of REST; 0 picks a free one."
)
_KEEP_VERSIONS = flags.DEFINE_integer(
    "keep_versions",
    _DEFAULT.keep_versions,
    "Versions that are served, the newest ones; requests that name no version "
    "go to the newest.",
)
_POLL_SECONDS = flags.DEFINE_float(
    "poll_seconds", _DEFAULT.poll_seconds, "How often BASE is looked at."
)
_MAX_BATCH = flags.DEFINE_integer(
    "max_batch", _DEFAULT.max_batch, "Rows of the requests that run together."
)
_BATCH_WAIT_MS = flags.DEFINE_float(
    "batch_wait_ms",
    _DEFAULT.batch_wait_ms,
    "How long a request waits for others to share its batch. Under load they "
    "meet in the queue without it.",
)
_WORKERS = flags.DEFINE_integer(
    "workers", None, "Batches that run at a time; one for each CPU by default."
)
_MAX_QUEUE = flags.DEFINE_integer(
    "max_queue",
    _DEFAULT.max_queue,
    "Requests under way at a time; more are refused at once.",
)
_MAX_ROWS = flags.DEFINE_integer(
    "max_rows", _DEFAULT.max_rows, "Rows of one request."
)
_MAX_LENGTH = flags.DEFINE_integer(
    "max_length",
    _DEFAULT.max_length,
    "Values in a row of an input: items of a history, or excluded ones.",
)
_MAX_REQUEST_MB = flags.DEFINE_float(
    "max_request_mb", _DEFAULT.max_request_mb, "Size of one request."
)
_CLIENT_SECONDS = flags.DEFINE_float(
    "client_seconds",
    _DEFAULT.client_seconds,
    "How long a client may take to send a request or to read the answer.",
)
_ANSWER_SECONDS = flags.DEFINE_float(
    "answer_seconds",
    _DEFAULT.answer_seconds,
    "How long a request may wait for its answer.",
)
_DRAIN_SECONDS = flags.DEFINE_float(
    "drain_seconds",
    _DEFAULT.drain_seconds,
    "How long requests under way may take when the server is stopped.",
)
_PAGE = flags.DEFINE_bool(
    "page",
    _DEFAULT.page,
    "Show a page to try the model at / of --rest_port. It asks by REST what "
    "every client may ask.",
)
_SAMPLES = flags.DEFINE_string(
    "samples",
    None,
    "A JSON file of histories to start from on the page: "
    '[{"name": "Ann", "history": [17, 4]}, ..].',
)


@program.entry
def main() -> None:
    logging.set_verbosity(logging.INFO)
    # Every malformed request would be a line of its own.
    python_logging.getLogger("tornado").setLevel(python_logging.ERROR)
    fields = {field.name for field in dataclasses.fields(serving.Config)}
    values = flags.FLAGS.flag_values_dict()
    config = serving.Config(**{name: values[name] for name in fields})
    told_to_end = program.told_to_end()
    with serving.Server(_MODEL_BASE.value, config) as server:
        ports = {"grpc": server.grpc_port, "rest": server.rest_port}
        print(json.dumps(ports), flush=True)
        told_to_end.wait()
        logging.info("Stopping; requests under way are answered.")


if __name__ == "__main__":
    main()
