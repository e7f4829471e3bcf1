"""Rows in compact form: ids as dictionary codes, one sort at the end.

Ten million rows are four columns of 4 to 8 bytes each; strings exist once a
distinct value. Pure NumPy and Arrow.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jtm_tf.data import identity

_ITEM_COLUMNS = ("category", "name")


class RawRows:
    """Collects blocks of rows as a reader yields them.

    Args:
        infer_integers: user and item ids are text, to be kept as int64 if
            every one of the column is an integer; see `identity`.

    Attributes:
        num_rows: rows so far.
        item_columns: the columns that describe items.
        user_columns: the columns that describe users.
    """

    def __init__(self, *, infer_integers: bool = False) -> None:
        self._chunks: dict[str, list[pa.Array]] = {}
        self._infer = infer_integers
        self._texts: set[str] = set()  # columns whose ids are no integers
        self.num_rows = 0

    @property
    def item_columns(self) -> list[str]:
        return [name for name in self._chunks if name in _ITEM_COLUMNS]

    @property
    def user_columns(self) -> list[str]:
        others = ("user", "item", "timestamp", *_ITEM_COLUMNS)
        return [name for name in self._chunks if name not in others]

    def add(self, block: pa.RecordBatch) -> None:
        """Appends a block; every block has the same columns."""
        self.num_rows += block.num_rows
        for name in block.schema.names:
            column = block[name]
            chunks = self._chunks.setdefault(name, [])
            if name in ("user", "item"):
                column = self._as_ids(name, column, chunks)
            elif name != "timestamp":
                column = self._alike(column, chunks).dictionary_encode()
            chunks.append(column)

    def _as_ids(self, name, column, chunks):
        """Returns a block's ids as the chunks before have them.

        Integers as long as all are, which is fast; else strings, and so are
        those before.
        """
        if name not in self._texts and self._infer:
            column = as_integers(column)
        if name not in self._texts and pa.types.is_integer(column.type):
            return column
        if name not in self._texts:
            self._texts.add(name)
            chunks[:] = [
                pc.cast(chunk, pa.string()).dictionary_encode()
                for chunk in chunks
            ]
        return pc.cast(column, pa.string()).dictionary_encode()

    def _alike(self, column, chunks):
        """Returns a column of the type of the chunks, or makes all strings."""
        if not chunks or column.type == chunks[0].type.value_type:
            return column
        if not pa.types.is_string(chunks[0].type.value_type):
            chunks[:] = [
                pc.cast(
                    chunk.dictionary_decode(), pa.string()
                ).dictionary_encode()
                for chunk in chunks
            ]
        return pc.cast(column, pa.string())

    def ids(self, name: str) -> tuple[np.ndarray, pa.Array, tuple[str, ...]]:
        """Returns "user" or "item" as codes and ids, and forgets it.

        Returns:
            [R] int32 codes, -1 where a row has no id after all; [V] int64 or
            string ids, each once; and sentences on what was odd, see
            `identity.resolve`.
        """
        codes, values = self.codes(name)
        if not pa.types.is_string(values.type):
            return codes, values, ()
        counts = np.bincount(codes[codes >= 0], minlength=len(values))
        found = identity.resolve(values, counts, infer_integers=self._infer)
        return *identity.merged(codes, found.values), found.notes

    def timestamps(self) -> np.ndarray:
        """Returns the times, [R] int64."""
        return pa.chunked_array(self._chunks["timestamp"]).to_numpy()

    def codes(self, name: str) -> tuple[np.ndarray, pa.Array]:
        """Returns a column as codes and their values, and forgets it.

        Returns:
            [R] int32 codes, -1 for null and "", and [V] values in order of
            first occurrence.
        """
        chunks = pa.chunked_array(self._chunks[name])
        self._chunks[name] = []
        if pa.types.is_dictionary(chunks.type):
            chunks = chunks.unify_dictionaries()
        else:  # integers: one table for all blocks is faster
            chunks = chunks.dictionary_encode()
        values = chunks.chunk(0).dictionary
        codes = np.concatenate(
            [pc.fill_null(c.indices, -1).to_numpy() for c in chunks.chunks]
        )
        if pa.types.is_string(values.type):
            empty = pc.index(values, "").as_py()
            if empty >= 0:
                codes[codes == empty] = -1
        return codes, values


def as_integers(values: pa.Array) -> pa.Array:
    """Returns strings as int64 if none loses anything ("007" would)."""
    if not pa.types.is_string(values.type):
        return values
    try:
        integers = pc.cast(values, pa.int64())
    except pa.ArrowInvalid:
        return values
    same = pc.equal(pc.cast(integers, pa.string()), values)
    return integers if pc.all(same).as_py() else values


def renumber(
    codes: np.ndarray, values: pa.Array
) -> tuple[np.ndarray, pa.Array]:
    """Numbers the codes that occur 1.. in order of their values.

    Args:
        codes: [R] int32.
        values: [V], distinct.

    Returns:
        [R] int32 ids from 1, and the values of the ids that occur, ascending.
    """
    occurs = np.zeros(len(values), bool)
    occurs[codes] = True
    old = np.flatnonzero(occurs)
    order = pc.sort_indices(values.take(pa.array(old))).to_numpy()
    old = old[order]
    new = np.zeros(len(values), np.int32)
    new[old] = np.arange(1, len(old) + 1)
    return new[codes], values.take(pa.array(old))


def majority(
    owner: np.ndarray,
    codes: np.ndarray,
    values: pa.Array,
    num_owners: int,
) -> tuple[pa.Array, np.ndarray]:
    """Finds each owner's most frequent value; the first seen wins a tie.

    Args:
        owner: [R] int32 ids from 1.
        codes: [R] int32 into `values`, -1 for unknown.
        values: [V].
        num_owners: O.

    Returns:
        [O] values, null where all are unknown, and [O] bool, true where an
        owner had several.
    """
    if (codes < 0).any():
        known = np.flatnonzero(codes >= 0)
        owner, codes = owner[known], codes[known]
    winner = np.full(num_owners + 1, -1, np.int32)
    winner[owner[::-1]] = codes[::-1]  # the last written, so the first seen
    several = np.zeros(num_owners + 1, bool)
    several[owner[codes != winner[owner]]] = True
    if several.any():
        # Few owners disagree with themselves; only their rows are counted.
        rows = np.flatnonzero(several[owner])
        pairs = owner[rows].astype(np.int64) * len(values) + codes[rows]
        pairs, first, counts = np.unique(
            pairs, return_index=True, return_counts=True
        )
        best_last = np.lexsort((-first, counts))
        pairs = pairs[best_last]
        winner[pairs // len(values)] = pairs % len(values)
    winner = winner[1:]
    chosen = pa.array(winner, mask=winner < 0)
    return values.take(chosen), several[1:]


def row_order(user: np.ndarray, timestamp: np.ndarray) -> np.ndarray | slice:
    """Returns the order by user, then time, ties as they stand.

    Args:
        user: [R] int32.
        timestamp: [R] int64, none negative.

    Returns:
        [R] indices, or a slice of everything if the order is right already.
    """
    first = int(timestamp.min())
    span = int(timestamp.max()) - first + 1
    if (int(user.max()) + 1) * span >= 1 << 63:
        return np.lexsort((timestamp, user))
    key = user.astype(np.int64) * span + (timestamp - first)
    if (key[1:] >= key[:-1]).all():
        return slice(None)
    return np.argsort(key, kind="stable")
