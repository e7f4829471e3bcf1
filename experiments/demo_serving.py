"""The last act of the demo: a run is exported, served and asked.

All of it as in earnest: the export program, a server that loads nothing but
the SavedModel, and a client that speaks TensorFlow Serving's gRPC.
"""

import pathlib
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

from export import serving
from export.artefact import versions
from export.calling import clients
from jtm_tf.data import interactions


def publish(
    run_dir: pathlib.Path, data_dir: pathlib.Path, base: pathlib.Path
) -> None:
    """Exports a run into a folder of versions, unless that is done.

    Raises:
        ValueError: the program failed; it has said why on stderr.
    """
    if versions.existing(base):
        return
    command = [
        sys.executable,
        "-m",
        "export.export_model",
        f"--run_dir={run_dir}",
        f"--data_dir={data_dir}",
        f"--export_dir={base}",
    ]
    if subprocess.run(
        command, stdout=subprocess.DEVNULL, check=False
    ).returncode:
        raise ValueError(f"{run_dir} could not be exported to {base}.")


def ask(
    base: pathlib.Path, history: Sequence[clients.Id]
) -> tuple[list[clients.Id], int]:
    """Serves a folder of versions for one question.

    Args:
        base: the folder.
        history: raw ids, oldest first.

    Returns:
        What the endpoint recommends, and the version that answered.
    """
    with serving.Server(base) as server:
        address = f"{serving.Config().host}:{server.grpc_port}"
        with clients.Client(target=address, model=server.name) as client:
            answer = client.recommend([history])
    return answer.ids[0], answer.version


def report(
    base: pathlib.Path,
    data: interactions.Interactions,
    history: np.ndarray,
    expected: np.ndarray,
    *,
    lines: int,
) -> str:
    """Asks an endpoint and returns what it says, by product name.

    Args:
        base: the folder to serve.
        data: what the items are.
        history: items, oldest first.
        expected: the items that the model itself recommends.
        lines: how many to show.
    """
    ids, version = ask(base, data.item_ids.of(history))
    equal = ids == data.item_ids.of(expected)
    shown = data.item_names(data.item_ids.numbers(ids[:lines]))
    return "\n".join(
        [
            f"Version {version} of {base.name}, served by gRPC, recommends",
            *(f"      {name}" for name in shown),
            f"and {max(0, len(ids) - lines)} more: "
            + ("what" if equal else "NOT what")
            + " the model itself recommends.",
        ]
    )
