"""Item-based nearest neighbours: what is like the items of the history (Sarwar et al., 2001), by `implicit`."""

import warnings
from collections.abc import Sequence

import numpy as np
from implicit import nearest_neighbours
from implicit.utils import ParameterWarning
from scipy import sparse

from tff_rec.evaluation import sessions
from tff_rec.evaluation.recommenders import Recommender, in_batches

_SIMILARITIES = {"cosine": nearest_neighbours.CosineRecommender, "tf-idf": nearest_neighbours.TFIDFRecommender}


def fit(interactions: sparse.csr_matrix, *, similarity: str, neighbours: int) -> Recommender:
    """Fits on the training part.

    Args:
        interactions: float32 [users, items], 1 where a user has an item.
        similarity: cosine or tf-idf.
        neighbours: Of an item, the most like it, itself included: only they speak for it.
    """
    model = _SIMILARITIES[similarity](K=neighbours, num_threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParameterWarning)  # Its own weights come in a form that it then converts.
        model.fit(interactions, show_progress=False)
    similar = model.similarity.T.tocsr().astype(np.float32)

    def score(users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        del users
        return (sessions.matrix(histories, interactions.shape[1]) @ similar).toarray()

    return in_batches(score)
