"""Tests of `export.artefact.vocabulary` against a dictionary."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from export.artefact import vocabulary

FAR = np.iinfo(np.int64)
INTEGERS = [7, -3, FAR.max, 1 << 40, FAR.min, 12]


@pytest.mark.parametrize(
    "known, strange",
    [
        (INTEGERS, [0, 8, -4, FAR.max - 1, FAR.min + 1]),
        ([5], [4, 6, FAR.max]),
        (["b", "a", "c d"], ["", "A", "cd"]),
    ],
)
def test_ids_are_found_and_come_back(known, strange):
    names = vocabulary.ItemVocabulary(pa.array(known))
    items = dict(zip(known, range(1, len(known) + 1)))
    asked = [*strange, *known, *known[::-1]]
    want = [items.get(name, 0) for name in asked]
    got = names.items(tf.constant([asked], names.dtype))
    np.testing.assert_array_equal(got, [want])
    back = names.raw_ids(got).numpy()[0].tolist()
    back = [x.decode() if isinstance(x, bytes) else x for x in back]
    assert back == [x if x in items else names.pad for x in asked]


def test_categories_number_every_prefix():
    paths = ["a|x", None, "b", "a|y", "a|x", ""]
    chunks = pa.chunked_array([pa.array(paths[:2]), pa.array(paths[2:])])
    categories = vocabulary.CategoryVocabulary(chunks, len(paths))
    assert set(categories.names) == {"a", "a|x", "a|y", "b"}
    numbers = dict(
        zip(
            categories.names,
            categories.numbers(tf.constant(categories.names)).numpy(),
        )
    )
    own = [numbers.get(path, categories.ROOT) for path in paths]
    assert categories.of_item.tolist() == [0, *own]
    inside = set(categories.above[numbers["a|y"]]) - {0}
    assert inside == {categories.ROOT, numbers["a"], numbers["a|y"]}
    nothing = vocabulary.CategoryVocabulary(None, 3)
    assert nothing.of_item.tolist() == [0, 1, 1, 1] and not nothing.names
