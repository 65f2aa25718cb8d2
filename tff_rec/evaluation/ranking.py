"""Ranking metrics of leave-one-out: each user's held-out item among the items that the user has not met.

LOO-full ranks among the whole catalogue (Krichene and Rendle 2020 on why), LOO+99 among given candidates. An item that
ties with the held-out one stands before it, and so does one whose score is NaN: a constant model scores 0. A held-out
item that cannot be recommended, because the vocabulary lacks it or the history holds it, is a miss.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from tff_rec.errors import InputError
from tff_rec.models.two_tower import TwoTower

MISS = np.iinfo(np.int64).max
BATCH_USERS = 256


@dataclasses.dataclass(frozen=True)
class RankingMetrics:
    """Means over users, as shares of 1.

    Attributes:
        hit_rate_10: Share of users whose held-out item is among the first 10.
        ndcg_10: Mean of 1 / log2(1 + rank) where the rank is at most 10, else 0.
        hit_rate_20: Share of users whose held-out item is among the first 20.
        mrr: Mean of 1 / rank; 0 for a miss.
        users: Number of users.
    """

    hit_rate_10: float
    ndcg_10: float
    hit_rate_20: float
    mrr: float
    users: int

    @property
    def hit_rate_10_error(self) -> float:
        """Standard error of `hit_rate_10` over users (binomial)."""
        return math.sqrt(self.hit_rate_10 * (1 - self.hit_rate_10) / self.users)

    def as_dict(self) -> dict[str, float]:
        """The attributes by name."""
        return dataclasses.asdict(self)

    def describe(self) -> str:
        """One line to print, in percent; the protocol is for the caller to name."""
        return (
            f"HR@10 {100 * self.hit_rate_10:.1f} % (± {100 * self.hit_rate_10_error:.1f}), "
            f"NDCG@10 {100 * self.ndcg_10:.1f} %, HR@20 {100 * self.hit_rate_20:.1f} %, MRR {100 * self.mrr:.1f} %, "
            f"{self.users:,} users"
        )


def metrics_from_ranks(ranks: np.ndarray) -> RankingMetrics:
    """Metrics of 1-based ranks, int64 [users], where `MISS` stands for infinity.

    Raises:
        InputError: There is no user.
    """
    if not len(ranks):
        raise InputError("No user has a held-out item, so nothing can be measured; give data with longer histories.")
    return RankingMetrics(
        hit_rate_10=float(np.mean(ranks <= 10)),
        ndcg_10=float(np.mean(np.where(ranks <= 10, 1 / np.log2(1.0 + ranks), 0.0))),
        hit_rate_20=float(np.mean(ranks <= 20)),
        mrr=float(np.mean(np.where(ranks == MISS, 0.0, 1 / ranks))),
        users=len(ranks),
    )


def rank_of_held_out(scores: np.ndarray, held_out: np.ndarray, excluded: Sequence[np.ndarray]) -> np.ndarray:
    """Ranks of held-out items among all items that are not excluded.

    Args:
        scores: float32 [users, items].
        held_out: int32 [users], -1 for an item that is not in the vocabulary.
        excluded: An int array of items a user; -1 is passed over.

    Returns:
        int64 [users], from 1; `MISS` where the held-out item is -1 or excluded.
    """
    users = np.arange(len(scores))
    places = np.maximum(held_out, 0)
    ahead = ~(scores < scores[users, places][:, np.newaxis])
    rows = np.repeat(users, [len(items) for items in excluded])
    columns = np.concatenate([np.empty(0, np.int32), *excluded]).astype(np.int64)
    ahead[rows[columns >= 0], columns[columns >= 0]] = False
    missed = (held_out < 0) | ~ahead[users, places]
    return np.where(missed, MISS, np.count_nonzero(ahead, axis=1)).astype(np.int64)


def ranks_among_candidates(scores: np.ndarray, held_out: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Ranks of held-out items among candidates of their own (LOO+99: 99 of them).

    Args:
        scores: float32 [users, items].
        held_out: int32 [users], -1 for an item that is not in the vocabulary.
        candidates: int32 [users, n]; -1, and the held-out item where it stands among them, are passed over.

    Returns:
        int64 [users], from 1; `MISS` where the held-out item is -1.
    """
    own = np.take_along_axis(scores, np.maximum(held_out, 0)[:, np.newaxis].astype(np.int64), axis=1)
    others = np.take_along_axis(scores, np.maximum(candidates, 0).astype(np.int64), axis=1)
    ahead = ~(others < own) & (candidates >= 0) & (candidates != held_out[:, np.newaxis])
    return np.where(held_out < 0, MISS, 1 + np.count_nonzero(ahead, axis=1)).astype(np.int64)


def evaluate_two_tower(
    model: TwoTower,
    histories: Sequence[np.ndarray],
    held_out: np.ndarray,
    max_length: int,
    batch_users: int = BATCH_USERS,
) -> RankingMetrics:
    """LOO-full metrics of a model under its own weights; arguments as in `two_tower_ranks`.

    Raises:
        InputError: There is no user.
    """
    return metrics_from_ranks(two_tower_ranks(model, histories, held_out, max_length, batch_users))


def two_tower_ranks(
    model: TwoTower,
    histories: Sequence[np.ndarray],
    held_out: np.ndarray,
    max_length: int,
    batch_users: int = BATCH_USERS,
) -> np.ndarray:
    """Ranks of held-out items among all items outside the histories.

    Args:
        model: Under its own weights.
        histories: An int array of items a user, oldest first; -1 (an item outside the vocabulary) is passed over.
        held_out: int32 [users], -1 for an item that is not in the vocabulary.
        max_length: Number of items, the newest ones, that a query is made of. The ranking leaves out the whole history.
        batch_users: Users scored at once.

    Returns:
        int64 [users].
    """
    ranks = np.empty(len(histories), dtype=np.int64)
    for users, scores in two_tower_scores(model, histories, max_length, batch_users):
        ranks[users] = rank_of_held_out(scores, held_out[users], [histories[user] for user in users])
    return ranks


def two_tower_scores(
    model: TwoTower, histories: Sequence[np.ndarray], max_length: int, batch_users: int = BATCH_USERS
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Scores all items for all users, users of like history length together.

    Yields:
        Users (int64 [batch]) and their scores (float32 [batch, items]).
    """
    table = model.candidate_embeddings()

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec.from_tensor(table)])
    def score(block: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        return model.score(model.query_embeddings(block, table), table)

    order = np.argsort([min(len(items), max_length) for items in histories], kind="stable")
    for start in range(0, len(order), batch_users):
        users = order[start : start + batch_users]
        block = pad_histories([histories[user] for user in users], max_length)
        yield users, score(block, table).numpy()


def pad_histories(histories: Sequence[np.ndarray], max_length: int) -> np.ndarray:
    """The newest `max_length` items of each history, without -1: int32 [users, longest (at least 1)], -1 at the end."""
    newest = [items[items >= 0][-max_length:] for items in histories]
    block = np.full((len(newest), max([1, *map(len, newest)])), -1, dtype=np.int32)
    for row, items in zip(block, newest, strict=True):
        row[: len(items)] = items
    return block
