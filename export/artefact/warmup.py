"""Requests that TensorFlow Serving runs before a version takes traffic.

The first request of a shape pays for memory and graph optimisation; with
these records, the server itself pays. Needs tensorflow-serving-api, of which
only the message types are used.
"""

import pathlib
from typing import Any

import tensorflow as tf

from export.artefact import saved_model

# Where TensorFlow Serving looks, inside a version.
PATH = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"

BATCHES = (1, 16)
# Asked by people, who can wait; a version would be warm later.
_COLD = ("trace",)
# As wide as `exclude` commonly is; a rare wider request pays for itself.
EXCLUSIONS = 100


def requests(
    served: saved_model.ServedModel, *, batches: tuple[int, ...] = BATCHES
) -> list[tuple[str, dict[str, tf.Tensor]]]:
    """Returns a request of every signature but `trace`, and every batch size.

    Histories are as wide as the model sees them, T.

    Args:
        served: the model.
        batches: rows of the requests.

    Returns:
        Pairs of a signature's name and its inputs.
    """
    known = served.items.raw_ids(tf.constant([1]))
    allowed = served.categories.names[:1] or [""]
    exclusions = min(EXCLUSIONS, served.config.max_exclusions)
    made = []
    for batch in batches:
        inputs = {
            "history": tf.tile(known[None], [batch, served.max_history]),
            "exclude": tf.tile(known[None], [batch, exclusions]),
            "candidates": tf.tile(known[None], [batch, 1]),
            "allow_categories": tf.constant([allowed] * batch),
        }
        for name, value in zip(served.profile.inputs, served.profile.examples):
            inputs[name] = tf.constant([value] * batch)
        made += [
            (name, {key: inputs[key] for key in signature["inputs"]})
            for name, signature in served.describe().items()
            if name not in _COLD
        ]
    return made


def write(
    folder: pathlib.Path,
    made: list[tuple[str, dict[str, Any]]],
    *,
    model_name: str,
) -> None:
    """Writes requests as `PredictionLog` records into a version's folder.

    Raises:
        ValueError: tensorflow-serving-api is not installed.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ValueError(
            "Warm-up requests need tensorflow-serving-api: install "
            "jtm_tf[serve], or export with --nowarmup."
        ) from error
    path = folder / PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as out:
        for signature, inputs in made:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            out.write(log.SerializeToString())
