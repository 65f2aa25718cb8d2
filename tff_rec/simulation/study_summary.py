"""A study's results in words, as they stand in its folder: a table each, tested against its first row."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from tff_rec.evaluation import bootstrap, ranking_quality
from tff_rec.evaluation.bootstrap import Difference
from tff_rec.simulation.study_config import Cell, Study
from tff_rec.simulation.study_folder import Record, StudyFolder
from tff_rec.simulation.study_tables import RowConfig, TableConfig


def summary(study: Study, folder: StudyFolder) -> str:
    """All tables of a study as Markdown.

    Values are means over seeds, with the means of the seeds' 95 % intervals over users. Beside them stand the mean
    difference to the first row in the table's first metric, and the largest p value of the seeds' paired tests.
    """
    records = folder.records()
    lines = []
    for table in study.tables:
        lines += ["", f"## {table.title}", ""]
        lines.append(_row(["data", "", *table.metrics, "to the first", "p"]))
        lines.append(_row(["---"] * (len(table.metrics) + 4)))
        for data in table.data:
            cells = [cell for cell in study.cells if cell.table.id == table.id and cell.data == data]
            lines += [_line(table, row, cells, records, folder) for row in table.rows]
    return "\n".join(lines)


def paired(first: Cell, second: Cell, folder: StudyFolder) -> Difference:
    """Second less first in the table's first metric, paired over the users of two finished cells."""
    metric = second.table.metrics[0]
    (before, owners), (after, _) = folder.users(first), folder.users(second)
    if second.table.of_ratings:
        return _mean_square_difference(after, before, owners, seed=second.seed, root=metric == "rmse")
    return ranking_quality.compare(after, before, seed=second.seed)[metric]


def _mean_square_difference(
    first: np.ndarray, second: np.ndarray, owners: np.ndarray, *, seed: int, root: bool
) -> Difference:
    """Of squared errors, float [ratings]; owners as in `rating.evaluate`."""
    _, user = np.unique(np.where(owners < 0, -1 - np.arange(len(owners)), owners), return_inverse=True)
    one, other = (np.stack([np.bincount(user, errors), np.bincount(user)], axis=1) for errors in (first, second))

    def statistic(total: np.ndarray) -> np.ndarray:
        mean = total[..., :1] / total[..., 1:]
        return np.sqrt(mean) if root else mean

    return bootstrap.differences(one, other, statistic, seed=seed)[0]


def _line(
    table: TableConfig, row: RowConfig, cells: Sequence[Cell], records: dict[str, Record], folder: StudyFolder
) -> str:
    """A row's cells of one data set."""
    own = [cell for cell in cells if cell.row == row]
    found = [records.get(cell.key) for cell in own]
    name = own[0].label if row.x is None or table.axis is None else f"{own[0].label}, {table.axis.name} {row.x:g}"
    errors = [record["error"] for record in found if record is not None and record["status"] == "failed"]
    done = [record for record in found if record is not None and record["status"] == "done"]
    if errors or len(done) < len(own):
        state = f"failed: {errors[0]}" if errors else f"{len(done)} of {len(own)} seeds done"
        return _row([own[0].data, name, state, *[""] * (len(table.metrics) + 1)])
    differences = [
        paired(first, cell, folder)
        for cell, first in zip(own, cells, strict=False)
        if table.metrics and cell.row != table.rows[0] and _is_done(first, records)
    ]
    values = [_describe([record["metrics"][metric] for record in done]) for metric in table.metrics]
    return _row([own[0].data, name, *values, *_test(differences)])


def _is_done(cell: Cell, records: dict[str, Record]) -> bool:
    return records.get(cell.key, {}).get("status") == "done"


def _test(differences: Sequence[Difference]) -> list[str]:
    if not differences:
        return ["", ""]
    mean, largest = statistics.mean(one.value for one in differences), max(one.p_value for one in differences)
    return [f"{mean:+.4g}", f"{largest:.3f}"]


def _describe(found: Sequence[dict[str, Any]]) -> str:
    """Mean and interval of a metric over seeds."""
    bounds = [[math.nan if one[bound] is None else one[bound] for one in found] for bound in ("value", "low", "high")]
    value, low, high = (statistics.mean(values) for values in bounds)
    return f"{value:.4g} ({low:.4g} to {high:.4g})"


def _row(parts: Sequence[str]) -> str:
    return f"| {' | '.join(parts)} |"
