"""A client of a served model: raw ids in, raw ids and scores out.

It asks the server what the model's inputs are and sends ids as the model
wants them, strings or integers. It speaks TensorFlow Serving's own protocols,
so `tensorflow_model_server` and `export.serve` are the same to it. In the
shapes below B are users.
"""

import dataclasses
import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from export.calling import wire

Id = int | str

# What fills up lists of unequal length. A served model passes over what it
# does not know, wherever it stands, and 0 may well be somebody's id.
_FILLER = {"int64": -(2**63), "string": ""}

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

    ids: list[list[Id]]
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
        histories: Sequence[Sequence[Id]],
        *,
        signature: str | None = None,
        exclude: Sequence[Sequence[Id]] | None = None,
        allow_categories: Sequence[Sequence[str]] | None = None,
        candidates: Sequence[Sequence[Id]] | None = None,
        profile: Sequence[Mapping[str, str]] | None = None,
        version: int | None = None,
    ) -> Answer:
        """Asks for recommendations, or whatever else a signature gives.

        Args:
            histories: [B] lists of raw ids, oldest first.
            signature: by default what the other arguments call for:
                `recommend`, `recommend_filtered` or `score`.
            exclude: [B] lists of ids that are not to be returned.
            allow_categories: [B] lists of categories; an empty one allows all.
            candidates: [B] lists of the ids to score.
            profile: [B] values by column, `{"age_group": "A"}`; what is left
                out is unknown.
            version: of the model; the server's newest by default.

        Raises:
            ValueError: the request does not fit the signature; or, as its
                subclass `wire.RefusedError`, the server refuses it.
            OSError: nobody listens, or there is no answer in time.
        """
        name, inputs = self.encode(
            histories,
            signature=signature,
            exclude=exclude,
            allow_categories=allow_categories,
            candidates=candidates,
            profile=profile,
        )
        outputs, answering = self.transport.predict(name, inputs, version)
        scores = outputs.pop("scores")
        found = [[score > _MISSING for score in row] for row in scores]
        if "item_ids" not in outputs:
            ids = [list(row) for row in candidates or ()]
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
        self,
        histories: Sequence[Sequence[Id]],
        *,
        signature: str | None = None,
        exclude: Sequence[Sequence[Id]] | None = None,
        allow_categories: Sequence[Sequence[str]] | None = None,
        candidates: Sequence[Sequence[Id]] | None = None,
        profile: Sequence[Mapping[str, str]] | None = None,
    ) -> tuple[str, dict[str, wire.Tensor]]:
        """Returns a signature and its inputs; takes what `recommend` takes."""
        given: dict[str, Sequence[Any]] = {"history": histories}
        for name, rows in (
            ("exclude", exclude),
            ("allow_categories", allow_categories),
            ("candidates", candidates),
        ):
            if rows is not None:
                given[name] = rows
        if signature is None:
            signature = (
                "score"
                if "candidates" in given
                else "recommend"
                if set(given) == {"history"}
                else "recommend_filtered"
            )
        for column in sorted({key for row in profile or () for key in row}):
            plain = re.sub("[^0-9A-Za-z_]", "_", column)  # as exports name it
            given[f"profile_{plain}"] = [
                row.get(column, "") for row in profile or ()
            ]
        return signature, self._fit(signature, given)

    def _fit(self, signature, given):
        """Returns the inputs of a signature, of its dtypes and rectangular."""
        known = self.signatures()
        if signature not in known:
            raise ValueError(
                f"Model {self.model} has no signature {signature!r}; it has "
                f"{', '.join(sorted(known))}."
            )
        wanted = known[signature]
        strange = sorted(set(given) - set(wanted))
        if strange:
            raise ValueError(
                f"Signature {signature!r} takes {', '.join(sorted(wanted))}; "
                f"got {', '.join(strange)} too."
            )
        users = len(given["history"])
        for name, rows in given.items():
            if len(rows) != users or not users:
                raise ValueError(
                    f"Expected as many rows of {name} as there are "
                    f"histories, one or more; got {len(rows)} and {users}."
                )
        return {
            name: _tensor(name, spec, given.get(name), users)
            for name, spec in wanted.items()
        }


def _tensor(name, spec, rows, users):
    """Returns an input as a `wire.Tensor`; `rows` None asks for no filter."""
    if spec.dtype not in _FILLER:
        raise ValueError(
            f"Input {name} is {spec.dtype}; this client sends int64 and "
            "string, as exported models take them."
        )
    if spec.rank == 1:
        values = [""] * users if rows is None else rows
        return wire.Tensor(spec.dtype, _typed(name, spec.dtype, values))
    if rows is None and name == "candidates":
        raise ValueError("Give the candidates that are to be scored.")
    typed = [_typed(name, spec.dtype, row) for row in rows or [()] * users]
    # At least one wide: JSON says nothing about the type of an empty list.
    width = max(1, *map(len, typed))
    filler = [_FILLER[spec.dtype]]
    return wire.Tensor(
        spec.dtype, [row + filler * (width - len(row)) for row in typed]
    )


def _typed(name, dtype, values):
    """Returns ids as the model wants them."""
    if dtype == "string":
        return [str(value) for value in values]
    try:
        numbers = [int(value) for value in values]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The model's ids are integers; got {list(values)!r} as {name}."
        ) from error
    for number in numbers:
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"{name} {number} does not fit into 64 bits.")
    return numbers


def _cut(rows, like):
    """Cuts each row to the length of its counterpart."""
    return [row[: len(other)] for row, other in zip(rows, like)]
