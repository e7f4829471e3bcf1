"""What a load test asks: histories of real ids, each a request of one user."""

import random
from collections.abc import Sequence

from tensorflow_serving.apis import predict_pb2

from export.calling import clients
from export.calling import grpc_wire
from export.calling import questions
from export.calling import wire

# Enough answers to nobody and to somebody to know most popular ids by.
_ROUNDS = 3


def draw(
    client: clients.Client, count: int, *, max_history: int, seed: int
) -> list[list[questions.Id]]:
    """Draws histories from ids that the server itself recommends.

    Args:
        client: knows the model.
        count: how many histories.
        max_history: ids in the longest; lengths are drawn evenly from 1.
        seed: of the draw.

    Raises:
        ValueError: the model recommends nothing to nobody.
    """
    rng = random.Random(seed)
    known: list[questions.Id] = []
    histories: list[list[questions.Id]] = [[]]
    for _ in range(_ROUNDS):
        for ids in client.recommend(histories).ids:
            known += ids
        known = sorted(set(known), key=str)  # an order that lasts
        if not known:
            raise ValueError(
                f"Model {client.model} recommends nothing to an empty "
                "history; give --histories, a file of real ones."
            )
        histories = [
            rng.choices(known, k=rng.randint(1, max_history))
            for _ in range(min(count, 64))
        ]
    return [
        rng.choices(known, k=rng.randint(1, max_history)) for _ in range(count)
    ]


def requests(
    client: clients.Client,
    histories: Sequence[Sequence[questions.Id]],
    signature: str,
    version: int | None = None,
) -> list[predict_pb2.PredictRequest]:
    """Returns one request a history, all padded to the longest.

    So a server may join them: TensorFlow Serving joins equal shapes only.

    Args:
        client: knows the model.
        histories: [R] lists of ids.
        signature: what to ask for.
        version: whom to ask; the newest if None.
    """
    name, inputs = client.encode(questions.Question(histories, signature))
    rows = [
        {
            key: wire.Tensor(tensor.dtype, tensor.values[row : row + 1])
            for key, tensor in inputs.items()
        }
        for row in range(len(histories))
    ]
    return [grpc_wire.request(client.model, name, row, version) for row in rows]
