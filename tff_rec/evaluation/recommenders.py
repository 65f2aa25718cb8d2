"""What every way to recommend is to those who judge it: from users and their histories to scores of all items."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tff_rec.evaluation import ranking
from tff_rec.models.two_tower import TwoTower

Recommender = Callable[[np.ndarray, Sequence[np.ndarray]], Iterator[tuple[np.ndarray, np.ndarray]]]
"""From users (int64, rows of the training store) and their histories (an int array of items each, oldest first, which
may hold more than the store does) to batches of places among these users, int64 [batch], and scores of all items,
float32 [batch, items]."""

ScoreBatch = Callable[[np.ndarray, Sequence[np.ndarray]], np.ndarray]

TOP = 10


@dataclasses.dataclass(frozen=True)
class Ranked:
    """What a recommender makes of users with a held-out item.

    Attributes:
        ranks: int64 [users], of the held-out item among all items outside the history, or among candidates.
        top: int32 [users, `TOP`], the first items outside the history, in no order; -1 where there are fewer.
    """

    ranks: np.ndarray
    top: np.ndarray


def in_batches(score: ScoreBatch) -> Recommender:
    """A recommender from a function that scores a batch of users: float32 [batch, items]."""

    def recommend(users: np.ndarray, histories: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(users), ranking.BATCH_USERS):
            places = np.arange(start, min(start + ranking.BATCH_USERS, len(users)))
            yield places, score(users[places], [histories[place] for place in places])

    return recommend


def two_tower(model: TwoTower, max_length: int) -> Recommender:
    """The model under its own weights, which must not change while its recommender is used."""

    def recommend(users: np.ndarray, histories: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        del users
        return ranking.two_tower_scores(model, histories, max_length)

    return recommend


def rank(
    recommender: Recommender,
    users: np.ndarray,
    histories: Sequence[np.ndarray],
    held_out: np.ndarray,
    candidates: np.ndarray | None = None,
) -> Ranked:
    """Ranks and lists of users.

    Args:
        recommender: Who scores.
        users: int64, rows of the store.
        histories: As many; what they hold is not recommended.
        held_out: int32 [users], -1 for an item that is not in the vocabulary.
        candidates: int32 [users, n] that the held-out item is ranked among (LOO+99); None for all items (LOO-full).
    """
    ranks = np.empty(len(users), dtype=np.int64)
    top = np.empty([len(users), TOP], dtype=np.int32)
    for places, scores in recommender(users, histories):
        owned = [histories[place] for place in places]
        if candidates is None:
            ranks[places] = ranking.rank_of_held_out(scores, held_out[places], owned)
        else:
            ranks[places] = ranking.ranks_among_candidates(scores, held_out[places], candidates[places])
        top[places] = _top(scores, owned)
    return Ranked(ranks, top)


def _top(scores: np.ndarray, excluded: Sequence[np.ndarray]) -> np.ndarray:
    """The best items outside the excluded ones: int32 [users, TOP], -1 where there are fewer."""
    open_places = np.ones(scores.shape, dtype=bool)
    for row, items in zip(open_places, excluded, strict=True):
        row[items[items >= 0]] = False
    known = np.where(np.isnan(scores), np.finfo(np.float32).min, scores)
    left = np.where(open_places, known, -np.inf)
    width = min(TOP, scores.shape[1])
    best = np.argpartition(-left, width - 1, axis=1)[:, :width]
    best = np.where(np.take_along_axis(open_places, best, axis=1), best, -1)
    return np.pad(best, [(0, 0), (0, TOP - width)], constant_values=-1).astype(np.int32)
