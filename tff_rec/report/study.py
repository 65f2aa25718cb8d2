"""A study's folder as typed records: what it plans (`plan.json`) and what it has found so far (`results.jsonl`)."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from tff_rec.errors import InputError
from tff_rec.evaluation.bootstrap import Interval

PLAN_FILE = "plan.json"
RESULTS_FILE = "results.jsonl"
Record = TypeVar("Record")


@dataclasses.dataclass(frozen=True)
class Point:
    """Where a cell stands on a sweep's axis; `value` None is beyond its end (ε: without privacy)."""

    name: str
    unit: str
    value: float | str | None

    @property
    def axis(self) -> str:
        """Name, and unit where the name does not have it."""
        return self.name if not self.unit or self.unit in self.name else f"{self.name} ({self.unit})"


@dataclasses.dataclass(frozen=True)
class PlannedCell:
    """One method on one data set, protocol and seed, run or not.

    Attributes:
        key: Of its result.
        table: Id of its table.
        data: Source.
        method: Unique in the study for one data set and protocol.
        protocol: How it is judged.
        seed: Of the run.
        label: What to call its row.
        x: Its place in a sweep.
        config_hash: Of the options it is to be run with; None where the plan does not tell.
    """

    key: str
    table: str
    data: str
    method: str
    protocol: str
    seed: int
    label: str
    x: Point | None = None
    config_hash: str | None = None


@dataclasses.dataclass(frozen=True)
class Published:
    """A row of somebody else's table; `protocol` is the table's unless it says otherwise."""

    label: str
    source: str
    data: str
    values: Mapping[str, float]
    protocol: str | None = None


