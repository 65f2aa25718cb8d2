"""EASE: ridge regression of each item on all others, in closed form (Steck, 2019, https://arxiv.org/abs/1905.03375).

With X = U S V' the inverse of the regularised Gram matrix is V ((S² + λ)^-1 - 1/λ) V' + 1/λ: one decomposition, of
users or of items, whichever are fewer, serves every λ, and where users are fewer no items by items matrix is formed.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from tff_rec.evaluation import sessions
from tff_rec.evaluation.recommenders import Recommender, in_batches

_SMALLEST = 1e-6


@dataclasses.dataclass(frozen=True)
class Decomposition:
    """Right singular vectors of the interactions, float32 [items, n], and squares of their values, float64 [n]."""

    vectors: np.ndarray
    squares: np.ndarray


def decompose(interactions: sparse.csr_matrix) -> Decomposition:
    """Of interactions, float32 [users, items], 1 where a user has an item."""
    users, items = interactions.shape
    smaller = interactions @ interactions.T if users < items else interactions.T @ interactions
    squares, vectors = np.linalg.eigh(smaller.toarray().astype(np.float64))
    kept = squares > _SMALLEST * squares[-1]
    squares, vectors = squares[kept], vectors[:, kept]
    if users < items:
        vectors = interactions.T @ (vectors / np.sqrt(squares))
    return Decomposition(vectors.astype(np.float32), squares)


def build(decomposition: Decomposition, *, penalty: float) -> Recommender:
    """The recommender of one penalty λ on the squares of weights."""
    vectors = decomposition.vectors
    scale = (1 / (decomposition.squares + penalty) - 1 / penalty).astype(np.float32)
    diagonal = np.einsum("ij,ij,j->i", vectors, vectors, scale) + np.float32(1 / penalty)

    def score(users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        del users
        rows = sessions.matrix(histories, len(vectors))
        inverse = ((rows @ vectors) * scale) @ vectors.T + rows.toarray() / np.float32(penalty)
        # B = I - P / diag(P) has zeros on its diagonal: an item does not speak for itself.
        return rows.toarray() - inverse / diagonal

    return in_batches(score)
