"""A run's privacy: the noise that its budget asks for, what its rounds have spent, and where it has to stop.

No TensorFlow. The assumptions are those of `federated.privacy_accounting`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from tff_rec.errors import InputError
from tff_rec.federated import privacy_accounting
from tff_rec.simulation.privacy_config import PrivacyConfig

_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Population:
    """Users whose privacy is accounted for together: all of a run, or those of a silo, who are in no other.

    Attributes:
        delta: Of user-level (ε, δ); 0 for local-laplace.
        sampling_probability: gaussian: of a user, in a noised sum.
        sums: Noised sums a round: one, or a silo's local steps.
        rounds_per_epoch: tree: a user is in at most one of so many rounds.
    """

    delta: float
    sampling_probability: float
    sums: int
    rounds_per_epoch: int


@dataclasses.dataclass(frozen=True)
class Ledger:
    """What the rounds of a run cost.

    Attributes:
        mechanism: gaussian, tree or local-laplace.
        noise_multiplier: As in `PrivacyConfig`.
        rounds: Most rounds.
        populations: One, or one a silo; ε is that of the worst.
        target_epsilon: The budget; None for any.
    """

    mechanism: str
    noise_multiplier: float
    rounds: int
    populations: tuple[Population, ...]
    target_epsilon: float | None

    def epsilon(self, rounds: int) -> float:
        """User-level ε at δ after so many rounds; of local-laplace the published figure of one upload's number."""
        return self._worst(rounds)[0]

    def check(self, rounds: int) -> None:
        """Raises InputError where so many rounds would be more than were accounted for."""
        if rounds > self.rounds:
            raise InputError(
                f"Round {rounds} would go past the privacy budget, which was set for {self.rounds} rounds; begin anew."
            )

    def check_state(self, state: Any) -> None:
        """Raises InputError where a restored state of the aggregation had another noise than this run.

        Noise of devices and silos is not in that state.
        """
        if self.mechanism == "local-laplace" or len(self.populations) > 1:
            return
        noised = state.get("noised", state)
        before = float(noised["own"]["noise_multiplier"])
        if not math.isclose(before, self.noise_multiplier, rel_tol=_ROUNDING):
            raise InputError(
                f"The rounds so far had a noise multiplier of {before:.6g}, and this run's budget asks for "
                f"{self.noise_multiplier:.6g}; begin anew."
            )

    def describe(self, rounds: int) -> str:
        """E.g. `user-level ε 3.21 (δ 6.9e-05)`, of silos that of the worst."""
        if self.mechanism == "local-laplace":
            return f"ε {self.epsilon(rounds):.4g} per number of an upload, as published; not user-level"
        epsilon, delta = self._worst(rounds)
        of_silos = f", worst of {len(self.populations)} silos" if len(self.populations) > 1 else ""
        return f"user-level ε {epsilon:.6g} (δ {delta:.3g}{of_silos})"

    def record(self, rounds: int) -> dict[str, Any]:
        """What `metrics.jsonl` holds."""
        if self.mechanism == "local-laplace":
            return {"epsilon_per_upload": self.epsilon(rounds)}
        epsilon, delta = self._worst(rounds)
        return {"epsilon": epsilon, "delta": delta, "noise_multiplier": self.noise_multiplier}

    def announcement(self) -> str:
        """What a run promises, in one line."""
        if self.mechanism == "local-laplace":
            return f"privacy: Laplace noise of {self.noise_multiplier:.4g} clip norms; {self.describe(0)}"
        first = self.populations[0]
        most = max(population.sampling_probability for population in self.populations)
        drawn = f"Poisson cohorts, each user with probability {most:.4g}"
        if self.mechanism == "tree":
            drawn = f"tree aggregation, each user once in {first.rounds_per_epoch} rounds"
        elif len(self.populations) > 1:
            sums = max(population.sums for population in self.populations)
            drawn = f"by each silo, at most {sums} steps a round, each user with probability at most {most:.4g} in each"
        return (
            f"privacy: noise multiplier {self.noise_multiplier:.6g}, {drawn}; all {self.rounds} rounds: "
            f"{self.describe(self.rounds)}"
        )

    def _worst(self, rounds: int) -> tuple[float, float]:
        """The largest ε of a population, and its δ."""
        return max((self._spent(population, rounds), population.delta) for population in self.populations)

    def _spent(self, population: Population, rounds: int) -> float:
        noise = self.noise_multiplier
        if self.mechanism == "local-laplace":
            return 2.0 / noise
        if self.mechanism == "tree":
            return privacy_accounting.tree_epsilon(noise, rounds, population.rounds_per_epoch, population.delta)
        sums, probability = rounds * population.sums, population.sampling_probability
        return privacy_accounting.epsilon(noise, sums, probability, population.delta)


