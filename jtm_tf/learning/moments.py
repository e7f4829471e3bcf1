"""The optimiser's moments of a finished run, in its last checkpoint.

A saved model has no optimiser; who continues the run finds its moments here.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from jtm_tf import files
from jtm_tf.runs import folder as run_folder
from jtm_tf.runs import trained

# Where a checkpoint has the optimiser's i-th variable, its steps first. Then
# comes its rate, where that never falls, then the moments, two a variable.
_VARIABLE = "trainer/optimizer/_variables/{}/.ATTRIBUTES/VARIABLE_VALUE"
_STEPS = "trainer/optimizer/_iterations/.ATTRIBUTES/VARIABLE_VALUE"
_FIRSTS = (1, 2)

# Maps a variable to its first and second moments, of its shape, each read when
# it is asked for: of a table they are as large as it is.
MomentsFn = Callable[[keras.Variable], Iterator[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Saved:
    """Where moments are.

    Attributes:
        checkpoint: the path that TensorFlow knows it by.
        first: the number of the first moment of the first variable.
        steps: that the optimiser had counted.
    """

    checkpoint: pathlib.Path
    first: int
    steps: int

    @contextlib.contextmanager
    def of(self, variables: Sequence[keras.Variable]) -> Iterator[MomentsFn]:
        """Yields what reads the moments of a variable.

        Args:
            variables: those that train, in the model's order.
        """
        names = _names(variables, self.first)
        with _opened(self.checkpoint) as reader:

            def moments(variable):
                return map(reader.get_tensor, names[id(variable)])

            yield moments


def latest(folder: run_folder.RunFolder) -> pathlib.Path | None:
    """Returns a run's last checkpoint, None if it has none."""
    state = tf.train.get_checkpoint_state(str(folder.checkpoints))
    return pathlib.Path(state.model_checkpoint_path) if state else None


def find(run: trained.TrainedRun) -> Saved | None:
    """Returns where the moments of a run's model are, None if nowhere.

    Those of the last round are the model's if that was the best; of a table
    in several variables they lie otherwise.
    """
    assert run.folder is not None
    path, rounds = latest(run.folder), run.metrics.get("iterations", [])
    if path is None or run.metrics.get("best_iteration") != len(rounds):
        return None
    variables = run.model.trainable_variables
    with _opened(path) as reader:
        shapes = reader.get_variable_to_shape_map()
        for first in _FIRSTS:
            names = _names(variables, first)
            if all(
                shapes.get(name) == list(x.shape)
                for x in variables
                for name in names[id(x)]
            ):
                steps = int(reader.get_tensor(_STEPS))
                return Saved(path, first, steps)
    return None


def _names(variables, first):
    """Returns the names of each variable's moments, by its identity."""
    return {
        id(x): [_VARIABLE.format(first + 2 * i + k) for k in (0, 1)]
        for i, x in enumerate(variables)
    }


@contextlib.contextmanager
def _opened(checkpoint):
    """Yields the reader of a checkpoint."""
    with files.without_patterns(checkpoint.parent) as folder:
        yield tf.train.load_checkpoint(str(folder / checkpoint.name))
