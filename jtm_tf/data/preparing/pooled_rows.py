"""Raw files read by a pool: a file is a piece of work.

Whoever is given a file writes its good rows beside the folder that is
prepared, and what was skipped. They are taken up in the order of the files, so
that all is as if one process had read them. They stay until the folder is
finished, so that a run that was killed reads no file twice.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from jtm_tf import files
from jtm_tf.data.preparing import reader as reader_lib
from jtm_tf.data.preparing import skip_log
from jtm_tf.data.preparing import sources

# The folder of the rows, within the one that is prepared.
_FOLDER = "reading"


@dataclasses.dataclass(frozen=True)
class Piece:
    """A file to read.

    Attributes:
        path: of the file.
        into: what the files of its rows are called, without an ending.
    """

    path: str
    into: str


def fingerprints(pool: Any, reader: reader_lib.Reader) -> list[dict[str, Any]]:
    """Returns `sources.fingerprint` of all files of a reader, by a pool."""
    with pool.workers(_fingerprinting) as do:
        return list(do([os.path.abspath(path) for path in reader.paths]))


def rows(
    pool: Any,
    reader: reader_lib.Reader,
    data_dir: files.Path,
    settings: Mapping[str, Any],
    source: Sequence[Mapping[str, Any]],
    skipped: skip_log.SkipLog,
) -> Iterator[pa.RecordBatch]:
    """Streams the good rows, as `Reader.rows` does.

    Args:
        pool: of `jtm_tf.pools`; its workers see all files, and `data_dir`,
            under these names.
        reader: knows the files.
        data_dir: the folder that is prepared.
        settings: of the preparation; rows of others are not taken up.
        source: the fingerprints of the reader's files.
        skipped: takes the other rows.

    Raises:
        ValueError: the reader has no files that are read by themselves, or
            one is not of this format.
    """
    if not isinstance(reader, reader_lib.ManyFiles):
        raise ValueError(
            "--pool shares out the files of a data set, and this one is not in "
            "files that can be read by themselves. Leave --pool out."
        )
    folder = pathlib.Path(data_dir).resolve() / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [
        Piece(
            os.path.abspath(path),
            str(folder / _name(number, path, settings, of)),
        )
        for number, (path, of) in enumerate(zip(reader.row_paths, source))
    ]
    make = functools.partial(FileReader, type(reader), _anywhere(reader))
    with pool.workers(make) as do:
        yield from reader_lib.one_after_another(
            (path, _taken_up(into, skipped))
            for path, into in zip(reader.row_paths, do(pieces))
        )


def clear(data_dir: files.Path) -> None:
    """Removes the rows, when the folder is finished."""
    shutil.rmtree(pathlib.Path(data_dir) / _FOLDER, ignore_errors=True)


class FileReader:
    """Does a piece of work: what an actor is.

    Args:
        kind: the class of the reader.
        options: of the reader.
    """

    def __init__(
        self, kind: type[reader_lib.ManyFiles], options: reader_lib.Options
    ):
        self._reader = kind(options)

    def __call__(self, piece: Piece) -> str:
        """Writes the rows of a file, unless they are there; returns where."""
        done = pathlib.Path(f"{piece.into}.json")
        if done.exists():
            return piece.into
        log = skip_log.SkipLog()
        blocks = self._reader.file_rows(pathlib.Path(piece.path), log)
        parts = 0
        # A file of Arrow has one schema; JSON lines may change theirs.
        for schema, alike in itertools.groupby(blocks, lambda x: x.schema):
            with (
                files.replacing(f"{piece.into}-{parts}.arrow") as temporary,
                pa.ipc.new_stream(str(temporary), schema) as out,
            ):
                for block in alike:
                    out.write_batch(block)
            parts += 1
        files.write_json(
            done,
            {
                "parts": parts,
                "counts": log.counts,
                "examples": log.examples,
                "malformed": log.malformed,
            },
        )
        return piece.into


def _fingerprinting() -> Callable[[str], dict[str, Any]]:
    """Returns what an actor does with a path."""
    return sources.fingerprint


def _anywhere(reader):
    """Returns a reader's options as they are right in any folder."""
    given = reader.options.input
    return dataclasses.replace(
        reader.options,
        input=os.path.abspath(given)
        if isinstance(given, str)
        else [os.path.abspath(name) for name in given],
        metadata=None,  # describes items, not rows
    )


def _name(number, path, settings, source):
    """Returns what the rows of a file are called: of no other, nor as it was
    before it changed.
    """
    told = [os.path.abspath(path), settings, source["sha256"]]
    text = json.dumps(told, sort_keys=True, default=str)
    return f"{number}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _taken_up(into, skipped):
    """Streams the rows that were written for a file."""
    told = json.loads(pathlib.Path(f"{into}.json").read_text("utf-8"))
    skipped.add_all(told["counts"], told["examples"], told["malformed"])
    for part in range(told["parts"]):
        with (
            pa.memory_map(f"{into}-{part}.arrow") as file,
            pa.ipc.open_stream(file) as source,
        ):
            yield from source
