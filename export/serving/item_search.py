"""Items of a version by words of their names and categories, or by id.

Every word is a prefix, in any order and case. Items that have the words as they
are typed are all found; of those that have longer ones, where very many do,
the first. An index of words is made once:
for each word in order the items that have it, 4 bytes each, so that all words
that begin alike are one stretch. Ten million names of four words are indexed in
half a minute and take 1 GiB, the names themselves among it; a query takes up to
45 ms (`python -m benchmarks.items`).
"""

import bisect
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Inside a version, as the exporter writes it.
ITEMS = pathlib.Path("assets.extra") / "origin" / "items.parquet"
# Letters of a query at most.
LONGEST = 200

_BETWEEN = r"[^\p{L}\p{N}]+"
# Sorts behind every text that begins alike.
_LAST = "\U0010ffff"
# Words of a query that count.
_MOST_WORDS = 8
# Items with longer words than are typed that are looked at: of a letter that
# begins a million words the first ones.
_LOOKED = 50_000
# Of all that match the shortest, among whom those that begin as the query does
# come first.
_RANKED = 2_000
_BLOCK_ROWS = 1 << 20


class ItemSearch:
    """Finds items.

    Args:
        items: [N] rows of `raw_id`, and maybe `name` and `category`.
    """

    def __init__(self, items: pa.Table):
        self._ids = _whole(items["raw_id"])
        self._shown = {
            name: _whole(items[name])
            for name in ("name", "category")
            if name in items.column_names
        }
        count = items.num_rows
        self._texts = _whole(
            pa.chunked_array(
                [
                    self._text(begin, min(_BLOCK_ROWS, count - begin))
                    for begin in range(0, count, _BLOCK_ROWS)
                ],
                pa.large_string(),
            )
        )
        self._lengths = pc.utf8_length(self._texts).to_numpy().astype(np.int32)
        self._id_texts = _folded(pc.cast(self._ids, pa.large_string()))
        self._by_id = (
            pc.sort_indices(self._id_texts).to_numpy().astype(np.int32)
        )
        self._words, self._begins, self._rows = _index(self._texts)

    @classmethod
    def load(cls, folder: pathlib.Path) -> "ItemSearch":
        """Reads the items of a version.

        Raises:
            FileNotFoundError: it keeps none.
            ValueError: they cannot be read.
        """
        path = folder / ITEMS
        if not path.exists():
            raise FileNotFoundError(f"{folder} keeps no items.")
        try:
            return cls(pq.read_table(path, columns=_columns(path)))
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error

    @property
    def nbytes(self) -> int:
        """Bytes of the index, names and ids among them."""
        arrays = (self._begins, self._rows, self._by_id, self._lengths)
        columns = (self._ids, self._id_texts, self._texts, self._words)
        return sum(x.nbytes for x in (*arrays, *columns, *self._shown.values()))

    def find(self, query: str, count: int) -> list[dict[str, Any]]:
        """Returns items with all words of a query, the likeliest first.

        Those whose id begins so come first, then those whose text does, then
        shorter ones.

        Args:
            query: what somebody types, `LONGEST` letters at most.
            count: of items at most.

        Returns:
            Each item's `id` and, where known, `name` and `category`.
        """
        query = _folded(pa.array([query.strip()]))[0].as_py()
        rows = self._with_id(query, count)
        words = list(dict.fromkeys(_split(query)))[:_MOST_WORDS]
        if len(rows) < count and words:
            more = self._with_words(words, query)
            more = more[~np.isin(more, rows)]
            rows = np.concatenate([rows, more[: count - len(rows)]])
        return [self._told(int(row)) for row in rows]

    def of(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Returns items by their ids, in this order; unknown ones are left out.

        Args:
            ids: as text.

        Returns:
            What `find` does.
        """
        found = []
        for text in ids:
            folded = _folded(pa.array([text]))[0].as_py()
            first, last = _begin_alike(
                folded, len(self._by_id), self._id_text, whole=True
            )
            # Letters of either size are alike there, and ids are not.
            alike = (int(row) for row in self._by_id[first:last])
            rows = [x for x in alike if str(self._ids[x].as_py()) == text]
            found += map(self._told, rows)
        return found

    def _id_text(self, place):
        """Returns an id, in their order, in small letters."""
        return self._id_texts[int(self._by_id[place])].as_py()

    def _with_id(self, query, count):
        """Returns the rows whose ids begin so, in their order."""
        if not query:
            return np.zeros(0, np.int32)
        first, last = _begin_alike(query, len(self._by_id), self._id_text)
        return self._by_id[first : min(last, first + count)]

    def _with_words(self, words, query):
        """Returns the rows with all words, the likeliest first."""
        rows = np.union1d(
            self._shortest(self._with_exact(words)),
            self._shortest(self._with_begun(words)),
        )
        texts = self._texts.take(pa.array(rows))
        begins = pc.starts_with(texts, query).to_numpy(zero_copy_only=False)
        return rows[np.lexsort((rows, self._lengths[rows], ~begins))]

    def _shortest(self, rows):
        """Returns those of the rows, [R], whose texts are shortest."""
        if len(rows) <= _RANKED:
            return rows
        return rows[np.argpartition(self._lengths[rows], _RANKED)[:_RANKED]]

    def _with_exact(self, words):
        """Returns all rows that have the words as they are, ascending."""
        lists = []
        for word in words:
            at = bisect.bisect_left(
                range(len(self._words)), word, key=self._word
            )
            if at == len(self._words) or self._word(at) != word:
                return np.zeros(0, np.int32)
            lists.append(self._rows[self._begins[at] : self._begins[at + 1]])
        rows, *others = sorted(lists, key=len)
        for other in others:
            place = np.searchsorted(other, rows).clip(max=len(other) - 1)
            rows = rows[other[place] == rows]
        return rows[np.diff(rows, prepend=-1) > 0]  # once, if it comes twice

    def _with_begun(self, words):
        """Returns rows with words that begin so, ascending."""
        spans = []
        for word in words:
            first, last = _begin_alike(word, len(self._words), self._word)
            spans.append((self._begins[first], self._begins[last], word))
        # The rarest says who may be meant, the others who is.
        (begin, end, _), *others = sorted(spans, key=lambda x: x[1] - x[0])
        rows = np.unique(self._rows[begin : min(end, begin + _LOOKED)])
        for _, _, word in others:
            texts = self._texts.take(pa.array(rows))
            has = pc.match_substring_regex(texts, f"(^|{_BETWEEN}){word}")
            rows = rows[has.to_numpy(zero_copy_only=False)]
        return rows

    def _word(self, place):
        """Returns a word of the index."""
        return self._words[int(place)].as_py()

    def _text(self, begin, count):
        """Returns what is searched of some rows, in small letters."""
        parts = [
            pc.fill_null(x.slice(begin, count), "")
            for x in self._shown.values()
        ]
        if not parts:
            return pa.array([""] * count, pa.large_string())
        text = pc.binary_join_element_wise(
            *parts, pa.scalar(" ", parts[0].type)
        )
        return _folded(text)

    def _told(self, row):
        """Returns what is known of a row's item."""
        known = {
            name: column[row].as_py() for name, column in self._shown.items()
        }
        return {"id": self._ids[row].as_py()} | {
            name: value for name, value in known.items() if value is not None
        }


def _folded(texts):
    """Returns texts in small letters, of which sigma has two."""
    return pc.replace_substring(pc.utf8_lower(texts), "ς", "σ")


def _columns(path):
    """Returns the columns of a file that are of use."""
    there = pq.read_schema(path).names
    return [x for x in ("raw_id", "name", "category") if x in there]


def _whole(column):
    """Returns a column as one array, of texts beyond 2 GiB too."""
    if pa.types.is_string(column.type):
        column = pc.cast(column, pa.large_string())
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # of no chunk
        whole = pa.array([], column.type)
    return whole


def _split(text):
    """Returns the words of a text."""
    words = pc.split_pattern_regex(pa.array([text]), _BETWEEN)[0].as_py()
    return [word for word in words if word]


def _index(texts):
    """Returns the words of texts and who has them.

    Returns:
        words: [W], ascending.
        begins: [W + 1], where each word's rows begin.
        rows: [R] int32, those of the first word, of the second, ..
    """
    codes, owners, dictionaries = [], [], []
    for begin in range(0, len(texts), _BLOCK_ROWS):
        lists = pc.split_pattern_regex(
            texts.slice(begin, _BLOCK_ROWS), _BETWEEN
        )
        flat = pc.list_flatten(lists)
        owner = pc.list_parent_indices(lists).to_numpy() + begin
        there = pc.not_equal(flat, "")
        encoded = flat.filter(there).dictionary_encode()
        dictionaries.append(encoded.dictionary)
        codes.append(encoded.indices.to_numpy())
        owners.append(
            owner[there.to_numpy(zero_copy_only=False)].astype(np.int32)
        )
    if not dictionaries:
        return (
            pa.array([], pa.large_string()),
            np.zeros(1, int),
            np.zeros(0, int),
        )
    words = pc.unique(pa.chunked_array(dictionaries))
    words = words.take(pc.sort_indices(words))
    code = np.concatenate(
        [
            pc.index_in(dictionary, words).to_numpy()[of]
            for dictionary, of in zip(dictionaries, codes)
        ]
    )
    rows = np.concatenate(owners)[np.argsort(code, kind="stable")]
    counts = np.bincount(code, minlength=len(words))
    return words, np.concatenate([[0], np.cumsum(counts)]), rows


def _begin_alike(text, count, at, *, whole=False):
    """Returns the stretch of `count` ascending texts that begin so, or are."""
    first = bisect.bisect_left(range(count), text, key=at)
    if whole:
        return first, bisect.bisect_right(range(count), text, first, key=at)
    return first, bisect.bisect_left(range(count), text + _LAST, key=at)
