"""Simulated devices: every user's history as arrays, cohorts of users, and blocks of devices to train at once.

All is a function of (seed, round): which users take part, which window of a long history they train on, and the seed
that a device draws its own random numbers from. None depends on how users are grouped.
"""

import collections
import dataclasses
import pathlib
import types
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from tff_rec.data.features import ItemVocabulary
from tff_rec.errors import InputError

PADDING = -1
Block = collections.OrderedDict[str, np.ndarray]
_WINDOW, _PLACE, _DRAWS, _ORDER, _COHORT = 1, 2, 3, 4, 5


@dataclasses.dataclass(frozen=True)
class ClientStore:
    """Histories of all users, one after the other.

    Attributes:
        user_ids: Ids of the users, in the order of the rows they came from.
        offsets: int64 [users + 1]: user u owns `items[offsets[u]:offsets[u + 1]]`.
        items: int32, indices in the vocabulary, oldest first.
        timestamps: int64, as many, in seconds.
    """

    user_ids: np.ndarray
    offsets: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    def history(self, user: int) -> np.ndarray:
        """All items of a user: int32, oldest first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def lengths(self) -> np.ndarray:
        """Number of items of every user: int64 [users]."""
        return np.diff(self.offsets)

    def histories(self, users: np.ndarray) -> list[np.ndarray]:
        """The histories of some users."""
        return [self.history(user) for user in users]


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """One item a user that training has not seen.

    Attributes:
        users: int64, rows of the store; users without a held-out item are not among them.
        items: int32, as many; -1 for an item outside the vocabulary, which no ranking can find.
    """

    users: np.ndarray
    items: np.ndarray


def build_client_store(train: pd.DataFrame, vocabulary: ItemVocabulary) -> ClientStore:
    """Arrays of the training part, whose rows stand user by user and oldest first, as `splits` leaves them.

    Args:
        train: Columns `user_id`, `item_id` and `timestamp`.
        vocabulary: Gives the indices; rows with other items are left out.

    Raises:
        ValueError: The rows of a user do not stand together.
    """
    user_ids, offsets, items, known = rows_by_user(train, vocabulary)
    return ClientStore(user_ids, offsets, items, train["timestamp"].to_numpy(dtype=np.int64)[known])


def rows_by_user(
    train: pd.DataFrame, vocabulary: ItemVocabulary
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Whose rows are where, of a table that stands user by user.

    Args:
        train: Columns `user_id` and `item_id`.
        vocabulary: Gives the indices; rows with other items are left out, users with no other rows have none.

    Returns:
        Ids of the users; int64 offsets [users + 1] of their rows; int32 items of the rows kept; and bool, which rows of
        `train` are kept.

    Raises:
        ValueError: The rows of a user do not stand together.
    """
    codes, user_ids = pd.factorize(train["user_id"])
    if np.any(np.diff(codes) < 0):
        raise ValueError("The rows of a user must stand together; order them with splits.order_by_user_and_time.")
    items = vocabulary.index(train["item_id"])
    known = items >= 0
    counts = np.bincount(codes[known], minlength=len(user_ids))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return np.asarray(user_ids, dtype=object), offsets, items[known], known


def memory_mapped(store: ClientStore, directory: pathlib.Path) -> ClientStore:
    """Writes the arrays to a directory and returns them memory-mapped from there."""
    return dataclasses.replace(
        store,
        offsets=memory_mapped_array(directory / "offsets.npy", store.offsets),
        items=memory_mapped_array(directory / "items.npy", store.items),
        timestamps=memory_mapped_array(directory / "timestamps.npy", store.timestamps),
    )


def held_out_items(store: ClientStore, part: pd.DataFrame, vocabulary: ItemVocabulary) -> HeldOut:
    """The held-out items of a part with at most one row a user."""
    rows = pd.Index(store.user_ids).get_indexer(pd.Index(part["user_id"]))
    order = np.argsort(rows)
    return HeldOut(rows[order].astype(np.int64), vocabulary.index(part["item_id"])[order])


