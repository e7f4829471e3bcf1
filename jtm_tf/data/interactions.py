"""The prepared folder: who did what when, in dense ids. Layout and loading.

A folder holds these files; `jtm_tf.data.preparing.preparation` writes them.

items.parquet, one row an item, in order of `item`:
    item: int32, 1..N.
    raw_id: string or int64, the id as the source had it.
    category: string, path parts joined by "|", coarse to fine; null where
        unknown; the column is absent where the source knows none.
    name: string, optional.
users.parquet, one row a user, in order of `user`:
    user: int32, 1..U.
    raw_id: string or int64.
    split: string, "train", "validation" or "test"; "train" of all where the
        log is cut by time.
    further columns: user profile, strings or numbers, null where unknown.
interactions.parquet, sorted by user, then timestamp, then source order:
    user: int32.
    item: int32.
    timestamp: int64, seconds, or whatever orders the source's rows.
true_tree.npz, of a planted market only: the hidden tree that it was drawn from.
manifest.json, written last: a folder without it is unfinished.
    format_version, dataset, fingerprint (of the prepared content), counts,
    settings (all that decides the content), source (name, bytes and SHA-256
    of each input), skipped (the first offending lines by reason), timings;
    periods (see `periods`) where the log is cut by time.

0 is padding and never an id. Pure NumPy and Arrow.
"""

import dataclasses
import functools
import hashlib
import io
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jtm_tf import categories
from jtm_tf import files
from jtm_tf import ragged
from jtm_tf.data import periods as periods_lib
from jtm_tf.data import raw_ids
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TRUE_TREE = "true_tree.npz"


@dataclasses.dataclass(frozen=True, eq=False)
class Interactions:
    """A prepared folder in memory.

    Attributes:
        user: [I] int32, ascending.
        item: [I] int32.
        timestamp: [I] int64, ascending within a user.
        items: items.parquet, [N] rows.
        users: users.parquet, [U] rows.
        manifest: manifest.json.
        folder: where all this was read from; None if it never was a folder.
    """

    user: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    items: pa.Table
    users: pa.Table
    manifest: dict[str, Any]
    folder: pathlib.Path | None = None

    def __repr__(self) -> str:
        return (
            f"Interactions({self.manifest.get('dataset')!r}, "
            f"{len(self.user)} rows, {self.num_users} users, "
            f"{self.num_items} items)"
        )

    @property
    def num_items(self) -> int:
        """N; items are 1..N."""
        return self.items.num_rows

    @property
    def num_users(self) -> int:
        """U; users are 1..U."""
        return self.users.num_rows

    @property
    def periods(self) -> periods_lib.Periods | None:
        """Where the log is cut by time; None where users are split."""
        return periods_lib.of(self.manifest)

    def categories(self) -> np.ndarray | None:
        """Returns item i's category path at [i - 1], [N] object.

        Returns:
            [N] of str or None, or None where the source knows no categories.
        """
        if "category" not in self.items.column_names:
            return None
        return np.array(self.items["category"].to_pylist(), object)

    @functools.cached_property
    def item_ids(self) -> raw_ids.RawIds:
        """From the items' raw ids to 1..N and back."""
        return raw_ids.RawIds(self.items["raw_id"])

    @functools.cached_property
    def user_ids(self) -> raw_ids.RawIds:
        """From the users' raw ids to 1..U and back."""
        return raw_ids.RawIds(self.users["raw_id"])

    def item_names(
        self, items: Sequence[int] | np.ndarray, *, width: int = 72
    ) -> list[str]:
        """Returns readable names of items, none of them PAD.

        It is the item's name, else its raw id, behind the part of its
        category that says most in a word.

        Args:
            items: [n] of 1..N.
            width: longer names are cut.
        """
        names = []
        for item in items:
            # Not Table.take, which copies all rows into one piece first.
            (row,) = self.items.slice(int(item) - 1, 1).to_pylist()
            category, name = row.get("category"), row.get("name")
            group = (categories.parts(category)[-2:] or [""])[0]
            words = name or str(row["raw_id"])
            if group and group not in words:
                words = f"{group}: {words}"
            words = words.capitalize() if name else words
            names.append(
                words if len(words) <= width else words[: width - 1] + "…"
            )
        return names

    def history(self, raw_id: int | str) -> list[int | str]:
        """Returns the raw ids of all of a user's items, oldest first.

        Raises:
            ValueError: there is no such user.
        """
        user = self.user_ids.number(raw_id)
        if user == PAD:
            raise ValueError(
                f"There is no user {raw_id!r}; there are {self.num_users}, "
                f"such as {self.user_ids.of([1])[0]!r}. Users with few rows "
                "were dropped when the data were prepared."
            )
        first, last = np.searchsorted(self.user, [user, user + 1])
        return self.item_ids.of(self.item[first:last])

    def split_users(self, split: str) -> np.ndarray:
        """Returns the ids of the users in `split`, ascending int32.

        Where the log is cut by time all are in "train".
        """
        mask = pc.equal(self.users["split"], split)
        rows = np.flatnonzero(mask.to_numpy())
        return (rows + 1).astype(np.int32)

    def profile_values(self, name: str) -> list[Any]:
        """Returns the values of a profile column, sorted; code i + 1 is i's.

        Raises:
            ValueError: there is no such column.
        """
        columns = self.users.column_names[3:]
        if name not in columns:
            raise ValueError(
                f"The users have no profile column {name!r}; got {columns}. "
                "Name it in --profile of experiments.prepare."
            )
        values = pc.unique(self.users[name]).drop_null().to_pylist()
        # NaN, in folders prepared before it was null, equals nothing.
        return sorted(value for value in values if value == value)

    def profile_codes(self, names: Sequence[str]) -> np.ndarray:
        """Returns users' profiles as codes from 1, 0 where unknown.

        Args:
            names: columns of users.parquet beyond the first three.

        Returns:
            [U + 1, len(names)] int32, row 0 of zeros.
        """
        codes = np.zeros((self.num_users + 1, len(names)), np.int32)
        for column, name in enumerate(names):
            values = pa.array(
                self.profile_values(name), self.users.schema.field(name).type
            )
            found = pc.index_in(self.users[name], values)
            codes[1:, column] = pc.fill_null(found, -1).to_numpy() + 1
        return codes

    def user_rows(self) -> np.ndarray:
        """Returns where each user's rows begin, [U + 2] int64.

        User u has the rows offsets[u]:offsets[u + 1]; PAD has none.
        """
        counts = np.bincount(self.user, minlength=self.num_users + 1)
        return ragged.offsets(counts)

    def rows_before(self, time: int) -> np.ndarray:
        """Returns where each user's rows of a time and later begin, [U + 1].

        They are in order of time: before are the user's earlier rows.
        """
        early = self.user[self.timestamp < time]
        counts = np.bincount(early, minlength=self.num_users + 1)
        return self.user_rows()[:-1] + counts


