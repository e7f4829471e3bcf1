"""What a client asks: users, and what is to be heeded, as a model's inputs."""

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


@dataclasses.dataclass(frozen=True)
class Question:
    """A request for B users, in raw ids.

    Attributes:
        histories: [B] lists of raw ids, oldest first.
        signature: by default what the other fields call for: `recommend`,
            `recommend_filtered` or `score`.
        exclude: [B] lists of ids that are not to be returned.
        allow_categories: [B] lists of categories; an empty one allows all.
        candidates: [B] lists of the ids to score.
        profile: [B] values by column, `{"age_group": "A"}`; what is left out
            is unknown.
    """

    histories: Sequence[Sequence[Id]]
    signature: str | None = None
    exclude: Sequence[Sequence[Id]] | None = None
    allow_categories: Sequence[Sequence[str]] | None = None
    candidates: Sequence[Sequence[Id]] | None = None
    profile: Sequence[Mapping[str, str]] | None = None

    def chosen(self) -> str:
        """Returns the signature to ask."""
        if self.signature is not None:
            return self.signature
        if self.candidates is not None:
            return "score"
        if self.exclude is not None or self.allow_categories is not None:
            return "recommend_filtered"
        return "recommend"

    def tensors(
        self, wanted: Mapping[str, wire.Input]
    ) -> dict[str, wire.Tensor]:
        """Returns the inputs that a signature wants, rectangular.

        Args:
            wanted: the signature's inputs by name.

        Raises:
            ValueError: the question does not fit them.
        """
        given = self._given()
        strange = sorted(set(given) - set(wanted))
        if strange:
            raise ValueError(
                f"Signature {self.chosen()!r} takes "
                f"{', '.join(sorted(wanted))}; got {', '.join(strange)} too."
            )
        users = len(self.histories)
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

    def _given(self):
        """Returns what is asked, by input."""
        given: dict[str, Sequence[Any] | None] = {
            "history": self.histories,
            "exclude": self.exclude,
            "allow_categories": self.allow_categories,
            "candidates": self.candidates,
        }
        rows = self.profile or ()
        for column in sorted({key for row in rows for key in row}):
            plain = re.sub("[^0-9A-Za-z_]", "_", column)  # as exports name it
            given[f"profile_{plain}"] = [row.get(column, "") for row in rows]
        return {name: x for name, x in given.items() if x is not None}


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
