"""The grid of attacks as files: JSON with everything, a table in CSV and Markdown, and a heat map."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
from matplotlib import pyplot

from tff_rec.evaluation.attack_grid import Row
from tff_rec.evaluation.attack_scores import Score
from tff_rec.evaluation.bootstrap import Interval
from tff_rec.evaluation.poisoning import Exposure

Grid = Mapping[str, Row]
_CMAP = "Greys"
_DARK = 0.75


def write(folder: pathlib.Path, grid: Grid, poisoned: Mapping[str, Exposure], protocol: Mapping[str, object]) -> str:
    """Writes attacks.json, attacks.csv, attacks.md and attacks.png.

    Args:
        folder: To write to; it is there.
        grid: Scores by protection and attack.
        poisoned: A target's standing by kind of mean.
        protocol: How all was measured.

    Returns:
        The Markdown.
    """
    record = {
        "protocol": dict(protocol),
        "grid": {
            name: {attack: dataclasses.asdict(score) for attack, score in row.items()} for name, row in grid.items()
        },
        "poisoning": {name: dataclasses.asdict(standing) for name, standing in poisoned.items()},
    }
    (folder / "attacks.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    as_table(grid).to_csv(folder / "attacks.csv", index=False)
    text = markdown(grid, poisoned, protocol)
    (folder / "attacks.md").write_text(text)
    heat_map(grid, folder / "attacks.png", ", ".join(f"{name} {value}" for name, value in list(protocol.items())[:3]))
    return text


def as_table(grid: Grid) -> pd.DataFrame:
    """A line for each protection and attack: AUC, F1 and TPR at 1 % FPR with their intervals, and the floor of F1."""
    lines = []
    for protection, row in grid.items():
        for attack, score in row.items():
            line: dict[str, object] = {"protection": protection, "attack": attack, "f1_floor": score.f1_floor}
            for name in ("auc", "f1", "tpr"):
                interval = getattr(score, name)
                line |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
            lines.append(line | {"users": score.users})
    return pd.DataFrame(lines)


def markdown(grid: Grid, poisoned: Mapping[str, Exposure], protocol: Mapping[str, object]) -> str:
    """The tables of AUC, of F1 against its floor, of TPR at 1 % FPR, and of poisoning."""
    parts = ["; ".join(f"{name}: {value}" for name, value in protocol.items()) + "."]
    parts.append("AUC, 95 % interval over users; “–” where the server sees nothing to guess from:")
    parts.append(_pivot(grid, lambda score: _cell(score.auc)))
    parts.append("F1 (floor of saying yes to everything):")
    parts.append(_pivot(grid, lambda score: f"{score.f1.value:.2f} ({score.f1_floor:.2f})"))
    parts.append("TPR at 1 % FPR:")
    parts.append(_pivot(grid, lambda score: _cell(score.tpr)))
    parts.append("Poisoning, HR@10 and mean rank of the target with users who do not have it:")
    lines = [[name, f"{100 * one.hit_rate_10:.1f} %", f"{one.mean_rank:.0f}"] for name, one in poisoned.items()]
    parts.append(_markdown_table(["mean over the cohort", "HR@10", "mean rank"], lines))
    return "\n\n".join(parts) + "\n"


def heat_map(grid: Grid, path: pathlib.Path, title: str) -> None:
    """AUC in shades of grey with the number in each cell, so that it can be read without colour.

    Args:
        grid: Scores by protection and attack.
        path: A PNG file.
        title: Over it.
    """
    attacks, protections = _attacks(grid), list(grid)
    values = np.array([[grid[name][attack].auc.value for attack in attacks] for name in protections])
    figure, axes = pyplot.subplots(
        figsize=(2.5 + 0.85 * len(attacks), 2.2 + 0.42 * len(protections)), layout="constrained"
    )
    image = axes.imshow(values, cmap=_CMAP, vmin=0.5, vmax=1.0, aspect="auto")
    for row, name in enumerate(protections):
        for column, attack in enumerate(attacks):
            score = grid[name][attack]
            text = f"{score.auc.value:.2f}" if score.users else "–"
            color = "white" if values[row, column] > _DARK else "black"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    axes.set_xticks(range(len(attacks)), attacks, rotation=35, ha="right")
    axes.set_yticks(range(len(protections)), protections)
    axes.set_title(f"AUC of attacks; – : nothing to guess from\n{title}", fontsize=10)
    figure.colorbar(image, label="AUC (0.5 is a guess)")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _attacks(grid: Grid) -> list[str]:
    return list(next(iter(grid.values())))


def _pivot(grid: Grid, cell: Callable[[Score], str]) -> str:
    attacks = _attacks(grid)
    lines = [
        [name, *(cell(row[attack]) if row[attack].users else "–" for attack in attacks)] for name, row in grid.items()
    ]
    return _markdown_table(["protection", *attacks], lines)


def _cell(interval: Interval) -> str:
    return f"{interval.value:.2f} ({interval.low:.2f}–{interval.high:.2f})"


def _markdown_table(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
