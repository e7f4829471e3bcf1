"""A node becomes a vector: the table of embeddings."""

import keras
import numpy as np
import tensorflow as tf

from jtm_tf.models import numerics

# Of a table while it is read from a file.
_BLOCK_ROWS = 1 << 20


@keras.saving.register_keras_serializable("jtm_tf")
class NodeEmbedding(numerics.Layer):
    """One vector for every node of the tree, looked up by heap code.

    The table is read and updated by rows only (`ResourceGather`), so that a
    training step never touches memory in proportion to the corpus.

    Args:
        num_codes: rows, `Tree.num_codes`.
        dim: embedding size E.
        stddev: spread of the initial vectors.
    """

    def __init__(self, num_codes: int, dim: int, stddev: float = 0.1, **kwargs):
        super().__init__(**kwargs)
        self.num_codes, self.dim, self.stddev = num_codes, dim, stddev

    def build(self, input_shape=None):
        normal = keras.initializers.RandomNormal(stddev=self.stddev)

        def draw(shape, dtype):
            # In a graph each operation works in the memory of the one before:
            # two tables, where three stood side by side.
            drawn = tf.function(lambda: normal(shape, dtype), autograph=False)
            return drawn.get_concrete_function()()

        self.table = self.add_weight(
            shape=(self.num_codes, self.dim), initializer=draw, name="table"
        )

    def call(self, nodes, level=None):
        """Maps [...] nodes, of any `level`, to [..., E]."""
        del level
        return tf.gather(self.table.value, nodes)

    def load_own_variables(self, store):
        """Reads the table by blocks of rows; Keras would hold it thrice."""
        self._check_load_own_variables(store)
        saved = store["0"]
        if saved.shape != self.table.shape:
            raise ValueError(
                f"Expected a table of shape {tuple(self.table.shape)}; got "
                f"{tuple(saved.shape)}."
            )
        for start in range(0, self.num_codes, _BLOCK_ROWS):
            rows = np.arange(start, min(start + _BLOCK_ROWS, self.num_codes))
            block = tf.IndexedSlices(saved[rows[0] : rows[-1] + 1], rows)
            self.table.value.scatter_update(block)  # on every replica

    def numpy(self):
        """Returns the table, [num_codes, E]."""
        return self.table.value.numpy()

    def get_config(self):
        return {
            **super().get_config(),
            "num_codes": self.num_codes,
            "dim": self.dim,
            "stddev": self.stddev,
        }
