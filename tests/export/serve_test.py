"""Tests of the program `export.serve`, as a shell starts it."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from export import serving
from tests.support import calls
from tests.support import served_models
from tests.support import shell

# Runs a program where the library and its programs cannot be imported.
STRANGER = """
import runpy
import sys

class Nothing:
    def find_spec(self, name, path, target=None):
        room = name.split(".")[:2]
        ours = room == ["jtm_tf"] or room[0] not in ("jtm_tf", "experiments")
        if not ours and room != ["jtm_tf", "command_line"]:
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Nothing())
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@contextlib.contextmanager
def serve(*flags):
    """Yields the process of a server and its ports."""
    command = [sys.executable, "-c", STRANGER, "export.serve", *flags]
    with subprocess.Popen(
        command,
        cwd=shell.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    ) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)
        finally:
            process.kill()


def test_a_life_in_the_shell(tmp_path):
    """Serves without the library; stops when told, and answers until then."""
    base = tmp_path / "numbered"
    served_models.publish_numbered(base, 3)
    flags = f"--model_base={base}", "--port=0", "--rest_port=0", "--name=shop"
    with serve(*flags) as (process, ports):
        with contextlib.closing(calls.Client(ports)) as client:
            history = np.array([[20, 2]], np.int64)
            spec, outputs = client.predict(
                calls.predict_request("shop", {"history": history})
            )
            assert spec.version.value == 3
            assert outputs["sums"].tolist() == [22]
            slow = client.stub.Predict.future(
                calls.predict_request(
                    "shop", {"history": history}, signature="slow"
                ),
                timeout=60,
            )
            while not client.metric("serving_queue_requests"):
                assert not slow.done()
            process.send_signal(signal.SIGTERM)
            assert slow.result().model_spec.signature_name == "slow"
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (0, "")
    # Lines of Python's: the libraries below have words of their own.
    own = [line for line in stderr.splitlines() if ".py:" in line]
    said = [line.partition("] ")[2] for line in own]
    assert "Traceback" not in stderr and "ignored" not in stderr, stderr
    assert [line.split()[0] for line in said] == [
        "Serving",
        "Stopping;",
        "Released",
    ]


def test_settings_that_cannot_be():
    for name, value in {
        "port": 70_000,
        "keep_versions": 0,
        "poll_seconds": 0.0,
        "max_batch": 0,
        "workers": 0,
        "max_request_mb": float("nan"),
    }.items():
        with pytest.raises(ValueError, match="at least|above|at most"):
            serving.Config(**{name: value})
