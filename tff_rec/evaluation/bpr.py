"""Matrix factorisation with item biases by Bayesian personalised ranking (Rendle et al., 2009), by `implicit`."""

from collections.abc import Sequence

import numpy as np
from implicit.cpu.bpr import BayesianPersonalizedRanking
from scipy import sparse

from tff_rec.evaluation.recommenders import Recommender, in_batches


def fit(
    interactions: sparse.csr_matrix, *, factors: int, penalty: float, learning_rate: float, passes: int, seed: int
) -> Recommender:
    """Fits on the training part; users keep their trained vectors, whatever history is given later.

    Args:
        interactions: float32 [users, items], 1 where a user has an item.
        factors: Length of vectors.
        penalty: On their squares.
        learning_rate: Of stochastic gradient descent.
        passes: Over the interactions.
        seed: Of the first vectors and of the draws. One thread, so that runs repeat.
    """
    model = BayesianPersonalizedRanking(
        factors=factors,
        regularization=penalty,
        learning_rate=learning_rate,
        iterations=passes,
        random_state=seed,
        num_threads=1,
    )
    model.fit(interactions, show_progress=False)

    def score(users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        del histories
        return model.user_factors[users] @ model.item_factors.T

    return in_batches(score)
