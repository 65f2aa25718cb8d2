"""Choosing hyperparameters on validation, every setting of a grid tried and kept in writing; test is not looked at."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

Model = TypeVar("Model")
Settings = dict[str, Any]
Scores = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Tuned(Generic[Model]):
    """The best of a grid.

    Attributes:
        model: It.
        chosen: Its settings.
        validation: Its metrics on validation.
        grid: All settings that were tried, `hyperparameters` and `validation` each, in order.
    """

    model: Model
    chosen: Settings
    validation: Scores
    grid: list[dict[str, Any]]


def best(
    candidates: Iterable[tuple[Settings, Callable[[], Model]]],
    judge: Callable[[Model], Scores],
    goodness: Callable[[Scores], float],
) -> Tuned[Model]:
    """Fits every candidate and keeps the best one; of equals the first.

    Args:
        candidates: Settings, and what fits a model with them.
        judge: Metrics of a model on validation.
        goodness: Of metrics; larger is better.
    """
    found: Tuned[Model] | None = None
    grid: list[dict[str, Any]] = []
    for settings, fit in candidates:
        model = fit()
        scores = judge(model)
        grid.append({"hyperparameters": settings, "validation": scores})
        if found is None or goodness(scores) > goodness(found.validation):
            found = Tuned(model, settings, scores, grid)
    assert found is not None, "A grid has one setting or more."
    return found
