"""From a request to its answer, whatever protocol it came by."""

import asyncio
import concurrent.futures
import dataclasses
from collections.abc import Callable
from collections.abc import Sequence

from export.serving import batcher as batcher_lib
from export.serving import errors
from export.serving import loaded
from export.serving import signature as signature_lib
from export.serving import watcher as watcher_lib
from export.serving.config import Config

DEFAULT_SIGNATURE = "serving_default"


@dataclasses.dataclass(frozen=True)
class Target:
    """What a request is addressed to.

    Attributes:
        name: of the model.
        version: its number; the newest if None.
        label: of a version; none is known here.
        signature: its name; the default one if empty.
    """

    name: str
    version: int | None = None
    label: str = ""
    signature: str = ""


@dataclasses.dataclass(frozen=True)
class Ticket:
    """A request in the queue, and what will answer it."""

    version: int
    signature: str
    outputs: tuple[str, ...]
    future: concurrent.futures.Future


class Engine:
    """Checks requests, queues them and hands out the answers.

    Args:
        watcher: knows the versions.
        batcher: runs them.
        config: limits.

    Attributes:
        serving: whether new requests are taken; false while stopping.
    """

    def __init__(
        self,
        watcher: watcher_lib.Watcher,
        batcher: batcher_lib.Batcher,
        config: Config,
    ):
        self._watcher, self._batcher = watcher, batcher
        self.config = config
        self.serving = True

    def acquire(self, target: Target) -> loaded.LoadedVersion:
        """Returns the version that a request is for; release it after use.

        Raises:
            ServingError: there is none.
        """
        if not self.serving:
            raise errors.ServingError(
                errors.Code.UNAVAILABLE, "The server is stopping."
            )
        self._check(target)
        return self._watcher.acquire(target.version)

    def states(self, target: Target):
        """Returns number, state and error of the versions asked for.

        Raises:
            ServingError: there are none.
        """
        self._check(target)
        found = [
            x for x in self._watcher.states() if target.version in (None, x[0])
        ]
        if not found:
            which = "" if target.version is None else f"{target.version} "
            raise errors.ServingError(
                errors.Code.NOT_FOUND,
                f"Could not find any versions {which}of model {target.name}.",
            )
        return found

    def submit(
        self,
        target: Target,
        decode: Callable[[signature_lib.Signature], signature_lib.Arrays],
        output_filter: Sequence[str] = (),
    ) -> Ticket:
        """Checks a request and queues it.

        Args:
            target: what it is for.
            decode: makes the inputs of a signature; it checks their names,
                dtypes and shapes.
            output_filter: names of the outputs wanted; all if empty.

        Raises:
            ServingError: the request cannot be served.
        """
        version = self.acquire(target)
        try:
            name = target.signature or DEFAULT_SIGNATURE
            if name not in version.signatures:
                raise errors.ServingError(
                    errors.Code.FAILED_PRECONDITION,
                    f'Serving signature key "{name}" not found; there are '
                    f"{', '.join(sorted(version.signatures))}.",
                )
            signature = version.signatures[name]
            outputs = _filtered(signature, output_filter)
            inputs = decode(signature)
            rows = signature.rows(inputs)
            future = self._batcher.submit(signature, version.pad(inputs), rows)
        except BaseException:
            version.release()
            raise
        future.add_done_callback(lambda _: version.release())
        return Ticket(version.number, name, outputs, future)

    async def answer(
        self, ticket: Ticket, seconds: float | None = None
    ) -> signature_lib.Arrays:
        """Waits for an answer, no longer than `seconds` or the limit.

        Raises:
            ServingError: the graph failed, or took too long.
        """
        limit = self.config.answer_seconds
        limit = limit if seconds is None else min(limit, seconds)
        try:
            found = await asyncio.wait_for(
                asyncio.wrap_future(ticket.future), limit
            )
        except Exception as error:
            raise errors.from_exception(error) from error
        return {name: found[name] for name in ticket.outputs}

    def _check(self, target):
        """Raises `ServingError` if another model, or a label, is asked for."""
        if not target.name:
            raise errors.invalid("ModelSpec has no name specified.")
        if target.name != self._watcher.name:
            raise errors.ServingError(
                errors.Code.NOT_FOUND,
                f"Servable not found for request: {target.name}; this server "
                f"has {self._watcher.name}.",
            )
        if target.label:
            raise errors.invalid(
                f"Unrecognized servable version label: {target.label}; this "
                "server knows versions by number only."
            )


def _filtered(signature, names):
    """Returns the outputs to send, in the signature's order."""
    unknown = sorted(set(names) - set(signature.outputs))
    if unknown:
        raise errors.invalid(
            f"Signature {signature.name} has the outputs "
            f"{', '.join(signature.outputs)}; got {', '.join(unknown)} in "
            "output_filter."
        )
    return tuple(x for x in signature.outputs if not names or x in names)
