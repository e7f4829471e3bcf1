"""Prepares what is at hand: a file, a named data set or a table in memory.

The call behind `jtm_tf.prepare`; all work is done by `preparation`.
"""

import os
import pathlib
import tempfile
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.data.preparing import preparation
from jtm_tf.data.preparing import sources


def prepare(
    source: Any,
    data_dir: files.Path,
    *,
    columns: Mapping[str, str] | None = None,
    profile: Sequence[str] = (),
    min_interactions: int = 10,
    max_bad_share: float = 0.01,
    split: str = "users",
    test_from: str | int | None = None,
    validation_from: str | int | None = None,
    validation_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
    overwrite: bool = False,
) -> interactions.Interactions:
    """Numbers users and items, says who judges, writes a prepared folder.

    The same call on the same source loads what is there already.

    Args:
        source: rows of who did what when: the path of a file of CSV, JSON
            lines or Parquet, of a folder of such files, a pattern or a list of
            paths; or a pandas, polars or Arrow table. It has the columns user,
            item and timestamp (seconds, ISO dates or a mere order), maybe
            category (a path "coarse|fine") and name. Or "complete_journey",
            the data set that comes as a package.
        data_dir: the folder to write.
        columns: the source's name for a column that is called otherwise, as
            {"item": "sku"}.
        profile: further columns, properties of the user.
        min_interactions: users with fewer rows are dropped.
        max_bad_share: fail where more of the rows are malformed.
        split: "users": some train, others judge, as in the paper; "time": all
            are trained on what they did before `validation_from`, and judged
            by what they did from `test_from` on.
        test_from: with split="time", a time as the rows have it.
        validation_from: likewise; by default the period before `test_from`
            is as long as the one that begins there.
        validation_share: of the users, with split="users".
        test_share: likewise.
        seed: decides who trains and who judges.
        overwrite: replace a folder made from another source or with other
            settings.

    Returns:
        The prepared data.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the source is no such table, or `data_dir` holds other
            data and `overwrite` is off.
    """
    with tempfile.TemporaryDirectory() as scratch:
        dataset, given = _as_input(source, pathlib.Path(scratch))
        config = preparation.Config(
            dataset,
            os.fspath(data_dir),
            given,
            # Of a frame whose columns are numbered, names are numbers.
            columns={role: str(x) for role, x in (columns or {}).items()},
            profile=tuple(profile),
            min_interactions=min_interactions,
            max_bad_share=max_bad_share,
            split=split,
            test_from=test_from,
            validation_from=validation_from,
            validation_share=validation_share,
            test_share=test_share,
            seed=seed,
            overwrite=overwrite,
        )
        try:
            manifest, _ = preparation.run(config)
        except ValueError as error:
            if scratch not in str(error):
                raise
            # The reader knows a table, not the file that it went through.
            said = str(error).replace(str(given), "the table")
            raise ValueError(said) from error
    for kind, notes in manifest.get("odd_ids", {}).items():
        for note in notes:
            warnings.warn(f"{kind} ids: {note}.", stacklevel=2)
    return interactions.load(data_dir)


def _as_input(source, scratch):
    """Returns a name of `preparation.READERS` and its input, if any."""
    if _is_path(source):
        if source == "complete_journey":
            return source, None
        given: str | list[str] = os.fspath(source)
        first = sources.expand(given)[0]
    elif isinstance(source, (list, tuple)) and all(map(_is_path, source)):
        if not source:
            raise ValueError("source is an empty list; expected files.")
        given = [os.fspath(path) for path in source]
        first = sources.expand(given[0])[0]
    else:
        path = scratch / "table.parquet"
        # Metadata differ with the maker and would make the same rows other
        # data.
        table = _as_table(source).replace_schema_metadata(None)
        pq.write_table(table, path)
        return "parquet", str(path)
    if not first.is_file():
        raise FileNotFoundError(f"There is no file {first}.")
    return "parquet" if sources.is_parquet(first) else "csv", given


def _is_path(source):
    """Tells whether a source names a file."""
    return isinstance(source, (str, os.PathLike))


def _as_table(source):
    """Returns a table in memory as Arrow has it."""
    try:
        return pa.table(source)
    except (TypeError, ValueError, pa.ArrowException) as error:
        # Arrow says of pandas which column it was, in a second argument.
        said = "; ".join(str(part).rstrip(".") for part in error.args)
        if hasattr(source, "columns"):
            mixed = isinstance(error, (pa.ArrowInvalid, pa.ArrowTypeError))
            cure = " Is it of mixed types? Cast it: .astype(str)." * mixed
            raise ValueError(f"The table: {said}.{cure}") from error
        raise ValueError(
            "source must be the path of a CSV or Parquet file, a folder or a "
            "list of them, or a pandas, polars or Arrow table; got "
            f"{type(source).__name__}: {said}."
        ) from error
