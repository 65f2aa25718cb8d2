"""The plot of a run on ratings: error against rounds, and test against baselines."""

import pathlib
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


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
    left.plot(
        [record["round"] for record in looks], [record["validation_rmse"] for record in looks], label="validation"
    )
    left.set(xlabel="round", ylabel="RMSE")
    left.legend()
    for record in records:
        if "test" in record:
            left.axvline(record["best_round"], color="0.5", linestyle=":")
            rmse_bars(right, {name: metrics["rmse"] for name, metrics in record["test"]["all"].items()})
    save(figure, path)


def rmse_bars(axes: Any, bars: dict[str, dict[str, float]]) -> None:
    """Horizontal bars with their 95 % intervals, the first on top; the axis begins below the least, not at 0."""
    names, values = list(bars), [bar["value"] for bar in bars.values()]
    errors = [
        [bar["value"] - bar["low"] for bar in bars.values()],
        [bar["high"] - bar["value"] for bar in bars.values()],
    ]
    axes.barh(names, values, xerr=errors, color="C0", alpha=0.7)
    axes.invert_yaxis()
    axes.set(xlabel="test RMSE, 95 % interval over users", xlim=(0.9 * min(bar["low"] for bar in bars.values()), None))


def save(figure: Any, path: pathlib.Path) -> None:
    """Writes a figure beside and renames it."""
    beside = path.with_name(f".{path.name}")
    figure.savefig(beside, dpi=120, format="png")
    pyplot.close(figure)
    beside.replace(path)