def open_ledger(privacy: PrivacyConfig, num_users: int, clients_per_round: int, rounds: int) -> Ledger | None:
    """The ledger of a run of users as clients; None where it has no privacy.

    Args:
        privacy: The options. A target without a noise multiplier is solved for, which takes up to a minute.
        num_users: Who can take part; public.
        clients_per_round: Users of a cohort, with Poisson sampling in the mean.
        rounds: Most rounds.

    Raises:
        InputError: The rounds do not fit the budget.
    """
    if privacy.mechanism == "none":
        return None
    return _open(privacy, [_population(privacy, num_users, clients_per_round, 1)], rounds)


def open_silo_ledger(
    privacy: PrivacyConfig, silos: Sequence[int], users_per_step: int, epochs: int, rounds: int
) -> Ledger | None:
    """The ledger of a run of silos, each of which adds noise of the same multiplier to its own steps.

    Args:
        privacy: As in `open_ledger`. A target is solved for, for the silo that it is hardest for.
        silos: Users of each; public.
        users_per_step: Users of a step, in the mean.
        epochs: As in `steps`.
        rounds: Most rounds.

    Raises:
        InputError: The rounds do not fit the budget.
    """
    if privacy.mechanism == "none":
        return None
    populations = [
        _population(privacy, num_users, users_per_step, steps(num_users, users_per_step, epochs)) for num_users in silos
    ]
    return _open(privacy, populations, rounds)


def steps(num_users: int, users_per_step: int, epochs: int) -> int:
    """Noised steps of a silo in a round: about as many as would pass over its users in so many epochs."""
    return epochs * math.ceil(num_users / users_per_step)


def _population(privacy: PrivacyConfig, num_users: int, cohort: int, sums: int) -> Population:
    if num_users < cohort:
        raise InputError(f"A cohort of {cohort} needs as many users, and there are {num_users}.")
    local = privacy.mechanism == "local-laplace"
    return Population(
        delta=0.0 if local else privacy.delta or privacy_accounting.default_delta(num_users),
        sampling_probability=cohort / num_users,
        sums=sums,
        rounds_per_epoch=num_users // cohort,
    )


def _open(privacy: PrivacyConfig, populations: Sequence[Population], rounds: int) -> Ledger:
    ledger = Ledger(
        mechanism=privacy.mechanism,
        noise_multiplier=privacy.noise_multiplier or 1.0,
        rounds=rounds,
        populations=tuple(populations),
        target_epsilon=privacy.target_epsilon,
    )
    target = privacy.target_epsilon
    if target is None:
        return ledger
    if privacy.noise_multiplier is None:
        # Silos of like sizes share what is solved.
        noise = max(_solve(ledger, population, target) for population in dict.fromkeys(populations))
        return dataclasses.replace(ledger, noise_multiplier=noise)
    if (spent := ledger.epsilon(rounds)) > target:
        raise InputError(
            f"{rounds} rounds would spend ε = {spent:.4g}, past --privacy.target-epsilon {target:g}; "
            "take fewer rounds or more noise."
        )
    return ledger


def _solve(ledger: Ledger, population: Population, target: float) -> float:
    if ledger.mechanism == "local-laplace":
        return 2.0 / target
    delta = population.delta
    if ledger.mechanism == "tree":
        return privacy_accounting.tree_noise_multiplier(target, ledger.rounds, population.rounds_per_epoch, delta)
    sums = ledger.rounds * population.sums
    return privacy_accounting.noise_multiplier(target, sums, population.sampling_probability, delta)
