"""Ratings of simulated devices as arrays: what each user trains on in a round, and the ratings held out from it.

As in `clients`, all that is random is a function of (seed, round, user) and not of how users are grouped.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Self

import numpy as np
import pandas as pd
from scipy import sparse

from tff_rec.data import clients
from tff_rec.data.clients import PADDING, Block
from tff_rec.data.features import ItemVocabulary

_SUBSET, _DRAWS = 5, 6
_MOST_RATINGS = 1 << 20


@dataclasses.dataclass(frozen=True)
class RatingStore:
    """Ratings of all users, one user after the other.

    Attributes:
        user_ids: Ids of the users, in the order of the rows they came from.
        offsets: int64 [users + 1]: user u owns `items[offsets[u]:offsets[u + 1]]` and the ratings there.
        items: int32, indices in the vocabulary, oldest first.
        ratings: float32, as many, on the data's scale.
    """

    user_ids: np.ndarray
    offsets: np.ndarray
    items: np.ndarray
    ratings: np.ndarray

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    def lengths(self) -> np.ndarray:
        """Number of ratings of every user: int64 [users]."""
        return np.diff(self.offsets)

    def owners(self) -> np.ndarray:
        """The user of every rating: int64, as many as `items`."""
        return np.repeat(np.arange(self.num_users), self.lengths())


@dataclasses.dataclass(frozen=True)
class HeldOutRatings:
    """Ratings that training has not seen, in the order of the part they came from.

    Attributes:
        users: int64, rows of the store; -1 for a user that the store lacks.
        items: int32, as many; -1 for an item outside the vocabulary.
        ratings: float32, as many.
    """

    users: np.ndarray
    items: np.ndarray
    ratings: np.ndarray

    def taken(self, rows: np.ndarray) -> Self:
        """Some of them: bool, or places."""
        return dataclasses.replace(self, users=self.users[rows], items=self.items[rows], ratings=self.ratings[rows])


def build_rating_store(train: pd.DataFrame, vocabulary: ItemVocabulary) -> RatingStore:
    """Arrays of the training part, whose rows stand user by user and oldest first, as `splits` leaves them.

    Args:
        train: Columns `user_id`, `item_id` and `rating`.
        vocabulary: Gives the indices; rows with other items are left out, users with no other rows have none.

    Raises:
        ValueError: The rows of a user do not stand together.
    """
    user_ids, offsets, items, known = clients.rows_by_user(train, vocabulary)
    return RatingStore(user_ids, offsets, items, train["rating"].to_numpy(dtype=np.float32)[known])


def memory_mapped(store: RatingStore, directory: pathlib.Path) -> RatingStore:
    """Writes the arrays to a directory and returns them memory-mapped from there."""
    return dataclasses.replace(
        store,
        offsets=clients.memory_mapped_array(directory / "offsets.npy", store.offsets),
        items=clients.memory_mapped_array(directory / "items.npy", store.items),
        ratings=clients.memory_mapped_array(directory / "ratings.npy", store.ratings),
    )


def held_out_ratings(store: RatingStore, part: pd.DataFrame, vocabulary: ItemVocabulary) -> HeldOutRatings:
    """The ratings of a part, columns `user_id`, `item_id` and `rating`: every row, unknown users and items too."""
    users = pd.Index(store.user_ids, dtype=object).get_indexer(pd.Index(part["user_id"], dtype=object))
    ratings = part["rating"].to_numpy(dtype=np.float32)
    return HeldOutRatings(users.astype(np.int64), vocabulary.index(part["item_id"]), ratings)


def interaction_matrix(store: RatingStore, num_items: int) -> sparse.csr_matrix:
    """The user-item matrix: float32 [users, num_items], each row's columns in order."""
    shape = (store.num_users, num_items)
    matrix = sparse.csr_matrix((store.ratings, store.items, store.offsets), shape=shape, copy=True)
    matrix.sort_indices()
    return matrix


def rating_blocks(
    store: RatingStore,
    users: np.ndarray,
    *,
    users_per_block: int,
    max_ratings: int,
    seed: int,
    round_number: int,
) -> Iterator[Block]:
    """Groups users with like numbers of ratings in blocks of like size, and pads each block to its longest.

    A user with more than `max_ratings` trains on a random subset of that size, oldest first, drawn anew each round.

    Args:
        store: The ratings.
        users: int64, the cohort.
        users_per_block: Largest size of a block.
        max_ratings: Most ratings of a user in a round.
        seed: Of the simulation.
        round_number: From 0.

    Yields:
        `items`: int32 [users, n], padded at the end with -1; `ratings`: float32 [users, n], 0 where padded; `seed`:
        int32 [users].
    """
    users = users[np.argsort(-store.lengths()[users], kind="stable")]
    seeds = (clients.hash_of(users, seed, round_number, _DRAWS) >> np.uint64(33)).astype(np.int32)
    for part in clients.even_parts(len(users), users_per_block):
        places = _places(store, users[part], max_ratings, seed, round_number)
        items = np.where(places >= 0, store.items[places], np.int32(PADDING))
        ratings = np.where(places >= 0, store.ratings[places], np.float32(0))
        yield collections.OrderedDict(items=items, ratings=ratings, seed=seeds[part])


def _places(store: RatingStore, users: np.ndarray, max_ratings: int, seed: int, round_number: int) -> np.ndarray:
    """Where the ratings are that users train on: int64 [users, n], ascending, padded at the end with -1."""
    counts = store.lengths()[users]
    columns = np.arange(max(1, counts.max(initial=1)))
    places = np.where(columns < counts[:, np.newaxis], store.offsets[users][:, np.newaxis] + columns, -1)
    if len(columns) <= max_ratings:
        return places
    cells = users[:, np.newaxis].astype(np.uint64) * np.uint64(_MOST_RATINGS) + columns.astype(np.uint64)
    keys = np.where(places >= 0, clients.uniform_of(cells, seed, round_number, _SUBSET), np.inf)
    chosen = np.argpartition(keys, max_ratings - 1, axis=1)[:, :max_ratings]
    return np.take_along_axis(places, np.sort(chosen, axis=1), axis=1)
