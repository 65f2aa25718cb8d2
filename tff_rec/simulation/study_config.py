"""What a study is: tables of ways to recommend, each cell a run on one data set with one seed. No TensorFlow.

A study stands in a TOML file. Each cell's options are those of the data source's preset, then the study's for that
source, then the table's, then the row's: the same options as simulate_two_tower.py or simulate_tag_aware.py takes.
"""

import copy
import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any, Literal

from tff_rec.data.names import SOURCES
from tff_rec.errors import InputError
from tff_rec.simulation import toml_file
from tff_rec.simulation.config import TwoTowerConfig, identity
from tff_rec.simulation.rating_config import TagAwareConfig

Protocol = Literal["loo-full", "loo-99", "ratings", "held-out-users"]
Options = dict[str, Any]

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
_SILOS = "4"


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


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row of a table on one data set with one seed.

    Attributes:
        key: Stable, readable and safe as a file name.
        table: Whose.
        row: Which way to recommend.
        data: Source.
        seed: Of the run.
        run: Its options: a two-tower run, or a run on ratings.
        choices: Where a model is trained: runs of the row's grid with what each sets; the run itself without a grid.
    """

    key: str
    table: TableConfig
    row: RowConfig
    data: str
    seed: int
    run: TwoTowerConfig | TagAwareConfig
    choices: tuple[tuple[Options, TwoTowerConfig | TagAwareConfig], ...]

    @property
    def way(self) -> str:
        """How it is done."""
        return self.row.way or self.row.method

    @property
    def label(self) -> str:
        """What to call it."""
        return self.row.label or LABELS[self.way]

    @property
    def fit_hash(self) -> str:
        """Of what decides the trained model: cells that share it are judgements of one model."""
        runs = [dataclasses.asdict(identity(run)) for _, run in self.choices]
        return _digest([self.way, self.row.grid, runs])

    @property
    def config_hash(self) -> str:
        """Of what decides the cell's result."""
        return _digest([self.fit_hash, self.table.protocol, self.table.group])


@dataclasses.dataclass(frozen=True)
class Study:
    """A study with its cells.

    Attributes:
        name: Of the folder and the file.
        text: The file.
        title: Above the report.
        tables: In the order to show.
        cells: Likewise.
    """

    name: str
    text: str
    title: str
    tables: tuple[TableConfig, ...]
    cells: tuple[Cell, ...]


def read_study(path: pathlib.Path, presets: pathlib.Path) -> Study:
    """Reads a study and makes its cells.

    Args:
        path: Its TOML file.
        presets: Folder with `two_tower/SOURCE.toml` and `tag_aware/SOURCE.toml`.

    Raises:
        InputError: The file is missing, is no TOML, or holds an unknown option or a wrong value; or two cells are the
            same.
    """
    file = toml_file.read_toml(path, StudyFile)
    cells: dict[str, Cell] = {}
    for table in file.tables:
        for cell in _cells(table, file.sources, presets, path):
            if cell.key in cells:
                raise InputError(f"{path}: two cells are {cell.key}; give rows of tables different methods.")
            cells[cell.key] = cell
    return Study(path.stem, path.read_text(encoding="utf-8"), file.title, file.tables, tuple(cells.values()))


def _cells(table: TableConfig, sources: Mapping[str, Any], presets: pathlib.Path, path: pathlib.Path) -> list[Cell]:
    ways = RATING_WAYS if table.of_ratings else RANKING_WAYS
    cells = []
    for data in table.data:
        preset = presets / ("tag_aware" if table.of_ratings else "two_tower") / f"{data}.toml"
        base = toml_file.read_values(preset) if preset.is_file() else {}
        of_table = _merged(_merged(base, sources.get(data, {})), table.options)
        for row in table.rows:
            if (row.way or row.method) not in ways:
                raise InputError(
                    f"{path}: table {table.id} has no way '{row.way or row.method}'; choose of {', '.join(ways)}."
                )
            for seed in table.seeds:
                options = _merged(of_table, row.options) | {"seed": seed}
                options = _merged(options, {"data": {"source": data}})
                run = _run(table, row, options, path)
                settings = _grid(row.grid) if (row.way or row.method) in TRAINED_WAYS else [{}]
                choices = tuple(
                    (chosen, _run(table, row, _merged(options, _nested(chosen)), path)) for chosen in settings
                )
                name = ".".join(filter(None, (data, table.protocol, _slug(table.group), row.method, str(seed))))
                cells.append(Cell(name, table, row, data, seed, run, choices))
    return cells


def _run(table: TableConfig, row: RowConfig, options: Options, path: pathlib.Path) -> TwoTowerConfig | TagAwareConfig:
    where = f"{path}, table {table.id}, row {row.method}"
    if table.of_ratings:
        # Silos are what all rows are judged by, also those that have none.
        return toml_file.from_values(TagAwareConfig, options | {"split": table.protocol}, where)
    return toml_file.from_values(TwoTowerConfig, options, where)


def _grid(grid: Mapping[str, Any]) -> list[Options]:
    """All combinations of a grid: one without settings where there is none."""
    found: list[Options] = [{}]
    for name, values in grid.items():
        found = [chosen | {name: value} for chosen in found for value in values]
    return found


def _nested(chosen: Options) -> Options:
    nested: Options = {}
    for name, value in chosen.items():
        *parents, last = name.split(".")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return nested


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Options:
    """Tables merged, other values replaced."""
    merged = copy.deepcopy(dict(base))
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both else copy.deepcopy(value)
    return merged


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]
