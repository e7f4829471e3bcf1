"""Item vectors from who took what: a start for the tree and for the model.

The items that users take form a matrix of ones, and its factors say which
items go together long before any network does. They are found by alternating
least squares on implicit feedback (Hu, Koren and Volinsky, 2008), solved by
conjugate gradients (Takacs, Pilaszy and Tikk, 2011). Pure NumPy and scipy:
all rows of a block are solved at once, so that the work is sparse products.
"""

import collections
import os
from collections.abc import Iterator
from concurrent import futures

import numpy as np
from scipy import sparse

# Entries of the matrix, and rows, that a thread works on at once: 16 MB at
# E = 64 for each array of vectors, of which there are about eight.
_BLOCK = 1 << 16
# Threads, at most; memory is no faster with more.
_THREADS = 16
# Conjugate gradients a half-step, which starts from the last solution.
_CG_STEPS = 3


def taken(
    owners: np.ndarray, items: np.ndarray, num_items: int
) -> sparse.csr_array:
    """Returns who took what, [U, N + 1] of ones; repeats count once.

    Args:
        owners: [S] int, whose sample it is; numbers need not be dense.
        items: [S] int, its item, from 1.
        num_items: N.
    """
    rows = np.unique(owners, return_inverse=True)[1]
    shape = (int(rows.max(initial=-1)) + 1, num_items + 1)
    ones = np.ones(len(items), np.float32)
    matrix = sparse.csr_array((ones, (rows, items)), shape=shape)
    matrix.data[:] = 1
    return matrix


def item_vectors(
    matrix: sparse.csr_array,
    dim: int,
    *,
    regularization: float = 200.0,
    alpha: float = 40.0,
    iterations: int = 15,
    seed: int = 0,
) -> np.ndarray:
    """Returns vectors w whose sum over a history scores what comes next.

    With item factors V, a user of items c_1..c_m is folded in as u = A^-1
    (1 + alpha) sum_i v_i with A = V'V + regularization + alpha sum_i v_i v_i'.
    Taking A for a user of average history, w = (1 + alpha)^(1/2) A^(-1/2) v
    gives v . u = w . sum_i w_i: the inner products of one table are all that
    is left of the factorisation.

    Args:
        matrix: [U, N + 1], as `taken` returns it.
        dim: E, factors.
        regularization: lambda, of all squared factors.
        alpha: confidence in what was taken, beside 1 for what was not.
        iterations: half-steps for users and for items, each.
        seed: of the random start.

    Returns:
        [N + 1, E] float32; rows of PAD and of items that nobody took are 0.

    Raises:
        ValueError: a setting is out of range, or the matrix is empty.
    """
    if min(dim, iterations) < 1 or not min(regularization, alpha) > 0:
        raise ValueError(
            "dim and iterations must be >= 1, regularization and alpha > 0; "
            f"got {dim}, {iterations}, {regularization} and {alpha}."
        )
    if not matrix.nnz:
        raise ValueError("Nobody took anything; there is nothing to factor.")
    draw = np.random.default_rng(seed)
    users, items = (
        draw.normal(0, 0.1, (size, dim)).astype(np.float32)
        for size in matrix.shape
    )
    by_item = sparse.csr_array(matrix.T)
    for _ in range(iterations):
        users = _half_step(matrix, users, items, regularization, alpha)
        items = _half_step(by_item, items, users, regularization, alpha)
    items[np.diff(by_item.indptr) == 0] = 0
    return _folded(matrix, items, regularization, alpha)


