"""A study's tables alone, in Markdown: what compare.py prints, and what stands in the README."""

import pathlib

from tff_rec.errors import InputError
from tff_rec.report import pairs, render, tables
from tff_rec.report.groups import groups_of
from tff_rec.report.study import read_study


def summary(folder: pathlib.Path, wanted: str | None = None) -> str:
    """The tables of a study in order, each with title, protocol and caption.

    Args:
        folder: The study's.
        wanted: Id of the one table to show; None shows all.

    Raises:
        InputError: There is no such table, or no study.
    """
    study = read_study(folder)
    chosen = [table for table in study.tables if wanted in (None, table.id)]
    if not chosen:
        known = ", ".join(table.id for table in study.tables)
        raise InputError(f"Study '{study.name}' has no table '{wanted}'; it has {known}.")
    found = [group for table in chosen for group in groups_of(study, table)]
    tested = pairs.compare(found, folder)
    parts = []
    for group in found:
        grid = tables.results_grid(group, tested)
        parts.append(f"{group.table.title}. Protocol: {grid.protocol}. {group.table.caption}".strip())
        parts.append(render.markdown_grid(grid))
    return "\n\n".join(parts)
