"""How long it takes to find an item by its name, among ten million.

    python -m benchmarks.items --items=10000000

Names are words drawn as unevenly as words are. Prints JSON: seconds and MiB of
the index, and the median milliseconds of queries of several kinds.
"""

import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import flags

from export.serving import item_search
from jtm_tf.command_line import program

_ITEMS = flags.DEFINE_integer(
    "items", 10_000_000, "How many there are.", lower_bound=1
)
_WORDS = flags.DEFINE_integer(
    "words", 200_000, "How many different ones.", lower_bound=10
)
_IN_NAME = 4
_TIMES = 7


@program.entry
def main() -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = [
        "".join(rng.choice(letters, rng.integers(3, 9)))
        for _ in range(_WORDS.value)
    ]
    share = 1 / (np.arange(len(words)) + 10.0)
    columns = [
        pa.array(words).take(
            pa.array(
                rng.choice(len(words), _ITEMS.value, p=share / share.sum())
            )
        )
        for _ in range(_IN_NAME)
    ]
    names = pc.binary_join_element_wise(*columns, " ")
    items = pa.table({"raw_id": np.arange(_ITEMS.value), "name": names})
    del columns
    began = time.monotonic()
    search = item_search.ItemSearch(items)
    report = {
        "items": _ITEMS.value,
        "index_seconds": round(time.monotonic() - began, 1),
        "names_mib": round(names.nbytes / 2**20),
        "index_mib": round(search.nbytes / 2**20),
    }
    queries = {
        "a letter": words[0][:1],
        "a common word": words[0],
        "two common words": f"{words[0]} {words[1]}",
        "three letters, apart": f"{words[0][0]} {words[1][0]} {words[2][0]}",
        "a rare word": words[-1],
        "an id": str(_ITEMS.value // 2),
    }
    report["milliseconds"] = {
        kind: _milliseconds(search, query) for kind, query in queries.items()
    }
    print(json.dumps(report))


def _milliseconds(search, query):
    """Returns the median time of a query."""
    took = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        search.find(query, 20)
        took.append(time.perf_counter() - began)
    return round(1000 * float(np.median(took)), 1)


if __name__ == "__main__":
    main()
