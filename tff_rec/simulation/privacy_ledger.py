"""A run's privacy: the noise that its budget asks for, what its rounds have spent, and where it has to stop.

No TensorFlow. The assumptions are those of `federated.privacy_accounting`.
"""

import dataclasses
import math
from typing import Any

from tff_rec.errors import InputError
from tff_rec.federated import privacy_accounting
from tff_rec.simulation.privacy_config import PrivacyConfig

_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Ledger:
    """What the rounds of a run cost.

    Attributes:
        mechanism: gaussian, tree or local-laplace.
        noise_multiplier: As in `PrivacyConfig`.
        rounds: Most rounds.
        delta: Of user-level (ε, δ); 0 for local-laplace.
        sampling_probability: gaussian: of a user, in a round.
        rounds_per_epoch: tree: a user is in at most one of so many rounds.
        target_epsilon: The budget; None for any.
    """

    mechanism: str
    noise_multiplier: float
    rounds: int
    delta: float
    sampling_probability: float
    rounds_per_epoch: int
    target_epsilon: float | None

    def epsilon(self, rounds: int) -> float:
        """User-level ε at δ after so many rounds; of local-laplace the published figure of one upload's number."""
        if self.mechanism == "local-laplace":
            return 2.0 / self.noise_multiplier
        if self.mechanism == "tree":
            return privacy_accounting.tree_epsilon(self.noise_multiplier, rounds, self.rounds_per_epoch, self.delta)
        return privacy_accounting.epsilon(self.noise_multiplier, rounds, self.sampling_probability, self.delta)

    def check(self, rounds: int) -> None:
        """Raises InputError where so many rounds would be more than were accounted for."""
        if rounds > self.rounds:
            raise InputError(
                f"Round {rounds} would go past the privacy budget, which was set for {self.rounds} rounds; begin anew."
            )

    def check_state(self, state: Any) -> None:
        """Raises InputError where a restored state of the aggregation had another noise than this run."""
        if self.mechanism == "local-laplace":
            return
        before = float(state["own"]["noise_multiplier"])
        if not math.isclose(before, self.noise_multiplier, rel_tol=_ROUNDING):
            raise InputError(
                f"The rounds so far had a noise multiplier of {before:.6g}, and this run's budget asks for "
                f"{self.noise_multiplier:.6g}; begin anew."
            )

    def describe(self, rounds: int) -> str:
        """E.g. `user-level ε 3.21 (δ 6.9e-05)`."""
        if self.mechanism == "local-laplace":
            return f"ε {self.epsilon(rounds):.4g} per number of an upload, as published; not user-level"
        return f"user-level ε {self.epsilon(rounds):.6g} (δ {self.delta:.3g})"

    def record(self, rounds: int) -> dict[str, Any]:
        """What `metrics.jsonl` holds."""
        if self.mechanism == "local-laplace":
            return {"epsilon_per_upload": self.epsilon(rounds)}
        return {"epsilon": self.epsilon(rounds), "delta": self.delta, "noise_multiplier": self.noise_multiplier}

    def announcement(self) -> str:
        """What a run promises, in one line."""
        if self.mechanism == "local-laplace":
            return f"privacy: Laplace noise of {self.noise_multiplier:.4g} clip norms; {self.describe(0)}"
        drawn = (
            f"Poisson cohorts, each user with probability {self.sampling_probability:.4g}"
            if self.mechanism == "gaussian"
            else f"tree aggregation, each user once in {self.rounds_per_epoch} rounds"
        )
        return (
            f"privacy: noise multiplier {self.noise_multiplier:.6g}, {drawn}; all {self.rounds} rounds: "
            f"{self.describe(self.rounds)}"
        )


def open_ledger(privacy: PrivacyConfig, num_users: int, clients_per_round: int, rounds: int) -> Ledger | None:
    """The ledger of a run; None where it has no privacy.

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
    if num_users < clients_per_round:
        raise InputError(f"A cohort of {clients_per_round} needs as many users, and there are {num_users}.")
    local = privacy.mechanism == "local-laplace"
    ledger = Ledger(
        mechanism=privacy.mechanism,
        noise_multiplier=privacy.noise_multiplier or 1.0,
        rounds=rounds,
        delta=0.0 if local else privacy.delta or privacy_accounting.default_delta(num_users),
        sampling_probability=clients_per_round / num_users,
        rounds_per_epoch=num_users // clients_per_round,
        target_epsilon=privacy.target_epsilon,
    )
    if privacy.target_epsilon is None:
        return ledger
    if privacy.noise_multiplier is None:
        return dataclasses.replace(ledger, noise_multiplier=_solve(ledger, privacy.target_epsilon))
    if (spent := ledger.epsilon(rounds)) > privacy.target_epsilon:
        raise InputError(
            f"{rounds} rounds would spend ε = {spent:.4g}, past --privacy.target-epsilon {privacy.target_epsilon:g}; "
            "take fewer rounds or more noise."
        )
    return ledger


def _solve(ledger: Ledger, target: float) -> float:
    if ledger.mechanism == "local-laplace":
        return 2.0 / target
    if ledger.mechanism == "tree":
        return privacy_accounting.tree_noise_multiplier(target, ledger.rounds, ledger.rounds_per_epoch, ledger.delta)
    return privacy_accounting.noise_multiplier(target, ledger.rounds, ledger.sampling_probability, ledger.delta)
