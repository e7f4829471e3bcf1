"""When two raw ids are one: a rule for files, tables in memory and look-up.

1. Spaces around an id are no part of it.
2. A whole number is an integer however it is written: 7, 7.0, 7e0. As a float
   only up to 2**53, beyond which floats skip integers.
3. "", null, NaN and, where all others are integers, the words that databases
   and programs write for missing (`MISSING`) are no ids.
4. Ids are integers where all of them are and fit 64 bits; else they are
   strings, as they are written: 007 keeps its zeros.

The rule is applied to distinct values, of which there are far fewer than rows.
"""

import dataclasses
import decimal
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# What Hive, MySQL, databases, pandas, NumPy, R, Spark and sheets write.
MISSING = frozenset(
    "NULL null Null \\N nan NaN NAN -nan NA N/A n/a #N/A #NA <NA> None none "
    "nil NIL NaT undefined (null) <null>".split()
)

_LARGEST_FLOAT = 1 << 53
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
# An integer as Python writes it; without the zeros and signs of codes.
_PLAIN = re.compile(r"0|-?[1-9][0-9]*")
# One that went through a float: 7.0, 7., 1e+16. A leading zero is a code's.
_FLOATED = re.compile(
    r"-?(?:0|[1-9][0-9]*)"
    r"(?:\.[0-9]*(?:[eE][+-]?[0-9]{1,2})?|[eE][+-]?[0-9]{1,2})"
)
_SHOWN = 3


def integer(text: str) -> int | None:
    """Returns the integer that a text without spaces around it writes.

    None where it writes none of 64 bits.
    """
    if _PLAIN.fullmatch(text):
        number = int(text) if len(text) < 21 else _LARGEST + 1
    elif _FLOATED.fullmatch(text):
        exact = decimal.Decimal(text)
        if exact != exact.to_integral_value():
            return None
        number = int(exact)
    else:
        return None
    return number if _SMALLEST <= number <= _LARGEST else None


@dataclasses.dataclass(frozen=True)
class Resolved:
    """What the distinct values of a column stand for.

    Attributes:
        values: [V] int64 or strings; null where there is no id.
        notes: sentences on what was odd, none if nothing was.
    """

    values: pa.Array
    notes: tuple[str, ...] = ()


