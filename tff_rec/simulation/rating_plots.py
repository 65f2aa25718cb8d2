"""The plot of a run on ratings: error against rounds, and test against baselines."""

import pathlib
from typing import Any

from matplotlib import pyplot

from tff_rec.simulation import plots


def plot_run(records: list[dict[str, Any]], title: str, path: pathlib.Path) -> None:
    """Draws training and validation RMSE against rounds on the left, test RMSE of all methods on the right.

    Args:
        records: Lines of `metrics.jsonl`.
        title: Over both.
        path: A PNG file, written beside and renamed.
    """
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 4), layout="constrained", width_ratios=(3, 2))
    figure.suptitle(title)
    rounds = [record for record in records if "loss" in record]
    looks = [record for record in rounds if "validation_rmse" in record]
    losses = [record["loss"] ** 0.5 for record in rounds]
    left.plot([record["round"] for record in rounds], losses, color="0.7", linewidth=1, label="training clients")
    errors = [record["validation_rmse"] for record in looks]
    left.plot([record["round"] for record in looks], errors, "-o", markersize=3, label="validation")
    left.set(xlabel="round", ylabel="RMSE")
    left.legend()
    for record in records:
        if "test" in record:
            left.axvline(record["best_round"], color="0.5", linestyle=":")
            rmse_intervals(right, {name: metrics["rmse"] for name, metrics in record["test"]["all"].items()})
    plots.save(figure, path)


def rmse_intervals(axes: Any, scores: dict[str, dict[str, float]]) -> None:
    """A point and its 95 % interval a method, the first on top."""
    values = [score["value"] for score in scores.values()]
    errors = [
        [score["value"] - score["low"] for score in scores.values()],
        [score["high"] - score["value"] for score in scores.values()],
    ]
    axes.errorbar(values, list(scores), xerr=errors, fmt="o", color="black", capsize=3)
    axes.invert_yaxis()
    axes.margins(y=0.2)
    axes.grid(axis="x", alpha=0.3)
    axes.set(xlabel="test RMSE, 95 % interval over users")
