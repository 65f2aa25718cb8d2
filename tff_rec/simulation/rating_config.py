"""What a run of the tag-aware simulation is: its options, and the checks that need no data.

Imports no TensorFlow, so that `--help` and bad options are answered at once.
"""

import dataclasses
from typing import Literal

from tff_rec.errors import InputError
from tff_rec.simulation import privacy_config
from tff_rec.simulation.config import (
    ExportConfig,
    RunConfig,
)
from tff_rec.simulation.option_checks import check_positive_numbers, check_rates, check_ring, check_whole_numbers

USERS = "users"
Optimizer = Literal["sgd", "sgdm", "adam", "yogi", "adagrad"]


@dataclasses.dataclass(frozen=True)
class RatingModelConfig:
    """The rating model.

    Attributes:
        features: Of items: tags and all columns of the data (genres, year), the columns alone, or none.
        popularity_scale: Factor on an item's standardised log of training ratings as one more feature; 0 leaves it out.
        dimension: Length of item vectors.
        max_tags: Most tags, those on most items; others are left out.
        dropout: Rate at which components of item vectors are dropped in training.
        hidden: Width of the interaction network's hidden layer; 0 for none, biased matrix factorisation with features.
        max_history: Ratings of the history that the served model takes, the most recent ones.
        initial_stddev: Standard deviation of features' initial vectors.
        user_bias: Initial standard deviation of users' biases over that of ratings around their prediction.
    """

    features: Literal["all", "untagged", "none"] = "all"
    popularity_scale: float = 0.0
    dimension: int = 16
    max_tags: int = 500
    dropout: float = 0.2
    hidden: int = 0
    max_history: int = 200
    initial_stddev: float = 0.1
    user_bias: float = 0.5


@dataclasses.dataclass(frozen=True)
class PenaltyConfig:
    """Factors of squared norms beside the sum of squared errors over all ratings: so many ratings make up for them.

    Attributes:
        biases: Of items' biases.
        vectors: Of items' vectors.
        choices: Of what having chosen an item tells of a user.
        features: Of features' biases and vectors.
        network: Of the network's kernels.
    """

    biases: float = 2.0
    vectors: float = 1000.0
    choices: float = 30_000.0
    features: float = 300.0
    network: float = 1000.0


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """What rounds of users and rounds of silos share.

    Attributes:
        rounds: Most rounds; with `--split none` exactly so many.
        server_optimizer: FedAdam, FedYogi, FedAdagrad (Reddi et al. 2021), FedAvg's plain step (sgd) or FedAvgM (Hsu et
            al. 2019; sgdm, whose mean of steps is 1 / (1 - beta_1) times as long), for all weights.
        server_learning_rate: Of it.
        beta_1: Momentum of FedAdam, FedYogi and FedAvgM.
        beta_2: Decay of their second moment.
        epsilon: Their adaptivity.
        decay_rounds: The server's learning rate halves every so many rounds; 0 keeps it.
        proximal: Strength mu of FedProx, which holds local weights near those received; 0 for none.
        aggregation: Plain mean; or of quantised values TFF's secure sum or, of users, a ring of secret shares
            (simulated).
        secure_bits: Bits of a quantised value under secure aggregation; sums get as many as they need.
    """

    rounds: int = 250
    server_optimizer: Optimizer = "adam"
    server_learning_rate: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.99
    epsilon: float = 1e-6
    decay_rounds: int = 50
    proximal: float = 0.0
    aggregation: Literal["plain", "secure", "ring"] = "plain"
    secure_bits: int = 24


@dataclasses.dataclass(frozen=True)
class DeviceTrainingConfig(ServerConfig):
    """Rounds of `--clients users`.

    Attributes:
        clients_per_round: Users of a cohort.
        users_per_block: Users that are computed at once; decides speed and memory, not results.
        tff_clients: TFF clients that the blocks are dealt out to, best one a core; decides speed, not results.
        max_ratings: Most ratings of a user in a round; of more a random subset, drawn anew each round.
        local_steps: Full-batch SGD steps of a device.
        weighting: A device's weight in the mean: its number of ratings, or 1.
        client_learning_rate: Of those steps, on the device's rows of the item part.
        tower_learning_rate: Of those steps, on the device's copy of the rating tower.
        row_clip_norm: Bound on a device's mean gradient of its rows, all together.
        tower_clip_norm: Bound on a device's mean gradient of the rating tower.
        ring_shares: Ring: shares of a device's contribution.
        ring_size: Ring: devices in a ring.
    """

    clients_per_round: int = 100
    users_per_block: int = 25
    tff_clients: int = 2
    max_ratings: int = 3000
    local_steps: int = 1
    weighting: Literal["positives", "equal"] = "positives"
    client_learning_rate: float = 0.02
    tower_learning_rate: float = 2e-5
    row_clip_norm: float | None = None
    tower_clip_norm: float | None = None
    ring_shares: int = 2
    ring_size: int = 10


