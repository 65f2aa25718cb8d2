"""Rating predictors that a federated model is held against, fitted centrally on the training part.

The global mean; regularised biases of users and items; matrix factorisation with biases by alternating ridge regression
(Koren, Bell and Volinsky, 2009), its penalty in proportion to the root of a row's number of ratings; and each user's
ridge regression on what is known of items, such as genres.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from tff_rec.data import ratings
from tff_rec.data.clients import pad
from tff_rec.data.ratings import HeldOutRatings, RatingStore
from tff_rec.evaluation import tuning
from tff_rec.evaluation.tuning import Settings, Tuned

Predictor = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From users and items (int [ratings], rows of the store and of the vocabulary, -1 where unknown, which adds nothing to
the mean) to float32 [ratings], clipped to the range of the training ratings."""

NAMES = ("global mean", "user and item bias", "biased matrix factorisation", "ridge on the user's genres")
_BIAS_PENALTIES = [(user, item) for user in (2.0, 5.0, 8.0) for item in (2.0, 3.0, 5.0)]
_FACTOR_PENALTIES = (1.0, 1.2, 1.5)
_TASTE_PENALTIES = (3.0, 5.0, 8.0)
_SWEEPS = 10
_CHUNK_CELLS = 4_000_000


def candidates(
    name: str, store: RatingStore, item_rows: sparse.csr_matrix
) -> Iterator[tuple[Settings, Callable[[], Predictor]]]:
    """Settings of a baseline, and what fits it with them.

    Args:
        name: Of `NAMES`.
        store: The training part.
        item_rows: float32 CSR [items, n], such as `ItemTags.genres`; n is small.
    """
    num_items = item_rows.shape[0]
    if name == "global mean":
        yield {}, lambda: global_mean(store)
    elif name == "user and item bias":
        for user, item in _BIAS_PENALTIES:
            yield {"user_penalty": user, "item_penalty": item}, functools.partial(biases, store, num_items, user, item)
    elif name == "biased matrix factorisation":
        for penalty in _FACTOR_PENALTIES:
            yield {"penalty": penalty}, functools.partial(factorisation, store, num_items, penalty=penalty)
    else:
        for penalty in _TASTE_PENALTIES:
            yield {"penalty": penalty}, functools.partial(taste_ridge, store, item_rows, penalty)


def tuned(name: str, store: RatingStore, item_rows: sparse.csr_matrix, validation: HeldOutRatings) -> Tuned[Predictor]:
    """A baseline, the best on validation of its settings; arguments as of `candidates`."""
    return tuning.best(
        candidates(name, store, item_rows),
        lambda predictor: {"rmse": rmse(predictor(validation.users, validation.items), validation)},
        lambda scores: -scores["rmse"],
    )


def rmse(predictions: np.ndarray, held_out: HeldOutRatings) -> float:
    """Root of the mean squared error of predicted ratings."""
    return float(np.sqrt(np.mean((predictions.astype(np.float64) - held_out.ratings) ** 2)))


def global_mean(store: RatingStore) -> Predictor:
    """The mean of all training ratings, for every user and item."""
    mean = np.float32(_mean(store))
    return lambda users, items: np.full(len(users), mean)


def biases(store: RatingStore, num_items: int, user_penalty: float = 5.0, item_penalty: float = 2.0) -> Predictor:
    """The mean, plus a number of each user and of each item: least squares with the penalties on their squares."""
    users, items = _fit_biases(store, num_items, user_penalty, item_penalty)
    return _predictor(store, users[:, np.newaxis], items[:, np.newaxis])


def factorisation(
    store: RatingStore,
    num_items: int,
    *,
    dimension: int = 32,
    penalty: float = 1.2,
    bias_penalty: float = 3.0,
    sweeps: int = _SWEEPS,
    seed: int = 0,
) -> Predictor:
    """Biases, and the product of a user's and an item's vector.

    Args:
        store: The training part.
        num_items: Size of the vocabulary.
        dimension: Length of the vectors.
        penalty: On the squares of a vector, times the root of the number of its ratings.
        bias_penalty: On the squares of biases.
        sweeps: Times that all users and then all items are fitted.
        seed: Of the items' first vectors.
    """
    by_user = _residuals(store, num_items)
    by_item = by_user.T.tocsr()
    penalties = [_root_penalties(side, dimension, penalty, bias_penalty) for side in (by_user, by_item)]
    _, item_biases = _fit_biases(store, num_items, bias_penalty, bias_penalty)
    items = np.random.default_rng(seed).normal(0, 0.1, (num_items, dimension + 1))
    items[:, -1] = item_biases
    for _ in range(sweeps):
        users = _ridge(by_user, items, penalties[0])
        items = _ridge(by_item, users, penalties[1])
    return _predictor(store, users, items)


