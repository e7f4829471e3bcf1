"""A client of a served model: raw ids in, raw ids and scores out.

It asks the server what the model's inputs are and sends ids as the model
wants them, strings or integers. It speaks TensorFlow Serving's own protocols,
so `tensorflow_model_server` and `export.serve` are the same to it. In the
shapes below B are users.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from export.calling import questions
from export.calling import wire

# A served model says "nothing here" with the least finite float32.
_MISSING = -3.4e38


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server recommends to B users.

    Attributes:
        ids: [B] lists of raw ids, best first; shorter where a user has fewer.
            Of `score`, the candidates as they were given.
        scores: [B] lists of as many floats; None for an unknown candidate.
        version: the version of the model that answered.
        more: further outputs by name, [B] each: `explain` has paths.
    """

    ids: list[list[questions.Id]]
    scores: list[list[float | None]]
    version: int
    more: dict[str, list[Any]] = dataclasses.field(default_factory=dict)


class Client:
    """Asks one model of one server.

    The inputs of the model are asked for once and remembered; a version with
    other inputs wants a new client. One client serves one thread at a time.

    Args:
        target: HOST:PORT of gRPC.
        rest: http://HOST:PORT of REST, instead of `target`. Needs nothing but
            the standard library; gRPC imports TensorFlow, for its messages.
        model: the model's name on the server.
        timeout: seconds that a request may take.

    Example:
        with Client(target="127.0.0.1:8500", model="jtm") as client:
            answer = client.recommend([[17, 4, 250], []])
            answer.ids[0], answer.version

    Attributes:
        model: the model's name.
        transport: what speaks the protocol.

    Raises:
        ValueError: neither `target` nor `rest`, or both.
    """

    def __init__(
        self,
        *,
        target: str | None = None,
        rest: str | None = None,
        model: str,
        timeout: float = 30.0,
    ):
        if (target is None) == (rest is None):
            raise ValueError(
                "Give a gRPC target or a REST address, one of them; got "
                f"target={target} and rest={rest}."
            )
        self.model = model
        self.transport: wire.Transport
        if target is not None:
            from export.calling import grpc_wire

            self.transport = grpc_wire.GrpcTransport(target, model, timeout)
        elif rest is not None:
            from export.calling import rest_wire

            self.transport = rest_wire.RestTransport(rest, model, timeout)
        self._signatures: dict[str, dict[str, wire.Input]] | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self.transport.close()

    def signatures(self) -> dict[str, dict[str, wire.Input]]:
        """Returns the inputs of each signature, by name.

        Raises:
            wire.RefusedError: the server has no such model.
            OSError: nobody listens, or there is no answer in time.
        """
        if self._signatures is None:
            self._signatures = self.transport.signatures()
        return self._signatures

    def recommend(
        self,
        histories: Sequence[Sequence[questions.Id]],
        *,
        version: int | None = None,
        **about: Any,
    ) -> Answer:
        """Asks for recommendations, or whatever else a signature gives.

        Args:
            histories: [B] lists of raw ids, oldest first.
            version: of the model; the server's newest by default.
            **about: further fields of `questions.Question`, such as `exclude`.

        Raises:
            ValueError: the request does not fit the signature; or, as its
                subclass `wire.RefusedError`, the server refuses it.
            OSError: nobody listens, or there is no answer in time.
        """
        question = questions.Question(histories, **about)
        name, inputs = self.encode(question)
        outputs, answering = self.transport.predict(name, inputs, version)
        scores = outputs.pop("scores")
        found = [[score > _MISSING for score in row] for row in scores]
        if "item_ids" not in outputs:
            ids = [list(row) for row in question.candidates or ()]
            scores = [
                [score if score > _MISSING else None for score in row]
                for row in scores
            ]
            return Answer(ids, _cut(scores, ids), answering, outputs)
        ids, scores, *more = (
            [
                [value for value, kept in zip(*pair) if kept]
                for pair in zip(rows, found)
            ]
            for rows in (outputs.pop("item_ids"), scores, *outputs.values())
        )
        return Answer(ids, scores, answering, dict(zip(outputs, more)))

    def encode(
        self, question: questions.Question
    ) -> tuple[str, dict[str, wire.Tensor]]:
        """Returns a question's signature and its inputs, as the model's are.

        Raises:
            ValueError: there is no such signature, or it does not fit.
        """
        name, known = question.chosen(), self.signatures()
        if name not in known:
            raise ValueError(
                f"Model {self.model} has no signature {name!r}; it has "
                f"{', '.join(sorted(known))}."
            )
        return name, question.tensors(known[name])


def _cut(rows, like):
    """Cuts each row to the length of its counterpart."""
    return [row[: len(other)] for row, other in zip(rows, like)]
