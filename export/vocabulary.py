"""Names inside the graph: raw ids to items and back, profile values to codes.

Hash tables and string variables are stock TensorFlow, so that a client speaks
in the ids of the source and a server needs no code of ours.
"""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import tensorflow as tf

from jtm_tf.data import interactions
from jtm_tf.types import PAD, Array


class ItemVocabulary(tf.Module):
    """Maps raw ids to items 1..N and back; what is unknown maps to PAD.

    Args:
        raw_ids: [N], the id of item i at [i - 1]: strings or integers.

    Attributes:
        dtype: of raw ids, tf.string or tf.int64.
        pad: the raw id that stands for none: "" or 0, where an item has the
            id 0 the first of -1, -2, .. that no item has.

    Raises:
        ValueError: ids that repeat, or an empty one.
    """

    def __init__(self, raw_ids: pa.Array | pa.ChunkedArray):
        super().__init__()
        if pa.types.is_integer(raw_ids.type):
            self.dtype = tf.int64
            names = raw_ids.to_numpy().astype(np.int64)
            self.pad: int | str = 0
            while np.any(names == self.pad):
                self.pad -= 1
        else:
            self.dtype, self.pad = tf.string, ""
            names = np.array(raw_ids.to_pylist(), object)
        if len(np.unique(names)) < len(names):
            raise ValueError("raw_id of items.parquet must not repeat.")
        if self.dtype is tf.string and np.any(names == self.pad):
            raise ValueError(
                "An item has the empty string as raw_id, which is what pads "
                "a history; give the item another id and prepare again."
            )
        self._items = _table(names, self.dtype, tf.int32)
        self._raw_ids = tf.Variable(
            np.insert(names, PAD, self.pad), dtype=self.dtype, trainable=False
        )

    def items(self, raw_ids: tf.Tensor) -> tf.Tensor:
        """Maps [...] raw ids to [...] int32 items."""
        return self._items.lookup(raw_ids)

    def raw_ids(self, items: tf.Tensor) -> tf.Tensor:
        """Maps [...] items to [...] raw ids, PAD to `pad`."""
        return tf.gather(self._raw_ids, items)

    def history(self, raw_ids: tf.Tensor, length: int) -> tf.Tensor:
        """Returns the newest known items, [B, any] -> [B, length] int32.

        Pads and unknown ids may stand anywhere; items keep their order and
        move to the right, PAD fills the left.
        """
        items = self._items.lookup(raw_ids)
        items = tf.pad(items, [[0, 0], [length, 0]], constant_values=PAD)
        known = tf.cast(items != PAD, tf.int32)
        order = tf.argsort(known, axis=1, stable=True)[:, -length:]
        newest = tf.gather(items, order, batch_dims=1)
        return tf.ensure_shape(newest, [None, length])


class ProfileVocabulary(tf.Module):
    """Maps profile values, as strings, to the codes a model was trained on.

    Args:
        data: the prepared data.
        names: profile columns, in the model's order.

    Attributes:
        inputs: the name of each column's input, "profile_" and the column's
            name; what TensorFlow takes in no name is "_".
        examples: a value of each.
    """

    def __init__(self, data: interactions.Interactions, names: Sequence[str]):
        super().__init__()
        self.inputs: list[str] = []
        for name in names:
            plain = re.sub("[^0-9A-Za-z_]", "_", f"profile_{name}")
            while plain in self.inputs:
                plain += "_"
            self.inputs.append(plain)
        values = [[str(x) for x in data.profile_values(n)] for n in names]
        self.examples = [known[0] if known else "" for known in values]
        self._codes = [
            _table(np.array(known, object), tf.string, tf.int32)
            for known in values
        ]

    def codes(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """Maps one [B] string tensor a column to [B, columns] int32 codes."""
        return tf.stack(
            [table.lookup(x) for table, x in zip(self._codes, values)], 1
        )


class CategoryVocabulary(tf.Module):
    """Numbers every prefix of every category path; unknown ones are 0.

    1 is the root, which all items belong to; "coarse" and "coarse|fine" are
    categories of their own.

    Args:
        paths: [N] of str or None, item i's path at [i - 1]; None where the
            source knows no categories.
        num_items: N.

    Attributes:
        of_item: [N + 1] int32, the finest category of each item.
        above: [categories + 1, depth] int32, the categories that contain
            each, itself and the root among them; 0 fills up.
        names: all categories but the root.
    """

    ROOT = 1

    def __init__(self, paths: Array | None, num_items: int):
        super().__init__()
        parts = [
            tuple(path.split("|")) if path else ()
            for path in ([None] * num_items if paths is None else paths)
        ]
        prefixes = {x[:end] for x in set(parts) for end in range(len(x) + 1)}
        number = {x: i for i, x in enumerate(sorted(prefixes | {()}), 1)}
        depth = 1 + max(map(len, prefixes), default=0)
        self.above = np.zeros((len(number) + 1, depth), np.int32)
        for path, row in number.items():
            for end in range(len(path) + 1):
                self.above[row, end] = number[path[:end]]
        own = [number[path] for path in parts]
        self.of_item = np.array([0, *own], np.int32)
        named = {"|".join(path): row for path, row in number.items()}
        named.pop("")  # the root; a client's pad
        self.names = list(named)
        self._numbers = _table(
            np.array(self.names, object),
            tf.string,
            tf.int64,
            values=list(named.values()),
        )

    def numbers(self, names: tf.Tensor) -> tf.Tensor:
        """Maps [...] strings to [...] int64 categories."""
        return self._numbers.lookup(names)


def _table(keys, key_dtype, value_dtype, values=None):
    """Returns a hash table: keys to `values`, 1, 2, .. by default, else 0."""
    if values is None:
        values = np.arange(1, len(keys) + 1)
    if not len(keys):  # TensorFlow refuses a table of nothing
        keys, values = [""], [0]
    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant(keys, key_dtype, shape=[len(keys)]),
            tf.constant(values, value_dtype, shape=[len(keys)]),
        ),
        default_value=0,
    )