def taste_ridge(store: RatingStore, item_rows: sparse.csr_matrix, penalty: float = 5.0) -> Predictor:
    """Biases, and each user's own weights of what is known of items: a profile learnt from the user's ratings alone.

    Args:
        store: The training part.
        item_rows: float32 CSR [items, n]; n is small, as n x n equations are solved for each user.
        penalty: On the squares of weights and biases.
    """
    by_user = _residuals(store, item_rows.shape[0])
    _, item_biases = _fit_biases(store, item_rows.shape[0], penalty, penalty)
    items = np.column_stack([item_rows.toarray(), item_biases]).astype(np.float64)
    users = _ridge(by_user, items, np.full((store.num_users, items.shape[1]), penalty))
    return _predictor(store, users, items)


def _mean(store: RatingStore) -> float:
    return float(store.ratings.mean(dtype=np.float64))


def _residuals(store: RatingStore, num_items: int) -> sparse.csr_matrix:
    """Ratings less their mean: float64 CSR [users, items]."""
    matrix = ratings.interaction_matrix(store, num_items).astype(np.float64)
    matrix.data -= _mean(store)
    return matrix


def _fit_biases(
    store: RatingStore, num_items: int, user_penalty: float, item_penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Alternates between users and items: float64 [users] and [items]."""
    owners, residuals = store.owners(), store.ratings - _mean(store)
    item_counts = np.bincount(store.items, minlength=num_items)
    users = np.zeros(store.num_users)
    for _ in range(_SWEEPS):
        items = np.bincount(store.items, residuals - users[owners], num_items) / (item_counts + item_penalty)
        users = np.bincount(owners, residuals - items[store.items], store.num_users) / (store.lengths() + user_penalty)
    return users, items


def _root_penalties(side: sparse.csr_matrix, dimension: int, penalty: float, bias_penalty: float) -> np.ndarray:
    """Penalties of a row's vector and, last, its bias: float64 [rows, dimension + 1]."""
    of_vectors = np.repeat(penalty * np.sqrt(np.maximum(side.getnnz(axis=1), 1))[:, np.newaxis], dimension, axis=1)
    return np.column_stack([of_vectors, np.full(len(of_vectors), bias_penalty)])


@threadpool_limits.wrap(limits=1)  # On many small systems, threads only wait for each other.
def _ridge(side: sparse.csr_matrix, others: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Ridge regression of each row on its others' vectors: float64 [rows, n], the row's bias last.

    Rows are solved many at once, those with like numbers of ratings together.

    Args:
        side: float64 CSR [rows, others], what is left of the ratings after the mean.
        others: float64 [others, n], their biases last.
        penalties: float64 [rows, n].
    """
    counts, values = side.getnnz(axis=1), side.data - others[side.indices, -1]
    inputs = np.column_stack([others[:, :-1], np.ones(len(others))])
    inputs = np.vstack([inputs, np.zeros(inputs.shape[1])])  # Padding, -1, is a row of zeros.
    solved, order, begin = np.empty(penalties.shape), np.argsort(-counts, kind="stable"), 0
    while begin < len(order):
        rows = order[begin : begin + max(1, _CHUNK_CELLS // (max(1, counts[order[begin]]) * inputs.shape[1]))]
        begin += len(rows)
        x = inputs[pad(side.indices, side.indptr[rows], counts[rows])]
        y = pad(values, side.indptr[rows], counts[rows])[:, :, np.newaxis]
        transposed = x.swapaxes(1, 2)
        normal = transposed @ x + penalties[rows][:, :, np.newaxis] * np.eye(x.shape[2])
        solved[rows] = np.linalg.solve(normal, transposed @ y)[:, :, 0]
    return solved


def _predictor(store: RatingStore, users: np.ndarray, items: np.ndarray) -> Predictor:
    """The mean, both biases (last columns) and the product of the other columns."""
    mean, low, high = _mean(store), store.ratings.min(), store.ratings.max()
    # Row -1, of the unknown, is zeros.
    users, items = (np.vstack([rows, np.zeros(rows.shape[1])]) for rows in (users, items))

    def predict(user: np.ndarray, item: np.ndarray) -> np.ndarray:
        rating = mean + users[user, -1] + items[item, -1]
        for column in range(users.shape[1] - 1):
            rating += users[user, column] * items[item, column]
        return np.clip(rating, low, high).astype(np.float32)

    return predict
