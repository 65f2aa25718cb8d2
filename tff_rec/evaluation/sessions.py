"""Histories as sparse rows, for recommenders that are linear in them."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse


def matrix(histories: Sequence[np.ndarray], num_items: int) -> sparse.csr_matrix:
    """float32 CSR [users, num_items], 1 where a history has an item; -1 in a history is passed over."""
    known = [np.unique(items[items >= 0]) for items in histories]
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in known])])
    columns = np.concatenate([np.empty(0, np.int32), *known])
    return sparse.csr_matrix((np.ones(len(columns), np.float32), columns, offsets), shape=(len(known), num_items))
