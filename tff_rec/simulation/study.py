"""Runs a study cell by cell: what is done is not done again, what fails is reported, and the others go on."""

import logging
import time
from collections.abc import Sequence
from types import ModuleType

import tensorflow as tf
from rich.console import Console

from tff_rec.errors import InputError
from tff_rec.simulation import execution, study_cells, study_folder, study_ranking, study_rating
from tff_rec.simulation.study_config import Cell
from tff_rec.simulation.study_folder import StudyFolder


def run(cells: Sequence[Cell], folder: StudyFolder, console: Console) -> int:
    """Runs the cells that have no result.

    Cells that judge one model, e.g. by two protocols, follow each other, so that it is trained once.

    Args:
        cells: Of a study.
        folder: Holds its results.
        console: Where progress is shown.

    Returns:
        Number of cells that failed.
    """
    execution.end_on_signals()
    # Each model has its own optimizers, which TensorFlow takes for one that is traced again and again.
    tf.get_logger().setLevel(logging.ERROR)
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.fit_hash, []).append(cell)
    failed = 0
    for group in groups.values():
        missing = [cell for cell in group if not folder.is_done(cell)]
        if missing:
            failed += _run_cells(missing, folder, console)
    return failed


def _run_cells(cells: Sequence[Cell], folder: StudyFolder, console: Console) -> int:
    """Fits the model that some cells judge, and judges it; the number that failed."""
    first, began, tuned = cells[0], time.perf_counter(), None
    ways: ModuleType = study_rating if first.table.of_ratings else study_ranking
    console.print(f"{first.key}: {first.label}", soft_wrap=True)
    failed = 0
    for cell in cells:
        record = study_folder.begin_record(cell)
        try:
            if tuned is None:
                tuned = ways.fit(cell, folder.run_folder(cell, cell.fit_hash), console)
            judgement = ways.judge(cell, tuned)
            folder.write_users(cell, judgement.values, judgement.owners)
            record |= {"status": "done"} | study_cells.as_record(cell, tuned, judgement)
            shown = ", ".join(f"{name} {judgement.metrics[name].value:.4g}" for name in cell.table.metrics)
            console.print(f"{cell.key}: {shown}, {time.perf_counter() - began:.0f} s", soft_wrap=True)
        except Exception as error:  # Whatever it is, the other cells go on.
            record |= {"status": "failed", "error": _sentence(error)}
            console.print(f"{cell.key} failed: {record['error']}", soft_wrap=True)
            failed += 1
        folder.write(study_folder.end_of(record, time.perf_counter() - began))
    return failed


def _sentence(error: Exception) -> str:
    """The error in one line."""
    words = " ".join(str(error).split())
    return words if isinstance(error, InputError) else f"{type(error).__name__}: {words}"
