"""An attack on a server: many bad requests, good ones among them."""

import collections
import concurrent.futures
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from export.fuzzing import cases
from jtm_tf.search import rounding

# What a server is told before it is attacked.
LIMITS = {
    "max_rows": 64,
    "max_length": 128,
    "max_request_mb": 0.25,
    "client_seconds": 2.0,
    "max_queue": 64,
}
_THREADS = 8
# A good request of known answer among so many others.
_CHECK_EVERY = 20


class _Known:
    """A good request, and the answer that it got first."""

    def __init__(self, world: cases.World, channel: grpc.Channel):
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        history = world.ids(np.random.default_rng(0), (3, 8))
        self._request = world.request({"history": history})
        self._want = self._ask()

    def same(self) -> bool:
        """Asks again. In company, sums may round in another order."""
        answers = (self._ask(), self._want)
        rows = [x[name] for x in answers for name in ("item_ids", "scores")]
        near = rounding.slack(self._want["scores"])
        return len(rows[0]) == len(rows[2]) and all(
            rounding.same_ranking(*row, near=near) for row in zip(*rows)
        )

    def _ask(self):
        response = self._stub.Predict(self._request, timeout=60)
        return {
            name: tf.make_ndarray(value)
            for name, value in response.outputs.items()
        }


def attack(
    name: str, ports: dict[str, int], requests: int, seed: int
) -> dict[str, Any]:
    """Sends requests to a server that runs under the fuzzer's limits.

    Args:
        name: of its model.
        ports: {"grpc": port, "rest": port}.
        requests: how many.
        seed: of them.

    Returns:
        Counts: `requests`, `wrong` answers with up to ten examples,
        `known_good` requests and how many `differed`, `answers` by case.
    """
    channel = grpc.insecure_channel(f"127.0.0.1:{ports['grpc']}")
    world = cases.World(name, ports, _dtype(name, channel), LIMITS)
    known = _Known(world, channel)

    def send(i):
        rng = np.random.default_rng((seed, i))
        case = cases.draw(rng)
        answer = case(rng, world)
        checked = known.same() if i % _CHECK_EVERY == 0 else None
        return i, case, answer, checked

    answers: dict[str, Any] = collections.defaultdict(collections.Counter)
    wrong, checks = [], []
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
        for i, case, answer, checked in threads.map(send, range(requests)):
            answers[case.__name__][answer] += 1
            if answer not in cases.CASES[case]:
                wrong.append((i, case.__name__, answer))
            if checked is not None:
                checks.append(checked)
    checks.append(known.same())
    world.close()
    channel.close()
    return {
        "requests": requests,
        "seed": seed,
        "wrong": len(wrong),
        "wrong_examples": wrong[:10],
        "known_good": len(checks),
        "differed": checks.count(False),
        "answers": {case: answers[case] for case in sorted(answers)},
    }


def _dtype(name, channel):
    """Returns the dtype of a model's ids."""
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = name
    request.metadata_field.append("signature_def")
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    response = stub.GetModelMetadata(request, timeout=60)
    found = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(found)
    history = found.signature_def["serving_default"].inputs["history"]
    return tf.as_dtype(history.dtype)
