"""Options of differential privacy that all trainings share, and the checks that need no data.

Imports no TensorFlow and no accounting, so that `--help` and bad options are answered at once.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

from tff_rec.errors import InputError
from tff_rec.simulation.option_checks import check_positive_numbers

if TYPE_CHECKING:
    from tff_rec.simulation.config import TrainingConfig, TwoTowerConfig
    from tff_rec.simulation.rating_config import DeviceTrainingConfig, TagAwareConfig

_FEWEST_FOR_RINGS = 50


@dataclasses.dataclass(frozen=True)
class PrivacyConfig:
    """Differential privacy of users; the clip norms of the training bound what a user contributes.

    Attributes:
        mechanism: none; gaussian noise on the sum over Poisson cohorts, with silos by each on its own steps; tree:
            correlated noise (DP-FTRL) for cohorts that are not sampled; local-laplace: noise on every upload as
            published, which protects no user's uploads together.
        target_epsilon: Budget of user-level epsilon. Without a noise multiplier the noise is solved for all rounds.
        noise_multiplier: Standard deviation of the noise over what one user can change; of local-laplace the scale over
            the clip norm.
        delta: By default users^-1.1.
        loss_bound: Largest loss that a user reports; by default 16 nats, of ratings 16.
        loss_share: Of the budget, for the noised training loss; the rest is shared by the model's parts.
        item_share: Of that rest, for the item part; the query or rating tower has what is left.
        clipping: fixed: clip norms are those of the training. adaptive: they begin there and follow a quantile of the
            norms of users, which is learnt privately.
        clip_quantile: adaptive: share of users whose norm should be below the clip norm.
        clip_share: adaptive: share of the budget for the count of those users.
        shrinkage: gaussian: how much of the noise the server takes off the mean over rounds of item gradients, which
            costs no privacy (James-Stein); 0 for neither mean nor shrinking, about 1 for all that is expected.
        shrinkage_momentum: Share of that mean so far in the new one.
    """

    mechanism: Literal["none", "gaussian", "tree", "local-laplace"] = "none"
    target_epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float | None = None
    loss_bound: float = 16.0
    loss_share: float = 0.01
    item_share: float = 0.5
    clipping: Literal["fixed", "adaptive"] = "fixed"
    clip_quantile: float = 0.5
    clip_share: float = 0.01
    shrinkage: float = 0.0
    shrinkage_momentum: float = 0.9

    def __post_init__(self) -> None:
        check_positive_numbers(
            [
                ("privacy.target-epsilon", self.target_epsilon),
                ("privacy.noise-multiplier", self.noise_multiplier),
                ("privacy.loss-bound", self.loss_bound),
            ]
        )
        for name in ("delta", "loss_share", "item_share", "clip_quantile", "clip_share"):
            number = getattr(self, name)
            if number is not None and not 0 < number < 1:
                raise InputError(f"--privacy.{name.replace('_', '-')} is {number}; give a number between 0 and 1.")
        self._check_shrinkage()
        if self.mechanism == "none" and (self.target_epsilon or self.noise_multiplier or self.delta):
            raise InputError("--privacy options need a mechanism; add --privacy.mechanism gaussian or tree.")
        if self.mechanism != "none" and not (self.target_epsilon or self.noise_multiplier):
            raise InputError(
                f"--privacy.mechanism {self.mechanism} needs to know how much noise; give --privacy.target-epsilon or "
                "--privacy.noise-multiplier."
            )
        if self.mechanism == "local-laplace" and self.delta is not None:
            raise InputError("--privacy.mechanism local-laplace has no δ; leave --privacy.delta out.")
        if self.adaptive and not self.central:
            raise InputError(
                "--privacy.clipping adaptive learns norms from noised counts; add --privacy.mechanism gaussian or tree."
            )
        if self.adaptive and self.loss_share + self.clip_share >= 1:
            raise InputError(
                "--privacy.loss-share and --privacy.clip-share leave nothing to the model; make them smaller."
            )

    def _check_shrinkage(self) -> None:
        if not 0 <= self.shrinkage < math.inf:
            raise InputError(f"--privacy.shrinkage is {self.shrinkage}; give 0 or a positive number.")
        if not 0 <= self.shrinkage_momentum < 1:
            raise InputError(f"--privacy.shrinkage-momentum is {self.shrinkage_momentum}; give 0 or more, below 1.")
        if self.shrinkage and (self.mechanism != "gaussian" or self.adaptive):
            raise InputError(
                "--privacy.shrinkage needs noise that is new each round and of one size: --privacy.mechanism gaussian "
                "with --privacy.clipping fixed."
            )

    @property
    def central(self) -> bool:
        """Whether the server adds noise for a guarantee to users."""
        return self.mechanism in ("gaussian", "tree")

    @property
    def adaptive(self) -> bool:
        """Whether clip norms move."""
        return self.clipping == "adaptive"

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the budget of the parts `query`, `items`, `loss` and, if adaptive, `below`; they add up to 1."""
        counts = {"below": self.clip_share} if self.adaptive else {}
        rest = 1.0 - self.loss_share - sum(counts.values())
        items = rest * self.item_share
        return {"query": rest - items, "items": items, "loss": self.loss_share, **counts}

    def largest_cohort(self, clients_per_round: int) -> int:
        """Users that a cohort exceeds with a probability below 1e-11, by Chernoff's bound, or never."""
        return 2 * clients_per_round + 50 if self.mechanism == "gaussian" else clients_per_round


