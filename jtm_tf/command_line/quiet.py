"""Lets TensorFlow start without its notes, once this module is imported.

The programs' output is for people; set TF_CPP_MIN_LOG_LEVEL=0 to see the
notes. What goes wrong in TensorFlow reaches Python as an exception and is not
touched. Needs nothing but Python, so that serving can do without the library.
"""

import importlib.abc
import importlib.util
import os
import re
import sys
import tempfile

_NOTE = re.compile(rb"[IW]\d{4} |WARNING: All log messages before absl::")


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Hides what TensorFlow's libraries say while they are being loaded.

    Its own switch, TF_CPP_MIN_LOG_LEVEL, has no effect on them before they
    are (tensorflow#100442).
    """

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


if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0":
    sys.meta_path.insert(0, _QuietTensorFlow())
