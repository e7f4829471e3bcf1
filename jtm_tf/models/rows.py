"""A table of rows, in one variable, in several machines' memory, or in a file.

Row r of k variables is row r // k of variable r mod k: those of a level, or of
all levels near the root, are spread evenly, and none is asked by all.
"""

from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# Of a table that are taken at a time.
_BLOCK_ROWS = 1 << 20


def count(num_rows: int, shards: int, shard: int) -> int:
    """Returns how many of a table's rows lie in one of its variables."""
    return -(-(num_rows - shard) // shards)


class Rows:
    """Reads and writes rows of a table, wherever they lie.

    Args:
        variables: [rows of the shard, E] each, see `count`.
    """

    def __init__(self, variables: Sequence[tf.Variable]):
        self.variables = tuple(variables)

    def __len__(self) -> int:
        return sum(int(one.shape[0]) for one in self.variables)

    def gather(self, rows) -> tf.Tensor:
        """Returns [..., E] of [...] rows; gradients flow to those alone."""
        if self._are_here:
            return tf.gather(self.variables[0], rows)
        # Each distinct row crosses the network once, however often it is met.
        distinct, where = tf.unique(tf.reshape(rows, [-1]))
        local, order = self._parts(distinct)
        found = [tf.gather(x, at) for x, at in zip(self.variables, local)]
        vectors = tf.gather(tf.dynamic_stitch(order, found), where)
        return shaped(vectors, rows)

    def update(self, rows: np.ndarray, values) -> None:
        """Sets [R] distinct rows to [R, E] values."""
        for variable, slices in self._slices(rows, values):
            variable.scatter_update(slices)

    def add(self, rows: np.ndarray, values) -> None:
        """Adds [R, E] values to [R] rows."""
        for variable, slices in self._slices(rows, values):
            variable.scatter_add(slices)

    def assign(self, table: np.ndarray) -> None:
        """Takes other rows, all of them, [rows, E]."""
        shards = len(self.variables)
        for shard, variable in enumerate(self.variables):
            variable.assign(table[shard::shards])

    def numpy(self) -> np.ndarray:
        """Returns the table, [rows, E]."""
        if len(self.variables) == 1:
            return self.variables[0].numpy()
        shards = len(self.variables)
        first = self.variables[0]
        table = np.empty((len(self), first.shape[1]), np.float32)
        for shard, variable in enumerate(self.variables):
            table[shard::shards] = variable.numpy()
        return table

    @property
    def _are_here(self):
        """Whether they are one table in this process's own memory."""
        first = self.variables[0]
        return len(self.variables) == 1 and "/job:ps" not in first.device

    def _slices(self, rows, values):
        """Returns what concerns each variable."""
        if len(self.variables) == 1:
            return [(self.variables[0], tf.IndexedSlices(values, rows))]
        local, order = self._parts(tf.convert_to_tensor(rows))
        values = tf.cast(values, self.variables[0].dtype)
        return [
            (variable, tf.IndexedSlices(tf.gather(values, at), part))
            for variable, part, at in zip(self.variables, local, order)
        ]

    def _parts(self, rows):
        """Returns, by variable, the places of rows in it and in `rows`."""
        shards = len(self.variables)
        shard = tf.cast(rows % shards, tf.int32)
        return (
            tf.dynamic_partition(rows // shards, shard, shards),
            tf.dynamic_partition(tf.range(tf.size(rows)), shard, shards),
        )


class FileRows:
    """Reads rows of a table that stays in its file, as `Rows` does.

    All processes of a machine that map one file share the memory of what they
    read of it. Nobody writes.

    Args:
        table: [rows, E] float32, `numpy.memmap` of mode "r".
    """

    def __init__(self, table: np.ndarray):
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def gather(self, rows) -> tf.Tensor:
        """Returns [..., E] of [...] rows; no gradient flows."""
        distinct, where = tf.unique(tf.reshape(rows, [-1]))
        found = tf.numpy_function(
            lambda some: self._table[some],
            [distinct],
            tf.float32,
            stateful=False,
        )
        found.set_shape([None, self._table.shape[1]])
        return shaped(tf.gather(found, where), rows)

    def numpy(self) -> np.ndarray:
        """Returns the table in its file, [rows, E], to be read only."""
        return self._table


def blocks(count: int) -> Iterator[slice]:
    """Yields all of so many rows, as many at a time as memory is given for."""
    for first in range(0, count, _BLOCK_ROWS):
        yield slice(first, min(first + _BLOCK_ROWS, count))


def shaped(vectors: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Returns the [R, E] vectors of [...] rows, R in all, as [..., E]."""
    width = vectors.shape[1]
    vectors = tf.reshape(vectors, tf.concat([tf.shape(rows), [width]], 0))
    vectors.set_shape([*tf.TensorShape(rows.shape), width])
    return vectors
