"""What a study is: tables of ways to recommend, each cell a run on one data set with one seed. No TensorFlow.

A study stands in a TOML file. Each cell's options are those of the data source's preset, then the study's for that
source, then the table's, then the row's: the same options as simulate_two_tower.py or simulate_tag_aware.py takes.
"""

import copy
import dataclasses
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tff_rec.errors import InputError
from tff_rec.evaluation.grids import GRIDS
from tff_rec.simulation import toml_file
from tff_rec.simulation.config import TwoTowerConfig, identity
from tff_rec.simulation.rating_config import TagAwareConfig
from tff_rec.simulation.study_tables import (
    LABELS,
    RANKING_WAYS,
    RATING_WAYS,
    TRAINED_WAYS,
    RowConfig,
    StudyFile,
    TableConfig,
)

Options = dict[str, Any]

_RANKING_SETTINGS = (
    "model.tower",
    "model.dimension",
    "model.max_length",
    "model.dropout",
    "training.rounds",
    "training.clients_per_round",
    "training.local_steps",
    "training.client_learning_rate",
    "training.server_optimizer",
    "training.server_learning_rate",
)
_RATING_SETTINGS = (
    "model.features",
    "model.dimension",
    "model.dropout",
    "penalties.vectors",
    "training.rounds",
    "training.clients_per_round",
    "training.server_optimizer",
    "training.server_learning_rate",
    "silo.rounds",
    "silo.server_optimizer",
    "silo.server_learning_rate",
    "silo.proximal",
)

_OF_TRAINING = ("training", "silo", "transport", "privacy", "penalties")
"""Groups of options that only trained models have."""

_ADDED: Mapping[type, Mapping[str, Any]] = {
    TwoTowerConfig: {"catalogue": "training", "transport.fresh_sampling": "uniform"},
    TagAwareConfig: {"training.ring_shares": 2, "training.ring_size": 10},
}
"""Options that came after the first results, each with what was done before: there it is left out of hashes, so that
results from before it stay."""


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
    def settings(self) -> Options:
        """What its model is trained with, by option's path; empty where none is trained."""
        if self.way not in TRAINED_WAYS:
            return {}
        values = dataclasses.asdict(self.run)
        paths = [path.split(".") for path in (_RATING_SETTINGS if self.table.of_ratings else _RANKING_SETTINGS)]
        return {".".join(path): values[path[0]][path[1]] for path in paths}

    @property
    def fit_hash(self) -> str:
        """Of what decides the trained model: cells that share it are judgements of one model."""
        runs = [_hashed(run) for _, run in self.choices]
        if self.way not in TRAINED_WAYS:
            runs = [{name: part for name, part in run.items() if name not in _OF_TRAINING} for run in runs]
        return _digest([self.way, {**GRIDS.get(self.way, {}), **self.row.grid}, runs])

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

    def cells_of(self, methods: Sequence[str]) -> tuple[Cell, ...]:
        """The cells of some methods, of all where none is named.

        Raises:
            InputError: There is no such method.
        """
        known = list(dict.fromkeys(cell.row.method for cell in self.cells))
        for method in (method for method in methods if method not in known):
            raise InputError(f"study '{self.name}' has no method '{method}'; choose of {', '.join(known)}.")
        return tuple(cell for cell in self.cells if not methods or cell.row.method in methods)


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


def _hashed(run: TwoTowerConfig | TagAwareConfig) -> Options:
    options = dataclasses.asdict(identity(run))
    for path, before in _ADDED[type(run)].items():
        *groups, name = path.split(".")
        group = functools.reduce(lambda parent, child: parent.get(child, {}), groups, options)
        if group.get(name) == before:
            del group[name]
    return options


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]
