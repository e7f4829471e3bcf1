"""The frame of every program: expected errors are one line, not a trace.

Needs nothing but absl, so that serving can do without the library.
"""

import logging as python_logging
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app
from absl import logging


def run(main: Callable[[list[str]], None], **absl_arguments: Any) -> None:
    """Runs a program; an expected error is one line and exit status 1.

    Args:
        main: takes what is left on the command line beside flags.
        **absl_arguments: further ones of `absl.app.run`.
    """

    def guarded(argv: list[str]) -> None:
        try:
            main(argv)
        except (ValueError, OSError, FloatingPointError) as error:
            sys.exit(f"Error: {error}")

    logging.get_absl_logger().addFilter(_is_for_users)
    # TensorFlow's warnings have a handler of their own; once is enough.
    python_logging.getLogger("tensorflow").propagate = False
    app.run(guarded, **absl_arguments)


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
