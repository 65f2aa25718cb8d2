"""Options of how item vectors reach devices, and the checks that need no data.

Imports no TensorFlow, so that `--help` and bad options are answered at once.
"""

import dataclasses
from typing import TYPE_CHECKING, Literal

from tff_rec.errors import InputError
from tff_rec.simulation.option_checks import check_whole_numbers

if TYPE_CHECKING:
    from tff_rec.simulation.config import TwoTowerConfig


@dataclasses.dataclass(frozen=True)
class TransportConfig:
    """How item vectors reach devices, and when their gradients are used.

    Attributes:
        items: The whole table to everybody; or the rows that a device asks for (positives, decoys and fresh rows, which
            are its negatives); or the same rows through tff.federated_select, which is slower and equal in result.
        coding: Item vectors on their way down: float32, float16, or int8 with a scale a row.
        decoys: Rows: decoys a positive (rho).
        decoy_strategy: Rows: decoys that stay the same for a device, or fresh ones every round, which give it away.
        decoy_sampling: Rows: decoys uniform, or by training popularity, which an attacker who knows it cannot sort out.
        fresh_rows: Rows: further rows a device and round, drawn anew each time.
        fresh_sampling: Rows: fresh rows uniform, or by training popularity, which finds the hard negatives of a large
            catalogue.
        minimum_requesters: Rows: devices of a cohort, or of a ring, that must ask for a row for its summed gradient to
            be used.
    """

    items: Literal["table", "rows", "select"] = "table"
    coding: Literal["float32", "float16", "int8"] = "float32"
    decoys: int = 1
    decoy_strategy: Literal["persistent", "fresh"] = "persistent"
    decoy_sampling: Literal["uniform", "popularity"] = "popularity"
    fresh_rows: int = 200
    fresh_sampling: Literal["uniform", "popularity"] = "uniform"
    minimum_requesters: int = 1

    def __post_init__(self) -> None:
        check_whole_numbers(
            [
                ("transport.decoys", self.decoys, 0),
                ("transport.fresh-rows", self.fresh_rows, 0),
                ("transport.minimum-requesters", self.minimum_requesters, 1),
            ]
        )


def check_two_tower(config: "TwoTowerConfig") -> None:
    """Raises InputError where a two-tower run's options do not go with how its item vectors travel."""
    transport, training = config.transport, config.training
    if transport.minimum_requesters > training.clients_per_round:
        raise InputError(
            f"--transport.minimum-requesters {transport.minimum_requesters} is above "
            f"--training.clients-per-round {training.clients_per_round}: no row would ever be released."
        )
    if transport.items == "table":
        if transport.minimum_requesters > 1:
            raise InputError(
                "--transport.minimum-requesters counts requests, and with --transport.items table there are none; "
                "use --transport.items rows."
            )
    elif training.objective != "full-softmax":
        raise InputError(
            f"--transport.items {transport.items} takes decoys and fresh rows for negatives; leave "
            "--training.objective at full-softmax, which they estimate."
        )
