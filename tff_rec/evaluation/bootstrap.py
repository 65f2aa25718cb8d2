"""Confidence intervals and paired tests by a bootstrap over users.

Everything that is measured follows from sums a user, so a resample draws users, with all that is theirs, and adds up
(Efron and Tibshirani, 1993). The same seed draws the same users for two models, which pairs them.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from tff_rec.errors import InputError

Statistic = Callable[[np.ndarray], np.ndarray]
"""From sums over users, float64 [..., columns], to metrics, [..., metrics]."""

RESAMPLES = 1000
_LEVELS = (0.025, 0.975)


@dataclasses.dataclass(frozen=True)
class Interval:
    """A metric and its 95 % confidence interval over users; NaN where it is defined for too few users."""

    value: float
    low: float
    high: float

    def describe(self) -> str:
        """To print: value and interval."""
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclasses.dataclass(frozen=True)
class Difference:
    """First model less second, by the same draws of users; `p_value` is two-sided, that there is no difference."""

    value: float
    low: float
    high: float
    p_value: float


def intervals(sums: np.ndarray, statistic: Statistic, *, seed: int = 0, resamples: int = RESAMPLES) -> list[Interval]:
    """Each metric with its interval.

    Args:
        sums: float64 [users, columns].
        statistic: From sums over users to metrics.
        seed: Of the draws of users.
        resamples: Number of draws.

    Raises:
        InputError: The number of draws is below 1.
    """
    values, drawn = statistic(sums.sum(axis=0)), statistic(_draws(sums, seed, resamples))
    low, high = np.quantile(drawn, _LEVELS, axis=0)
    return [Interval(*map(float, bounds)) for bounds in zip(values, low, high, strict=True)]


def differences(
    first: np.ndarray, second: np.ndarray, statistic: Statistic, *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Difference]:
    """Paired differences of two models' metrics on the same users; arguments and errors as of `intervals`."""
    value = statistic(first.sum(axis=0)) - statistic(second.sum(axis=0))
    drawn = statistic(_draws(first, seed, resamples)) - statistic(_draws(second, seed, resamples))
    low, high = np.quantile(drawn, _LEVELS, axis=0)
    beyond = np.minimum((drawn <= 0).sum(axis=0), (drawn >= 0).sum(axis=0))
    p_values = np.where(np.isnan(low), np.nan, np.minimum(1, 2 * (1 + beyond) / (1 + resamples)))
    return [Difference(*map(float, numbers)) for numbers in zip(value, low, high, p_values, strict=True)]


def _draws(sums: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """Sums over as many users as there are, drawn with replacement: [users, n] gives [resamples, n]."""
    if resamples < 1:
        raise InputError(f"A confidence interval needs draws of users, not {resamples}; give 1 or more.")
    rng, num_users = np.random.default_rng(seed), len(sums)
    drawn = (rng.integers(0, num_users, num_users) for _ in range(resamples))
    return np.stack([np.bincount(users, minlength=num_users) @ sums for users in drawn])