@dataclasses.dataclass(frozen=True)
class SiloTrainingConfig(ServerConfig):
    """Rounds of `--clients N`, in which every silo takes part; validation is looked at after each.

    Attributes:
        local_epochs: Passes of a silo over its users.
        users_per_batch: Users of a mini-batch of a silo; with --privacy in the mean.
        optimizer: Of a silo; begins anew each round.
        learning_rate: Of it, in the first round.
        learning_rate_rounds: The silos' learning rate halves every so many rounds; 0 keeps it.
        clip_norm: Bound on a silo's change of all weights together.
        row_clip_norm: With --privacy: bound on a user's mean gradient of its rows, all together, in a step of its silo.
        tower_clip_norm: With --privacy: bound on a user's mean gradient of the rating tower.
    """

    rounds: int = 40
    server_optimizer: Optimizer = "sgd"
    server_learning_rate: float = 1.0
    decay_rounds: int = 0
    local_epochs: int = 1
    users_per_batch: int = 25
    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: float = 0.01
    learning_rate_rounds: int = 8
    clip_norm: float | None = None
    row_clip_norm: float | None = None
    tower_clip_norm: float | None = None


@dataclasses.dataclass(frozen=True)
class RatingEvaluationConfig:
    """When to look at validation, when to stop, and how test is judged.

    Attributes:
        every: Rounds of `--clients users` between two looks at validation.
        patience: Stop after so many looks without a lower RMSE; 0 never stops.
        k: Where precision, recall and NDCG cut ranks.
        resamples: Draws of users for the 95 % confidence intervals.
        history_share: `--split held-out-users`: share of a held-out user's ratings that is its history.
        held_out_share: `--split held-out-users`: share of users held out, for validation and for test each.
    """

    every: int = 6
    patience: int = 6
    k: int = 10
    resamples: int = 1000
    history_share: float = 0.5
    held_out_share: float = 0.1


