"""What a client needs of a protocol, gRPC or REST alike."""

from typing import Any
from typing import NamedTuple
from typing import Protocol


class Input(NamedTuple):
    """An input of a signature: "int64" or "string", and its dimensions."""

    dtype: str
    rank: int


class Tensor(NamedTuple):
    """Values to send: nested lists, rectangular, of one dtype."""

    dtype: str
    values: list[Any]


class RefusedError(ValueError):
    """A server's refusal.

    Attributes:
        code: the name of the gRPC status, or the number of the HTTP one.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code


class Transport(Protocol):
    """Asks one model of one server.

    Every method raises `RefusedError` where the server refuses,
    `ConnectionError` where nobody listens and `TimeoutError` where nobody
    answers in time.
    """

    def signatures(self) -> dict[str, dict[str, Input]]:
        """Returns the inputs of each signature, by name."""

    def available(self) -> list[int]:
        """Returns the versions that answer, ascending."""

    def predict(
        self, signature: str, inputs: dict[str, Tensor], version: int | None
    ) -> tuple[dict[str, Any], int]:
        """Returns the outputs as nested lists, and the version that answered.

        Args:
            signature: which function of the model to call.
            inputs: its inputs by name.
            version: of the model; the newest if None.
        """

    def close(self) -> None:
        """Closes the connection."""


def nobody_listens(address: str, why: str) -> str:
    """Returns the message of a `ConnectionError`."""
    return (
        f"No answer from {address}: {why}. Is the server running? Start "
        "python -m export.serve, or tensorflow_model_server."
    )


def too_late(address: str, seconds: float) -> str:
    """Returns the message of a `TimeoutError`."""
    return f"{address} did not answer within {seconds:g} s; raise --timeout."
