"""Work done here, a piece after the other."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

# Gives pieces of work to workers; their results come in the same order.
Map = Callable[[Iterable[Any]], Iterator[Any]]


class Pool:
    """This process."""

    def kept(self) -> contextlib.AbstractContextManager:
        """Does nothing: here nobody has to be kept."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def workers(
        self, make: Callable[[], Callable[[Any], Any]]
    ) -> Iterator[Map]:
        """Yields what maps pieces of work to their results.

        Args:
            make: returns the function of a piece of work; called once for
                each worker.
        """
        work = make()
        yield lambda pieces: map(work, pieces)
