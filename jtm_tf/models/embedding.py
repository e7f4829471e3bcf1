"""A node becomes a vector: the table of embeddings."""

import contextlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from jtm_tf.models import numerics
from jtm_tf.models import rows as rows_lib


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
        self._apart = False

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
        return self._in_memory

    @property
    def _in_memory(self):
        """The table in variables."""
        if not self.shards:
            raise ValueError(
                "The table stays in its file, and cannot be changed there; "
                "load the model into memory."
            )
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
            level: rows_lib.shaped(vectors, of_level)
            for (level, of_level), vectors in zip(nodes.items(), found)
        }

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Leaves the table out of what Keras writes and reads for a block.

        It would hold all of it once more; see `write` and `read`.
        """
        self._apart = True
        try:
            yield
        finally:
            self._apart = False

    def save_own_variables(self, store):
        """Writes one table."""
        if not self._apart:
            store["0"] = self.numpy()

    def load_own_variables(self, store):
        """Reads one table."""
        if not self._apart:
            there = list(store.keys())
            self.read(store["0"] if there == ["0"] else np.zeros(len(there)))

    def write(self, file: Any) -> None:
        """Writes the table, block by block.

        Args:
            file: [num_codes, E], an array or what is like one, a data set of a
                file.
        """
        for block in rows_lib.blocks(self.num_codes):
            rows = np.arange(block.start, block.stop)
            file[block] = self.rows.gather(rows).numpy()

    def read(self, file: Any) -> None:
        """Reads the table, block by block; without variables it stays there.

        Args:
            file: [num_codes, E], as of `write`; where the table is to stay in
                its file, an array that `rows.FileRows` takes.

        Raises:
            ValueError: it is of another shape.
        """
        shape = (self.num_codes, self.dim)
        if file.shape != shape:
            raise ValueError(
                f"Expected one table of shape {shape}; got {file.shape}."
            )
        if not self.shards:
            self._in_file = rows_lib.FileRows(file)
            return
        for block in rows_lib.blocks(self.num_codes):
            rows = np.arange(block.start, block.stop)
            self._in_memory.update(rows, file[block])  # on every replica

    def assign(self, table: np.ndarray) -> None:
        """Takes another table, [num_codes, E]."""
        self._in_memory.assign(table)

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
