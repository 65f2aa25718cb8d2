"""Accounting of user-level differential privacy with Google's `dp-accounting`; no TensorFlow.

Gaussian noise on sums over Poisson cohorts. Neighbouring data sets differ by one user, added or removed with all that
the user has. In each round every user takes part with the sampling probability, independently of all else, and cohorts
stay secret. One round is a Gaussian mechanism whose sensitivity to a user is 1 and whose standard deviation is the
noise multiplier; rounds are composed adaptively, so every model on the way may be published. PLD (Koskela et al. 2020;
Doroshenko et al. 2022) is the tight account and never below the truth, RDP (Mironov 2017; Mironov et al. 2019) an upper
bound to compare it with. Where silos add noise to their own steps (`private_silos`), a silo's users are the data set,
and its steps the rounds.

Tree aggregation, DP-FTRL (Kairouz et al. 2021, https://arxiv.org/abs/2103.00039). Nothing is assumed of how cohorts are
drawn, but a user is in at most one cohort of an epoch, and each epoch begins a new tree. Neighbouring data sets differ
by one user whose contributions are all zero in one of them. A user then touches one leaf of each epoch's tree, and with
it as many nodes as the tree has levels.

Assumed in both: the number of users, the cohort size and the catalogue are public; noise is drawn afresh and secretly;
real numbers, for what floats betray (Mironov 2012) is not counted. Not counted either: what is computed from the data
beside training (popularity, mean rating, tuning, validation that stops a run or chooses weights).
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import dp_accounting
from dp_accounting import rdp
from dp_accounting.pld import privacy_loss_distribution

from tff_rec.errors import InputError

Accountant = Literal["pld", "rdp"]
Spent = Callable[[float], float]
_COARSE = 1e-3
_FINE = 1e-4
_DELTA_POWER = -1.1
_NOISE_TOLERANCE = 1e-3
_ROUGH_TOLERANCE = 0.05
_LARGEST_NOISE = 2.0**24
_FEW_ORDERS = (1.25, 1.5, 1.75, 2.25, 2.5, 3.5, 4.5, *range(2, 33), 40, 48, 64, 96, 128, 256, 512)
"""Rényi orders that begin a search: of the library's many fractional ones, which take long, a few."""


def default_delta(num_users: int) -> float:
    """δ = users^-1.1, which is below 1 / users.

    Raises:
        InputError: There are fewer than two users.
    """
    if num_users < 2:
        raise InputError(f"Differential privacy needs two users or more, and there are {num_users}.")
    return float(num_users) ** _DELTA_POWER


def gaussian_event(noise_multiplier: float, rounds: int, sampling_probability: float) -> Any:
    """What `rounds` noised sums over Poisson cohorts are, as a `dp_accounting.DpEvent`."""
    _check(noise_multiplier, rounds, sampling_probability)
    one = dp_accounting.GaussianDpEvent(noise_multiplier)
    sampled = dp_accounting.PoissonSampledDpEvent(sampling_probability, one)
    return dp_accounting.SelfComposedDpEvent(sampled, rounds)


@functools.lru_cache(maxsize=1024)
def epsilon(
    noise_multiplier: float,
    rounds: int,
    sampling_probability: float,
    delta: float,
    accountant: Accountant = "pld",
) -> float:
    """ε at δ after rounds of noised sums over Poisson cohorts.

    Args:
        noise_multiplier: Standard deviation of the noise over the sensitivity to one user.
        rounds: Rounds done; after none ε is 0.
        sampling_probability: Of a user, in a round.
        delta: In (0, 1).
        accountant: pld, tight, or rdp.

    Raises:
        InputError: A number is out of range.
    """
    _check_delta(delta)
    if rounds == 0:
        return 0.0
    event = gaussian_event(noise_multiplier, rounds, sampling_probability)
    if accountant == "rdp":
        return _rdp_epsilon(event, delta)
    # As `pld.PLDAccountant` does it, with the loss of one round kept for the next call.
    one = _loss_of_a_round(float(noise_multiplier), float(sampling_probability), _FINE)
    return float(one.self_compose(rounds).get_epsilon_for_delta(delta))


def noise_multiplier(target_epsilon: float, rounds: int, sampling_probability: float, delta: float) -> float:
    """The least noise multiplier, to a thousandth of it, at which `epsilon` by PLD stays within the target.

    Args:
        target_epsilon: Positive.
        rounds: At least 1.
        sampling_probability: Of a user, in a round.
        delta: In (0, 1).

    Raises:
        InputError: A number is out of range, or no noise is enough.
    """
    _check_target(target_epsilon)
    _check_delta(delta)
    _check(1.0, rounds, sampling_probability)

    def by_rdp(noise: float) -> float:
        return _rdp_epsilon(gaussian_event(noise, rounds, sampling_probability), delta, _FEW_ORDERS)

    def by_pld(noise: float) -> float:
        one = _loss_of_a_round(noise, float(sampling_probability), _COARSE)
        return float(one.self_compose(rounds).get_epsilon_for_delta(delta))

    # RDP is quick and above PLD: where it meets the target PLD does, with little noise to spare.
    enough = _least(by_rdp, target_epsilon, 0.0, _doubled_until(by_rdp, target_epsilon), _ROUGH_TOLERANCE)
    found = _least(by_pld, target_epsilon, enough / 2, enough)
    while epsilon(found, rounds, sampling_probability, delta) > target_epsilon:
        found *= 1.0 + _NOISE_TOLERANCE
    return found


