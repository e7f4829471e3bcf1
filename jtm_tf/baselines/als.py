"""ALS: a factorisation of who had what, by the library `implicit`.

Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets"
(ICDM 2008). A user is a set of items without order. Held-out users were not
factorised: their vectors are folded in, the least squares of their known
items against the items' vectors.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy import sparse

from jtm_tf.baselines import rules
from jtm_tf.baselines import scan
from jtm_tf.data import splits
from jtm_tf.tree import factors


@dataclasses.dataclass(frozen=True)
class ALSConfig:
    """How the matrix is factorised.

    The loss is the sum over all users and items of c (p - x y)^2, plus
    `regularization` times the squares of all x and y; where a user had the
    item p = 1 and c = `alpha`, elsewhere p = 0 and c = 1.

    Attributes:
        factors: the size of a user's and an item's vector.
        regularization: weight of the squares of all vectors.
        alpha: weight of what a user had; the rest has 1.
        iterations: rounds over all users, then all items.
        seed: of the first vectors.
    """

    factors: int = 64
    regularization: float = 200.0
    alpha: float = 40.0
    iterations: int = 15
    seed: int = 0

    def __post_init__(self):
        if min(self.factors, self.iterations) < 1:
            raise ValueError(
                "factors and iterations must be >= 1; got "
                f"{self.factors} and {self.iterations}."
            )
        if not 0 <= self.regularization < np.inf:
            raise ValueError(
                "regularization must be finite, >= 0; got "
                f"{self.regularization}."
            )
        if not 1 <= self.alpha < np.inf:
            raise ValueError(f"alpha must be finite, >= 1; got {self.alpha}.")


# What is tried by default; the best on validation users is taken.
GRID = {
    "factors": (64, 128),
    "regularization": (100.0, 200.0, 300.0, 400.0),
    "alpha": (40.0, 100.0),
}


@dataclasses.dataclass(frozen=True, eq=False)
class ALS:
    """The items' vectors, and what folds users in.

    Attributes:
        model: `implicit`'s own.
        popular: best-sellers, which settle ties.
    """

    model: Any
    popular: rules.Popular

    @classmethod
    def fit(
        cls,
        examples: splits.Examples,
        num_items: int,
        config: ALSConfig = ALSConfig(),
    ) -> "ALS":
        """Factorises the training users' rows.

        Raises:
            ValueError: `implicit` is not installed, or an item is not in 1..N.
        """
        try:
            import implicit.cpu.als
            import threadpoolctl
        except ImportError as error:
            raise ValueError(
                f"ALS is the library implicit's ({error}). Install it with "
                "pip install .[rivals]"
            ) from error
        popular = rules.Popular.fit(examples, num_items)
        rows = factors.taken(
            examples.starts, examples.target_items(), num_items
        )
        # Products are small and implicit has threads of its own.
        with threadpoolctl.threadpool_limits(1, "blas"):
            model = implicit.cpu.als.AlternatingLeastSquares(
                factors=config.factors,
                regularization=config.regularization,
                alpha=config.alpha,
                iterations=config.iterations,
                random_state=config.seed,
            )
            model.fit(sparse.csr_matrix(rows), show_progress=False)
        return cls(model, popular)

    def recommend_users(
        self, users: splits.HeldOutUsers, num_results: int
    ) -> np.ndarray:
        """Folds users in and returns their M items of largest x y.

        Returns:
            [U, M] int32 items, best first.
        """
        known = scan.known_rows(users, self.popular.num_items)
        folded = self.model.recalculate_user(np.arange(len(users)), known)
        items = self.model.item_factors.T
        return scan.recommend(
            lambda rows: folded[rows] @ items,
            len(users),
            num_results,
            self.popular,
        )
