"""A study's report from beginning to end, as sections."""

import collections
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from tff_rec.report import figures, tables
from tff_rec.report.document import Document, Grid, Paragraph, Picture, Section, Text
from tff_rec.report.groups import Group, Row, groups_of
from tff_rec.report.metrics import main_metric, metric
from tff_rec.report.pairs import Pairs
from tff_rec.report.study import PlannedCell, Study

Block = Paragraph | Grid | Picture
HOW_TO_READ = (
    "Each number is the mean over seeds with its 95 % interval: the bootstrap over test users, to which Student's "
    "interval over seeds is added in quadrature. “Against” a table's first method is the relative difference of the "
    "means with its 95 % interval and two-sided p, by a bootstrap that draws the same users for both; it is not "
    "corrected for the number of methods. Bold is the best mean of a column. What has no result is “not run”. "
    "Published rows are other people's numbers, from the source they name, and were not run here."
)
_CURVES = {"round": "rounds", "bytes_per_device": "bytes", "seconds": "seconds"}


def groups(study: Study) -> list[Group]:
    """The groups of all tables, in the order of the plan."""
    return [group for table in study.tables for group in groups_of(study, table)]


def document(study: Study, found: Sequence[Group], tested: Pairs) -> Document:
    """The whole report.

    Args:
        study: The study.
        found: Its `groups`.
        tested: Paired tests of the groups.
    """
    states = collections.Counter(study.status(cell).split(":")[0] for cell in study.cells)
    lead = (
        f"{len(study.cells)} cells: {states['done']} done, {states['failed']} failed, {states['not run']} not run. "
        "Devices, network and time are simulated: one process plays all devices, and bytes are counted from tensors."
    )
    parts = [Section("reading", "How to read this", (Paragraph(HOW_TO_READ),))]
    for table in study.tables:
        own = [group for group in found if group.table is table]
        blocks = _sweep_blocks(own, tested) if table.kind == "sweep" else _table_blocks(own, tested)
        parts.append(Section(f"table-{table.id}", table.title, tuple(blocks)))
    plain = _once([group for group in found if group.table.kind == "table"])
    parts += [
        Section("curves", "Learning curves", tuple(_curve_blocks(plain))),
        Section("costs", "Quality against traffic and privacy", tuple(_cost_blocks(plain))),
        Section("who-pays", "Who pays for federation?", tuple(_bucket_blocks(plain))),
        Section("chosen", "Hyper-parameters", tuple(_choices(study))),
        Section("missing", "What failed or was not run", tuple(_missing(study))),
        Section("environment", "Environment", tuple(_environment(study))),
    ]
    return Document(study.title, lead, tuple(parts))


def _once(found: Sequence[Group]) -> list[Group]:
    """The groups less those whose results are all in one before, so that no picture is drawn twice."""
    seen: set[str] = set()
    kept = []
    for group in found:
        keys = {result.key for row in group.rows for result in row.results}
        if keys - seen:
            kept.append(group)
        seen |= keys
    return kept


def _table_blocks(own: Sequence[Group], tested: Pairs) -> Iterator[Block]:
    for group in own:
        yield tables.results_grid(group, tested)
        if png := figures.intervals(group):
            yield _picture(group, "intervals", png, f"{group.table.title}: {_metric(group)}", "a point a method")


def _sweep_blocks(own: Sequence[Group], tested: Pairs) -> Iterator[Block]:
    for group in own:
        if png := figures.sweep(group):
            yield _picture(group, "sweep", png, group.table.title, f"{_metric(group)} against {_axis(group)}")
        else:
            yield Paragraph(f"{group.table.title}, {tables.protocol_of(group)}: not run, so there is no picture.")
        yield tables.results_grid(group, tested)


def _curve_blocks(found: Sequence[Group]) -> Iterator[Block]:
    drawn = False
    for group in found:
        for along, words in _CURVES.items():
            if png := figures.curves(group, along):
                drawn = True
                title = f"{group.table.title}: validation against {words}"
                yield _picture(group, f"curves-{words}", png, title, "a line a seed of each method trained in rounds")
    if not drawn:
        yield Paragraph("No method that is trained in rounds has been run.")


def _cost_blocks(found: Sequence[Group]) -> Iterator[Block]:
    drawn = False
    for group in found:
        sent = {row.label: size for row in group.done if (size := _mean(row, "bytes_per_round")) is not None}
        private = {row.label: epsilon for row in group.done if (epsilon := _mean(row, "epsilon")) is not None}
        for name, values, axis, words in (
            ("traffic", sent, "received and sent by a device in a round (B)", "traffic"),
            ("epsilon", private, "ε of a user", "ε"),
        ):
            if png := figures.against(group, values, axis):
                drawn = True
                alt = f"a point for each method that has {words}"
                yield _picture(group, name, png, f"{group.table.title}: {_metric(group)} against {words}", alt)
    if not drawn:
        yield Paragraph("No table has two methods with results that differ in traffic or ε; see the sweeps above.")


