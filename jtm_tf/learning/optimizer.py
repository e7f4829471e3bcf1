"""Adam whose cost follows the rows of a batch, not the rows of a table.

Keras's Adam turns the sparse gradient of an embedding into a dense one and
sweeps over table and slots at every step: at four million nodes a step takes
longer than all of the network. Here a sparse gradient updates its rows only.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from jtm_tf.models import rows as rows_lib


@keras.saving.register_keras_serializable("jtm_tf")
class RowSparseAdam(keras.optimizers.Adam):
    """Adam that updates only the rows with a gradient in this step.

    The moments of a row decay only at the steps that touch it (as in "lazy
    Adam"), and the bias correction counts all steps. Dense gradients are
    treated by Keras's Adam unchanged. `amsgrad` is not supported.

    A row is touched by few of the steps, while a dense weight moves at every
    one; Adam's step is of one size whatever the gradient, so at one rate the
    rows would hardly leave their random start. And a row that a batch hardly
    concerns, as one of the nodes that stand for a level does, has a gradient
    a hundred times smaller than one it is about: with Adam's own epsilon both
    would take a step of the same size.

    Args:
        learning_rate: of dense variables.
        row_rate: learning rate of rows, as a multiple of `learning_rate`.
        row_epsilon: gradient of a row, by entry, below which its step shrinks
            with it; Adam's own by default.
        **kwargs: those of `keras.optimizers.Adam`.
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        row_rate: float = 1.0,
        row_epsilon: float | None = None,
        **kwargs,
    ):
        super().__init__(learning_rate, **kwargs)
        _count_all(self.iterations)
        self.row_rate = row_rate
        self.row_epsilon = self.epsilon if row_epsilon is None else row_epsilon
        if self.amsgrad:
            raise ValueError("RowSparseAdam has no amsgrad; use Keras's Adam.")

    def update_step(self, gradient, variable, learning_rate):
        """Updates `variable`; `gradient` is dense or `tf.IndexedSlices`."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        rows, gradient = _sum_rows(gradient)
        momentum, velocity = self.slots(variable)
        # Adam's rule on these rows alone: the others keep their moments too.
        step = tf.cast(self.iterations.value + 1, tf.float32)
        m = tf.gather(momentum, rows)
        m += (1.0 - self.beta_1) * (gradient - m)
        v = tf.gather(velocity, rows)
        v += (1.0 - self.beta_2) * (tf.square(gradient) - v)
        rate = (
            self.row_rate
            * tf.cast(learning_rate, tf.float32)
            * tf.sqrt(1.0 - self.beta_2**step)
            / (1.0 - self.beta_1**step)
        )
        _scatter_update(momentum, rows, m)
        _scatter_update(velocity, rows, v)
        variable.scatter_sub(
            tf.IndexedSlices(rate * m / (tf.sqrt(v) + self.row_epsilon), rows)
        )

    def slots(
        self, variable: keras.Variable
    ) -> tuple[tf.Variable, tf.Variable]:
        """Returns a variable's moments, first and second, of its own shape.

        Whoever moves rows of a variable moves the rows of these with them.
        """
        index = self._get_variable_index(variable)
        return self._momentums[index].value, self._velocities[index].value

    def slot_rows(
        self, tables: Sequence[keras.Variable]
    ) -> tuple[rows_lib.Rows, rows_lib.Rows]:
        """Returns the moments of a table that lies in these variables."""
        first, second = zip(*map(self.slots, tables))
        return rows_lib.Rows(first), rows_lib.Rows(second)

    def reset(self) -> None:
        """Empties the moments of all variables; steps are counted on."""
        for slot in (*self._momentums, *self._velocities):
            slot.assign(tf.zeros_like(slot))

    def get_config(self):
        return {
            **super().get_config(),
            "row_rate": self.row_rate,
            "row_epsilon": self.row_epsilon,
        }


@keras.saving.register_keras_serializable("jtm_tf")
class Falling(keras.optimizers.schedules.PolynomialDecay):
    """A learning rate that falls evenly over the steps from one on.

    Args:
        *args: those of `PolynomialDecay`.
        first_step: the first of its steps.
        **kwargs: likewise.
    """

    def __init__(self, *args, first_step: int = 0, **kwargs):
        super().__init__(*args, **kwargs)
        self.first_step = first_step

    def __call__(self, step):
        """Returns the rate at a step."""
        return super().__call__(step - self.first_step)

    def get_config(self):
        return {**super().get_config(), "first_step": self.first_step}


def _count_all(counter):
    """Has a counter count the steps of all workers.

    Keras reads, adds and writes: of two that step at once, one would be lost.
    """
    counter.assign_add = lambda value: counter.value.assign_add(
        tf.cast(value, counter.dtype)
    )


def _scatter_update(variable, rows, values):
    variable.scatter_update(tf.IndexedSlices(values, rows))


def _sum_rows(gradient):
    """Returns the distinct rows, [R], and their summed gradients, [R, E]."""
    # A node that is met often in a batch takes one step, not several.
    rows, position = tf.unique(gradient.indices)
    summed = tf.math.unsorted_segment_sum(
        gradient.values, position, tf.size(rows)
    )
    return rows, summed
