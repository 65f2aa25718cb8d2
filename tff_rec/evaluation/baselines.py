"""Recommenders that learn nothing of the user, or know everything: what a model's numbers lie between."""

from collections.abc import Sequence

import numpy as np

from tff_rec.data.features import ItemFeatures, ItemVocabulary
from tff_rec.data.synthetic import SyntheticData
from tff_rec.evaluation.recommenders import Recommender, in_batches


def popularity(counts: np.ndarray) -> Recommender:
    """The same list for everybody, by training interactions of each item: float32 [items] (`features.popularity`)."""
    return in_batches(lambda users, histories: np.broadcast_to(counts, (len(users), len(counts))))


def oracle(synthetic: SyntheticData, vocabulary: ItemVocabulary, user_ids: Sequence[str] | np.ndarray) -> Recommender:
    """The probabilities that the data was drawn with: what no recommender beats on average.

    Args:
        synthetic: The data and its truth.
        vocabulary: The items that are ranked.
        user_ids: Of the store's rows.
    """
    ids = np.asarray(user_ids, dtype=object)
    return in_batches(lambda users, histories: synthetic.oracle_scores(ids[users], vocabulary.item_ids))


def device_alone(item_features: ItemFeatures) -> Recommender:
    """What a device can do that sends and receives nothing but the public catalogue: items like those it has.

    It knows its own history and what is printed of every item (genres, year); nobody's tags, no popularity. Scores are
    the cosine between an item's features and the sum of the history's. Where the catalogue describes nothing, all items
    tie, and ties count against: such a device can recommend nothing.

    Args:
        item_features: Of the catalogue; those named `tag=…`, which users gave, are left out.
    """
    public = np.array([not name.startswith("tag=") for name in item_features.names])
    dense = np.zeros([len(item_features.indices), item_features.num_features], dtype=np.float32)
    rows = np.arange(len(dense))[:, np.newaxis]
    np.add.at(dense, (rows, item_features.indices), item_features.weights)
    dense = dense[:, public]
    norms = np.linalg.norm(dense, axis=1, keepdims=True)
    dense = np.divide(dense, norms, out=np.zeros_like(dense), where=norms > 0)

    def score(users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        del users
        profiles = np.stack([dense[items[items >= 0]].sum(axis=0) for items in histories])
        return profiles @ dense.T

    return in_batches(score)
