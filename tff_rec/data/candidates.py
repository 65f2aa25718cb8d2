"""The 99 items beside a user's held-out one in LOO+99: published ones, or drawn."""

from collections.abc import Sequence

import numpy as np

from tff_rec.data.features import ItemVocabulary
from tff_rec.data.ncf import PublishedTest

NUMBER = 99
_CANDIDATES = 12


def drawn(histories: Sequence[np.ndarray], held_out: np.ndarray, num_items: int, seed: int) -> np.ndarray:
    """Items drawn uniformly, without repeats, from those that the user has nowhere: neither seen nor held out.

    Args:
        histories: All items that each user has at test, validation included; -1 is passed over.
        held_out: int32 [users], the test items.
        num_items: Size of the catalogue.
        seed: Of the draws.

    Returns:
        int32 [users, 99]; -1 where a user has all but fewer items.
    """
    found = np.full([len(histories), NUMBER], -1, dtype=np.int32)
    for row, (history, item) in enumerate(zip(histories, held_out, strict=True)):
        free = np.ones(num_items, dtype=bool)
        free[history[history >= 0]] = False
        free[max(item, 0)] &= item < 0
        items = np.random.default_rng([seed, _CANDIDATES, row]).permutation(np.flatnonzero(free))[:NUMBER]
        found[row, : len(items)] = items
    return found


def published(test: PublishedTest, user_ids: Sequence[str], vocabulary: ItemVocabulary) -> np.ndarray:
    """Published negatives of some users: int32 [users, 99], -1 for an item that the vocabulary lacks."""
    place = {user: row for row, user in enumerate(test.users)}
    rows = test.negatives[[place[user] for user in user_ids]]
    return vocabulary.index(rows.ravel()).reshape(rows.shape)