def of_floats(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Returns ids that went through floats as what they were.

    Args:
        column: [R] floats.

    Returns:
        [R] int64, null where there is none, and [R] bool, true where there is
        a number but no id.
    """
    numbers = column.to_numpy(zero_copy_only=False).astype(np.float64)
    whole = (numbers == np.floor(numbers)) & (np.abs(numbers) <= _LARGEST_FLOAT)
    ids = np.where(whole, numbers, 0).astype(np.int64)
    return pa.array(ids, mask=~whole), ~whole & ~np.isnan(numbers)


def resolve(
    values: pa.Array, counts: np.ndarray, *, infer_integers: bool = True
) -> Resolved:
    """Applies the rule to the distinct values of a column of strings.

    Args:
        values: [V] strings, each once.
        counts: [V] int, rows of each.
        infer_integers: strings that are all integers become int64; if not,
            they stay strings, for whoever has declared them so.
    """
    texts = pc.utf8_trim_whitespace(values)
    spaced = np.flatnonzero(_mask(pc.not_equal(texts, values)))
    notes = []
    if len(spaced):
        shown = values[int(spaced[0])].as_py()
        notes.append(
            f"{_rows(counts, spaced)} had spaces around the id, such as "
            f"{shown!r}; they are no part of it"
        )
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    numbers, floated = _integers(texts)
    whole = _mask(numbers.is_valid())
    others = _mask(texts.is_valid()) & ~whole
    words = others & _mask(pc.is_in(texts, pa.array(sorted(MISSING))))
    places = {
        "whole": np.flatnonzero(whole),
        "floated": floated,
        "others": np.flatnonzero(others),
        "words": np.flatnonzero(words),
    }
    if whole.any() and len(places["words"]) == len(places["others"]):
        notes += _of_numbers(texts, counts, places)
        ids = numbers if infer_integers else pc.cast(numbers, pa.string())
    else:
        notes += _of_mixed(texts, numbers, counts, places)
        ids = texts
    return Resolved(ids, tuple(notes))


def _integers(texts):
    """Returns texts as int64, null where none, and those that were floats."""
    # 19 digits may be too many.
    plain = pc.match_substring_regex(texts, r"^(?:0|-?[1-9][0-9]{0,17})$")
    numbers = pc.cast(pc.if_else(plain, texts, None), pa.int64())
    rest = pc.and_(
        pc.invert(plain),
        pc.match_substring_regex(
            texts, f"^(?:{_PLAIN.pattern}|{_FLOATED.pattern})$"
        ),
    )
    rest = np.flatnonzero(_mask(rest))
    found = [integer(texts[int(i)].as_py()) for i in rest]
    filled = [(i, x) for i, x in zip(rest, found) if x is not None]
    if not filled:
        return numbers, rest[:0]
    places, more = (np.array(x, np.int64) for x in zip(*filled))
    missing = _mask(numbers.is_null())
    values = pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False).copy()
    values[places], missing[places] = more, False
    floats = [i for i in places if not _PLAIN.fullmatch(texts[int(i)].as_py())]
    return pa.array(values, mask=missing), np.array(floats, np.int64)


def _of_numbers(texts, counts, places):
    """Yields what was odd about a column of integers."""
    words, floated = places["words"], places["floated"]
    if len(words):
        yield (
            f"{_rows(counts, words)} had a word for missing, "
            f"{_shown(texts, words)}, and were left out"
        )
    if len(floated):
        yield (
            f"{_rows(counts, floated)} wrote an integer as a float, such as "
            f"{_shown(texts, floated[:1])}; they were taken as integers"
        )


def _of_mixed(texts, numbers, counts, places):
    """Yields what was odd about a column of texts."""
    whole, others = places["whole"], places["others"]
    if len(whole) and len(others) <= len(whole):
        total = len(whole) + len(others)
        several = len(others) > 1
        yield (
            f"{len(others):,} id{'s' * several} of {total:,} "
            f"{'are' if several else 'is'} no integer of 64 bits: "
            f"{_shown(texts, others)}; so all are strings"
        )
    words = places["words"]
    if len(words):
        yield (
            f"{_rows(counts, words)} had what may be a word for missing, "
            f"{_shown(texts, words)}, and it was taken as an id, since not "
            "all others are integers"
        )
    floated = places["floated"]
    if len(floated):
        distinct = pc.count_distinct(numbers).as_py()
        twins = len(whole) - distinct
        if twins:
            yield (
                f"{twins:,} {'ids differ' if twins > 1 else 'id differs'} "
                "from another only in "
                f"how a number is written, such as {_shown(texts, floated[:1])}"
            )


def _mask(column):
    """Returns a boolean column as NumPy has it; null is false."""
    return pc.fill_null(column, False).to_numpy(zero_copy_only=False)


def _rows(counts, which):
    """Returns how many rows these values have, as text."""
    rows = int(counts[which].sum())
    return f"{rows:,} row{'s' * (rows != 1)}"


def _shown(texts, which):
    """Returns the first of these values, as text."""
    shown = ", ".join(repr(texts[int(i)].as_py()[:40]) for i in which[:_SHOWN])
    return shown + ", .." * (len(which) > _SHOWN)


def merged(codes: np.ndarray, values: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Gives values that have become one the same code, and null none.

    Args:
        codes: [R] int32 into `values`, -1 for none.
        values: [V], with repeats and nulls.

    Returns:
        [R] int32 codes, -1 for none, and the values that are left.
    """
    encoded = values.dictionary_encode()
    into = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    into = np.append(into.astype(np.int32), np.int32(-1))  # of code -1
    return into[codes], encoded.dictionary


def as_integer(raw_id: Any) -> int | None:
    """Returns one id as an integer of 64 bits, None if it is none."""
    if isinstance(raw_id, (float, np.floating)):
        number = float(raw_id)
        whole = number.is_integer() and abs(number) <= _LARGEST_FLOAT
        return int(number) if whole else None
    if isinstance(raw_id, (bool, np.bool_)):
        return None
    return integer(str(raw_id).strip())


def as_texts(raw_id: Any) -> Sequence[str]:
    """Returns the texts that an id may stand under, the likelier first."""
    text = str(raw_id).strip()
    number = as_integer(raw_id)
    if isinstance(raw_id, (float, np.floating)):
        return [text] if number is None else [str(number), text]
    return [text] if number in (None, text) else [text, str(number)]
