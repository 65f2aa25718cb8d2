"""The recommender that asks "was it ever drawn as my negative?", with no model at all.

A sampler that keeps held-out items out of the training negatives tells which they are: on ML-100K this rule then has
HR@10 = 1.000 in LOO+99 (the samplers of PFedRec, FedRAP and others do so). With an honest sampler it guesses.
"""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tff_rec.evaluation import ranking
from tff_rec.models.objectives import Objective


def count_negatives(
    objective: Objective, history: np.ndarray, seeds_of_rounds: Iterable[np.ndarray], num_items: int
) -> np.ndarray:
    """How often each item was drawn as a negative of each user.

    Args:
        objective: Its `rows` name the history and then the negatives.
        history: int32 [users, n], padded at the end with -1.
        seeds_of_rounds: int32 [users] a round.
        num_items: Size of the catalogue.

    Returns:
        int64 [users, num_items].
    """
    counts = np.zeros((len(history), num_items), np.int64)
    users = np.arange(len(history))[:, np.newaxis]
    for seeds in seeds_of_rounds:
        rows = objective.rows({"history": tf.constant(history), "seed": tf.constant(seeds)}, num_items)
        assert rows is not None, "An objective over the whole table draws no negatives."
        negatives = rows.numpy()[:, history.shape[1] :]
        valid = negatives >= 0
        np.add.at(counts, (np.broadcast_to(users, negatives.shape)[valid], negatives[valid]), 1)
    return counts


def never_drawn_ranks(counts: np.ndarray, held_out: np.ndarray, candidates: np.ndarray, seed: int) -> np.ndarray:
    """LOO+99 ranks of the rule that the least drawn item is the held-out one; equals are ranked at random.

    Args:
        counts: int64 [users, items], of `count_negatives`.
        held_out: int32 [users].
        candidates: int32 [users, n], as in `ranking.ranks_among_candidates`.
        seed: For the order of equals.

    Returns:
        int64 [users].
    """
    order = np.random.default_rng(seed).random(counts.shape)
    return ranking.ranks_among_candidates(-(counts + order), held_out, candidates)
