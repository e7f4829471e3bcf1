"""Plain tables with a header: CSV and Parquet, columns by name."""

import pathlib
from collections.abc import Sequence

from jtm_tf.data.preparing import reader
from jtm_tf.data.preparing import sources

_NEEDED = ("user", "item", "timestamp")
_ALIASES = {"user": ("user", "user_id"), "item": ("item", "item_id")}


class Csv(reader.Reader):
    """Any CSV file with a header: plain, gzip or zip, comma or tab."""

    takes = ("columns", "profile")

    def rows(self, skipped):
        path = self.paths[0]
        if sources.is_parquet(path):
            raise ValueError(f"{path} is Parquet; use --dataset=parquet.")
        (header, *_), delimiter = sources.first_rows(path)
        names = choose_columns(path, header, self.options)
        csv_rows = sources.CsvRows(
            path,
            header,
            columns=list(dict.fromkeys(names.values())),
            skip_rows=1,
            delimiter=delimiter,
            skipped=skipped,
        )
        yield from reader.stream(csv_rows, names, skipped)


class Parquet(reader.Reader):
    """Any Parquet file; ids keep the type that they have in it."""

    takes = ("columns", "profile")
    infer_integers = False

    def rows(self, skipped):
        path = self.paths[0]
        with sources.open_parquet(path) as source:
            header = source.schema_arrow.names
        names = choose_columns(path, header, self.options)
        columns = list(dict.fromkeys(names.values()))
        yield from reader.stream(
            sources.ParquetRows(path, columns), names, skipped
        )


def parse_columns(pairs: Sequence[str]) -> dict[str, str]:
    """Returns {role: column} from role=column pairs.

    Raises:
        ValueError: a pair without "=", or a role named twice.
    """
    columns: dict[str, str] = {}
    for pair in pairs:
        role, equals, column = pair.partition("=")
        if not (role and equals and column) or role in columns:
            raise ValueError(
                f"--columns takes role=column pairs, each role once; got "
                f"{pair!r}. For example --columns=user=customer,item=sku."
            )
        columns[role] = column
    return columns


def choose_columns(
    path: pathlib.Path, header: list[str], options: reader.Options
) -> dict[str, str]:
    """Returns the source's column for each role and profile column.

    Roles that are not named in `options.columns` take the column of their
    own name (or user_id, item_id); category and name may be missing.

    Raises:
        ValueError: an unknown role, or a column that is not there.
    """
    unknown = [role for role in options.columns if role not in reader.ROLES]
    if unknown:
        raise ValueError(
            f"--columns names {unknown}; expected roles of "
            f"{list(reader.ROLES)}, as in "
            "--columns=user=customer,item=product,timestamp=time."
        )
    reserved = (*reader.ROLES, "raw_id", "split")
    if set(options.profile) & set(reserved) or (
        len(set(options.profile)) < len(options.profile)
    ):
        raise ValueError(
            f"--profile={','.join(options.profile)} repeats a column or takes "
            f"a reserved name of {list(reserved)}; rename it in the source."
        )
    names = dict(options.columns)
    for role in reader.ROLES:
        aliases = _ALIASES.get(role, (role,))
        found = [alias for alias in aliases if alias in header]
        if role not in names and found:
            names[role] = found[0]
    missing = [role for role in _NEEDED if role not in names]
    if missing:
        raise ValueError(
            f"{path} has no column for {missing}; got {header}. Name them, "
            "as in columns={'user': 'customer', 'item': 'sku'}; in the shell "
            "--columns=user=customer,item=sku."
        )
    names.update({name: name for name in options.profile})
    reader.require(path, names.values(), header)
    order = (*reader.ROLES, *options.profile)
    return {name: names[name] for name in order if name in names}
