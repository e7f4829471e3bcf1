"""What the command-line programs share: errors for people, flag parsing."""

import sys
from collections.abc import Callable, Sequence

from absl import app


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a program; an expected error is one line and exit status 1."""

    def guarded(argv: list[str]) -> None:
        try:
            main(argv)
        except (ValueError, OSError, FloatingPointError) as error:
            sys.exit(f"Error: {error}")

    app.run(guarded)


def no_arguments(argv: Sequence[str]) -> None:
    """Refuses what is left on the command line beside flags."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")


def integers(name: str, values: Sequence[str]) -> tuple[int, ...]:
    """Parses a list flag of positive integers."""
    try:
        numbers = tuple(int(value) for value in values)
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise ValueError(
            f"--{name} takes positive integers separated by commas; got "
            f"{','.join(values)!r}."
        )
    return numbers
