"""Lets TensorFlow start without its notes: the programs' output is for people.

Set TF_CPP_MIN_LOG_LEVEL=0 to see the notes. What goes wrong in TensorFlow
reaches Python as an exception and is not touched.
"""

import importlib.abc
import importlib.util
import os
import re
import sys
import tempfile

_NOTE = re.compile(rb"[IW]\d{4} |WARNING: All log messages before absl::")


def tensorflow() -> None:
    """Hides what TensorFlow says while it is loaded, now or later.

    TF_CPP_MIN_LOG_LEVEL has no effect on its libraries before they are loaded
    (tensorflow#100442), so of what comes to stderr meanwhile only the rest is
    let through. A program imports TensorFlow with its modules, before it runs,
    or not at all; so it is the package of programs that calls this.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0":
        sys.meta_path.insert(0, _QuietTensorFlow())


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as others do, and wraps its loading, once."""

    def find_spec(self, name, path, target=None):
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            load = spec.loader.exec_module
            spec.loader.exec_module = lambda module: _without_notes(
                load, module
            )
        return spec


def _without_notes(load, module):
    """Loads a module; of its stderr only what is no note comes through."""
    with tempfile.TemporaryFile() as heard:
        stderr = os.dup(2)
        os.dup2(heard.fileno(), 2)
        try:
            load(module)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            heard.seek(0)
            os.write(2, b"".join(x for x in heard if not _NOTE.match(x)))
