"""What the command-line programs share: errors for people, flag parsing."""

import re
import shlex
from collections.abc import Callable, Sequence

from experiments import flag_groups
from export import frame
from export.frame import no_arguments

__all__ = ["command", "integers", "no_arguments", "pairs", "run"]


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a program as `frame.run` does; --help shows flags by purpose."""
    frame.run(main, flags_parser=flag_groups.parse)


def integers(
    name: str,
    values: Sequence[str],
    *,
    allow_zero: bool = False,
    count: int | None = None,
) -> tuple[int, ...]:
    """Parses a list flag of positive integers, or of zeros too.

    `count` is how many there must be, any number from 1 by default.
    """
    try:
        numbers = tuple(int(value) for value in values)
    except ValueError:
        numbers = ()
    wrong = count is not None and len(numbers) != count
    if not numbers or min(numbers) < (0 if allow_zero else 1) or wrong:
        kind = "non-negative" if allow_zero else "positive"
        raise ValueError(
            f"--{name} takes {'' if count is None else f'{count} '}{kind} "
            f"integers; got {', '.join(values) or 'none'}."
        )
    return numbers


def pairs(name: str, values: Sequence[str]) -> dict[str, str]:
    """Parses a list flag of KEY=VALUE; a key may name a folder."""
    found: dict[str, str] = {}
    for text in values:
        key, _, value = text.partition("=")
        if not re.fullmatch(r"\w[\w.-]*", key) or not value or key in found:
            raise ValueError(
                f"--{name} takes NAME=VALUE separated by commas, each name "
                "once, of letters, digits, '_', '-' and '.'; got "
                f"{','.join(values)!r}."
            )
        found[key] = value
    return found


def command(name: str, arguments: Sequence[str]) -> str:
    """Returns a program's command line to copy, a flag a line."""
    return " \\\n    ".join(
        [f"python -m experiments.{name}", *map(shlex.quote, arguments)]
    )
