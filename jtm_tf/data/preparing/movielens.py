"""MovieLens, in the three forms that it has been published in."""

import csv
import io

import numpy as np
import pyarrow as pa

from jtm_tf import categories
from jtm_tf.data.preparing import csv_rows
from jtm_tf.data.preparing import reader
from jtm_tf.data.preparing import sources
from jtm_tf.data.preparing import texts

_NAMES = ("userId", "movieId", "rating", "timestamp")


class MovieLens(reader.Reader):
    """ratings.csv, ratings.dat or u.data; films by --metadata."""

    home = (
        "MovieLens is at https://grouplens.org/datasets/movielens: ratings.csv "
        "with movies.csv, ratings.dat with movies.dat, u.data with u.item."
    )
    takes = ("metadata",)
    form = "user, film, rating and seconds, by comma, '::' or tab"

    def rows(self, skipped):
        path = self.paths[0]
        look = texts.look(path)
        first = look.rows[0]
        if len(first) != len(_NAMES) or (
            not look.starts_with_a_row and tuple(first) != _NAMES
        ):
            raise ValueError(
                f"{path}: expected {self.form}; the first line is "
                f"{look.shown}. {self.home}"
            )
        rows = csv_rows.CsvRows(
            path,
            _NAMES,
            columns=_NAMES,
            skip_rows=int(not look.starts_with_a_row),
            delimiter=look.delimiter,
            skipped=skipped,
        )
        names = {"user": "userId", "item": "movieId", "timestamp": "timestamp"}
        yield from reader.stream(rows, names, skipped)

    def describe_items(self, raw_ids, skipped):
        del skipped
        if self.metadata is None:
            return None
        known = _films(self.metadata)
        found = [known.get(str(raw_id)) for raw_id in raw_ids.to_pylist()]
        if not any(found):
            raise ValueError(
                f"{self.metadata} describes none of the {len(found)} films. "
                f"{self.home}"
            )
        names, genres = zip(*(film or (None, None) for film in found))
        return pa.table(
            {
                "category": pa.array(genres, pa.string()),
                "name": pa.array(names, pa.string()),
            }
        )


def _films(path):
    """Returns name and genres, a path, of each film in a small file."""
    with sources.open_bytes(path) as stream:
        data = stream.read()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:  # the older files
        text = data.decode("latin-1")
    delimiter = "::" if "::" in text.partition("\n")[0] else None
    delimiter = delimiter or ("," if text.startswith("movieId") else "|")
    one = delimiter if len(delimiter) == 1 else texts.FOR_TWO
    lines = io.StringIO(text.replace(delimiter, one), newline="")
    # Only the newest form quotes.
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    films = {}
    for row in csv.reader(lines, delimiter=one, quoting=quoting):
        if len(row) == 3:
            known = "" if row[2] == "(no genres listed)" else row[2]
            films[row[0]] = row[1], known or None
        elif len(row) > 5:  # u.item: a flag for each genre
            flags = np.flatnonzero(np.array(row[5:]) == "1")
            chosen = [_GENRES[i] for i in flags if i < len(_GENRES)]
            films[row[0]] = row[1], categories.join(chosen) or None
    return films


_GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
