"""A study's report from beginning to end, as sections."""

import collections
from collections.abc import Iterator, Sequence
from typing import Any

from tff_rec.report import figures, groups, tables
from tff_rec.report.document import Document, Grid, Paragraph, Picture, Section, Text
from tff_rec.report.groups import Group
from tff_rec.report.metrics import main_metric, metric
from tff_rec.report.pairs import Pairs
from tff_rec.report.study import PlannedCell, Study

Block = Paragraph | Grid | Picture
HOW_TO_READ = (
    "Each number is the mean over seeds with its 95 % interval: the bootstrap over test users, to which Student's "
    "interval over seeds is added in quadrature. “Against the first row” is the relative difference of the means with "
    "its 95 % interval and two-sided p, by a bootstrap that draws the same users for both; p is not corrected for the "
    "number of methods. Bold is the best mean of a column. What has no result is “not run”. Published rows are other "
    "people's numbers, from the source they name, and were not run here. Traffic is what the mean device receives "
    "and sends in a round that it takes part in. Rows that show what a sampler betrays of "
    "held-out items are no recommenders: they are not in bold and not in pictures."
)
_CURVES = {"round": "rounds", "bytes_per_device": "bytes", "seconds": "seconds"}


def document(study: Study, found: Sequence[Group], tested: Pairs) -> Document:
    """The whole report.

    Args:
        study: The study.
        found: Its `groups.all_of`.
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
        caption = [Paragraph(table.caption)] if table.caption else []
        parts.append(Section(f"table-{table.id}", table.title, (*caption, *blocks)))
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
    for group in own:
        if png := figures.intervals(group):
            title = f"{tables.title_of(group)}: {_metric(group)} with 95 % intervals"
            yield _picture(group, "intervals", png, title, "a point a method, published ones hollow")


def _sweep_blocks(own: Sequence[Group], tested: Pairs) -> Iterator[Block]:
    for group in own:
        if png := figures.sweep(group):
            title = f"{tables.title_of(group)}: {_metric(group)} against {_axis(group)} with 95 % intervals"
            yield _picture(group, "sweep", png, title, "a line a method")
        else:
            yield Paragraph(f"{tables.title_of(group)}: not run, so there is no picture.")
    for group in own:
        yield tables.results_grid(group, tested)


def _curve_blocks(found: Sequence[Group]) -> Iterator[Block]:
    drawn: set[str] = set()
    for group in found:
        looks = {str(result.curve) for row in group.done for result in row.results if result.curve}
        if looks <= drawn:
            continue  # The same training, judged by another protocol.
        drawn |= looks
        for along, words in _CURVES.items():
            if png := figures.curves(group, along):
                title = f"{group.data}: validation against {words}"
                alt = "a line a seed of each method that has them"
                yield _picture(
                    group, f"curves-{words}", png, title, alt, tables.validation_of(group.data, group.protocol)
                )
    if not drawn:
        yield Paragraph("No method that is trained in rounds has been run.")


def _cost_blocks(found: Sequence[Group]) -> Iterator[Block]:
    yield Paragraph("Methods of which no bytes, or no ε, are counted are not in these pictures.")
    drawn = False
    for group in found:
        sent = {row.label: size for row in group.done if (size := groups.bytes_per_round(row)) is not None}
        private = {row.label: epsilon for row in group.done if (epsilon := groups.epsilon(row)) is not None}
        for name, values, words in (("traffic", sent, "traffic"), ("epsilon", private, "ε")):
            if png := figures.against(group, values, name):
                drawn = True
                title = f"{tables.title_of(group)}: {_metric(group)} against {words} with 95 % intervals"
                yield _picture(group, name, png, title, f"a point for each method that has {words}")
    if not drawn:
        yield Paragraph("No table has two methods with results that differ in traffic or ε; see the sweeps above.")


def _bucket_blocks(found: Sequence[Group]) -> Iterator[Block]:
    ways = tables.bucket_ways(found)
    grids = [grid for group in found for way in ways if (grid := tables.buckets_grid(group, way))]
    catalogues = [grid for group in found if (grid := tables.catalogue_grid(group))]
    if not grids and not catalogues:
        yield Paragraph("No result tells groups of users or items apart.")
    for group in found:
        for way in ways:
            rows = tables.rows_with_buckets(group, way)
            if rows:
                words = tables.bucket_axis(way)
                name = tables.bucket_metric(rows, way, main_metric(group.table.metrics))
                values = {row.label: tables.bucket_values(row, way, name) for row in rows}
                png = figures.buckets(group, tables.bucket_labels(rows, way), values, name, words)
                yield _picture(
                    group, way, png, f"{tables.title_of(group)}: {_metric(group)} by {words}", "a line a method"
                )
    yield from grids
    yield from catalogues


def _choices(study: Study) -> Iterator[Block]:
    results = ((cell, study.result(cell)) for cell in _unique(study.cells))
    done = [(cell, result.line) for cell, result in results if result is not None and result.status == "done"]
    rows = tuple(
        (Text(cell.label), Text(cell.data), Text(cell.protocol), Text(str(cell.seed)), Text(_listed(line["chosen"])))
        for cell, line in done
        if line.get("chosen")
    )
    if rows:
        yield Grid("Chosen on validation", "", "", ("method", "data", "protocol", "seed", "chosen"), rows, folded=True)
    else:
        yield Paragraph("No result has a record of hyper-parameters.")
    grids: dict[str, dict[str, tuple[PlannedCell, Sequence[dict[str, Any]]]]] = {}
    for cell, line in done:
        if line.get("grid"):  # Once, also where several protocols judge what it gave.
            grids.setdefault(f"{cell.data}, {cell.label}", {})[str((cell.seed, line["grid"]))] = (cell, line["grid"])
    for name, tuned in grids.items():
        yield _tuning(name, list(tuned.values()))


def _tuning(name: str, tuned: Sequence[tuple[PlannedCell, Sequence[dict[str, Any]]]]) -> Grid:
    """What was tried, a row a setting and seed, and what it gave on validation."""
    tried = [(cell.seed, one["hyperparameters"], one["validation"]) for cell, grid in tuned for one in grid]
    names = list(dict.fromkeys(key for _, settings, _ in tried for key in settings))
    found = list(dict.fromkeys(key for _, _, scores in tried for key in scores))
    rows = tuple(
        tuple(
            map(
                Text,
                (str(seed), *(_value(settings.get(key)) for key in names), *(_value(scores.get(key)) for key in found)),
            )
        )
        for seed, settings, scores in tried
    )
    head = ("seed", *names, *(f"validation {metric(key).axis}" for key in found))
    return Grid(
        f"{name}: the grid", tables.validation_of(tuned[0][0].data, tuned[0][0].protocol), "", head, rows, folded=True
    )


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
    lines = [result.line for cell in _unique(study.cells) if (result := study.result(cell)) is not None]
    if not lines:
        yield Paragraph("Nothing has been run.")
        return
    machines = collections.Counter(
        (
            str(line.get("code_version") or "unknown"),
            *(f"{name} {value}" for name, value in (line.get("environment") or {}).items()),
        )
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


def _picture(group: Group, name: str, png: bytes, title: str, alt: str, protocol: str = "") -> Picture:
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in f"{group.name}.{name}")
    return Picture(safe, png, title, protocol or tables.protocol_of(group), f"{title}; {alt}.")


def _metric(group: Group) -> str:
    return metric(main_metric(group.table.metrics)).label


def _axis(group: Group) -> str:
    return next((row.x.name for row in group.rows if row.x is not None), "")


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
