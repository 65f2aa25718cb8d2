"""What the cells of a study have in common, whether they rank items or predict ratings."""

import dataclasses
from typing import Any, Generic, TypeVar

import numpy as np

from tff_rec.evaluation.bootstrap import Interval
from tff_rec.evaluation.tuning import Tuned
from tff_rec.federated.communication import Traffic
from tff_rec.simulation.privacy_ledger import Ledger
from tff_rec.simulation.study_config import Cell

Model = TypeVar("Model")
Curve = list[dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Trained(Generic[Model]):
    """A model and what its training was like.

    Attributes:
        model: From users to what is judged.
        curve: Looks at validation: `round`, `seconds`, `bytes_per_device` (mean over all devices, until then) and
            metrics; empty where there are no rounds.
        traffic: Of a device and round it takes part in: `down`, `up`, `peers` in bytes; None where nothing is sent.
        epsilon: User-level `epsilon` and `delta`; None where there is no such guarantee.
    """

    model: Model
    curve: Curve = dataclasses.field(default_factory=list)
    traffic: dict[str, int] | None = None
    epsilon: dict[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Judgement:
    """The one look at test.

    Attributes:
        metrics: With intervals over users.
        users: Number of users.
        values: What `StudyFolder.write_users` takes.
        owners: Likewise.
        buckets: By way of grouping (`popularity`, `activity`, …), groups with `label`, `users` and metrics.
        coverage: Share of the catalogue in lists; None where there are no lists.
        popularity_bias: Mean popularity percentile of listed items; None likewise.
    """

    metrics: dict[str, Interval]
    users: int
    values: np.ndarray
    owners: np.ndarray
    buckets: dict[str, list[dict[str, Any]]]
    coverage: float | None = None
    popularity_bias: float | None = None


def as_record(cell: Cell, tuned: Tuned[Trained[Any]], judgement: Judgement) -> dict[str, Any]:
    """The part of a cell's line that training and judging give."""
    return {
        "metrics": {
            name: {bound: _number(value) for bound, value in dataclasses.asdict(interval).items()}
            for name, interval in judgement.metrics.items()
        },
        "users": judgement.users,
        "validation": tuned.validation,
        "chosen": cell.settings | tuned.chosen,
        "grid": tuned.grid if len(tuned.grid) > 1 else [],
        "curve": tuned.model.curve,
        "traffic": tuned.model.traffic,
        "epsilon": tuned.model.epsilon,
        "buckets": judgement.buckets,
        "coverage": judgement.coverage,
        "popularity_bias": judgement.popularity_bias,
    }


def traffic_record(traffic: Traffic) -> dict[str, int]:
    """Bytes of a device and round by direction."""
    parts = {"down": traffic.down, "up": traffic.up, "peers": traffic.peers}
    return {direction: sum(sizes.values()) for direction, sizes in parts.items()}


def epsilon_record(ledger: Ledger | None, rounds: int) -> dict[str, float] | None:
    """User-level ε and δ after so many rounds; None where no user is protected as a whole."""
    if ledger is None or ledger.mechanism == "local-laplace":
        return None
    return {"epsilon": ledger.epsilon(rounds), "delta": ledger.delta}


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else value
