"""Cleaning shared by the loaders: what is missing, repeated or malformed is dropped and counted; wrong is an error.

A value that is not there (an empty field), a (user, item) pair that comes again, or a row with too many or too few
fields is cleaned, and the count is kept with the places of the first few. A value that is there and wrong (`abc` for a
rating, a negative timestamp) raises `InputError`, as does a file of which more than half the rows are malformed:
guessing would hide a damaged file.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tff_rec.data.schema import INTERACTION_COLUMNS, CleaningStep, InteractionData
from tff_rec.errors import InputError

if TYPE_CHECKING:
    from tff_rec.data.csv_file import TextFile

NUM_EXAMPLES = 3
_MAX_TIMESTAMP = 2**53
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def find_malformed(file: TextFile) -> tuple[list[int], list[CleaningStep]]:
    """Finds the rows that have as many fields as the file has columns, and counts the others.

    Returns:
        The numbers of the well-formed records (counted from 0), and a step if there are others.

    Raises:
        InputError: More than half of the rows are malformed, or one is because a quote in it is not closed.
    """
    good, bad, total = [], [], 0
    for row, (line, fields) in enumerate(file.records()):
        total += 1
        if len(fields) == len(file.columns):
            good.append(row)
            continue
        bad.append(line)
        problem = f"{len(fields)} fields where there should be {len(file.columns)} ({', '.join(file.columns)})"
        if len(bad) == 1:
            first = f"{file.label}, line {line}: {problem}"
        if any("\n" in field or "\r" in field for field in fields):  # It has swallowed the rows after it.
            raise InputError(f"{file.label}, line {line}: {problem}, for a quote is not closed; correct the row.")
    if not bad:
        return good, []
    if 2 * len(bad) > total:
        raise InputError(
            f"{first}, and {len(bad):,} of the {total:,} rows are malformed; give a file in the expected format."
        )
    examples = tuple(f"{file.name}:{line}" for line in bad[:NUM_EXAMPLES])
    return good, [CleaningStep(f"malformed rows of {file.name} dropped: wrong number of fields", len(bad), examples)]


def drop_missing(
    table: pd.DataFrame, file: TextFile, required: Sequence[str]
) -> tuple[pd.DataFrame, list[CleaningStep]]:
    """Drops rows that have no value in a required column.

    Args:
        table: Columns as `csv_file.read_table` returns them; the index counts the file's records.
        file: Where the table was read from.
        required: Columns that need a value.

    Raises:
        InputError: A number is written that is none (`nan`).
    """
    missing = table[list(required)].isna().to_numpy()
    rows = table.index[missing.any(axis=1)]
    if rows.empty:
        return table, []
    numbers = [column for column in required if table[column].dtype.kind == "f"]
    examples = []
    wanted = set(rows)
    for row, (line, fields) in enumerate(file.records()):
        if row in wanted:
            for column in numbers:
                check_number(file, line, column, fields[file.columns.index(column)])
            examples.append(f"{file.name}:{line}")
    step = CleaningStep(f"rows of {file.name} dropped: no value", len(rows), tuple(examples[:NUM_EXAMPLES]))
    return table.drop(index=rows), [step]


def drop_repeats(table: pd.DataFrame, file: TextFile, key: Sequence[str]) -> tuple[pd.DataFrame, list[CleaningStep]]:
    """Keeps the first row, in file order, of those that are equal in the columns `key`."""
    repeated = table.duplicated(list(key))
    if not repeated.any():
        return table, []
    lines = file_lines(file, table.index[repeated.to_numpy()][:NUM_EXAMPLES])
    examples = tuple(f"{file.name}:{line}" for line in lines)
    what = f"rows of {file.name} dropped: same {' and '.join(key)} as an earlier row"
    return table[~repeated], [CleaningStep(what, int(repeated.sum()), examples)]


def check_number(file: TextFile, line: int, column: str, text: str) -> None:
    """Checks that a field is empty or a finite number.

    Raises:
        InputError: It is neither.
    """
    text = text.strip()
    if text and not (_NUMBER.fullmatch(text) and math.isfinite(float(text))):
        raise InputError(f"{file.label}, line {line}: {column} '{text}' is not a number; correct or remove the row.")


def check_numbers(table: pd.DataFrame, file: TextFile, column: str, low: float, high: float, step: float = 0) -> None:
    """Checks that numbers lie in [low, high] and, if `step` is given, on the grid of its multiples.

    Raises:
        InputError: A number does not; names file, line and value.
    """
    values = table[column].to_numpy()
    bad = ~((values >= low) & (values <= high))
    if step:
        bad |= np.mod(np.where(bad, 0, values), step) != 0
    if bad.any():
        row = table.index[bad][0]
        grid = f" in steps of {step:g}" if step else ""
        problem = f"{column} {values[bad][0]:g} is not from {low:g} to {high:g}{grid}"
        raise InputError(f"{place(file, row)}: {problem}; correct or remove the row.")


def check_timestamps(table: pd.DataFrame, file: TextFile) -> None:
    """Checks that the column `timestamp` (float64) holds whole seconds since 1970.

    Raises:
        InputError: One is negative, no whole number, or too large.
    """
    values = table["timestamp"].to_numpy()
    bad = ~((values >= 0) & (values < _MAX_TIMESTAMP))
    bad |= np.mod(np.where(bad, 0, values), 1) != 0
    if bad.any():
        value = values[bad][0]
        problem = "is negative" if value < 0 else "is no whole number of seconds"
        where = place(file, table.index[bad][0])
        raise InputError(f"{where}: timestamp {value:.15g} {problem}; correct or remove the row.")


def file_lines(file: TextFile, rows: Sequence[int] | pd.Index) -> list[int]:
    """Line numbers of the given records (counted from 0)."""
    wanted = set(rows)
    found = ((row, line) for row, (line, _) in enumerate(file.records()) if row in wanted)
    return [line for _, line in itertools.islice(found, len(wanted))]


def place(file: TextFile, row: int) -> str:
    """`FILE, line N` of a record, to begin an error message with."""
    return f"{file.label}, line {file_lines(file, [row])[0]}"


def as_interactions(table: pd.DataFrame) -> pd.DataFrame:
    """The columns, types and index of `InteractionData.interactions`; ids are shared, not copied."""
    types = {"rating": np.float32, "timestamp": np.int64}
    columns = {name: table[name].to_numpy(dtype=types.get(name)) for name in INTERACTION_COLUMNS}
    return pd.DataFrame(columns, copy=False)


def filter_rare(data: InteractionData, min_user_items: int, min_item_users: int) -> InteractionData:
    """Drops items with too few users, then users with too few items, again and again until nothing changes.

    Args:
        data: Interactions, each (user, item) pair once.
        min_user_items: Least number of items of a user that stays.
        min_item_users: Least number of users of an item that stays.

    Raises:
        InputError: Nothing is left.
    """
    interactions = data.interactions
    users, user_ids = pd.factorize(interactions["user_id"])
    items, item_ids = pd.factorize(interactions["item_id"])
    keep = np.ones(len(users), dtype=bool)
    while True:
        before = keep.sum()
        keep &= np.bincount(items[keep], minlength=len(item_ids))[items] >= min_item_users
        keep &= np.bincount(users[keep], minlength=len(user_ids))[users] >= min_user_items
        if keep.sum() == before:
            break
    if keep.all():
        return data
    kept = interactions[keep].reset_index(drop=True)
    num_items = len(item_ids) - len(np.unique(items[keep]))
    num_users = len(user_ids) - len(np.unique(users[keep]))
    return dataclasses.replace(
        data,
        interactions=kept,
        tags=data.tags[data.tags["user_id"].isin(kept["user_id"].unique())].reset_index(drop=True),
        users=data.users[data.users["user_id"].isin(kept["user_id"].unique())].reset_index(drop=True),
        cleaning=(
            *data.cleaning,
            CleaningStep(f"items dropped: fewer than {min_item_users} users", num_items),
            CleaningStep(f"users dropped: fewer than {min_user_items} items", num_users),
            CleaningStep("interactions dropped with them", int((~keep).sum())),
        ),
    )


def describe(steps: Sequence[CleaningStep]) -> str:
    """One line a cleaning step, to print; steps of the same text are added up."""
    counts: dict[str, int] = collections.defaultdict(int)
    examples: dict[str, list[str]] = collections.defaultdict(list)
    for step in steps:
        counts[step.what] += step.count
        examples[step.what].extend(step.examples)
    lines = []
    for what, count in counts.items():
        where = f" ({'; '.join(examples[what][:NUM_EXAMPLES])})" if examples[what] else ""
        lines.append(f"{count:,} {what}{where}")
    return "\n".join(lines)
