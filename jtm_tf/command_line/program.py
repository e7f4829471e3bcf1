"""The frame of every program: errors for people, flags that hold lists."""

import functools
import io
import logging as python_logging
import os
import pathlib
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from collections.abc import Sequence

from absl import app
from absl import logging

from jtm_tf.command_line import flag_groups


def entry(main: Callable[[], None]) -> Callable[[], None]:
    """Makes a program of its `main`, for python -m and console scripts alike.

    The program parses flags, shows them by purpose on --help, and refuses
    what is left beside them; an expected error is one line and exit status 1.
    """

    def guarded(argv: list[str]) -> None:
        try:
            no_arguments(argv)
            main()
        except (ValueError, OSError, FloatingPointError) as error:
            sys.exit(f"Error: {error}")

    def run() -> None:
        _start_in_utf8()
        # What a terminal, or a pipe of another locale, cannot show is escaped.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        logging.get_absl_logger().addFilter(_is_for_users)
        # TensorFlow's warnings have a handler of their own; once is enough.
        python_logging.getLogger("tensorflow").propagate = False
        parse = functools.partial(flag_groups.parse, main.__module__)
        app.run(guarded, flags_parser=parse)

    return run


def told_to_end() -> threading.Event:
    """Returns an event that is set once Ctrl-C or SIGTERM asks for the end.

    Also where a shell started the program behind itself, which has Ctrl-C
    ignored else.
    """
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    return told


def _start_in_utf8():
    """Starts anew where the locale has no letters for what is asked.

    TensorFlow and Arrow take names of files as UTF-8, whatever the locale.
    """
    if sys.getfilesystemencoding() != "utf-8":
        if not all(argument.isascii() for argument in sys.argv):
            command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
            os.execv(sys.executable, command)


def _is_for_users(record):
    """Tells whether a log record is no mere note of TensorFlow's own."""
    own = "tensorflow" in pathlib.Path(record.pathname).parts
    return not own or record.levelno > python_logging.INFO


def no_arguments(argv: Sequence[str]) -> None:
    """Refuses what is left on the command line beside flags."""
    if len(argv) > 1:
        raise ValueError(
            f"Unknown arguments: {' '.join(argv[1:])}. Flags begin with --; "
            "--help lists them."
        )


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


def numbers(
    name: str, values: Sequence[str], kind: type[int] | type[float]
) -> tuple[int | float, ...]:
    """Parses a list flag of numbers, one at least."""
    try:
        found = tuple(kind(value) for value in values)
    except ValueError:
        found = ()
    if not found:
        words = {int: "integers", float: "numbers"}
        raise ValueError(
            f"--{name} takes {words[kind]}; got {', '.join(values) or 'none'}."
        )
    return found


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


def command(module: str, arguments: Sequence[str]) -> str:
    """Returns a program's command line to copy, a flag a line."""
    return " \\\n    ".join(
        [f"python -m {module}", *map(shlex.quote, arguments)]
    )
