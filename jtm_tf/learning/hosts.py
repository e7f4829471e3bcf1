"""Several machines that hold the whole model, each.

The chief runs Algorithm 1. The others have a model of the same shape and take
part in its model steps, each with a share of every batch, see `mirrored_step`.
What else the chief does to the model, tree steps above all, they read from its
checkpoint when the next model step begins: no tree is learned twice, and what
their processors round otherwise does not add up.
"""

import dataclasses
import pathlib
import secrets
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from absl import logging

from jtm_tf import files
from jtm_tf.learning import cluster

ROLES = ("chief", "worker")
# Seconds between two looks at the chief's note.
_LOOK = 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class Hosts:
    """The machines that train together, as one of them sees them.

    Attributes:
        strategy: mirrors variables on all of them.
        leads: whether this is the chief.
        note: how it tells the others what is next.
    """

    strategy: tf.distribute.Strategy
    leads: bool
    note: "Note"


def join(file: pathlib.Path) -> Hosts:
    """Waits for the machines that TF_CONFIG names, of which this is one.

    To be called before TensorFlow has done anything.

    Args:
        file: for the chief's note; all machines see it under this name.

    Raises:
        ValueError: TF_CONFIG is not that of such machines.
    """
    found = cluster.task(ROLES)
    own, number = found["task"], secrets.randbits(62)
    leads = own["type"] == "chief"
    if leads:  # so that who followed an earlier one leaves
        files.write_json(file, {"chief": number, "order": 0})
    logging.info("%s %d waits for the others.", own["type"], own["index"])
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        # All get the chief's.
        common = tf.Variable(number, dtype=tf.int64)
    number = int(common.numpy())
    return Hosts(
        strategy, leads, Note(file, number, found["cluster"]["chief"][0])
    )


class Note:
    """What the chief tells the others by a file.

    Args:
        file: of the run.
        number: the chief's, which tells it from those before it.
        chief: its address.
    """

    def __init__(self, file: pathlib.Path, number: int, chief: str):
        self._file, self._chief = file, chief
        self._said: dict[str, Any] = {"chief": number, "order": 0}

    def lead(self, header: dict[str, Any]) -> None:
        """Says, as the chief, what is asked for.

        Args:
            header: what decides the outcome, see `runs.folder.header`.
        """
        self._say(header=header)

    def order(self, checkpoint: str) -> None:
        """Has the others take a model step.

        Args:
            checkpoint: the name of the state that it begins from.
        """
        self._say(order=self._said["order"] + 1, checkpoint=checkpoint)

    def check(
        self, header: dict[str, Any], finished: Callable[[], bool]
    ) -> None:
        """Waits, as one of the others, for the chief and compares.

        Args:
            header: what decides the outcome here.
            finished: tells whether the run is.

        Raises:
            ValueError: the chief has other settings, data or code.
            OSError: the chief is gone.
        """
        for said in self._heard(finished):
            if "header" not in said:
                continue
            differences = [
                f"{name}: {theirs!r} there, {own!r} here"
                for name, theirs, own in files.differences(
                    said["header"], header
                )
            ]
            if differences:
                raise ValueError(
                    f"The chief at {self._chief} trains another run "
                    f"({'; '.join(differences)}). All machines need the same "
                    "command, data and code."
                )
            return

    def orders(self, finished: Callable[[], bool]) -> Iterator[str]:
        """Yields the names of what model steps begin from, until the run ends.

        Args:
            finished: tells whether it has.

        Raises:
            OSError: the chief is gone.
        """
        done = 0
        for said in self._heard(finished):
            if said["order"] > done:
                done = said["order"]
                yield said["checkpoint"]

    def _say(self, **news):
        """Writes the note, which has what was said before too."""
        self._said |= news
        files.write_json(self._file, self._said)

    def _heard(self, finished):
        """Yields what the chief says, again and again, while it is there."""
        chief, heard = cluster.Chief(self._chief, there=True), False
        while not cluster.succeeds(finished):
            said = cluster.said(self._file)
            if said.get("chief") == self._said["chief"]:
                heard = True
                yield said
            elif said and heard:  # else it is a note of an earlier one
                raise chief.is_another()
            time.sleep(_LOOK)
            chief.answers()