def _bucket_blocks(found: Sequence[Group]) -> Iterator[Block]:
    drawn = False
    for group in found:
        for way, words in tables.BUCKETS.items():
            grid = tables.buckets_grid(group, way)
            if grid is None:
                continue
            drawn = True
            rows = [row for row in group.done if any(result.buckets.get(way) for result in row.results)]
            name = tables.bucket_metric(rows, way, main_metric(group.table.metrics))
            values = {row.label: tables.bucket_values(row, way, name) for row in rows}
            png = figures.buckets(group, tables.bucket_labels(rows, way), values, name, words)
            yield grid
            yield _picture(group, way, png, f"{group.table.title}: by {words}", "a line a method")
        if grid := tables.catalogue_grid(group):
            drawn = True
            yield grid
    if not drawn:
        yield Paragraph("No result tells groups of users or items apart.")


def _choices(study: Study) -> Iterator[Block]:
    for cell in _unique(study.cells):
        result = study.results.get(cell.key)
        if result is None or result.status != "done":
            continue
        chosen = result.line.get("chosen") or {}
        for part in [dict(chosen)] if chosen else []:
            rows = tuple((Text(str(name)), Text(_value(value))) for name, value in part.items())
            yield Grid(f"{cell.key}: chosen", _protocol(cell), "", ("hyper-parameter", "value"), rows, folded=True)
        if grid := result.line.get("grid"):
            yield _tuning(cell, grid)
    if not any(result.line.get("chosen") or result.line.get("grid") for result in study.results.values()):
        yield Paragraph("No result has a record of hyper-parameters.")


def _tuning(cell: PlannedCell, grid: Sequence[dict[str, Any]]) -> Grid:
    names = list(dict.fromkeys(name for one in grid for name in one["hyperparameters"]))
    found = list(dict.fromkeys(name for one in grid for name in one["validation"]))
    rows = tuple(
        (
            *(Text(_value(one["hyperparameters"].get(name))) for name in names),
            *(Text(_value(one["validation"].get(name))) for name in found),
        )
        for one in grid
    )
    head = (*names, *(f"validation {metric(name).axis}" for name in found))
    return Grid(f"{cell.key}: the grid", f"{cell.data}, {cell.protocol}, validation", "", head, rows, folded=True)


def _missing(study: Study) -> Iterator[Block]:
    rows = tuple(
        (Text(cell.key), Text(cell.label), Text(str(cell.seed)), Text(study.status(cell), "missing"))
        for cell in _unique(study.cells)
        if study.status(cell) != "done"
    )
    if not rows:
        yield Paragraph("Every cell of the plan is done.")
        return
    yield Grid("Cells without a result", "", "", ("cell", "method", "seed", "state"), rows)


def _environment(study: Study) -> Iterator[Block]:
    lines = [result.line for cell in _unique(study.cells) if (result := study.results.get(cell.key)) is not None]
    if not lines:
        yield Paragraph("Nothing has been run.")
        return
    machines = collections.Counter(
        (str(line.get("code_version")), *(f"{name} {value}" for name, value in (line.get("environment") or {}).items()))
        for line in lines
    )
    rows = tuple((Text(", ".join(parts)), Text(str(count))) for parts, count in machines.items())
    yield Grid("Where it ran", "", "", ("code version, environment", "cells"), rows)
    names = ("key", "status", "seed", "config_hash", "code_version", "finished", "seconds", "users")
    cells = tuple(tuple(Text(_value(line.get(name))) for name in names) for line in lines)
    yield Grid("Cells", "", "Seconds are of the whole cell, on the machine above.", names, cells, folded=True)
    yield Paragraph(
        f"To run it again: scripts/compare.py with this study's study.toml, then scripts/report.py runs/{study.name}."
    )


def _unique(cells: Sequence[PlannedCell]) -> list[PlannedCell]:
    """Cells once, where several tables show the same."""
    return list({cell.key: cell for cell in cells}.values())


def _picture(group: Group, name: str, png: bytes, title: str, alt: str) -> Picture:
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in f"{group.name}.{name}")
    return Picture(safe, png, title, tables.protocol_of(group), f"{title}; {alt}.")


def _metric(group: Group) -> str:
    return metric(main_metric(group.table.metrics)).label


def _axis(group: Group) -> str:
    return next((row.x.name for row in group.rows if row.x is not None), "")


def _mean(row: Row, name: str) -> float | None:
    values = [value for result in row.results if (value := getattr(result, name)) is not None]
    return statistics.fmean(values) if values else None


def _protocol(cell: PlannedCell) -> str:
    return f"{cell.data}, {cell.protocol}"


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
