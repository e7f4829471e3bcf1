"""Nearest-neighbour search for the product model, which needs no tree.

The score is an inner product, so that the best items can be found without
looking at all: by faiss's inverted lists (IVF) or hnswlib's graph (HNSW), each
with a knob from fast to exact; faiss's flat index looks at all items. What is
left out here: the users' vectors, which the model computes.
"""

import importlib.metadata
import importlib.util
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

_PACKAGES = {"faiss": "faiss-cpu", "hnswlib": "hnswlib"}

# Links a node and candidates considered while the graph is built.
_LINKS, _EF_CONSTRUCTION = 32, 400


class Index(Protocol):
    """Item vectors, ready to be searched.

    Attributes:
        library: the module it needs.
        title: for people.
        knob: what makes the search better and slower; None of an exact one.
    """

    library: str
    title: str
    knob: str | None

    def __init__(self, vectors: np.ndarray, *, threads: int):
        """Takes [N + 1, E] float32; row PAD is not an item."""

    def settings(self, num_results: int) -> Sequence[int | None]:
        """Returns values of the knob, from fast to exact."""

    def search(
        self, users: np.ndarray, num_results: int, setting: int | None
    ) -> np.ndarray:
        """Maps [B, E] to [B, M] items, best first, PAD where none was found.

        Args:
            users: [B, E] float32.
            num_results: M, at most N.
            setting: of the knob.
        """


class Flat:
    """Exact: the product with all items."""

    library, title, knob = "faiss", "exact", None

    def __init__(self, vectors: np.ndarray, *, threads: int):
        import faiss

        faiss.omp_set_num_threads(threads)
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors[1:])

    def settings(self, num_results: int) -> Sequence[int | None]:
        return [None]

    def search(self, users, num_results, setting):
        return self._index.search(users, num_results)[1] + 1  # -1 is none


class InvertedLists:
    """About sqrt(N) clusters, of which the `nprobe` nearest are looked at."""

    library, title, knob = "faiss", "IVF", "nprobe"

    def __init__(self, vectors: np.ndarray, *, threads: int):
        import faiss

        faiss.omp_set_num_threads(threads)
        num_items, dim = len(vectors) - 1, vectors.shape[1]
        self._lists = math.isqrt(num_items)
        self._index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(dim),
            dim,
            self._lists,
            faiss.METRIC_INNER_PRODUCT,
        )
        self._index.cp.min_points_per_centroid = 1  # no warnings
        self._index.train(vectors[1:])
        self._index.add(vectors[1:])
        self._parameters = faiss.SearchParametersIVF

    def settings(self, num_results: int) -> Sequence[int | None]:
        return [2**i for i in range(self._lists.bit_length())]

    def search(self, users, num_results, setting):
        parameters = self._parameters(nprobe=setting)
        _, rows = self._index.search(users, num_results, params=parameters)
        return rows + 1  # -1 is none


class Graph:
    """A navigable graph, walked with `ef` >= M candidates at a time."""

    library, title, knob = "hnswlib", "HNSW", "ef"

    def __init__(self, vectors: np.ndarray, *, threads: int):
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self._index.init_index(
            max_elements=len(vectors) - 1,
            M=_LINKS,
            ef_construction=_EF_CONSTRUCTION,
            random_seed=0,
        )
        self._index.set_num_threads(threads)
        self._index.add_items(vectors[1:], np.arange(1, len(vectors)))

    def settings(self, num_results: int) -> Sequence[int | None]:
        return [num_results * 2**i for i in range(4)]

    def search(self, users, num_results, setting):
        self._index.set_ef(setting)
        return self._index.knn_query(users, num_results)[0].astype(np.int64)


INDEXES: dict[str, type[Index]] = {
    "flat": Flat,
    "ivf": InvertedLists,
    "hnsw": Graph,
}


def versions() -> dict[str, str]:
    """Returns the versions of the libraries that are installed."""
    return {
        library: importlib.metadata.version(package)
        for library, package in _PACKAGES.items()
        if importlib.util.find_spec(library)
    }
