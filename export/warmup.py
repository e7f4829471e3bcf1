"""Requests that TensorFlow Serving runs before a version takes traffic.

The first request of a shape pays for memory and graph optimisation; with
these records, the server itself pays. Needs tensorflow-serving-api, of which
only the message types are used.
"""

import dataclasses
import pathlib
from typing import Any

import tensorflow as tf

from export import saved_model

# Where TensorFlow Serving looks, inside a version.
PATH = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"

BATCHES = (1, 16)


@dataclasses.dataclass(frozen=True)
class WarmupConfig:
    """What requests to expect.

    Attributes:
        max_history: the longest history that clients will send; None for
            what the model sees of it.
        max_exclusions: the most items that they will exclude.
    """

    max_history: int | None = None
    max_exclusions: int = 100


def requests(
    served: saved_model.ServedModel,
    config: WarmupConfig,
    *,
    batches: tuple[int, ...] = BATCHES,
) -> list[tuple[str, dict[str, tf.Tensor]]]:
    """Returns a request of every signature and batch size.

    Args:
        served: the model.
        config: what to expect.
        batches: rows of the requests.

    Returns:
        Pairs of a signature's name and its inputs.
    """
    known = served.items.raw_ids(tf.constant([1]))
    allowed = served.categories.names[:1] or [""]
    max_history = config.max_history or served.max_history
    made = []
    for batch in batches:
        inputs = {
            "history": tf.tile(known[None], [batch, max_history]),
            "exclude": tf.tile(known[None], [batch, config.max_exclusions]),
            "candidates": tf.tile(known[None], [batch, 1]),
            "allow_categories": tf.constant([allowed] * batch),
        }
        for name, value in zip(served.profile.inputs, served.profile.examples):
            inputs[name] = tf.constant([value] * batch)
        made += [
            (name, {key: inputs[key] for key in signature["inputs"]})
            for name, signature in served.describe().items()
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
