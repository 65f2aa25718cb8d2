"""What a comparison of ways to train the rating model is: the options of a run, seeds and methods. No TensorFlow."""

import dataclasses
from typing import Literal, get_args

from tff_rec.errors import InputError
from tff_rec.simulation.config import check_positive_numbers, check_whole_numbers
from tff_rec.simulation.rating_config import USERS, TagAwareConfig

Method = Literal[
    "global-mean",
    "bias",
    "matrix-factorisation",
    "silos-alone",
    "fedavg",
    "fedprox",
    "fedopt",
    "personalised",
    "users",
    "users-untagged",
    "centralised",
]
METHODS: tuple[Method, ...] = get_args(Method)
_SILOS = 4


@dataclasses.dataclass(frozen=True)
class CompareConfig(TagAwareConfig):
    """A comparison: the options of simulate_tag_aware.py, of which --clients is the number of silos (users: 4).

    Attributes:
        seeds: Number of seeds, --seed and those after it; each gives a split, silos and initial weights.
        methods: What to compare: baselines; each silo alone; silos by FedAvg, FedProx and FedOpt; personalised: FedAvg
            whose weights each silo mixes with its own; users as clients, with and without tags; all ratings in one
            place.
        fedprox_mu: Strength of FedProx's proximal term.
        fedopt_optimizer: FedOpt's server optimizer.
        fedopt_learning_rate: Of it.
    """

    seeds: int = 3
    methods: tuple[Method, ...] = METHODS
    fedprox_mu: float = 0.01
    fedopt_optimizer: Literal["adam", "yogi", "adagrad"] = "adam"
    fedopt_learning_rate: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole_numbers([("seeds", self.seeds, 1)])
        check_positive_numbers([("fedprox-mu", self.fedprox_mu), ("fedopt-learning-rate", self.fedopt_learning_rate)])
        if not self.methods:
            raise InputError(f"--methods is empty; give some of {', '.join(METHODS)}.")
        if self.split != "ratings":
            raise InputError(f"--split is {self.split}; a comparison judges --split ratings.")

    def of_users(self, seed: int) -> TagAwareConfig:
        """A run of one seed in which each user is a client, with silos to judge by."""
        return dataclasses.replace(self._run(seed), clients=USERS)

    def of_silos(self, seed: int) -> TagAwareConfig:
        """A run of one seed whose clients are the silos, by FedAvg."""
        run = self._run(seed)
        silo = dataclasses.replace(run.silo, server_optimizer="sgd", server_learning_rate=1.0, proximal=0.0)
        return dataclasses.replace(run, silo=silo)

    def of_fedprox(self, seed: int) -> TagAwareConfig:
        """The same by FedProx."""
        run = self.of_silos(seed)
        return dataclasses.replace(run, silo=dataclasses.replace(run.silo, proximal=self.fedprox_mu))

    def of_fedopt(self, seed: int) -> TagAwareConfig:
        """The same by FedOpt."""
        run = self.of_silos(seed)
        silo = dataclasses.replace(
            run.silo, server_optimizer=self.fedopt_optimizer, server_learning_rate=self.fedopt_learning_rate
        )
        return dataclasses.replace(run, silo=silo)

    def _run(self, seed: int) -> TagAwareConfig:
        clients = str(_SILOS) if self.clients == USERS else self.clients
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(TagAwareConfig)}
        return TagAwareConfig(**own | {"seed": seed, "clients": clients, "resume": False})
