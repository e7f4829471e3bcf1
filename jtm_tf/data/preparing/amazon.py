"""Amazon's product metadata: one record a line, JSON or a Python literal.

The older files are not JSON but printed dicts; both are read, and only the
lines of wanted items are parsed, for a record may be thousands of bytes long.
"""

import ast
import html
import io
import json
import re
from typing import Any

import numpy as np
import pyarrow as pa

from jtm_tf import categories
from jtm_tf import files
from jtm_tf.data.preparing import skip_log
from jtm_tf.data.preparing import sources

_ID = re.compile(rb"""["'](?:parent_)?asin["']\s*:\s*["']([^"']+)["']""")


def describe(
    path: files.Path, raw_ids: pa.Array, skipped: skip_log.SkipLog
) -> pa.Table:
    """Looks up the items' category paths and names.

    Args:
        path: the metadata, plain, gzip or zip.
        raw_ids: [N] strings, the items wanted.
        skipped: takes lines that are no record.

    Returns:
        [N] rows of category and name, null where unknown.

    Raises:
        ValueError: no item has a record.
    """
    row_of = {raw_id: row for row, raw_id in enumerate(raw_ids.to_pylist())}
    category = np.full(len(row_of), None, object)
    name = np.full(len(row_of), None, object)
    found = 0
    with sources.open_bytes(path) as stream:
        for number, line in enumerate(_lines(stream), 1):
            if not line.strip():
                continue
            match = _ID.search(line)
            if match and match[1].decode("utf-8", "replace") not in row_of:
                continue
            try:
                record = parse(line)
                item = record.get("asin") or record["parent_asin"]
                parts = category_parts(record)
            except (
                ValueError,
                SyntaxError,
                KeyError,
                TypeError,
                AttributeError,
                RecursionError,
            ):
                text = line[:200].decode("utf-8", "replace").strip()
                skipped.add(
                    "metadata_line", 1, [(number, text)], malformed=False
                )
                continue
            row = row_of.get(item)
            if row is None:
                continue
            found += 1
            category[row] = categories.join(parts) or None
            title = record.get("title")
            name[row] = html.unescape(title) if title else None
    if not found:
        raise ValueError(
            f"{path} describes none of the {len(row_of)} items. Expected lines "
            "with an 'asin' that the ratings name; is the ratings' order "
            "user,item,rating,timestamp, and is this their metadata?"
        )
    return pa.table(
        {
            "category": pa.array(category, pa.string()),
            "name": pa.array(name, pa.string()),
        }
    )


def parse(line: bytes) -> dict[str, Any]:
    """Returns the record on a line.

    Raises:
        ValueError, SyntaxError: it is neither JSON nor a Python literal.
    """
    text = line.decode("utf-8", "replace").strip()
    try:
        record = json.loads(text)
    except json.JSONDecodeError:
        record = ast.literal_eval(text)
    if not isinstance(record, dict):
        raise ValueError("not a record")
    return record


def category_parts(record: dict[str, Any]) -> list[str]:
    """Returns the longest of a record's category paths, coarse to fine."""
    paths = record.get("categories") or record.get("category") or []
    if isinstance(paths, str) or (paths and isinstance(paths[0], str)):
        paths = [paths]
    longest: Any = max(paths, key=len, default=[])
    parts = [longest] if isinstance(longest, str) else longest
    cleaned = (
        html.unescape(part).replace(categories.SEPARATOR, "/").strip()
        for part in parts
    )
    return [part for part in cleaned if part]


def _lines(stream: Any) -> Any:
    """Iterates over a stream's lines as bytes."""
    if isinstance(stream, pa.NativeFile):
        # An Arrow file reads line by line in Python, far slower.
        return io.BufferedReader(stream, 1 << 20)
    return stream
