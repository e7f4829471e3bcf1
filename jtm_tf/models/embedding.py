"""A node becomes a vector: the table of embeddings."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from jtm_tf.models import numerics
from jtm_tf.models import rows as rows_lib

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
        shards: variables that the table lies in, see `rows.Rows`; a file has
            one table however many they are. 0: it is not taken out of the
            file that it is loaded from, see `rows.FileRows`.

    Attributes:
        tables: the variables.
    """

    def __init__(
        self,
        num_codes: int,
        dim: int,
        stddev: float = 0.1,
        shards: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 <= shards <= num_codes:
            raise ValueError(
                f"A table of {num_codes} rows lies in 1 to {num_codes} "
                f"variables, or in none but its file; got shards={shards}."
            )
        self.num_codes, self.dim, self.stddev = num_codes, dim, stddev
        self.shards = shards
        self._in_file: rows_lib.FileRows | None = None

    def build(self, input_shape=None):
        normal = keras.initializers.RandomNormal(stddev=self.stddev)

        def draw(shape, dtype):
            # In a graph each operation works in the memory of the one before:
            # two tables, where three stood side by side.
            drawn = tf.function(lambda: normal(shape, dtype), autograph=False)
            return drawn.get_concrete_function()()

        self.tables = [
            self.add_weight(
                shape=(
                    rows_lib.count(self.num_codes, self.shards, shard),
                    self.dim,
                ),
                initializer=draw,
                name="table" if self.shards == 1 else f"table_{shard}",
            )
            for shard in range(self.shards)
        ]

    @property
    def rows(self) -> rows_lib.Rows | rows_lib.FileRows:
        """The table by rows."""
        if not self.shards:
            if self._in_file is None:
                raise ValueError("The table's file has not been loaded yet.")
            return self._in_file
        return rows_lib.Rows([table.value for table in self.tables])

    def call(self, nodes, level=None):
        """Maps [...] nodes, of any `level`, to [..., E]."""
        del level
        return self.rows.gather(nodes)

    def of_levels(self, nodes: Mapping[int, tf.Tensor]) -> dict[int, tf.Tensor]:
        """Maps nodes of several levels, [..] each, to [.., E], by one look-up.

        Levels have no node in common, so that a row is asked for once by all
        of them as by each.
        """
        if not nodes:
            return {}
        parts = [tf.reshape(part, [-1]) for part in nodes.values()]
        sizes = [tf.size(part) for part in parts]
        found = tf.split(self.rows.gather(tf.concat(parts, 0)), sizes)
        return {
            level: tf.reshape(vectors, [*_shape(of_level), self.dim])
            for (level, of_level), vectors in zip(nodes.items(), found)
        }

    def save_own_variables(self, store):
        """Writes one table."""
        store["0"] = self.numpy()

    def load_own_variables(self, store):
        """Reads the table by blocks of rows; Keras would hold it thrice."""
        if not self.shards:
            return  # see `stay_in`
        there, shape = list(store.keys()), (self.num_codes, self.dim)
        saved = store["0"] if there == ["0"] else None
        if saved is None or tuple(saved.shape) != shape:
            came = len(there) if saved is None else tuple(saved.shape)
            raise ValueError(
                f"Expected one table of shape {shape}; got {came}."
            )
        for start in range(0, self.num_codes, _BLOCK_ROWS):
            rows = np.arange(start, min(start + _BLOCK_ROWS, self.num_codes))
            # On every replica.
            self.rows.update(rows, saved[rows[0] : rows[-1] + 1])

    def stay_in(self, file: np.ndarray) -> None:
        """Takes a table that stays in its file.

        Args:
            file: [num_codes, E] float32, see `rows.FileRows`.

        Raises:
            ValueError: it is of another shape.
        """
        if file.shape != (self.num_codes, self.dim):
            raise ValueError(
                f"Expected one table of shape {(self.num_codes, self.dim)}; "
                f"got {file.shape}."
            )
        self._in_file = rows_lib.FileRows(file)

    def assign(self, table: np.ndarray) -> None:
        """Takes another table, [num_codes, E]."""
        self.rows.assign(table)

    def numpy(self):
        """Returns the table, [num_codes, E]."""
        return self.rows.numpy()

    def get_config(self):
        # Where the rows lay is nothing that a file tells.
        return {
            **super().get_config(),
            "num_codes": self.num_codes,
            "dim": self.dim,
            "stddev": self.stddev,
        }


def _shape(tensor):
    """Returns the sizes of a tensor, as integers where they are known."""
    sizes = tf.shape(tensor)
    return [
        sizes[axis] if size is None else size
        for axis, size in enumerate(tensor.shape)
    ]
