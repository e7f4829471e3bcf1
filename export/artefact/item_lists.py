"""Reads what an update is told: lists of items, and histories of users.

Plain CSV with a header. Whatever is wrong is said at once and by line or id;
nothing is skipped but what the caller asked to skip.
"""

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jtm_tf import files
from jtm_tf.data import splits
from jtm_tf.data.preparing import csv_rows
from jtm_tf.data.preparing import encoding
from jtm_tf.data.preparing import reader
from jtm_tf.data.preparing import skip_log
from jtm_tf.data.preparing import texts
from jtm_tf.types import PAD

_OPTIONAL = ("category", "name")
_ROLES = ("user", "item", "timestamp")
# How many offenders an error shows.
_SHOWN = 5


def read_items(path: files.Path, known: pa.ChunkedArray) -> pa.Table:
    """Reads a list of items.

    Args:
        path: CSV with a column raw_id, and maybe category and name.
        known: [N] the raw ids of an index; the list's are of the same type.

    Returns:
        The columns there are, "" as null.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty or malformed, an id is missing, repeats or is
            of another type.
    """
    table = _read(path, ["raw_id"], _as_text, optional=_OPTIONAL, of="items")
    columns, text = table.column_names, table["raw_id"]
    if empty := np.count_nonzero(pc.equal(text, "").to_numpy()):
        raise ValueError(f"{path} has {empty} rows without a raw_id.")
    ids = _of_type(path, text, known.type)
    counts = pc.value_counts(ids.combine_chunks())
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise ValueError(
            f"{path} must name each item once; {some(repeated.field(0))} "
            "come more than once."
        )
    table = table.set_column(0, "raw_id", ids)
    for place, name in enumerate(columns[1:], 1):
        given = pc.if_else(pc.equal(table[name], ""), None, table[name])
        table = table.set_column(place, name, given)
    return table


def read_histories(
    path: files.Path, raw_ids: pa.ChunkedArray, *, num_new: int, profile: int
) -> splits.Examples:
    """Reads what users did, the new items among it.

    Args:
        path: CSV with the columns user, item, timestamp.
        raw_ids: [N] of an index, the new items last; others are passed over.
        num_new: A.
        profile: profile columns of the model; nobody's is known.

    Returns:
        A sample for each row of a new item, the rows before it its history.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty or malformed, or has none of the new items.
    """
    table = _read(path, _ROLES, _as_interactions, of="rows").combine_chunks()
    numbers = pc.index_in(table["item"], pc.cast(raw_ids, pa.string()))
    item = pc.fill_null(numbers, -1).to_numpy() + 1
    table = table.filter(pa.array(item != PAD))
    item = item[item != PAD].astype(np.int32)
    user = pc.rank(table["user"], tiebreaker="dense").to_numpy()
    order = encoding.row_order(user, table["timestamp"].to_numpy())
    user, item = user[order], item[order]
    targets = np.flatnonzero(item > len(raw_ids) - num_new)
    if not len(targets):
        raise ValueError(
            f"{path} has none of the {num_new} new items; leave --histories "
            "out to place them by category."
        )
    starts = np.searchsorted(user, user[targets])
    codes = np.zeros((len(item), profile), np.int32)
    return splits.Examples(item, starts, targets, codes)


def some(values: Sequence[object] | pa.Array) -> str:
    """Returns the first few values, and how many there are, for an error."""
    shown = [str(value) for value in values[:_SHOWN]]
    more = ", .." if len(values) > _SHOWN else ""
    return f"{len(values)} ({', '.join(shown)}{more})"


def _of_type(path, text, kind):
    """Returns ids as the index has them."""
    if not pa.types.is_integer(kind):
        return text
    ids = encoding.as_integers(text.combine_chunks())
    if pa.types.is_string(ids.type):
        wrong = [x for x in text.to_pylist() if not _is_int64(x)]
        raise ValueError(
            f"{path}: the index knows items by integers; {some(wrong)} of "
            "the ids are none, or not written plainly."
        )
    return pa.chunked_array([ids])


@functools.cache
def _is_int64(text):
    """Tells whether an id stays the same as an integer of 64 bits."""
    return pa.types.is_integer(encoding.as_integers(pa.array([text])).type)


def _read(path, required, stream, *, optional=(), of):
    """Reads a CSV with a header, whole; any row that is skipped is an error.

    Args:
        path: the file.
        required: columns that must be there.
        stream: yields blocks of its rows, and logs what it skips.
        optional: columns that are read where they are there.
        of: what a row is, for errors.
    """
    look = texts.look(path)
    header, *more = look.rows
    columns = [*required, *[name for name in optional if name in header]]
    reader.require(path, columns, header, "Name the columns so, each once.")
    skipped = skip_log.SkipLog()
    rows = csv_rows.CsvRows(
        path,
        header,
        columns=columns,
        skip_rows=1,
        delimiter=look.delimiter,
        skipped=skipped,
    )
    blocks = list(stream(rows, skipped)) if more else []
    if skipped.counts:
        reasons = "; ".join(
            f"{count} x {reason}, first {skipped.examples[reason][0]!r}"
            for reason, count in skipped.counts.items()
        )
        raise ValueError(f"{path} has malformed rows: {reasons}. Mend them.")
    if not blocks:
        raise ValueError(f"{path} has a header and no {of}.")
    return pa.Table.from_batches(blocks)


def _as_text(rows, skipped):
    """Yields blocks as they are."""
    del skipped
    return (block for block, _ in rows)


def _as_interactions(rows, skipped):
    """Yields checked blocks of users, items and times."""
    return reader.stream(rows, dict(zip(_ROLES, _ROLES)), skipped)