def cohort(users: np.ndarray, clients_per_round: int, seed: int, round_number: int) -> np.ndarray:
    """Users of a round: each pass over the population is a new permutation, cut into cohorts.

    Users left over at the end of a pass, fewer than a cohort, wait for the next pass.

    Args:
        users: int64, those who can take part.
        clients_per_round: Size of a cohort.
        seed: Of the simulation.
        round_number: From 0.

    Raises:
        InputError: There are fewer users than a cohort needs.
    """
    _check_enough(users, clients_per_round, f"A cohort of {clients_per_round}")
    in_pass, place = divmod(round_number, len(users) // clients_per_round)
    order = np.random.default_rng([seed, in_pass]).permutation(len(users))
    return users[order[place * clients_per_round : (place + 1) * clients_per_round]]


def poisson_cohort(users: np.ndarray, expected: int, seed: int, round_number: int) -> np.ndarray:
    """Users of a round, each of whom takes part independently of all others: a Poisson sample of no fixed size.

    Args:
        users: int64, those who can take part.
        expected: Users of a cohort in the mean; each takes part with the probability expected / len(users).
        seed: Of the simulation.
        round_number: From 0.

    Returns:
        int64, perhaps nobody.

    Raises:
        InputError: There are fewer users than a cohort has in the mean.
    """
    _check_enough(users, expected, f"A cohort of {expected} in the mean")
    return users[uniform_of(users, seed, round_number, _COHORT) < expected / len(users)]


def blocks(
    store: ClientStore,
    users: np.ndarray,
    *,
    max_length: int,
    users_per_block: int,
    random_window: float,
    shuffle_ties: bool,
    seed: int,
    round_number: int,
    beside: Mapping[str, np.ndarray] = types.MappingProxyType({}),
) -> Iterator[Block]:
    """Groups users of like length in blocks of like size, and pads each block to its longest history.

    Args:
        store: The histories.
        users: int64, the cohort.
        max_length: Longest history to train on, one more than the positions a query tower sees.
        users_per_block: Largest size of a block.
        random_window: Share of users with a longer history who train on a random window of it, and not on its end.
        shuffle_ties: Whether items of one timestamp, such as a basket's, are put in a new random order.
        seed: Of the simulation.
        round_number: From 0.
        beside: By name, int32 [store.items, m], what stands beside each item of the store; e.g. its decoys.

    Yields:
        `history`: int32 [users, n], oldest first, padded at the end with -1; `seed`: int32 [users]; and what is
        `beside` the items of the history: int32 [users, n · m], padded likewise.
    """
    lengths = store.lengths()[users]
    users = users[np.argsort(-lengths, kind="stable")]
    excess = np.maximum(store.lengths()[users] - max_length, 0)
    somewhere = uniform_of(users, seed, round_number, _WINDOW) < random_window
    place = (uniform_of(users, seed, round_number, _PLACE) * (excess + 1)).astype(np.int64)
    starts = store.offsets[users] + np.where(somewhere, place, excess)
    counts = np.minimum(store.lengths()[users], max_length)
    seeds = (hash_of(users, seed, round_number, _DRAWS) >> np.uint64(33)).astype(np.int32)
    for part in even_parts(len(users), users_per_block):
        history = pad(store.items, starts[part], counts[part])
        if shuffle_ties:
            times = pad(store.timestamps, starts[part], counts[part])
            history = _shuffle_ties(history, times, users[part], seed, round_number)
        more = {name: pad(values, starts[part], counts[part]) for name, values in beside.items()}
        yield collections.OrderedDict(history=history, seed=seeds[part], **more)


def pad(items: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Slices of an array as rows padded at the end with -1.

    Args:
        items: [n] or [n, m].
        starts: Where each slice begins.
        counts: Its length.

    Returns:
        [len(starts), max(counts)] or [len(starts), max(counts) · m], of the array's type.
    """
    columns = np.arange(max(1, counts.max(initial=1)))
    places = np.minimum(starts[:, np.newaxis] + columns, len(items) - 1)
    valid = (columns < counts[:, np.newaxis]).reshape(*places.shape, *[1] * (items.ndim - 1))
    return np.where(valid, items[places], PADDING).astype(items.dtype).reshape(len(starts), -1)


def even_parts(total: int, most: int) -> Iterator[slice]:
    """Slices of at most `most`, as few as can be, whose sizes differ by one at most."""
    cuts = np.linspace(0, total, -(-total // most) + 1).round().astype(int)
    return map(slice, cuts[:-1], cuts[1:])


def _shuffle_ties(
    history: np.ndarray, times: np.ndarray, users: np.ndarray, seed: int, round_number: int
) -> np.ndarray:
    """Rows in which items of equal times are in random order; padding stays at the end."""
    columns = np.arange(history.shape[1])
    groups = np.cumsum(np.diff(times, axis=1, prepend=times[:, :1]) != 0, axis=1)
    cells = users[:, np.newaxis].astype(np.uint64) * np.uint64(1 << 20) + columns.astype(np.uint64)
    keys = groups + uniform_of(cells, seed, round_number, _ORDER)
    order = np.argsort(np.where(history >= 0, keys, np.inf), axis=1, kind="stable")
    return np.take_along_axis(history, order, axis=1)


def memory_mapped_array(path: pathlib.Path, array: np.ndarray) -> np.ndarray:
    """Writes an array to a file, beside first, and returns it memory-mapped from there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial.npy")
    np.save(beside, array)
    beside.rename(path)
    return np.load(path, mmap_mode="r")


def uniform_of(users: np.ndarray, seed: int, round_number: int, purpose: int) -> np.ndarray:
    """One float64 in [0, 1) a user."""
    return (hash_of(users, seed, round_number, purpose) >> np.uint64(11)) * 2.0**-53


def hash_of(users: np.ndarray, seed: int, round_number: int, purpose: int) -> np.ndarray:
    """uint64, as many as users: a key of (seed, round, purpose) and the user, mixed by SplitMix64's finalizer."""
    key = np.random.default_rng([seed, round_number, purpose]).integers(0, 2**63, dtype=np.uint64)
    words = (users.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ key
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _check_enough(users: np.ndarray, wanted: int, cohort_in_words: str) -> None:
    if len(users) < wanted:
        raise InputError(
            f"{cohort_in_words} needs as many users with two items or more, and there are {len(users)}; lower "
            "--training.clients-per-round."
        )
