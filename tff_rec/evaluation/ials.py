"""iALS: factorisation of implicit feedback by alternating least squares (Hu, Koren, Volinsky, 2008), by `implicit`."""

from collections.abc import Sequence

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from tff_rec.evaluation import sessions
from tff_rec.evaluation.recommenders import Recommender, in_batches


@threadpool_limits.wrap(limits=1, user_api="blas")  # The library's own threads and those of BLAS hinder each other.
def fit(
    interactions: sparse.csr_matrix, *, factors: int, penalty: float, weight: float, sweeps: int, seed: int
) -> Recommender:
    """Fits on the training part; a user's vector is solved anew from the history that is given.

    Args:
        interactions: float32 [users, items], 1 where a user has an item.
        factors: Length of vectors.
        penalty: On their squares.
        weight: Of an interaction over that of a cell without one.
        sweeps: Times that all users and then all items are fitted.
        seed: Of the first vectors.
    """
    model = AlternatingLeastSquares(
        factors=factors, regularization=penalty, alpha=weight, iterations=sweeps, random_state=seed
    )
    model.fit(interactions, show_progress=False)

    def score(users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        rows = sessions.matrix(histories, interactions.shape[1])
        with threadpool_limits(limits=1, user_api="blas"):
            vectors = model.recalculate_user(np.arange(len(users)), rows)
        return vectors @ model.item_factors.T

    return in_batches(score)
