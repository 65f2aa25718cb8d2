"""Metrics of predicted ratings, with confidence intervals over users, for everybody or for groups apart.

Errors are means over ratings. Precision, recall and NDCG at k rank each user's held-out ratings by their predictions; a
rating of 4 or more is relevant, with gain 1, and of equal predictions the relevant ones stand last, so that a constant
model gains nothing. They are means over users with a relevant rating: for others recall and NDCG are undefined.
Precision divides by k even where a user has fewer ratings, as trec_eval does, so its best is below 1.

Everything follows from sums a user, which `bootstrap` draws.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from tff_rec.errors import InputError
from tff_rec.evaluation import bootstrap
from tff_rec.evaluation.bootstrap import Difference, Interval

RELEVANT = 4.0
METRICS = ("mse", "rmse", "mae", "precision", "recall", "ndcg")


@dataclasses.dataclass(frozen=True)
class RatingMetrics:
    """Metrics of some ratings.

    Attributes:
        mse: Mean of squared errors.
        rmse: Its root.
        mae: Mean of absolute errors.
        precision: Share of relevant ratings among the first k.
        recall: Share of a user's relevant ratings that are among the first k.
        ndcg: Discounted gain of the first k over the largest possible.
        k: Where ranks are cut.
        users: Number of users.
        ratings: Number of ratings.
    """

    mse: Interval
    rmse: Interval
    mae: Interval
    precision: Interval
    recall: Interval
    ndcg: Interval
    k: int
    users: int
    ratings: int

    def describe(self) -> str:
        """One line to print; the protocol is for the caller to name."""
        return (
            f"RMSE {self.rmse.describe()}, MAE {self.mae.value:.4f}, P@{self.k} {self.precision.value:.4f}, "
            f"R@{self.k} {self.recall.value:.4f}, NDCG@{self.k} {self.ndcg.value:.4f}, {self.users:,} users, "
            f"{self.ratings:,} ratings"
        )


@dataclasses.dataclass(frozen=True)
class Groups:
    """Which group each rating belongs to.

    Attributes:
        of: int64 [ratings], places in `names`.
        names: To print.
    """

    of: np.ndarray
    names: tuple[str, ...]


def evaluate(
    users: np.ndarray,
    predictions: np.ndarray,
    ratings: np.ndarray,
    *,
    k: int = 10,
    seed: int = 0,
    resamples: int = 1000,
) -> RatingMetrics:
    """Metrics of predictions.

    Args:
        users: int64 [ratings], whose ratings they are; -1 (unknown) stands for somebody else each time.
        predictions: float [ratings].
        ratings: float [ratings], true ones.
        k: Where ranks are cut.
        seed: Of the draws of users.
        resamples: Number of draws.

    Raises:
        InputError: There is no rating, or k or the number of draws is below 1.
    """
    sums = _user_sums(users, predictions, ratings, k)
    found = bootstrap.intervals(sums, _metrics, seed=seed, resamples=resamples)
    named = dict(zip(METRICS, found, strict=True))
    return RatingMetrics(**named, k=k, users=len(sums), ratings=len(ratings))


def evaluate_groups(
    groups: Groups,
    users: np.ndarray,
    predictions: np.ndarray,
    ratings: np.ndarray,
    *,
    k: int = 10,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, RatingMetrics]:
    """Metrics of each group that has ratings, as if there were no others; the other arguments are `evaluate`'s."""
    found = {}
    for number, name in enumerate(groups.names):
        rows = groups.of == number
        if rows.any():
            found[name] = evaluate(users[rows], predictions[rows], ratings[rows], k=k, seed=seed, resamples=resamples)
    return found


def compare(
    users: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    ratings: np.ndarray,
    *,
    k: int = 10,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Difference]:
    """Paired differences of two models' metrics, by name; arguments as in `evaluate`, of which it raises the errors."""
    one, other = (_user_sums(users, predictions, ratings, k) for predictions in (first, second))
    found = bootstrap.differences(one, other, _metrics, seed=seed, resamples=resamples)
    return dict(zip(METRICS, found, strict=True))


def silo_groups(users: np.ndarray, silos: Sequence[np.ndarray]) -> Groups:
    """Ratings by the silo of their user; those of users in none, such as -1, are a group of their own."""
    silo_of = np.full(1 + max(int(silo.max(initial=-1)) for silo in (*silos, users)), len(silos))
    for number, silo in enumerate(silos):
        silo_of[silo] = number
    of = np.where(users >= 0, silo_of[users], len(silos))
    return Groups(of, (*(f"silo {number + 1}" for number in range(len(silos))), "no silo"))


def count_groups(rows: np.ndarray, counts: np.ndarray, thresholds: Sequence[int]) -> Groups:
    """Ratings by how often their user, or their item, was in training: cold ones first.

    Args:
        rows: int [ratings], users or items; -1 (unknown) was there 0 times.
        counts: Training ratings of every user, or of every item.
        thresholds: Where groups part, ascending, positive; (1, 10) gives `0`, `1 to 9` and `10 or more`.

    Raises:
        InputError: The thresholds are not ascending and positive.
    """
    edges = (0, *thresholds)
    if any(later <= earlier for earlier, later in itertools.pairwise(edges)):
        raise InputError(f"Thresholds {tuple(thresholds)} do not ascend from 1 or more; give ones that do.")
    inner = itertools.pairwise(edges)
    names = [str(low) if low == high - 1 else f"{low} to {high - 1}" for low, high in inner]
    of = np.searchsorted(np.asarray(thresholds), np.append(counts, 0)[rows], side="right")
    return Groups(of, (*names, f"{edges[-1]} or more"))


def _user_sums(users: np.ndarray, predictions: np.ndarray, ratings: np.ndarray, k: int) -> np.ndarray:
    """What metrics are made of, a user a row: float64 [users, 7].

    Columns: squared errors, absolute errors, ratings; precision, recall, NDCG, and whether these are defined.
    """
    if not len(ratings) or k < 1:
        raise InputError(f"{len(ratings)} ratings ranked to place {k} cannot be measured; give 1 or more of both.")
    _, user, counts = np.unique(
        np.where(users < 0, -1 - np.arange(len(users)), users), return_inverse=True, return_counts=True
    )
    errors, relevant = predictions.astype(np.float64) - ratings, ratings >= RELEVANT
    order = np.lexsort((relevant, -predictions, user))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - (np.cumsum(counts) - counts)[user[order]]
    found = relevant & (place < k)
    hits, wanted = np.bincount(user, found), np.bincount(user, relevant)
    gain = np.bincount(user, found / np.log2(2 + place))
    ideal = np.concatenate([[0], np.cumsum(1 / np.log2(2 + np.arange(k)))])[np.minimum(wanted, k).astype(np.int64)]
    defined = wanted > 0
    recall, ndcg = hits / np.where(defined, wanted, 1), gain / np.where(defined, ideal, 1)
    errors_of = (np.bincount(user, errors**2), np.bincount(user, np.abs(errors)), counts)
    return np.stack([*errors_of, hits / k, recall, ndcg, defined], axis=1).astype(np.float64)


def _metrics(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 7] as metrics [..., 6], in the order of `METRICS`."""
    squared, absolute, ratings, *ranking, defined = np.moveaxis(sums, -1, 0)
    defined = np.where(defined > 0, defined, np.nan)
    mse = squared / ratings
    return np.stack([mse, np.sqrt(mse), absolute / ratings, *(part / defined for part in ranking)], axis=-1)
