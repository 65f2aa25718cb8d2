"""What a run is: options of the two-tower simulation, their presets, and the checks that need no data.

Imports no TensorFlow, so that `--help` and bad options are answered at once.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Literal, TypeVar

from tff_rec import cli
from tff_rec.data.names import SOURCES
from tff_rec.errors import InputError
from tff_rec.simulation import privacy_config, transport_config
from tff_rec.simulation.option_checks import check_positive_numbers, check_rates, check_ring, check_whole_numbers
from tff_rec.simulation.toml_file import read_toml

CONFIG_FILE = "config.toml"
DEFAULT_CLIP_NORM = 10.0
"""Of parts that become integers, which need a range: training stays under it unless the options say otherwise."""
_LARGEST_SEED = 2**31 - 1

Run = TypeVar("Run", bound="RunConfig")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which interactions.

    Attributes:
        source: synthetic, ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest-small, ml-latest, hm or csv.
        path: The published zip, a folder or a file; by default looked for in $TFF_REC_DATA/SOURCE/.
        min_user_items: Drop users with fewer distinct items.
        min_item_users: Drop items with fewer distinct users.
    """

    source: str = "synthetic"
    path: pathlib.Path | None = None
    min_user_items: int = 1
    min_item_users: int = 1


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The two towers.

    Attributes:
        tower: Query tower: a recency-weighted bag of the history, or causal self-attention over it (SASRec).
        dimension: Length of item vectors and queries.
        max_length: Items of the history that the query tower sees, the most recent ones.
        similarity: Of queries and item vectors: their product, or their cosine, for which both towers give vectors of
            length 1.
        temperature: Divides the similarity.
        dropout: In the query tower, on the device.
        se_ratio: Reduction ratio of squeeze-and-excitation blocks in both towers; 0 for none.
        half_lives: Bag: half-lives of its means, in items; 0 is the plain mean.
        hidden: Bag: width of its hidden layer.
        num_blocks: Attention: number of blocks.
        num_heads: Attention: heads.
        candidate_expansion: The candidate tower's embeddings of ids and features are so many times as wide as item
            vectors, onto which it projects them; 1 for as wide, without projection.
        candidate_hidden: Width of the candidate tower's hidden layer; 0 for none.
        feature_scale: Factor on item features beside the id embedding; 0 leaves them out.
        initial_stddev: Standard deviation of initial embeddings.
    """

    tower: Literal["bag", "attention"] = "attention"
    dimension: int = 32
    max_length: int = 50
    similarity: Literal["dot", "cosine"] = "dot"
    temperature: float = 1.0
    dropout: float = 0.2
    se_ratio: int = 0
    half_lives: tuple[float, ...] = (1.0, 5.0, 0.0)
    hidden: int = 64
    num_blocks: int = 2
    num_heads: int = 1
    candidate_expansion: int = 1
    candidate_hidden: int = 0
    feature_scale: float = 1.0
    initial_stddev: float = 0.02

    @property
    def unit_norm(self) -> bool:
        """Whether both towers give vectors of length 1."""
        return self.similarity == "cosine"


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Rounds, devices and server.

    Attributes:
        rounds: Most rounds; with `--split none` exactly so many.
        clients_per_round: Users of a cohort.
        users_per_block: Users that are computed at once; decides speed and memory, and in rings who are neighbours.
        tff_clients: TFF clients that the blocks are dealt out to, best one a core; decides speed, not results.
        local_steps: Full-batch SGD steps of a device.
        client_learning_rate: Of those steps.
        random_window: Share of devices with longer histories that train on a random window, not on the latest.
        shuffle_ties: Put items of one timestamp, such as a basket's, in a new random order each round.
        objective: Softmax over the whole catalogue, or over sampled negatives.
        negatives: Sampled negatives a positive.
        negative_sampling: Uniform, or by training popularity with logQ correction.
        weighting: A device's weight in the mean: its number of predictions, or 1.
        server_optimizer: FedAdam, FedYogi, FedAdagrad (Reddi et al. 2021), FedAvg's plain step (sgd) or FedAvgM (Hsu et
            al. 2019; sgdm, whose mean of steps is 1 / (1 - beta_1) times as long), for both towers.
        server_learning_rate: Of the query tower.
        candidate_learning_rate: Of the candidate tower; the same by default.
        beta_1: Momentum of FedAdam, FedYogi and FedAvgM.
        beta_2: Decay of their second moment.
        epsilon: Their adaptivity (tau in SpFedRec).
        decay_rounds: The learning rates halve every so many rounds; 0 keeps them.
        averaging_rounds: What is judged and exported is a running mean of the weights, in which a round counts half as
            much so many rounds later; 0 takes the weights as they are.
        aggregation: Plain mean; or of users' quantised values TFF's secure sum or a ring of secret shares (simulated).
        query_clip_norm: Bound on a device's query-tower update.
        item_clip_norm: Bound on a device's item gradients.
        secure_bits: Bits of a quantised value under secure aggregation; the ring's sums get as many as they need.
        ring_shares: Ring: shares of a device's contribution.
        ring_size: Ring: devices in a ring.
    """

    rounds: int = 300
    clients_per_round: int = 100
    users_per_block: int = 50
    tff_clients: int = 2
    local_steps: int = 1
    client_learning_rate: float = 1.0
    random_window: float = 0.5
    shuffle_ties: bool = False
    objective: Literal["full-softmax", "sampled-softmax"] = "full-softmax"
    negatives: int = 16
    negative_sampling: Literal["uniform", "popularity"] = "uniform"
    weighting: Literal["positives", "equal"] = "positives"
    server_optimizer: Literal["adam", "yogi", "adagrad", "sgd", "sgdm"] = "adam"
    server_learning_rate: float = 0.003
    candidate_learning_rate: float | None = None
    beta_1: float = 0.9
    beta_2: float = 0.98
    epsilon: float = 1e-7
    decay_rounds: int = 0
    averaging_rounds: int = 0
    aggregation: Literal["plain", "secure", "ring"] = "plain"
    query_clip_norm: float | None = None
    item_clip_norm: float | None = None
    secure_bits: int = 22
    ring_shares: int = 2
    ring_size: int = 10


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """When to look at validation and when to stop.

    Attributes:
        every: Rounds between two looks at validation.
        patience: Stop after so many looks without a better NDCG@10; 0 never stops.
        users: Users drawn for a look at validation; 0 for all. Test always takes all.
    """

    every: int = 25
    patience: int = 4
    users: int = 0


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """The served model.

    Attributes:
        k: Number of recommended items.
    """

    k: int = 100


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What every run has.

    Attributes:
        data: Which interactions.
        config: TOML file with options; by default the preset of the data source, if it has one.
        output: Run folder; by default runs/SOURCE-TIME.
        seed: Of everything random.
        resume: Go on from the last checkpoint in --output.
        checkpoint_every: Rounds between two checkpoints.
    """

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    config: pathlib.Path | None = None
    output: pathlib.Path | None = None
    seed: int = 0
    resume: bool = False
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if self.data.source not in SOURCES:
            raise InputError(f"There is no data source '{self.data.source}'; choose one of {', '.join(SOURCES)}.")
        check_whole_numbers(
            [
                ("seed", self.seed, 0),
                ("checkpoint-every", self.checkpoint_every, 1),
                ("data.min-user-items", self.data.min_user_items, 0),
                ("data.min-item-users", self.data.min_item_users, 0),
            ]
        )
        if self.seed > _LARGEST_SEED:
            raise InputError(f"--seed is {self.seed}; give at most {_LARGEST_SEED}.")
        if self.resume and self.output is None:
            raise InputError("--resume needs --output, the run folder to go on with.")


@dataclasses.dataclass(frozen=True)
class TwoTowerConfig(RunConfig):
    """A run of the two-tower simulation.

    Attributes:
        model: The two towers.
        training: Rounds, devices and server.
        transport: How item vectors reach devices.
        privacy: Differential privacy of users.
        evaluation: Validation and early stopping.
        export: The served model.
        catalogue: Items to rank and to train on: those of the training part, or all that the data describes, also those
            that nobody has there.
        split: loo: leave-one-out, judged. ncf: the same with the test items of ml-1m that He et al. (2017) published.
            none: train on everything for all rounds, as for a final model.
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    transport: transport_config.TransportConfig = dataclasses.field(default_factory=transport_config.TransportConfig)
    privacy: privacy_config.PrivacyConfig = dataclasses.field(default_factory=privacy_config.PrivacyConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    export: ExportConfig = dataclasses.field(default_factory=ExportConfig)
    catalogue: Literal["training", "all"] = "training"
    split: Literal["loo", "ncf", "none"] = "loo"

    @property
    def judged(self) -> bool:
        """Whether anything is held out."""
        return self.split != "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole_numbers(self._whole_numbers())
        check_positive_numbers(self._positive_numbers())
        check_rates(
            [
                ("model.dropout", self.model.dropout),
                ("training.beta-1", self.training.beta_1),
                ("training.beta-2", self.training.beta_2),
            ]
        )
        if not 0 <= self.model.feature_scale < float("inf"):
            raise InputError(f"--model.feature-scale is {self.model.feature_scale}; give 0 or a positive number.")
        if not 0 <= self.training.random_window <= 1:
            raise InputError(f"--training.random-window is {self.training.random_window}; give a share from 0 to 1.")
        self._check_combinations()

    def _whole_numbers(self) -> list[tuple[str, int, int]]:
        model, training, evaluation = self.model, self.training, self.evaluation
        return [
            ("model.dimension", model.dimension, 1),
            ("model.max-length", model.max_length, 1),
            ("model.hidden", model.hidden, 1),
            ("model.num-blocks", model.num_blocks, 1),
            ("model.num-heads", model.num_heads, 1),
            ("model.se-ratio", model.se_ratio, 0),
            ("model.candidate-expansion", model.candidate_expansion, 1),
            ("model.candidate-hidden", model.candidate_hidden, 0),
            ("training.rounds", training.rounds, 1),
            ("training.clients-per-round", training.clients_per_round, 1),
            ("training.users-per-block", training.users_per_block, 1),
            ("training.tff-clients", training.tff_clients, 1),
            ("training.local-steps", training.local_steps, 1),
            ("training.negatives", training.negatives, 1),
            ("training.decay-rounds", training.decay_rounds, 0),
            ("training.averaging-rounds", training.averaging_rounds, 0),
            ("training.ring-shares", training.ring_shares, 2),
            ("training.ring-size", training.ring_size, 3),
            ("evaluation.every", evaluation.every, 1),
            ("evaluation.patience", evaluation.patience, 0),
            ("evaluation.users", evaluation.users, 0),
            ("export.k", self.export.k, 1),
        ]

    def _positive_numbers(self) -> list[tuple[str, float | None]]:
        training = self.training
        return [
            ("model.temperature", self.model.temperature),
            ("model.initial-stddev", self.model.initial_stddev),
            ("training.client-learning-rate", training.client_learning_rate),
            ("training.server-learning-rate", training.server_learning_rate),
            ("training.candidate-learning-rate", training.candidate_learning_rate),
            ("training.epsilon", training.epsilon),
            ("training.query-clip-norm", training.query_clip_norm),
            ("training.item-clip-norm", training.item_clip_norm),
        ]

    def _check_combinations(self) -> None:
        if self.model.dimension % self.model.num_heads:
            raise InputError(
                f"--model.dimension {self.model.dimension} does not divide into --model.num-heads "
                f"{self.model.num_heads} heads; choose a multiple."
            )
        if not self.model.half_lives or not all(0 <= value < float("inf") for value in self.model.half_lives):
            raise InputError("--model.half-lives need one number or more, each 0 (the plain mean) or positive.")
        if not 2 <= self.training.secure_bits <= 32:
            raise InputError(f"--training.secure-bits is {self.training.secure_bits}; give 2 to 32.")
        self._check_aggregation()
        transport_config.check_two_tower(self)
        privacy_config.check_two_tower(self)

    def _check_aggregation(self) -> None:
        training = self.training
        if training.aggregation != "ring":
            return
        check_ring(training.ring_shares, training.ring_size, training.clients_per_round)
        if self.transport.minimum_requesters > training.ring_size:
            raise InputError(
                f"--transport.minimum-requesters {self.transport.minimum_requesters} is above --training.ring-size "
                f"{training.ring_size}, in which they are counted: no row would ever be released."
            )


def read_defaults(arguments: Sequence[str], presets: pathlib.Path, config: type[Run]) -> Run:
    """Default options: of `--config`, else of the run to resume, else of the data source's preset, else embedded ones.

    Args:
        arguments: The command line.
        presets: Folder that holds `SOURCE.toml`.
        config: What a run is.

    Raises:
        InputError: The file is missing, is no TOML, or holds an unknown option or a wrong value.
    """
    named = cli.value_of("--config", arguments)
    source = cli.value_of("--data.source", arguments)
    if named is not None:
        return read_toml(pathlib.Path(named), config)
    output = cli.value_of("--output", arguments)
    if "--resume" in arguments and output is not None and (pathlib.Path(output) / CONFIG_FILE).is_file():
        return read_toml(pathlib.Path(output) / CONFIG_FILE, config)
    preset = presets / f"{source}.toml"
    return read_toml(preset, config) if source in SOURCES and preset.is_file() else config()


def identity(config: Run) -> Run:
    """What decides a run's results: the configuration without where it is written and how it is started."""
    data = dataclasses.replace(config.data, path=None)
    return dataclasses.replace(config, data=data, config=None, output=None, resume=False, checkpoint_every=1)