def check_two_tower(config: "TwoTowerConfig") -> None:
    """Raises InputError where a two-tower run's options do not go with its privacy."""
    privacy, training = config.privacy, config.training
    if privacy.mechanism == "none":
        return
    chosen = f"--privacy.mechanism {privacy.mechanism}"
    if training.query_clip_norm is None or training.item_clip_norm is None:
        raise InputError(
            f"{chosen} needs a bound on each user: give --training.query-clip-norm and --training.item-clip-norm."
        )
    if config.transport.items != "table":
        raise InputError(
            f"{chosen} needs --transport.items table: which rows are asked for would tell what the noise hides."
        )
    _check_sums(privacy, training.aggregation)
    _check_weighting(training.weighting, chosen)
    _check_rings(privacy, training)


def check_tag_aware(config: "TagAwareConfig") -> None:
    """Raises InputError where a tag-aware run's options do not go with its privacy."""
    privacy, training = config.privacy, config.training
    if privacy.mechanism == "none":
        return
    chosen = f"--privacy.mechanism {privacy.mechanism}"
    if config.num_silos:
        _check_silos(config, chosen)
        return
    if training.row_clip_norm is None or training.tower_clip_norm is None:
        raise InputError(
            f"{chosen} needs a bound on each user: give --training.row-clip-norm and --training.tower-clip-norm."
        )
    _check_sums(privacy, training.aggregation)
    _check_weighting(training.weighting, chosen)
    _check_rings(privacy, training)


def _check_silos(config: "TagAwareConfig", chosen: str) -> None:
    if config.privacy.mechanism != "gaussian":
        raise InputError(f"{chosen} is for users who are clients; with --clients {config.clients} choose gaussian.")
    if config.privacy.adaptive:
        raise InputError(
            f"--privacy.clipping adaptive follows the norms of a cohort of users; with --clients {config.clients} "
            "leave it at fixed."
        )
    if config.privacy.shrinkage:
        raise InputError(
            f"--privacy.shrinkage is for a server that adds noise; with --clients {config.clients} leave it at 0."
        )
    if config.silo.row_clip_norm is None or config.silo.tower_clip_norm is None:
        raise InputError(
            f"{chosen} needs a bound on each user of a silo: give --silo.row-clip-norm and --silo.tower-clip-norm."
        )


def _check_weighting(weighting: str, chosen: str) -> None:
    if weighting != "equal":
        raise InputError(f"{chosen} counts every user once: give --training.weighting equal.")


def _check_rings(privacy: PrivacyConfig, training: "TrainingConfig | DeviceTrainingConfig") -> None:
    fewest = max(_FEWEST_FOR_RINGS, 2 * training.ring_size)
    of_sample = privacy.mechanism == "gaussian" and training.aggregation == "ring"
    if of_sample and training.clients_per_round < fewest:
        raise InputError(
            f"--privacy.mechanism {privacy.mechanism} draws cohorts of no fixed size, and the ring needs a few users "
            f"in each: give --training.clients-per-round {fewest} or more."
        )


def _check_sums(privacy: PrivacyConfig, aggregation: str) -> None:
    if privacy.mechanism == "local-laplace" and aggregation != "plain":
        raise InputError(
            "--privacy.mechanism local-laplace sends floats with noise: leave --training.aggregation at plain."
        )