def cross_fitted(
    matrix: sparse.csr_array,
    fold: np.ndarray,
    count: int,
    dim: int,
    *,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Yields `item_vectors` of all users, then those without each fold's.

    One after the other: of many items, one table is much already.

    Args:
        matrix: [U, N + 1], as `taken` returns it.
        fold: [U] int in 0..count - 1, the part of each user.
        count: K, parts; with one there is nothing to leave out.
        dim: E, factors.
        seed: of the random starts.

    Yields:
        [N + 1, E] float32, 1 + K times, or once with one part; all turned
        alike: what is left of the differences between tables is what the
        users of a fold told.
    """
    whole = item_vectors(matrix, dim, seed=seed)
    yield whole
    for part in range(count if count > 1 else 0):
        others = matrix[np.flatnonzero(fold != part)]
        if others.nnz:
            vectors = item_vectors(others, dim, seed=seed)
            yield vectors @ rotation(vectors, whole)
        else:  # there is one user
            yield np.zeros_like(whole)


def rotation(vectors: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Returns what turns vectors to others, [n, E] twice -> [E, E].

    Products between vectors stay. The orthogonal Procrustes problem.
    """
    left, _, right = np.linalg.svd(vectors.T.astype(np.float64) @ like)
    return (left @ right).astype(np.float32)


def _half_step(matrix, rows, columns, regularization, alpha):
    """Returns the least-squares factors of the rows, those of columns fixed.

    Args:
        matrix: [R, C] of ones.
        rows: [R, E], where to start from.
        columns: [C, E].
    """
    gram = columns.T @ columns
    gram += regularization * np.eye(len(gram), dtype=np.float32)
    solved = np.empty_like(rows)

    def solve(part):
        solved[part] = _conjugate_gradients(
            matrix[part], rows[part], columns, gram, alpha
        )

    # NumPy and scipy let go of the interpreter where they work.
    with futures.ThreadPoolExecutor(min(_cores(), _THREADS)) as threads:
        collections.deque(threads.map(solve, _blocks(matrix)), maxlen=0)
    return solved


def _cores():
    """Returns the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _blocks(matrix):
    """Returns stretches of rows with about as many entries each."""
    ends, first, blocks = matrix.indptr, 0, []
    while first < matrix.shape[0]:
        last = int(np.searchsorted(ends, ends[first] + _BLOCK, side="right"))
        # Rows without entries take their place too.
        last = min(matrix.shape[0], max(first + 1, last - 1), first + _BLOCK)
        blocks.append(slice(first, last))
        first = last
    return blocks


def _conjugate_gradients(ones, x, columns, gram, alpha):
    """Solves (gram + alpha sum_i c_i c_i') x = (1 + alpha) sum_i c_i, a row
    of `ones` each, some steps further; [R, E] -> [R, E].
    """
    owner = np.repeat(np.arange(len(x)), np.diff(ones.indptr))
    taken_columns = columns[ones.indices]  # [nnz, E]

    def product(p):
        along = np.einsum("ne,ne->n", p[owner], taken_columns)
        spread = sparse.csr_array(
            (alpha * along, ones.indices, ones.indptr), shape=ones.shape
        )
        return p @ gram + spread @ columns

    residual = (1 + alpha) * (ones @ columns) - product(x)
    direction, x = residual.copy(), x.copy()
    size = np.einsum("re,re->r", residual, residual)
    for _ in range(_CG_STEPS):
        image = product(direction)
        along = np.einsum("re,re->r", direction, image)
        step = (size / np.maximum(along, 1e-30))[:, None]
        x += step * direction
        residual -= step * image
        before, size = size, np.einsum("re,re->r", residual, residual)
        ratio = size / np.maximum(before, 1e-30)
        direction = residual + ratio[:, None] * direction
    return x


def _folded(matrix, items, regularization, alpha):
    """Returns (1 + alpha)^(1/2) A^(-1/2) v for each item; `item_vectors`."""
    popularity = np.asarray(matrix.sum(axis=0), np.float64)
    factors = items.astype(np.float64)
    # A user is met with half of the row known, as in evaluation.
    known = 0.5 * matrix.nnz / matrix.shape[0]
    typical = (factors * popularity[:, None]).T @ factors / popularity.sum()
    a = factors.T @ factors + alpha * known * typical
    a += regularization * np.eye(len(a))
    values, vectors = np.linalg.eigh(a)
    root = (vectors * values**-0.5) @ vectors.T
    return (np.sqrt(1 + alpha) * factors @ root).astype(np.float32)
