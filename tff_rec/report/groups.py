"""The rows of a study's tables: cells that differ in the seed only, and their means."""

import collections
import dataclasses
import hashlib
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from scipy import special

from tff_rec.evaluation.bootstrap import Interval
from tff_rec.report.study import PlannedCell, PlannedTable, Point, Published, Result, Study

LEAK = "never-drawn"


@dataclasses.dataclass(frozen=True)
class Row:
    """Cells of all seeds.

    Attributes:
        label: Of the method.
        x: Of a sweep.
        cells: In the order of the plan.
        results: Of the cells that are done.
        missing: Of the others: why, and seeds.
    """

    label: str
    x: Point | None
    cells: tuple[PlannedCell, ...]
    results: tuple[Result, ...]
    missing: Mapping[str, tuple[int, ...]]

    @property
    def is_leak(self) -> bool:
        """Whether it is no recommender but shows what a sampler betrays of held-out items."""
        return self.cells[0].method.startswith(LEAK)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that the results say."""
        lines = [json.dumps(result.line, sort_keys=True) for result in self.results]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def state(self) -> str:
        """What stands where a number would, when no seed is done."""
        return "failed" if any("failed" in reason for reason in self.missing) else "not run"

    @property
    def runs(self) -> str:
        """How many seeds are done, and what became of the others."""
        if not self.missing:
            return str(len(self.results))
        others = [f"{_seeds(seeds)} {reason}" for reason, seeds in self.missing.items()]
        return "; ".join([f"{len(self.results)} of {len(self.cells)}", *others])

    def mean(self, metric: str) -> Interval | None:
        """The mean over seeds as `mean_over_seeds` has it; None where no seed has the metric."""
        found = [result.metrics[metric] for result in self.results if metric in result.metrics]
        return mean_over_seeds(found) if found else None


@dataclasses.dataclass(frozen=True)
class Group:
    """The rows of a table that may be held against each other: one data set, one protocol."""

    table: PlannedTable
    data: str
    protocol: str
    rows: tuple[Row, ...]
    published: tuple[Published, ...]

    @property
    def name(self) -> str:
        """Safe in names of files."""
        return f"{self.table.id}.{self.data}.{self.protocol}"

    @property
    def done(self) -> tuple[Row, ...]:
        """Rows with a result."""
        return tuple(row for row in self.rows if row.results)

    @property
    def recommenders(self) -> tuple[Row, ...]:
        """Those of `done` that recommend, which pictures are about."""
        return tuple(row for row in self.done if not row.is_leak)


def mean_of(row: Row, value: Callable[[Result], float | None]) -> float | None:
    """The mean over seeds of a number that not every result has; None where none has it."""
    found = [number for result in row.results if (number := value(result)) is not None]
    return statistics.fmean(found) if found else None


def bytes_per_round(row: Row) -> float | None:
    """Bytes that the mean device receives and sends in a round; None where nothing is counted."""
    return mean_of(row, lambda result: result.bytes_per_round)


def epsilon(row: Row) -> float | None:
    """ε of a user; None without differential privacy."""
    return mean_of(row, lambda result: result.epsilon)


def mean_over_seeds(values: Sequence[Interval]) -> Interval:
    """The mean of some seeds, and its 95 % interval from users and seeds.

    The seeds have their test users in common, so that the users' part does not shrink with the number of seeds: it is
    the mean of the seeds' bootstrap intervals. Student's interval over the seeds is added to it in quadrature.
    """
    mean = statistics.fmean(one.value for one in values)
    seeds = 0.0
    if len(values) > 1:
        deviation = statistics.stdev(one.value for one in values)
        seeds = float(special.stdtrit(len(values) - 1, 0.975)) * deviation / math.sqrt(len(values))
    below = statistics.fmean(one.value - one.low for one in values)
    above = statistics.fmean(one.high - one.value for one in values)
    return Interval(mean, mean - math.hypot(below, seeds), mean + math.hypot(above, seeds))


def all_of(study: Study) -> list[Group]:
    """The groups of all tables, in the order of the plan."""
    return [group for table in study.tables for group in groups_of(study, table)]


def groups_of(study: Study, table: PlannedTable) -> list[Group]:
    """A table's cells by data set and protocol, in the order of the plan, with the published rows of each."""
    cells = [cell for cell in study.cells if cell.table == table.id]
    published = [(one, (one.data, one.protocol or table.protocol)) for one in table.published]
    places = dict.fromkeys([*((cell.data, cell.protocol) for cell in cells), *(place for _, place in published)])
    groups = []
    for place in places:
        own = [cell for cell in cells if (cell.data, cell.protocol) == place]
        others = tuple(one for one, of in published if of == place)
        groups.append(Group(table, *place, _rows(study, own), others))
    return groups


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _rows(study: Study, cells: Sequence[PlannedCell]) -> tuple[Row, ...]:
    found: dict[tuple[str, Point | None], list[PlannedCell]] = {}
    for cell in cells:
        found.setdefault((cell.method, cell.x), []).append(cell)
    names = collections.Counter((own[0].label, own[0].x) for own in found.values())
    return tuple(_row(study, own, names[own[0].label, own[0].x] > 1) for own in found.values())


def _row(study: Study, cells: Sequence[PlannedCell], ambiguous: bool) -> Row:
    """A row; one whose label others have too is named with its method."""
    first = cells[0]
    results = [study.result(cell) for cell in cells]
    done = tuple(result for result in results if result is not None and result.status == "done")
    missing: dict[str, tuple[int, ...]] = {}
    for cell in (cell for cell in cells if study.status(cell) != "done"):
        missing[study.status(cell)] = (*missing.get(study.status(cell), ()), cell.seed)
    label = f"{first.label} ({first.method})" if ambiguous else first.label
    return Row(label, first.x, tuple(cells), done, missing)
