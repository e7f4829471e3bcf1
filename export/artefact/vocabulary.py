"""Names inside the graph: raw ids to items and back, profile values to codes.

Hash tables and string variables are stock TensorFlow, so that a client speaks
in the ids of the source and a server needs no code of ours.
"""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import tensorflow as tf

from jtm_tf import categories
from jtm_tf.data import interactions
from jtm_tf.types import PAD


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
        self._items = (
            _StringTable(names)
            if self.dtype is tf.string
            else _IntegerTable(names)
        )

    def items(self, raw_ids: tf.Tensor) -> tf.Tensor:
        """Maps [...] raw ids to [...] int32 items."""
        return self._items.lookup(raw_ids)

    def raw_ids(self, items: tf.Tensor) -> tf.Tensor:
        """Maps [...] items to [...] raw ids, PAD to `pad`."""
        known = items != PAD
        names = self._items.keys(tf.where(known, items, 1) - 1)
        return tf.where(known, names, self.pad)

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
        paths: [N] strings or nulls, item i's path at [i - 1]; None where the
            source knows no categories.
        num_items: N.

    Attributes:
        of_item: [N + 1] int32, the finest category of each item.
        above: [categories + 1, depth] int32, the categories that contain
            each, itself and the root among them; 0 fills up.
        names: all categories but the root.
    """

    ROOT = 1

    def __init__(self, paths: pa.ChunkedArray | None, num_items: int):
        super().__init__()
        # Items are many, paths are few: only those are taken apart.
        given = pa.chunked_array([[None]]) if paths is None else paths
        known = given.cast(pa.string()).combine_chunks().fill_null("")
        known = known.dictionary_encode()
        finest = known.dictionary.to_pylist()
        above = {x for path in finest for x in categories.prefixes(path)}
        self.names = sorted(above)
        number = {"": self.ROOT}  # the path of nothing, and a client's pad
        number |= {x: i for i, x in enumerate(self.names, self.ROOT + 1)}
        chains = [[*categories.prefixes(path), ""] for path in number]
        self.above = np.zeros(
            (len(number) + 1, max(map(len, chains))), np.int32
        )
        for row, chain in enumerate(chains, self.ROOT):
            self.above[row, : len(chain)] = [number[path] for path in chain]
        own = np.array([number[path] for path in finest], np.int32)
        own = np.broadcast_to(own[known.indices.to_numpy()], num_items)
        self.of_item = np.insert(own, PAD, 0)
        self._numbers = _table(
            np.array(self.names, object),
            tf.string,
            tf.int64,
            values=[number[name] for name in self.names],
        )

    def numbers(self, names: tf.Tensor) -> tf.Tensor:
        """Maps [...] strings to [...] int64 categories."""
        return self._numbers.lookup(names)


class _IntegerTable(tf.Module):
    """Maps integers to 1, 2, .. and back, in a fourth of a hash table's memory.

    Args:
        keys: [N] int64, no two alike; others map to 0.
    """

    def __init__(self, keys: np.ndarray):
        super().__init__()
        order = np.argsort(keys).astype(np.int32)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(keys), dtype=np.int32)
        self._sorted = tf.Variable(keys[order], trainable=False)
        self._values = tf.Variable(order + 1, trainable=False)
        self._rank = tf.Variable(rank, trainable=False)

    def lookup(self, keys: tf.Tensor) -> tf.Tensor:
        """Maps [...] int64 keys to [...] int32."""
        known = self._sorted.read_value()  # see `FrozenEmbedding`
        place = tf.searchsorted(known, tf.reshape(keys, [-1]))
        place = tf.reshape(place, tf.shape(keys))
        place = tf.minimum(place, known.shape[0] - 1)
        found = tf.gather(known, place) == keys
        return tf.where(found, tf.gather(self._values, place), 0)

    def keys(self, index: tf.Tensor) -> tf.Tensor:
        """Maps [...] places among the keys to [...] int64."""
        known = self._sorted.read_value()
        return tf.gather(known, tf.gather(self._rank, index))


class _StringTable(tf.Module):
    """The same for strings, by hash.

    Args:
        keys: [N] of str.
    """

    def __init__(self, keys: np.ndarray):
        super().__init__()
        self._table = _table(keys, tf.string, tf.int32)
        self._keys = tf.Variable(keys, dtype=tf.string, trainable=False)

    def lookup(self, keys: tf.Tensor) -> tf.Tensor:
        """Maps [...] strings to [...] int32."""
        return self._table.lookup(keys)

    def keys(self, index: tf.Tensor) -> tf.Tensor:
        """Maps [...] places among the keys to [...] strings."""
        return tf.gather(self._keys, index)


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
