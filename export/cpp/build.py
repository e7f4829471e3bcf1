"""Compiles recommend.cc against the TensorFlow that Python uses.

    python -m export.cpp.build [--out_dir=DIR]

The wheel has all it takes: headers, and `tensorflow::LoadSavedModel`, which
TensorFlow Serving calls too, in libtensorflow_framework; sessions and kernels
are in libtensorflow_cc. Needs Linux and a C++17 compiler, $CXX or c++. Takes
some ten seconds; what was compiled before from the same is used again. Prints
JSON last.
"""

import hashlib
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import tensorflow as tf
from absl import flags

from jtm_tf import files
from jtm_tf.command_line import program

SOURCE = pathlib.Path(__file__).parent / "recommend.cc"

_OUT_DIR = flags.DEFINE_string(
    "out_dir",
    None,
    "Where programs are kept; jtm_tf in the user's cache if not given.",
)


def default_folder() -> pathlib.Path:
    """Returns where programs are kept if nobody says otherwise."""
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "jtm_tf"


def compiler() -> str | None:
    """Returns the C++ compiler, None where there is none to use."""
    if not sys.platform.startswith("linux"):
        return None
    return shutil.which(os.environ.get("CXX") or "c++")


def build(folder: files.Path) -> pathlib.Path:
    """Returns the compiled program; compiles it if source or tools are new.

    Args:
        folder: where programs are kept, each under a name of its content.

    Raises:
        ValueError: no compiler, or it failed.
    """
    found = compiler()
    if found is None:
        raise ValueError(
            "Expected Linux and a C++ compiler; got none. Install g++, or "
            "set CXX to the compiler."
        )
    command = [found, *_flags()]
    path = pathlib.Path(folder) / f"recommend-{_fingerprint(command)}"
    if path.exists():
        return path
    with files.replacing(path) as temporary:
        done = subprocess.run(
            [*command, "-o", str(temporary)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ValueError(
                f"{shlex.join(command)} failed:\n{done.stderr.strip()}"
            )
    return path


def _flags():
    """Returns the compiler's arguments, all but the output."""
    headers = tf.sysconfig.get_include()
    libraries = tf.sysconfig.get_lib()
    return [
        # Their headers are theirs to keep clean.
        *(
            flag.replace(f"-I{headers}", f"-isystem{headers}")
            for flag in tf.sysconfig.get_compile_flags()
        ),
        # The time goes into TensorFlow, whatever is done here.
        "-O0",
        "-w",
        str(SOURCE),
        # Sessions register themselves in a library that no symbol asks for.
        "-Wl,--no-as-needed",
        f"-L{libraries}",
        "-l:libtensorflow_cc.so.2",
        "-l:libtensorflow_framework.so.2",
        f"-Wl,-rpath,{libraries}",
    ]


def _fingerprint(command):
    """Returns what tells one program from another: all that goes into it."""
    content = hashlib.sha256(SOURCE.read_bytes())
    version = subprocess.run(
        [command[0], "--version"], capture_output=True, check=True
    ).stdout
    for part in (version, tf.__version__, *command):
        content.update(part if isinstance(part, bytes) else part.encode())
    return content.hexdigest()[:16]


@program.entry
def main() -> None:
    path = build(_OUT_DIR.value or default_folder())
    print(json.dumps({"path": str(path)}))


if __name__ == "__main__":
    main()