def save(
    data_dir: files.Path,
    data: Interactions,
    true_tree: tree_lib.Tree | None = None,
) -> str:
    """Writes all but the manifest, each file whole or not at all.

    A manifest that stands there goes first, so that a crash leaves a folder
    that reads as unfinished, not as a mixture.

    Returns:
        The fingerprint of the content, and of where it is cut by time.
    """
    data_dir = pathlib.Path(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, TRUE_TREE):
        (data_dir / name).unlink(missing_ok=True)
    digest = hashlib.sha256()
    rows = {"user": data.user, "item": data.item, "timestamp": data.timestamp}
    tables = {
        "items": data.items,
        "users": data.users,
        "interactions": pa.table(rows),
    }
    for name, table in tables.items():
        _update(digest, table)
        with files.replacing(data_dir / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary, row_group_size=1 << 20)
    if true_tree is not None:
        true_tree.save(data_dir / TRUE_TREE)
    if data.periods is not None:
        digest.update(repr(data.periods).encode())
    return digest.hexdigest()


def read_manifest(data_dir: files.Path) -> dict[str, Any] | None:
    """Returns the manifest, or None where the folder is new or unfinished.

    Raises:
        ValueError: it is broken, or of another format version.
    """
    path = pathlib.Path(data_dir) / MANIFEST
    if not path.is_file():
        return None
    manifest = files.read_json(path)
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}; this program reads "
            f"{FORMAT_VERSION}. Prepare the data again, into another folder "
            "or with --overwrite."
        )
    return manifest


def check(data_dir: files.Path, manifest: Mapping[str, Any]) -> None:
    """Raises `ValueError` if a file is missing, truncated or of another size.

    Reads no more than the files' ends.
    """
    for name, count in (
        ("interactions", "rows_kept"),
        ("items", "items"),
        ("users", "users"),
    ):
        path = pathlib.Path(data_dir) / f"{name}.parquet"
        want, got = manifest["counts"][count], _read(path, rows=False)
        if want != got:
            raise ValueError(
                f"{path} is damaged: the manifest counts {want} rows, it "
                f"holds {got}. Prepare the folder again with --overwrite."
            )


def load(data_dir: files.Path) -> Interactions:
    """Reads a prepared folder.

    Raises:
        FileNotFoundError: there is no finished prepared folder.
        ValueError: it is damaged, or of another format version.
    """
    data_dir = pathlib.Path(data_dir)
    manifest = read_manifest(data_dir)
    if manifest is None:
        state = "is not finished" if data_dir.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"{data_dir} {state}: it has no {MANIFEST}. Make it with "
            "python -m experiments.prepare."
        )
    check(data_dir, manifest)
    rows = _read(data_dir / "interactions.parquet")
    items = _read(data_dir / "items.parquet")
    users = _read(data_dir / "users.parquet")
    return Interactions(
        rows["user"].to_numpy(),
        rows["item"].to_numpy(),
        rows["timestamp"].to_numpy(),
        items,
        users,
        manifest,
        data_dir.resolve(),
    )


def _read(path: pathlib.Path, *, rows: bool = True) -> Any:
    """Reads a table, or just its length; a `ValueError` if it is damaged."""
    try:
        return pq.read_table(path) if rows else pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is missing or damaged: {error}. Prepare the folder "
            "again with --overwrite."
        ) from error


class _HashSink(io.RawIOBase):
    """A file that keeps nothing but the hash of what is written."""

    def __init__(self, digest: Any):
        self._digest = digest

    def writable(self) -> bool:
        """Tells Arrow that it may write."""
        return True

    def write(self, data: Any) -> int:
        """Hashes `data`."""
        self._digest.update(data)
        return len(data)


def _update(digest: Any, table: pa.Table) -> None:
    """Adds a table's content to a hash, however it is split in chunks."""
    table = table.combine_chunks().replace_schema_metadata(None)
    sink = pa.PythonFile(_HashSink(digest), mode="w")
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1 << 20)