@dataclasses.dataclass(frozen=True)
class PlannedTable:
    """A table, or a sweep, which is a picture with its numbers; `group` is the part of test it judges, "" for all."""

    id: str
    title: str
    caption: str
    protocol: str
    metrics: tuple[str, ...]
    published: tuple[Published, ...] = ()
    kind: Literal["table", "sweep"] = "table"
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a cell gave; the fields are those of a line of `results.jsonl`.

    Attributes:
        key: Of the cell.
        status: done or failed.
        line: The whole line.
        error: One sentence, of a failed cell.
        metrics: Test metrics with 95 % intervals over users: ranking in percent, errors of ratings as they are.
        curve: Looks at validation: `round`, `seconds`, `bytes_per_device` (cumulative, mean), metrics.
        traffic: Bytes of a device and round: `down`, `up`, `peers`; None where nothing is counted.
        epsilon: ε, None without differential privacy.
        buckets: Quality by `popularity` and by `activity`: `label`, `users`, metrics.
    """

    key: str
    status: Literal["done", "failed"]
    line: Mapping[str, Any]
    error: str
    metrics: Mapping[str, Interval]
    curve: Sequence[Mapping[str, float]]
    traffic: Mapping[str, float] | None
    epsilon: float | None
    buckets: Mapping[str, Sequence[Mapping[str, Any]]]

    @property
    def bytes_per_round(self) -> float | None:
        """Bytes that the mean device receives and sends in a round; None where nothing is counted."""
        return None if self.traffic is None else float(sum(self.traffic.values()))


@dataclasses.dataclass(frozen=True)
class Study:
    """A plan, and the results there are of it, by key."""

    name: str
    title: str
    tables: tuple[PlannedTable, ...]
    cells: tuple[PlannedCell, ...]
    results: Mapping[str, Result]

    def status(self, cell: PlannedCell) -> str:
        """done, not run, or failed with the sentence that says why."""
        result = self.result(cell)
        if result is None:
            return "not run"
        return "done" if result.status == "done" else f"failed: {result.error}"

    def result(self, cell: PlannedCell) -> Result | None:
        """A cell's result; None where there is none, or only one of other options than the plan's."""
        result = self.results.get(cell.key)
        if result is None or cell.config_hash in (None, result.line.get("config_hash")):
            return result
        return None


def read_study(folder: pathlib.Path) -> Study:
    """Reads a study's plan and its results; results of cells that are not planned are left out.

    Raises:
        InputError: The folder holds no study, or a file is not what a study writes.
    """
    path = folder / PLAN_FILE
    if not path.is_file():
        raise InputError(f"There is no study in {folder} (no {PLAN_FILE}); run scripts/compare.py first.")
    plan = _parse(path.read_text(encoding="utf-8"), str(path))
    cells = _build(lambda: tuple(_cell(values) for values in plan["cells"]), str(path))
    tables = _build(lambda: tuple(_table(values) for values in plan["tables"]), str(path))
    name, title = _build(lambda: (str(plan["name"]), str(plan["title"])), str(path))
    known = {table.id for table in tables}
    strange = next((cell for cell in cells if cell.table not in known), None)
    if strange is not None:
        raise InputError(f"{path}: cell '{strange.key}' belongs to no table ('{strange.table}'); run the study again.")
    results = _read_results(folder / RESULTS_FILE)
    planned = {cell.key for cell in cells}
    return Study(name, title, tables, cells, {key: one for key, one in results.items() if key in planned})


def _read_results(path: pathlib.Path) -> dict[str, Result]:
    if not path.is_file():
        return {}
    results: dict[str, Result] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line:
            continue
        where = f"{path}, line {number}"
        values = _parse(line, where)
        result = _build(functools.partial(_result, values), where)
        if result.key in results:
            raise InputError(f"{where}: cell '{result.key}' is there twice; delete one of its lines.")
        results[result.key] = result
    return results


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is no valid JSON ({error}); run the study again.") from None


def _build(make: Callable[[], Record], where: str) -> Record:
    """What `make` makes of parsed JSON, or one sentence about what is not as it should be."""
    try:
        return make()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{where} is not what a study writes ({type(error).__name__}: {error}); run it again."
        ) from None


def _cell(values: dict[str, Any]) -> PlannedCell:
    names = [field.name for field in dataclasses.fields(PlannedCell) if field.name not in ("x", "config_hash")]
    x = values.get("x")
    point = None if x is None else Point(x["name"], x.get("unit") or "", x["value"])
    return PlannedCell(**{name: values[name] for name in names}, x=point, config_hash=values.get("config_hash"))


def _table(values: dict[str, Any]) -> PlannedTable:
    kind = values.get("kind", "table")
    if kind not in ("table", "sweep"):
        raise ValueError(f"kind is {kind!r}, not table or sweep")
    metrics = tuple(values["metrics"])
    if not metrics:
        raise ValueError(f"table '{values['id']}' has no metrics")
    published = tuple(Published(**one) for one in values.get("published", ()))
    texts = {name: str(values[name]) for name in ("id", "title", "caption", "protocol")}
    return PlannedTable(**texts, metrics=metrics, published=published, kind=kind, group=values.get("group", ""))


def _interval(values: dict[str, Any]) -> Interval:
    """With NaN for a bound that is null."""
    low, high = (math.nan if values[bound] is None else values[bound] for bound in ("low", "high"))
    return Interval(values["value"], low, high)


def _result(values: dict[str, Any]) -> Result:
    status = values["status"]
    if status not in ("done", "failed"):
        raise ValueError(f"status is {status!r}, not done or failed")
    metrics = values.get("metrics") or {}
    if status == "done" and not metrics:
        raise ValueError("a cell that is done has no metrics")
    epsilon = values.get("epsilon")
    return Result(
        key=values["key"],
        status=status,
        line=values,
        error=str(values.get("error") or "no reason given"),
        metrics={name: _interval(one) for name, one in metrics.items() if one["value"] is not None},
        curve=values.get("curve") or [],
        traffic=values.get("traffic"),
        epsilon=None if epsilon is None else float(epsilon["epsilon"]),
        buckets=values.get("buckets") or {},
    )
