"""The plot of a run: loss and validation metrics against rounds."""

import pathlib
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def plot_run(records: list[dict[str, Any]], title: str, path: pathlib.Path) -> None:
    """Draws loss a round on the left, and validation HR@10 and NDCG@10 beside popularity's and test's on the right.

    Args:
        records: Lines of `metrics.jsonl`.
        title: Over both.
        path: A PNG file, written beside and renamed.
    """
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 4), layout="constrained")
    figure.suptitle(title)
    rounds = [record for record in records if "loss" in record]
    left.plot([record["round"] for record in rounds], [record["loss"] for record in rounds], color="0.2", linewidth=1)
    left.set(xlabel="round", ylabel="training loss (nats)")
    looks = [record for record in records if "validation" in record]
    for name, label, style in (("hit_rate_10", "HR@10", "-o"), ("ndcg_10", "NDCG@10", "--s")):
        values = [100 * record["validation"][name] for record in looks]
        (line,) = right.plot(
            [record["round"] for record in looks], values, style, markersize=3, label=f"{label}, validation"
        )
        for record in records:
            if "test" in record:
                right.axhline(
                    100 * record["popularity"][name],
                    color=line.get_color(),
                    linestyle=":",
                    label=f"{label}, popularity, test",
                )
                right.plot(
                    record["best_round"],
                    100 * record["test"][name],
                    "*",
                    color=line.get_color(),
                    markersize=12,
                    markeredgecolor="black",
                    label=f"{label}, test",
                )
    right.set(xlabel="round", ylabel="full ranking (%)", ylim=(0, None))
    if looks:
        figure.legend(loc="outside right upper", fontsize="small")
    save(figure, path)


def save(figure: Any, path: pathlib.Path) -> None:
    """Writes a figure beside and renames it."""
    beside = path.with_name(f".{path.name}")
    figure.savefig(beside, dpi=120, format="png")
    pyplot.close(figure)
    beside.replace(path)