def tree_event(noise_multiplier: float, rounds: int, rounds_per_epoch: int) -> Any:
    """What `rounds` of tree aggregation with a new tree each epoch are, as a `dp_accounting.DpEvent`."""
    _check(noise_multiplier, rounds, 1.0)
    if rounds_per_epoch < 1:
        raise InputError(f"An epoch has one round or more, not {rounds_per_epoch}.")
    whole, rest = divmod(rounds, rounds_per_epoch)
    events = []
    if whole:
        tree = dp_accounting.SingleEpochTreeAggregationDpEvent(noise_multiplier, [rounds_per_epoch])
        events.append(dp_accounting.SelfComposedDpEvent(tree, whole))
    if rest:
        events.append(dp_accounting.SingleEpochTreeAggregationDpEvent(noise_multiplier, [rest]))
    return dp_accounting.ComposedDpEvent(events)


@functools.lru_cache(maxsize=1024)
def tree_epsilon(noise_multiplier: float, rounds: int, rounds_per_epoch: int, delta: float) -> float:
    """ε at δ, by RDP, after rounds of tree aggregation.

    Args:
        noise_multiplier: Standard deviation of a node's noise over the sensitivity of a leaf to one user.
        rounds: Rounds done; after none ε is 0.
        rounds_per_epoch: A user is in at most one of so many; then a new tree begins.
        delta: In (0, 1).

    Raises:
        InputError: A number is out of range.
    """
    _check_delta(delta)
    if rounds == 0:
        return 0.0
    account = rdp.RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_SPECIAL)
    account.compose(tree_event(noise_multiplier, rounds, rounds_per_epoch))
    return float(account.get_epsilon(delta))


def tree_noise_multiplier(target_epsilon: float, rounds: int, rounds_per_epoch: int, delta: float) -> float:
    """The least noise multiplier, to a thousandth of it, at which `tree_epsilon` stays within the target.

    Raises:
        InputError: A number is out of range, or no noise is enough.
    """
    _check_target(target_epsilon)

    def spent(noise: float) -> float:
        return tree_epsilon(noise, rounds, rounds_per_epoch, delta)

    return _least(spent, target_epsilon, 0.0, _doubled_until(spent, target_epsilon))


@functools.lru_cache(maxsize=32)
def _loss_of_a_round(noise: float, sampling_probability: float, interval: float) -> Any:
    return privacy_loss_distribution.from_gaussian_mechanism(
        standard_deviation=noise,
        sampling_prob=sampling_probability,
        value_discretization_interval=interval,
    )


def _rdp_epsilon(event: Any, delta: float, orders: Sequence[float] | None = None) -> float:
    """ε by RDP of `orders`, by default all those of the library: any of them give an upper bound."""
    account = rdp.RdpAccountant(orders, dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    return float(account.compose(event).get_epsilon(delta))


def _doubled_until(spent: Spent, target: float) -> float:
    noise = 1.0
    while spent(noise) > target:
        noise *= 2.0
        if noise > _LARGEST_NOISE:
            raise InputError(f"No noise keeps so many rounds within ε = {target:g}; take fewer rounds or a larger δ.")
    return noise


def _least(spent: Spent, target: float, low: float, high: float, tolerance: float = _NOISE_TOLERANCE) -> float:
    """The least noise within the target, by bisection to a share of it; `high` is within it."""
    while high - low > tolerance * high:
        middle = (low + high) / 2
        if spent(middle) > target:
            low = middle
        else:
            high = middle
    return high


def _check(noise: float, rounds: int, sampling_probability: float) -> None:
    if not 0 < noise < math.inf:
        raise InputError(f"The noise multiplier is {noise:g}; give a positive number.")
    if rounds < 1:
        raise InputError(f"Privacy is accounted for one round or more, not {rounds}.")
    if not 0 < sampling_probability <= 1:
        raise InputError(f"The sampling probability is {sampling_probability:g}; give one above 0 and at most 1.")


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InputError(f"δ is {delta:g}; give a number between 0 and 1.")


def _check_target(target: float) -> None:
    if not 0 < target < math.inf:
        raise InputError(f"The target ε is {target:g}; give a positive number.")