@dataclasses.dataclass(frozen=True)
class TagAwareConfig(RunConfig):
    """A run of the tag-aware simulation.

    Attributes:
        model: The rating model.
        penalties: What keeps its weights small.
        training: Rounds of `--clients users`.
        silo: Rounds of `--clients N`.
        privacy: Differential privacy of users, by the server or, with `--clients N`, by each silo.
        evaluation: Validation, early stopping and test.
        export: The served model.
        clients: users: each user is a client. A number: so many silos are the clients.
        silos: How users are parted into silos: at random, by number of ratings, or by taste in genres.
        split: ratings: 80/10/10 of the ratings. held-out-users: users of no round, judged on half of their ratings.
            loo: each user's last rating, also ranked among all items. none: train on everything for all rounds.
    """

    model: RatingModelConfig = dataclasses.field(default_factory=RatingModelConfig)
    penalties: PenaltyConfig = dataclasses.field(default_factory=PenaltyConfig)
    training: DeviceTrainingConfig = dataclasses.field(default_factory=DeviceTrainingConfig)
    silo: SiloTrainingConfig = dataclasses.field(default_factory=SiloTrainingConfig)
    privacy: privacy_config.PrivacyConfig = dataclasses.field(default_factory=privacy_config.PrivacyConfig)
    evaluation: RatingEvaluationConfig = dataclasses.field(default_factory=RatingEvaluationConfig)
    export: ExportConfig = dataclasses.field(default_factory=ExportConfig)
    clients: str = USERS
    silos: Literal["random", "activity", "taste"] = "random"
    split: Literal["ratings", "held-out-users", "loo", "none"] = "ratings"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clients != USERS and not (self.clients.isdecimal() and int(self.clients) >= 2):
            raise InputError(f"--clients is '{self.clients}'; give users, or a number of silos from 2.")
        check_whole_numbers(self._whole_numbers())
        check_positive_numbers(self._positive_numbers())
        check_rates([("model.dropout", self.model.dropout)])
        if not 0 <= self.model.popularity_scale < float("inf"):
            raise InputError(f"--model.popularity-scale is {self.model.popularity_scale}; give 0 or a positive number.")
        for name, factor in dataclasses.asdict(self.penalties).items():
            if not 0 <= factor < float("inf"):
                raise InputError(f"--penalties.{name} is {factor}; give 0 or a positive number.")
        for group, server in (("training", self.training), ("silo", self.silo)):
            _check_server(group, server)
        self._check_rings()
        self._check_shares()
        privacy_config.check_tag_aware(self)

    @property
    def num_silos(self) -> int:
        """Number of silos; 0 where each user is a client."""
        return 0 if self.clients == USERS else int(self.clients)

    @property
    def server(self) -> ServerConfig:
        """The rounds that this run has."""
        return self.silo if self.num_silos else self.training

    @property
    def judged(self) -> bool:
        """Whether anything is held out."""
        return self.split != "none"

    def _check_rings(self) -> None:
        if self.silo.aggregation == "ring":
            raise InputError("--silo.aggregation ring hides a device among many, not one silo of few; choose secure.")
        if self.training.aggregation == "ring":
            check_ring(self.training.ring_shares, self.training.ring_size, self.training.clients_per_round)

    def _check_shares(self) -> None:
        evaluation = self.evaluation
        if not 0 < evaluation.history_share < 1:
            raise InputError(f"--evaluation.history-share is {evaluation.history_share}; give a share between 0 and 1.")
        if not 0 < evaluation.held_out_share < 0.5:
            raise InputError(
                f"--evaluation.held-out-share is {evaluation.held_out_share}; give a share between 0 and 0.5."
            )

    def _whole_numbers(self) -> list[tuple[str, int, int]]:
        model, training, evaluation = self.model, self.training, self.evaluation
        return [
            ("model.dimension", model.dimension, 1),
            ("model.max-tags", model.max_tags, 0),
            ("model.hidden", model.hidden, 0),
            ("model.max-history", model.max_history, 1),
            ("training.clients-per-round", training.clients_per_round, 1),
            ("training.users-per-block", training.users_per_block, 1),
            ("training.tff-clients", training.tff_clients, 1),
            ("training.max-ratings", training.max_ratings, 2),
            ("training.local-steps", training.local_steps, 1),
            ("training.ring-shares", training.ring_shares, 2),
            ("training.ring-size", training.ring_size, 3),
            ("silo.local-epochs", self.silo.local_epochs, 1),
            ("silo.learning-rate-rounds", self.silo.learning_rate_rounds, 0),
            ("silo.users-per-batch", self.silo.users_per_batch, 1),
            ("evaluation.every", evaluation.every, 1),
            ("evaluation.patience", evaluation.patience, 0),
            ("evaluation.k", evaluation.k, 1),
            ("evaluation.resamples", evaluation.resamples, 1),
            ("export.k", self.export.k, 1),
        ]

    def _positive_numbers(self) -> list[tuple[str, float | None]]:
        return [
            ("model.initial-stddev", self.model.initial_stddev),
            ("model.user-bias", self.model.user_bias),
            ("training.client-learning-rate", self.training.client_learning_rate),
            ("training.tower-learning-rate", self.training.tower_learning_rate),
            ("training.row-clip-norm", self.training.row_clip_norm),
            ("training.tower-clip-norm", self.training.tower_clip_norm),
            ("silo.clip-norm", self.silo.clip_norm),
            ("silo.row-clip-norm", self.silo.row_clip_norm),
            ("silo.tower-clip-norm", self.silo.tower_clip_norm),
            ("silo.learning-rate", self.silo.learning_rate),
        ]


def _check_server(group: str, server: ServerConfig) -> None:
    check_whole_numbers([(f"{group}.rounds", server.rounds, 1), (f"{group}.decay-rounds", server.decay_rounds, 0)])
    check_positive_numbers(
        [
            (f"{group}.server-learning-rate", server.server_learning_rate),
            (f"{group}.epsilon", server.epsilon),
        ]
    )
    check_rates([(f"{group}.beta-1", server.beta_1), (f"{group}.beta-2", server.beta_2)])
    if not 0 <= server.proximal < float("inf"):
        raise InputError(f"--{group}.proximal is {server.proximal}; give 0 or a positive number.")
    if not 2 <= server.secure_bits <= 32:
        raise InputError(f"--{group}.secure-bits is {server.secure_bits}; give 2 to 32.")
