"""What a comparison shows: a table in Markdown and JSON, paired tests of what tags give, and plots."""

import dataclasses
import itertools
import json
import statistics
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot

from tff_rec.evaluation import rating
from tff_rec.simulation import plots, rating_preparation, rating_report
from tff_rec.simulation.comparison import Cell
from tff_rec.simulation.comparison_config import CompareConfig, Method
from tff_rec.simulation.rating_preparation import PreparedRatings
from tff_rec.simulation.run_folder import RunFolder, write_text

_COLUMNS = {"rmse": "RMSE", "mse": "MSE", "mae": "MAE", "precision": "P@k", "recall": "R@k", "ndcg": "NDCG@k"}
_WITH: Method = "users"
_WITHOUT: Method = "users-untagged"
_REFERENCE = "centralised"
_LEVEL = 0.05
# Lines and marks that greyscale tells apart.
_STYLES = ("-o", "--s", ":^", "-.D", "-v", "--P", ":X", "-.*", "-<", "-->")


def write(config: CompareConfig, cells: Sequence[Cell], failures: Sequence[str], folder: RunFolder) -> str:
    """Writes `compare.md`, `compare.json` and the plots, and returns the Markdown.

    Args:
        config: The comparison.
        cells: What is done.
        failures: What is not, in words.
        folder: Where to.
    """
    tests = tag_tests(config, cells)
    text = markdown(config, cells, failures, tests)
    write_text(folder.path / "compare.md", text)
    parts = [{name: value for name, value in vars(cell).items() if name != "predictions"} for cell in cells]
    whole = {"cells": parts, "failures": list(failures), "tags": tests}
    write_text(folder.path / "compare.json", json.dumps(whole, indent=1))
    plot_curves(cells, folder)
    plot_silos(cells, folder)
    return text


def markdown(
    config: CompareConfig, cells: Sequence[Cell], failures: Sequence[str], tests: Sequence[dict[str, Any]]
) -> str:
    """Means and standard deviations over seeds, of all test ratings and of groups."""
    k = config.evaluation.k
    protocol = f"{config.data.source}, random 80/10/10 per rating, test; mean ± standard deviation over seeds"
    lines = [f"# {protocol}; k = {k}, {config.of_silos(config.seed).clients} silos, {config.silos}", ""]
    lines += _rows(["method", *_COLUMNS.values(), "RMSE to centralised", "MB a client"])
    reference = {cell.seed: _value(cell, "all", "rmse") for cell in cells if cell.method == _REFERENCE}
    for method in _methods(cells):
        own = [cell for cell in cells if cell.method == method]
        values = {name: [_value(cell, "all", name) for cell in own] for name in _COLUMNS}
        ratios = [_value(cell, "all", "rmse") / reference[cell.seed] for cell in own if cell.seed in reference]
        away = f"{100 * (statistics.mean(ratios) - 1):+.2f} %" if ratios else "–"
        sent = [max(look["bytes"] for look in cell.curve) / 1e6 for cell in own if cell.curve]
        traffic = f"{statistics.mean(sent):.1f}" if any(sent) else "–"
        lines.append(_row([method, *(_spread(values[name]) for name in _COLUMNS), away, traffic]))
    lines += ["", "## RMSE of some ratings", ""]
    groups = list(dict.fromkeys(group for cell in cells for group in cell.scores if group != "all"))
    lines += _rows(["method", *groups])
    for method in _methods(cells):
        own = [cell for cell in cells if cell.method == method]
        found = [[_value(cell, group, "rmse") for cell in own if group in cell.scores] for group in groups]
        lines.append(_row([method, *(_spread(values) if values else "–" for values in found)]))
    lines += _tag_lines(tests)
    if failures:
        lines += ["", "## Failed", "", *(f"- {failure}" for failure in failures)]
    return "\n".join([*lines, ""])


