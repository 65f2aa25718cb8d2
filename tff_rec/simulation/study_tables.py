"""What stands in a study's file: tables of ways to recommend, and figures that others published. No TensorFlow."""

import dataclasses
from typing import Any, Literal

from tff_rec.data.names import SOURCES
from tff_rec.errors import InputError

Protocol = Literal["loo-full", "loo-99", "ratings", "held-out-users"]

LABELS = {
    "popularity": "popularity",
    "device-alone": "each device alone, public item features",
    "item-knn": "item-kNN",
    "ease": "EASE",
    "ials": "iALS",
    "bpr": "BPR matrix factorisation",
    "never-drawn": "no model, no communication: never drawn as a negative by our sampler",
    "never-drawn-as-published": "the same with samplers that spare held-out items",
    "global-mean": "global mean",
    "bias": "user and item bias",
    "matrix-factorisation": "biased matrix factorisation",
    "silos-alone": "each silo alone",
    "personalised": "silos, FedAvg mixed with local weights",
    "centralised": "centralised",
    "federated": "federated",
}
RANKING_WAYS = (
    "popularity",
    "device-alone",
    "item-knn",
    "ease",
    "ials",
    "bpr",
    "never-drawn",
    "never-drawn-as-published",
    "centralised",
    "federated",
)
RATING_WAYS = (
    "global-mean",
    "bias",
    "matrix-factorisation",
    "silos-alone",
    "personalised",
    "centralised",
    "federated",
)
TRAINED_WAYS = ("federated", "centralised", "personalised", "silos-alone")
RANKING_METRICS = ("hit_rate_10", "ndcg_10", "hit_rate_20", "mrr")
RATING_METRICS = ("rmse", "mse", "mae", "precision", "recall", "ndcg")


@dataclasses.dataclass(frozen=True)
class PublishedConfig:
    """A published figure to stand beside a table.

    Attributes:
        label: Of its row.
        source: Where it was published.
        data: On which data set.
        values: By metric.
    """

    label: str
    source: str
    data: str
    values: dict[str, float]


@dataclasses.dataclass(frozen=True)
class AxisConfig:
    """What a sweep varies: its name and unit."""

    name: str
    unit: str


@dataclasses.dataclass(frozen=True)
class RowConfig:
    """A way to recommend.

    Attributes:
        method: Its name in keys, unique in a study for one data set and protocol.
        way: How it is done, one of `RANKING_WAYS` or `RATING_WAYS`; by default its name.
        label: What to call it; by default what its way is called.
        x: Its place on a sweep's axis.
        options: Of the run.
        grid: Values to choose from on validation, by setting of a baseline, or by an option's path, e.g.
            `training.server_learning_rate`, where a model is trained.
    """

    method: str
    way: str = ""
    label: str = ""
    x: float | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    grid: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """A table, or the cells of a plot.

    Attributes:
        id: Its name, unique in the study.
        title: Above it.
        caption: Below it.
        protocol: loo-full: rank of the held-out item among all items. loo-99: among 99 others. ratings: errors of
            held-out ratings. held-out-users: those of users of no round.
        data: Sources; each cell has its preset.
        rows: Ways to recommend; the first is what others are tested against.
        metrics: To show, of `RANKING_METRICS` or `RATING_METRICS`.
        seeds: Each gives initial weights, cohorts and, of ratings, the split.
        group: Judges only ratings of this group, e.g. `items with tags`.
        axis: What a sweep varies; a table has none.
        options: Of all its runs.
        published: Figures to stand beside it.
    """

    id: str
    title: str
    protocol: Protocol
    data: tuple[str, ...]
    rows: tuple[RowConfig, ...]
    caption: str = ""
    metrics: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    group: str = ""
    axis: AxisConfig | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    published: tuple[PublishedConfig, ...] = ()

    def __post_init__(self) -> None:
        known = RATING_METRICS if self.of_ratings else RANKING_METRICS
        wrong = [name for name in self.metrics if name not in known]
        if wrong:
            raise InputError(f"table {self.id} has no metric '{wrong[0]}'; choose of {', '.join(known)}.")
        for name in (name for name in self.data if name not in SOURCES):
            raise InputError(f"table {self.id}: there is no data source '{name}'; choose of {', '.join(SOURCES)}.")
        for name, values in (("data", self.data), ("rows", self.rows), ("seeds", self.seeds)):
            if not values:
                raise InputError(f"table {self.id} has no {name}; give one or more.")
        if self.group and not self.of_ratings:
            raise InputError(
                f"table {self.id}: group is of ratings, and its protocol is {self.protocol}; leave it out."
            )

    @property
    def of_ratings(self) -> bool:
        """Whether ratings are predicted, not items ranked."""
        return self.protocol in ("ratings", "held-out-users")


@dataclasses.dataclass(frozen=True)
class StudyFile:
    """A study as its file has it.

    Attributes:
        title: Above the report.
        tables: In the order to show.
        sources: By data source, options of all its runs.
    """

    title: str
    tables: tuple[TableConfig, ...]
    sources: dict[str, Any] = dataclasses.field(default_factory=dict)
