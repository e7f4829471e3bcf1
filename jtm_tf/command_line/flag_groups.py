"""Flags in groups, so that --help reads by purpose and not by alphabet."""

import contextlib
import sys
from collections.abc import Iterator

from absl import app
from absl import flags

_HELP = {"--help", "-help", "--helpshort", "-helpshort", "-h", "-?"}
_groups: dict[str, list[str]] = {}


@contextlib.contextmanager
def group(title: str) -> Iterator[None]:
    """Puts the flags that the block defines under a title."""
    before = set(flags.FLAGS)
    yield
    _groups[title] = [name for name in flags.FLAGS if name not in before]


def parse(module: str, argv: list[str]) -> list[str]:
    """Parses flags as absl does, but for --help, which shows them by purpose.

    Args:
        module: of the program, "__main__" or its name.
        argv: the command line.

    Returns:
        What is left beside the flags.
    """
    if _HELP & set(argv[1:]):
        with contextlib.suppress(BrokenPipeError):  # .. | head
            print(f"{sys.modules[module].__doc__}\n{_text(module)}", flush=True)
        sys.exit(0)
    return app.parse_flags_with_usage(argv)


def _text(module):
    """Returns the flags with their help, 80 columns wide.

    Where no flags are in groups, they are the module's own, and those that it
    has adopted (`flags.adopt_module_key_flags`).
    """
    own = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(module)]
    lines = []
    for title, names in (_groups or {"Flags": own}).items():
        lines += [title, ""]
        for name in names:
            lines += _described(flags.FLAGS[name])
        lines.append("")
    lines.append("--helpfull has all flags, those of logging among them.")
    return "\n".join(lines)


def _described(flag):
    """Returns the lines of one flag: how it is written, what it means."""
    meaning, form = flag.help, f"--{flag.name}={_kind(flag)}"
    if flag.boolean:
        form = f"--[no]{flag.name}"
    elif flag.flag_type() == "string enum":
        values = "|".join(flag.parser.enum_values)
        meaning = meaning.removeprefix(f"<{values}>: ")
        if len(values) < 50:
            form = f"--{flag.name}={values}"
    if flag.default not in (None, [], ""):
        # Text comes in quotes.
        meaning += f" (default: {flag.default_as_str.strip(chr(39))})"
    return [f"  {form}", flags.text_wrap(meaning, 80, "      ")]


def _kind(flag):
    """Returns a word for what a flag takes."""
    kind = flag.flag_type()
    words = {"string enum": "NAME", "comma separated list of strings": "A,B,.."}
    return words.get(kind, kind.upper())
