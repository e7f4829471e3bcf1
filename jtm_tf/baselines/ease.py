"""EASE: the linear model from items to items, in closed form.

Steck, "Embarrassingly Shallow Autoencoders for Sparse Data" (WWW 2019): X ~
X B by least squares with weight l on the squares of B and a diagonal of zeros,
so that no item explains itself:

    B = I - P / diag(P), P = (X'X + l I)^-1

A user's scores are those of h B, h the known items. Of items and users the
fewer are inverted: P = (I - X' (X X' + l I)^-1 X) / l, the same matrix.
"""

import dataclasses

import numpy as np
from scipy import linalg
from scipy import sparse

from jtm_tf.baselines import rules
from jtm_tf.baselines import scan
from jtm_tf.data import splits
from jtm_tf.tree import factors

# Rows of a dense matrix that are worked on at a time.
_BLOCK = 1 << 10


@dataclasses.dataclass(frozen=True)
class EASEConfig:
    """How B is found.

    Attributes:
        regularization: weight of the squares of B.
        max_gib: memory, in GiB, that the matrix to invert may take, as wide
            as there are items or users, whichever are fewer.
    """

    regularization: float = 1000.0
    max_gib: float = 8.0

    def __post_init__(self):
        if not 0 < self.regularization < np.inf:
            raise ValueError(
                "regularization must be finite, > 0; got "
                f"{self.regularization}."
            )


# What is tried by default; the best on validation users is taken.
GRID = {"regularization": (100.0, 300.0, 1000.0, 3000.0, 10000.0)}


@dataclasses.dataclass(frozen=True, eq=False)
class EASE:
    """P, or what it is made of where there are fewer users than items.

    Attributes:
        inverse: [N + 1, N + 1] float64, P, or [U, U], the inverse in P.
        diagonal: [N + 1] float64, diag(P), times l if users were inverted.
        rows: [U, N + 1] sparse, X, if users were inverted; else None.
        popular: best-sellers, which settle ties.
    """

    inverse: np.ndarray
    diagonal: np.ndarray
    rows: sparse.csr_array | None
    popular: rules.Popular

    @classmethod
    def fit(
        cls,
        examples: splits.Examples,
        num_items: int,
        config: EASEConfig = EASEConfig(),
    ) -> "EASE":
        """Inverts the smaller matrix.

        Raises:
            ValueError: it would not fit into `max_gib`, or an item is not in
                1..N.
        """
        popular = rules.Popular.fit(examples, num_items)
        rows = factors.taken(
            examples.starts, examples.target_items(), num_items
        ).astype(np.float64)
        size = min(rows.shape)
        gib = size**2 * 8 / 2**30
        if gib > config.max_gib:
            raise ValueError(
                f"EASE inverts a matrix of {num_items:,} items or of "
                f"{rows.shape[0]:,} users, whichever are fewer, which takes "
                f"{gib:,.1f} GiB; it may take {config.max_gib:g}. Choose "
                "another method, or raise --ease_max_gib."
            )
        if rows.shape[1] == size:
            inverse = _inverse(rows.T.tocsr(), config.regularization)
            return cls(inverse, inverse.diagonal().copy(), None, popular)
        inverse = _inverse(rows, config.regularization)
        return cls(inverse, 1 - _forms(rows, inverse), rows, popular)

    def scores(self, known: sparse.csr_matrix) -> np.ndarray:
        """Returns h B, [B, N + 1] float64, of [B, N + 1] sparse histories."""
        dense = known.toarray()
        if self.rows is None:
            projected = known @ self.inverse  # h P
        else:
            # [B, U], how many items; where users share much, next to dense.
            shared = (known @ self.rows.T).toarray()
            projected = dense - (shared @ self.inverse) @ self.rows  # l h P
        return dense - projected / self.diagonal

    def recommend_users(
        self, users: splits.HeldOutUsers, num_results: int
    ) -> np.ndarray:
        """Returns each user's M items of largest score, [U, M] int32."""
        known = scan.known_rows(users, self.popular.num_items)
        return scan.recommend(
            lambda rows: self.scores(known[rows]),
            len(users),
            num_results,
            self.popular,
        )


def _inverse(rows, regularization):
    """Returns (R R' + l I)^-1 of [n, m] sparse R, [n, n] dense.

    n may be large: there is one such matrix at any time.
    """
    size = rows.shape[0]
    gram = np.empty((size, size), order="F")
    for start in range(0, size, _BLOCK):
        block = rows[start : start + _BLOCK]
        gram[:, start : start + _BLOCK] = (rows @ block.T).toarray()
    gram[np.diag_indices_from(gram)] += regularization
    factor = linalg.cholesky(
        gram, lower=True, overwrite_a=True, check_finite=False
    )
    inverse, _ = linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)
    # Only the lower half is there.
    for start in range(0, size, _BLOCK):
        stop = start + _BLOCK
        inverse[start:stop, stop:] = inverse[stop:, start:stop].T
        corner = inverse[start:stop, start:stop]
        corner += np.tril(corner, -1).T
    # The same matrix, laid out by rows: scipy's products would copy the other.
    return inverse.T


def _forms(rows, matrix):
    """Returns x' A x for each column x of [U, N + 1] sparse rows, [N + 1]."""
    columns = rows.T.tocsr()
    parts = [
        columns[i : i + _BLOCK].multiply(columns[i : i + _BLOCK] @ matrix)
        for i in range(0, columns.shape[0], _BLOCK)
    ]
    return np.concatenate([np.asarray(x.sum(axis=1)).ravel() for x in parts])
