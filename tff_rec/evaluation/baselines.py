"""Ranks of recommenders that learn nothing of the user, or know everything: what a model's numbers lie between."""

from collections.abc import Callable, Sequence

import numpy as np

from tff_rec.data.features import ItemVocabulary
from tff_rec.data.synthetic import SyntheticData
from tff_rec.evaluation import ranking

ScoresOfUsers = Callable[[np.ndarray], np.ndarray]


def popularity_ranks(counts: np.ndarray, histories: Sequence[np.ndarray], held_out: np.ndarray) -> np.ndarray:
    """LOO-full ranks by popularity.

    Args:
        counts: float32 [items], training interactions of each item (`features.popularity`).
        histories: An int array of items a user.
        held_out: int32 [users], -1 for an item that is not in the vocabulary.

    Returns:
        int64 [users].
    """
    return _ranks(lambda users: _same(counts, users), histories, held_out)


def popularity_ranks_among_candidates(counts: np.ndarray, held_out: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """LOO+99 ranks by popularity: int64 [users]; arguments as in `ranking.ranks_among_candidates`."""
    return ranking.ranks_among_candidates(_same(counts, held_out), held_out, candidates)


def oracle_ranks(
    synthetic: SyntheticData,
    vocabulary: ItemVocabulary,
    user_ids: Sequence[str],
    histories: Sequence[np.ndarray],
    held_out: np.ndarray,
) -> np.ndarray:
    """LOO-full ranks by the probabilities that the data was drawn with: what no recommender beats on average.

    Args:
        synthetic: The data and its truth.
        vocabulary: The items that are ranked.
        user_ids: Whose histories these are.
        histories: An int array of items a user.
        held_out: int32 [users], -1 for an item that is not in the vocabulary.

    Returns:
        int64 [users].
    """
    ids = np.asarray(user_ids, dtype=object)
    return _ranks(lambda users: synthetic.oracle_scores(ids[users], vocabulary.item_ids), histories, held_out)


def _same(counts: np.ndarray, users: np.ndarray) -> np.ndarray:
    return np.broadcast_to(counts, (len(users), len(counts)))


def _ranks(scores_of: ScoresOfUsers, histories: Sequence[np.ndarray], held_out: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(histories), dtype=np.int64)
    for start in range(0, len(histories), ranking.BATCH_USERS):
        users = np.arange(start, min(start + ranking.BATCH_USERS, len(histories)))
        excluded = [histories[user] for user in users]
        ranks[users] = ranking.rank_of_held_out(scores_of(users), held_out[users], excluded)
    return ranks
