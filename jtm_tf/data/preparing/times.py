"""Reads times, however a file has them: one rule for all formats.

A time is a number of seconds, or a mere order, or a date as ISO 8601 writes
it. What is below a second is cut. A number is a number whether it is stored as
an integer, a float, a decimal or as text.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# A date and perhaps a time of day, with or without seconds, and an offset.
_ISO_8601 = (
    r"^(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[T ](?P<minute>\d\d:\d\d)(?P<second>:\d\d)?(?:[.,]\d+)?"
    r" ?(?P<zone>Z|z|UTC|[+-]\d\d(?::?\d\d)?)?)?$"
)
# 1700885440, 1700885440.25, 1.70088544e9.
_NUMBER = r"^[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?$"
# A float counts whole seconds up to here.
_LARGEST_FLOAT = float(1 << 53)

FORMS = (
    "A time is a number of seconds from 1970 on, an order, or a date as ISO "
    "8601 writes it: 2023-11-18, 2023-11-18 17:42:37, 2023-11-18T17:42+05:30."
)


def parse_seconds(column: pa.Array) -> tuple[pa.Array, dict[str, np.ndarray]]:
    """Reads times as whole seconds that are not negative.

    Args:
        column: [R] strings of numbers or of ISO 8601 (UTC where no offset is
            given), integers, floats, decimals, dates or timestamps.

    Returns:
        [R] int64 seconds, 0 where the row has none, and [R] bool for each
        reason why: `bad_timestamp`, `before_1970`.

    Raises:
        ValueError: no column of such a type holds times.
    """
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        seconds = _of_texts(column)
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        exact = pa.types.is_date32(kind)
        fine = column if exact else pc.cast(column, _nanoseconds(kind))
        seconds = pc.cast(
            pc.floor_temporal(fine, unit="second"),
            pa.timestamp("s"),
            safe=False,
        )
        seconds = pc.cast(seconds, pa.int64())
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        seconds = _of_floats(pc.cast(column, pa.float64(), safe=False))
    elif pa.types.is_integer(kind):
        large = pa.types.is_uint64(kind)
        most = pa.scalar(2**63 - 1, kind) if large else None
        if large:
            column = pc.if_else(pc.greater(column, most), None, column)
        seconds = pc.cast(column, pa.int64())
    else:
        raise ValueError(f"holds {kind}. {FORMS}")
    early = pc.less(seconds, 0)
    bad = {"bad_timestamp": seconds.is_null(), "before_1970": early}
    seconds = pc.if_else(pc.or_(early, seconds.is_null()), 0, seconds)
    seconds = pc.fill_null(seconds, 0)
    return seconds, {
        reason: pc.fill_null(rows, False).to_numpy(zero_copy_only=False)
        for reason, rows in bad.items()
    }


def _nanoseconds(kind):
    """Returns a type of times that `floor_temporal` takes."""
    return pa.timestamp("ms") if pa.types.is_date(kind) else kind


def _of_floats(column):
    """Returns [R] int64 seconds of floats, null for those that count none."""
    cut = pc.floor(column)
    counts = pc.less(pc.abs(cut), _LARGEST_FLOAT)  # infinity and NaN do not
    return pc.cast(pc.if_else(counts, cut, None), pa.int64())


def _of_texts(column):
    """Returns [R] int64 seconds of texts, null for others."""
    # More than 18 digits may pass int64; no clock counts so far.
    plain = pc.and_(
        pc.ascii_is_decimal(column), pc.less(pc.binary_length(column), 19)
    )
    seconds = pc.cast(pc.if_else(plain, column, None), pa.int64())
    if not seconds.null_count:
        return seconds
    column = pc.utf8_trim_whitespace(column)
    number = pc.match_substring_regex(column, _NUMBER)
    floats = pc.cast(pc.if_else(number, column, None), pa.float64())
    return pc.coalesce(seconds, _of_floats(floats), _of_iso_8601(column))


def _of_iso_8601(column):
    """Returns [R] int64 seconds of dates and times, null for others."""
    found = pc.extract_regex(column, _ISO_8601)
    day, minute, second, zone = (
        pc.struct_field(found, name)
        for name in ("day", "minute", "second", "zone")
    )
    time = pc.if_else(pc.equal(minute, ""), "00:00", minute)
    second = pc.if_else(pc.equal(second, ""), ":00", second)
    text = pc.binary_join_element_wise(
        pc.binary_join_element_wise(day, time, " "), second, ""
    )
    parsed = pc.strptime(
        text, format="%Y-%m-%d %H:%M:%S", unit="s", error_is_null=True
    )
    return pc.subtract(pc.cast(parsed, pa.int64()), _offset(zone))


def _offset(zone):
    """Returns how many seconds a zone's clocks are before UTC's."""
    digits = pc.replace_substring(
        pc.if_else(pc.match_substring_regex(zone, r"^[+-]"), zone, "+00"),
        ":",
        "",
    )
    digits = pc.utf8_rpad(digits, 5, "0")
    hours, minutes = (
        pc.cast(pc.utf8_slice_codeunits(digits, i, i + 2), pa.int64())
        for i in (1, 3)
    )
    seconds = pc.add(pc.multiply(hours, 3600), pc.multiply(minutes, 60))
    return pc.if_else(pc.starts_with(digits, "-"), pc.negate(seconds), seconds)