def tag_tests(config: CompareConfig, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Paired differences of RMSE with and without tags, over all ratings and `_tag_groups`."""
    found: list[dict[str, Any]] = []
    by_name = {(cell.method, cell.seed): cell.predictions for cell in cells}
    for seed in range(config.seed, config.seed + config.seeds):
        if (_WITH, seed) not in by_name or (_WITHOUT, seed) not in by_name:
            continue
        prepared = rating_preparation.prepare(config.of_silos(seed))
        test, tagged = prepared.test, rating_report.tagged(prepared)
        for group, rows in _tag_groups(prepared).items():
            if not rows.any():
                continue
            difference = rating.compare(
                test.users[rows],
                by_name[_WITH, seed][rows],
                by_name[_WITHOUT, seed][rows],
                test.ratings[rows],
                k=config.evaluation.k,
                seed=seed,
                resamples=config.evaluation.resamples,
            )["rmse"]
            about = {"seed": seed, "group": group, "ratings": int(rows.sum()), "tagged": float(tagged[rows].mean())}
            found.append(about | dataclasses.asdict(difference))
    return found


def _tag_groups(prepared: PreparedRatings) -> dict[str, np.ndarray]:
    """Which test ratings belong to a group, bool [ratings], by the group's name."""
    ways = [way for way in rating_report.test_groups(prepared) if "items" in way.names[0]]
    groups = {"all": np.ones(len(prepared.test.ratings), dtype=bool)}
    groups |= {name: way.of == number for way in ways for number, name in enumerate(way.names)}
    least = max(rating_report.ITEM_THRESHOLDS)
    cold = np.append(prepared.popularity, 0)[prepared.test.items] < least  # Item -1, unknown, has no ratings.
    return groups | {f"items with tags, under {least} training ratings": cold & (rating_report.tagged(prepared) > 0)}


def _tag_lines(tests: Sequence[dict[str, Any]]) -> list[str]:
    """The paired tests as a table, and in words where tags help."""
    if not tests:
        return []
    lines = ["", f"## What tags give: RMSE of {_WITH} less {_WITHOUT}, paired over users", ""]
    lines += _rows(["seed", "ratings", "number", "of items with tags", "difference (95 %)", "p"])
    for test in tests:
        words = f"{test['value']:+.5f} ({test['low']:+.5f} to {test['high']:+.5f})"
        first = [str(test["seed"]), test["group"], str(test["ratings"]), f"{test['tagged']:.0%}"]
        lines.append(_row([*first, words, f"{test['p_value']:.3f}"]))
    lines.append("")
    for group in dict.fromkeys(test["group"] for test in tests):
        own = [test for test in tests if test["group"] == group]
        better = sum(test["value"] < 0 and test["p_value"] < _LEVEL for test in own)
        worse = sum(test["value"] > 0 and test["p_value"] < _LEVEL for test in own)
        share = statistics.mean(test["tagged"] for test in own)
        mean = statistics.mean(test["value"] for test in own)
        lines.append(
            f"- {group}: tags lower RMSE in {better} of {len(own)} seeds, raise it in {worse} (p < {_LEVEL}), mean "
            f"difference {mean:+.4f}; {share:.0%} of these ratings are of items with tags."
        )
    return lines


def plot_curves(cells: Sequence[Cell], folder: RunFolder) -> None:
    """`curves.png`: validation RMSE of the first seed against rounds, and against bytes of a client; none, no file."""
    trained = [cell for cell in cells if cell.curve]
    if not trained:
        return
    first = min(cell.seed for cell in trained)
    figure, (by_round, by_bytes) = pyplot.subplots(1, 2, figsize=(14, 4.5), layout="constrained", sharey=True)
    for style, cell in zip(itertools.cycle(_STYLES), (cell for cell in trained if cell.seed == first)):
        rmse = [look["rmse"] for look in cell.curve]
        by_round.plot([look["round"] for look in cell.curve], rmse, style, markersize=4, label=cell.method)
        if cell.curve[-1]["bytes"]:
            by_bytes.plot([look["bytes"] / 1e6 for look in cell.curve], rmse, style, markersize=4)
    by_round.set(xlabel="round", ylabel=f"validation RMSE, seed {first}", xscale="log")
    by_bytes.set(xlabel="MB received and sent by a client that takes part in every round", xscale="log")
    figure.legend(loc="outside right upper", fontsize="small")
    plots.save(figure, folder.path / "curves.png")


def plot_silos(cells: Sequence[Cell], folder: RunFolder) -> None:
    """`silos.png`: test RMSE by silo, a mark a method, means over seeds; the axis does not begin at 0."""
    methods = _methods(cells)
    silos = sorted({group for cell in cells for group in cell.scores if group.startswith("silo ")})
    if not silos:
        return
    figure, axes = pyplot.subplots(figsize=(11, 4.5), layout="constrained")
    offsets = np.linspace(-0.3, 0.3, len(methods))
    for style, offset, method in zip(itertools.cycle(_STYLES), offsets, methods):
        own = [cell for cell in cells if cell.method == method]
        values = [statistics.mean(_value(cell, silo, "rmse") for cell in own) for silo in silos]
        axes.plot(np.arange(len(silos)) + offset, values, style[-1], label=method)
    axes.set_xticks(np.arange(len(silos)), silos)
    axes.set(ylabel="test RMSE, mean over seeds")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    plots.save(figure, folder.path / "silos.png")


def _methods(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.method for cell in cells))


def _value(cell: Cell, group: str, metric: str) -> float:
    value = cell.scores[group][metric]["value"]
    return float("nan") if value is None else float(value)


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def _row(parts: Sequence[str]) -> str:
    return f"| {' | '.join(parts)} |"


def _rows(header: Sequence[str]) -> list[str]:
    return [_row(header), _row(["---"] * len(header))]
