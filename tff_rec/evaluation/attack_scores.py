"""How well an attack guesses: AUC, F1 and the true-positive rate at 1 % false positives, with bootstrap intervals.

The low false-positive rate is what counts for whoever is singled out (Carlini et al. 2022,
https://arxiv.org/abs/2112.03570). Intervals are percentiles over users drawn with replacement.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from tff_rec.evaluation.bootstrap import Interval

FALSE_POSITIVES = 0.01
RESAMPLES = 300
_PERCENTILES = (2.5, 97.5)


@dataclasses.dataclass(frozen=True)
class Score:
    """How well an attack tells positives from negatives.

    Attributes:
        auc: Probability that a positive scores above a negative, equals half.
        f1: Of the attack's yes or no.
        f1_floor: F1 of saying yes to everything, which takes no attack.
        tpr: Share of positives above the threshold that 1 % of negatives exceed.
        users: Users that the figures are over; 0 where the server sees nothing to guess from.
    """

    auc: Interval
    f1: Interval
    f1_floor: float
    tpr: Interval
    users: int


@dataclasses.dataclass(frozen=True)
class Guesses:
    """What an attack says of one user's items.

    Attributes:
        scores: float [n], higher for what it takes for a positive; comparable between users.
        labels: bool [n], the truth.
        guesses: bool [n], its yes or no.
    """

    scores: np.ndarray
    labels: np.ndarray
    guesses: np.ndarray


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve by ranks, equals half: float and bool [n]; 0.5 where a class is empty."""
    positives = int(np.sum(labels))
    negatives = len(labels) - positives
    if not positives or not negatives:
        return 0.5
    ranks = stats.rankdata(scores)
    return float((np.sum(ranks[labels]) - positives * (positives + 1) / 2) / (positives * negatives))


def threshold_at(negatives: np.ndarray, rate: float = FALSE_POSITIVES) -> float:
    """Least threshold that at most the given share of the negatives' scores, float [n], exceeds."""
    return float(np.sort(negatives)[max(int(np.ceil(len(negatives) * (1 - rate))) - 1, 0)])


def f1(true_positives: float, said_yes: float, positives: float) -> float:
    """2 TP / (yes + positives), 0 for 0 / 0."""
    return 2 * true_positives / max(said_yes + positives, 1e-12)


def score_items(by_user: Sequence[Guesses], seed: int) -> Score:
    """The mean over users of each user's AUC and F1; the true-positive rate under one threshold for all.

    Args:
        by_user: Users without a positive or without a negative are passed over.
        seed: Of the bootstrap.
    """
    kept = [user for user in by_user if np.any(user.labels) and not np.all(user.labels)]
    if not kept:
        return _nothing()
    threshold = threshold_at(np.concatenate([user.scores[~user.labels] for user in kept]))
    table = np.array([(*_item_figures(user), np.mean(user.scores[user.labels] > threshold)) for user in kept])
    draws = np.random.default_rng(seed).integers(len(kept), size=(RESAMPLES, len(kept)))
    means = np.array([table[draw].mean(axis=0) for draw in draws])
    values = [_interval(column.mean(), means[:, place]) for place, column in enumerate(table.T)]
    return Score(values[0], values[1], values[2].value, values[3], len(kept))


def score_users(scores: np.ndarray, labels: np.ndarray, seed: int) -> Score:
    """Of an attack that says one thing of each user; it says yes to as many as there are positives.

    Args:
        scores: float [users].
        labels: bool [users].
        seed: Of the bootstrap.
    """
    if np.all(labels) or not np.any(labels):
        return _nothing()
    order = np.argsort(-scores + 1e-12 * np.random.default_rng(seed).random(len(scores)))
    guesses = np.zeros(len(scores), bool)
    guesses[order[: int(np.sum(labels))]] = True
    floor = f1(float(np.sum(labels)), len(labels), float(np.sum(labels)))
    said = _bootstrap(lambda yes, truth: _f1_of(yes > 0, truth), guesses.astype(float), labels, seed)
    area, rate = (_bootstrap(figure, scores, labels, seed) for figure in (auc, _tpr))
    return Score(area, said, floor, rate, len(labels))


def _bootstrap(
    figure: Callable[[np.ndarray, np.ndarray], float], scores: np.ndarray, labels: np.ndarray, seed: int
) -> Interval:
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(labels), size=len(labels)) for _ in range(RESAMPLES))
    return _interval(figure(scores, labels), np.array([figure(scores[draw], labels[draw]) for draw in draws]))


def _item_figures(user: Guesses) -> tuple[float, float, float]:
    """AUC, F1 and the floor of F1."""
    positives = float(np.sum(user.labels))
    return (
        auc(user.scores, user.labels),
        _f1_of(user.guesses, user.labels),
        f1(positives, len(user.labels), positives),
    )


def _f1_of(guesses: np.ndarray, labels: np.ndarray) -> float:
    return f1(float(np.sum(guesses & labels)), float(np.sum(guesses)), float(np.sum(labels)))


def _tpr(scores: np.ndarray, labels: np.ndarray) -> float:
    if np.all(labels) or not np.any(labels):
        return 0.0
    return float(np.mean(scores[labels] > threshold_at(scores[~labels])))


def _interval(value: float, resampled: np.ndarray) -> Interval:
    low, high = np.percentile(resampled, _PERCENTILES)
    return Interval(float(value), float(low), float(high))


def _nothing() -> Score:
    half, none = Interval(0.5, 0.5, 0.5), Interval(0.0, 0.0, 0.0)
    return Score(half, none, 0.0, none, 0)
