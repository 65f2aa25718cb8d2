"""Who gains from a ranking: intervals and paired tests over users, groups of users, and what lists are made of."""

import numpy as np

from tff_rec.errors import InputError
from tff_rec.evaluation import bootstrap, ranking, rating
from tff_rec.evaluation.bootstrap import RESAMPLES, Difference, Interval

METRICS = ("hit_rate_10", "ndcg_10", "hit_rate_20", "mrr")
_PARTS = 4


def intervals(ranks: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Metrics of 1-based ranks, int64 [users], in percent, with 95 % intervals over users.

    Raises:
        InputError: There is no user.
    """
    found = bootstrap.intervals(_user_sums(ranks), _percent, seed=seed, resamples=resamples)
    return dict(zip(METRICS, found, strict=True))


def compare(
    first: np.ndarray, second: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Difference]:
    """Paired differences of the metrics of two rankings of the same users' items, in percent points."""
    found = bootstrap.differences(_user_sums(first), _user_sums(second), _percent, seed=seed, resamples=resamples)
    return dict(zip(METRICS, found, strict=True))


def bucketed(ranks: np.ndarray, rows: np.ndarray, counts: np.ndarray) -> list[dict[str, object]]:
    """Metrics of groups of users of about one size.

    Args:
        ranks: int64 [users].
        rows: int [users], what is counted of each user: itself, or its held-out item; -1 (unknown) counts 0.
        counts: How often each of these was in training.

    Returns:
        A group each, rare ones first: `label` (the counts in it), `users`, and the metrics in percent.
    """
    own = np.append(counts, 0)[rows].astype(np.int64)
    edges = np.quantile(own, np.arange(1, _PARTS) / _PARTS, method="higher").astype(int)
    groups = rating.count_groups(rows, counts, sorted({int(edge) for edge in edges if edge > own.min()}))
    found: list[dict[str, object]] = []
    for number, name in enumerate(groups.names):
        of_group = ranks[groups.of == number]
        if len(of_group):
            metrics = ranking.metrics_from_ranks(of_group)
            values = {metric: 100 * getattr(metrics, metric) for metric in METRICS}
            found.append({"label": name, "users": len(of_group), **values})
    return found


def coverage(top: np.ndarray, num_items: int) -> float:
    """Share of the catalogue that stands in somebody's list; lists int32 [users, k], -1 for nothing."""
    return len(np.unique(top[top >= 0])) / num_items


def popularity_bias(top: np.ndarray, counts: np.ndarray) -> float:
    """Mean popularity percentile of listed items: the percentage of the catalogue that is less popular than they are.

    Items of equal counts share their middle place, so a list drawn at random has 50.

    Args:
        top: int32 [users, k], lists; -1 for nothing.
        counts: Training interactions of each item.
    """
    ordered = np.sort(counts)
    below, upto = np.searchsorted(ordered, counts, "left"), np.searchsorted(ordered, counts, "right")
    percentiles = 100 * (below + upto) / 2 / len(counts)
    return float(percentiles[top[top >= 0]].mean())


def _user_sums(ranks: np.ndarray) -> np.ndarray:
    """Each user's own metrics, and 1: float64 [users, 5]."""
    if not len(ranks):
        raise InputError("No user has a held-out item, so nothing can be measured; give data with longer histories.")
    gain = np.where(ranks <= 10, 1 / np.log2(1.0 + ranks), 0.0)
    reciprocal = np.where(ranks == ranking.MISS, 0.0, 1 / ranks)
    return np.stack([ranks <= 10, gain, ranks <= 20, reciprocal, np.ones(len(ranks))], axis=1).astype(np.float64)


def _percent(sums: np.ndarray) -> np.ndarray:
    return 100 * sums[..., :-1] / sums[..., -1:]
