"""Prepares what is at hand: a file, a named data set or a table in memory.

The call behind `jtm_tf.prepare`; all work is done by `preparation`.
"""

import os
import pathlib
import tempfile
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
    seed: int = 0,
    overwrite: bool = False,
) -> interactions.Interactions:
    """Numbers users and items, splits the users, writes a prepared folder.

    The same call on the same source loads what is there already.

    Args:
        source: rows of who did what when: the path of a CSV or Parquet file,
            or a pandas, polars or Arrow table. It has the columns user, item
            and timestamp (seconds, ISO dates or a mere order), maybe category
            (a path "coarse|fine") and name. Or "complete_journey", the data
            set that comes as a package.
        data_dir: the folder to write.
        columns: the source's name for a column that is called otherwise, as
            {"item": "sku"}.
        profile: further columns, properties of the user.
        min_interactions: users with fewer rows are dropped.
        max_bad_share: fail where more of the rows are malformed.
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
        dataset, path = _as_file(source, pathlib.Path(scratch))
        config = preparation.Config(
            dataset,
            os.fspath(data_dir),
            path,
            columns=columns or {},
            profile=tuple(profile),
            min_interactions=min_interactions,
            max_bad_share=max_bad_share,
            seed=seed,
            overwrite=overwrite,
        )
        try:
            preparation.run(config)
        except ValueError as error:
            if path is None or isinstance(source, (str, os.PathLike)):
                raise
            # The reader knows a table, not the file that it went through.
            said = str(error).replace(path, "the table")
            raise ValueError(said) from error
    return interactions.load(data_dir)


def _as_file(source, scratch):
    """Returns a name of `preparation.READERS` and the file for it, if any."""
    if isinstance(source, (str, os.PathLike)):
        if source == "complete_journey":
            return source, None
        path = os.fspath(source)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"There is no file {path}.")
        return "parquet" if sources.is_parquet(path) else "csv", path
    try:
        table = pa.table(source)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "source must be the path of a CSV or Parquet file, or a pandas, "
            f"polars or Arrow table; got {type(source).__name__}: {error}."
        ) from error
    path = scratch / "table.parquet"
    # Metadata differ with the maker and would make the same rows other data.
    pq.write_table(table.replace_schema_metadata(None), path)
    return "parquet", str(path)
