"""Attacks of an honest-but-curious server on items: from gradients and from rows that one device alone asked for.

A server that sees a device's gradients finds its items in the rows that are not 0, and tells them from rows that only
hide them by direction (`against_the_query`). `request_attacks` counts requests, `never_drawn` negatives.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_rec.evaluation.attack_scores import Guesses
from tff_rec.evaluation.attack_views import View
from tff_rec.models.query_towers import QueryTower

SUSPECTS = 20


def matched_covers(
    histories: Sequence[np.ndarray], known: Sequence[np.ndarray], popularity: np.ndarray, seed: int
) -> list[np.ndarray]:
    """For each of a user's items one that it does not have and that is about as popular.

    Against such items popularity alone tells nothing, so that what an attack finds comes from what it saw.

    Args:
        histories: int [n] a user.
        known: int a user, all that it has; at least one item must be outside.
        popularity: [items].
        seed: Of the order of equals, and of which neighbour is taken.

    Returns:
        int64 [n] a user; an item may stand there twice.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(popularity)), popularity))
    rank = np.argsort(order)
    covers = []
    for history, owned in zip(histories, known, strict=True):
        free = np.setdiff1d(np.arange(len(order)), rank[owned])
        above = np.searchsorted(free, rank[history]) - rng.integers(0, 2, len(history))
        covers.append(order[free[np.clip(above, 0, len(free) - 1)]])
    return covers


def row_norms(view: View) -> np.ndarray:
    """Item inference: which rows of a sum are not 0, and how long they are: float [items]."""
    return np.linalg.norm(view.items, axis=1)


def against_the_query(view: View, tower: QueryTower) -> np.ndarray:
    """Positives against other rows by the direction of their gradients: float [items], above 0 for a positive.

    The gradient of a positive's vector points against the query, that of a negative's along it, and so the first
    principal direction of the rows is the query's but for its sign. The server takes the sign for which the items that
    would then be positives, put through the query tower that it sent, give a query of that direction.

    Args:
        view: Of the server.
        tower: Its computation; the weights are those of the view.
    """
    _, directions = np.linalg.eigh((view.items.T @ view.items).astype(np.float64))
    along = view.items @ directions[:, -1]
    agreements = []
    for sign in (1.0, -1.0):
        suspects = np.argsort(sign * along)[:SUSPECTS]
        suspects = suspects[sign * along[suspects] < 0]
        query = _query_of(view, tower, suspects) if len(suspects) else np.zeros(len(directions))
        agreements.append(sign * float(query @ directions[:, -1]) / max(float(np.linalg.norm(query)), 1e-12))
    return along if agreements[1] > agreements[0] else -along


def gradients_of(view: View, tower: QueryTower) -> np.ndarray:
    """What gradients tell of positives, float [items]: norms where devices ask for nothing else, else directions."""
    if view.decoys is not None and not len(view.decoys.items):
        return row_norms(view)
    return against_the_query(view, tower)


def single_requester_scores(view: View, tower: QueryTower, place: int) -> np.ndarray | None:
    """`gradients_of` on the rows that one member alone asked for, where the sum is its own gradient.

    Args:
        view: Of the server.
        tower: As in `against_the_query`.
        place: Of the member in the view.

    Returns:
        float [items], NaN for other rows; None where the server has no such row, or nobody asks for rows.
    """
    if view.asked is None:
        return None
    requesters = np.bincount(view.asked.items, minlength=len(view.items))
    alone = np.zeros(len(view.items), bool)
    alone[view.asked[place]] = True
    alone &= requesters == 1
    own = np.where(alone[:, np.newaxis], view.items, 0.0)
    if not np.any(own):
        return None
    return np.where(alone, gradients_of(dataclasses.replace(view, items=own), tower), np.nan)


def judged(scores: np.ndarray, positives: np.ndarray, covers: np.ndarray, threshold: float = 0.0) -> Guesses:
    """Scores of one user's items and of their cover, on the scale of the largest of all rows.

    Args:
        scores: float [items]; items of score NaN are passed over.
        positives: int [n].
        covers: int [m], what is to hide them.
        threshold: Above which the attack says yes.
    """
    items = np.concatenate([positives, covers]).astype(np.int64)
    labels = np.arange(len(items)) < len(positives)
    known = ~np.isnan(scores[items])
    chosen = scores[items][known]
    return Guesses(chosen / max(float(np.nanmax(np.abs(scores))), 1e-30), labels[known], chosen > threshold)


def whose(scores: np.ndarray, has: np.ndarray, eligible: np.ndarray) -> list[Guesses]:
    """Of those in a cohort who may have an item, who has it: one guess an item that some have and some have not.

    Args:
        scores: float [users, items].
        has: bool [users, items].
        eligible: bool [users, items], who is asked about.
    """
    largest = np.maximum(np.max(np.abs(scores), axis=1, keepdims=True), 1e-30)
    relative, results = scores / largest, []
    for item in np.flatnonzero((has & eligible).any(axis=0) & (~has & eligible).any(axis=0)):
        users = eligible[:, item]
        results.append(Guesses(relative[users, item], has[users, item], scores[users, item] > 0))
    return results


def _query_of(view: View, tower: QueryTower, items: np.ndarray) -> np.ndarray:
    """Of at most `SUSPECTS` items, in their order."""
    vectors, mask = np.zeros([1, SUSPECTS, view.table.shape[1]], np.float32), np.zeros([1, SUSPECTS], np.float32)
    vectors[0, : len(items)], mask[0, : len(items)] = view.table[items], 1.0
    weights = {name: tf.constant(value) for name, value in view.sent.items()}
    return _compiled_query(tower)(weights, tf.constant(vectors), tf.constant(mask))[0].numpy()


@functools.lru_cache(maxsize=1)
def _compiled_query(tower: QueryTower) -> Callable[..., tf.Tensor]:
    return tf.function(tower.query)
