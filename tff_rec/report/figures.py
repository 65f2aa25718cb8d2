"""A study's pictures: small, so that a telephone shows them as well as a page does, several beside each other.

Colours are Okabe and Ito's (2008), which the colour-blind tell apart; each method has a mark and a line of its own too,
so that greyscale does. Legends stand under the axes, never on data.
"""

import dataclasses
import io
import itertools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot, ticker

from tff_rec.evaluation.bootstrap import Interval
from tff_rec.report.groups import Group, Row
from tff_rec.report.metrics import byte_unit, main_metric, metric

_WIDTH, _HEIGHT, _LINE = 4.2, 2.9, 0.17  # Inches: of a picture, of its axes, of a line of its legend.
_DPI = 200
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINES = ("-", "--", "-.", ":")
_MARKS = "osD^vPX*<>"


@dataclasses.dataclass(frozen=True)
class Style:
    """How a method is drawn, in every picture of its group."""

    color: str
    line: str
    mark: str


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """A style a label; the first ten differ in mark, and neighbours in all three."""
    cycles = zip(itertools.cycle(_COLOURS), itertools.cycle(_LINES), itertools.cycle(_MARKS))
    return {label: Style(*parts) for label, parts in zip(dict.fromkeys(labels), cycles, strict=False)}


def intervals(group: Group) -> bytes | None:
    """Test result of each method with its 95 % interval, published ones hollow; None where there is none."""
    name = main_metric(group.table.metrics)
    own = [(row.label, mean) for row in group.recommenders if (mean := row.mean(name)) is not None]
    others = [(f"published: {one.label}", one.values[name]) for one in group.published if name in one.values]
    if not own:
        return None
    labels = [textwrap.fill(_short(label, 54), 27) for label, _ in (*own, *others)]
    figure, axes = pyplot.subplots(figsize=(_WIDTH, 0.8 + 0.38 * len(labels)), layout="constrained")
    places = range(len(labels))
    _bars(axes.errorbar, [mean for _, mean in own], list(places)[: len(own)])
    if others:
        axes.plot([value for _, value in others], list(places)[len(own) :], "D", color="0.35", markerfacecolor="white")
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.5 / len(labels))
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(f"test {metric(name).axis}")
    return _png(figure)


def curves(group: Group, along: str) -> bytes | None:
    """Validation against `round`, `bytes_per_device` or `seconds`, a line a seed; None where nothing is trained so."""
    rows = [row for row in group.done if any(_looks(result.curve, along) for result in row.results)]
    if not rows:
        return None
    first = next(look for row in rows for result in row.results for look in _looks(result.curve, along))
    name = main_metric([key for key in first if key not in ("round", "seconds", "bytes_per_device")])
    looks = {id(result): _looks(result.curve, along) for row in rows for result in row.results}
    scale, label = _AXES[along](max(look[along] for own in looks.values() for look in own))
    figure, axes = pyplot.subplots(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    looking = styles([row.label for row in group.rows])
    for row in rows:
        style = looking[row.label]
        for number, result in enumerate(row.results):
            own = [look for look in looks[id(result)] if name in look]
            axes.plot(
                [look[along] / scale for look in own],
                [look[name] for look in own],
                color=style.color,
                linestyle=style.line,
                marker=style.mark,
                markersize=4,
                markevery=max(1, len(own) // 8),
                linewidth=1.2,
                label=_short(row.label) if number == 0 else None,
            )
    if along == "round":
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.set(xlabel=label, ylabel=f"validation {metric(name).axis}")
    axes.grid(alpha=0.3)
    _legend(figure)
    return _png(figure)


def sweep(group: Group) -> bytes | None:
    """Test result against the sweep's axis, a line a method; a cell beyond the axis' end is a horizontal line."""
    name = main_metric(group.table.metrics)
    found = [(row, row.x, mean) for row in group.done if row.x is not None and (mean := row.mean(name)) is not None]
    if not found:
        return None
    x = found[0][1]
    series = series_of([row for row, _, _ in found])
    labels = list(dict.fromkeys(series.values()))
    figure, axes = pyplot.subplots(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    for label, style in styles(labels).items():
        own = [(at.value, mean) for row, at, mean in found if series[id(row)] == label]
        inside = [(value, mean) for value, mean in own if value is not None]
        inside.sort(key=lambda pair: (isinstance(pair[0], str), pair[0] if not isinstance(pair[0], str) else 0))
        _line(axes, [value for value, _ in inside], [mean for _, mean in inside], style, label)
        for mean in (mean for value, mean in own if value is None):
            axes.axhline(mean.value, color=style.color, linestyle=style.line, alpha=0.6, label=f"{label}, no limit")
    numbers = [at.value for _, at, _ in found if isinstance(at.value, int | float)]
    _spread_out(axes, numbers)
    if numbers and len(set(numbers)) <= 8:
        axes.set_xticks(sorted(set(numbers)), [f"{value:g}" for value in sorted(set(numbers))])
        axes.minorticks_off()
    axes.set(xlabel=x.axis, ylabel=f"test {metric(name).axis}")
    axes.grid(alpha=0.3)
    _legend(figure)
    return _png(figure)


def against(group: Group, values: Mapping[str, float], along: str) -> bytes | None:
    """Test result of methods against a number that each has; None where fewer than two have one.

    Args:
        group: The methods.
        values: The number, by label of the method.
        along: `traffic` (bytes of a device and round) or `epsilon`.
    """
    name = main_metric(group.table.metrics)
    rows = [row for row in group.done if row.label in values and row.mean(name) is not None]
    if len(rows) < 2:
        return None
    scale, label = _AXES[along](max(values[row.label] for row in rows))
    figure, axes = pyplot.subplots(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    looking = styles([row.label for row in group.rows])
    for row in rows:
        mean = row.mean(name)
        assert mean is not None
        style = dataclasses.replace(looking[row.label], line="")
        _line(axes, [values[row.label] / scale], [mean], style, row.label)
    _spread_out(axes, [values[row.label] / scale for row in rows])
    axes.set(xlabel=label, ylabel=f"test {metric(name).axis}")
    axes.margins(x=0.1)
    axes.grid(alpha=0.3)
    _legend(figure)
    return _png(figure)


def buckets(
    group: Group, labels: Sequence[str], values: Mapping[str, Mapping[str, float]], name: str, axis: str
) -> bytes:
    """A metric in each bucket, a line a method.

    Args:
        group: The methods.
        labels: Of the buckets.
        values: By label of the method, then by label of the bucket.
        name: Of the metric.
        axis: What the buckets are of.
    """
    figure, axes = pyplot.subplots(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    looking = styles([row.label for row in group.rows])
    for row, own in values.items():
        style = looking[row]
        places = [place for place, label in enumerate(labels) if label in own]
        axes.plot(
            places,
            [own[labels[place]] for place in places],
            color=style.color,
            linestyle=style.line,
            marker=style.mark,
            markersize=5,
            linewidth=1.2,
            label=_short(row),
        )
    axes.set_xticks(range(len(labels)), [textwrap.fill(label, 12) for label in labels], fontsize=8)
    axes.set(xlabel=axis, ylabel=f"test {metric(name).axis}")
    axes.grid(alpha=0.3)
    _legend(figure)
    return _png(figure)


def series_of(rows: Sequence[Row]) -> dict[int, str]:
    """The line that a sweep's row belongs to, by `id`: its label where labels repeat over the axis, else its method."""
    repeated = len({row.label for row in rows}) < len(rows)
    return {id(row): row.label if repeated else row.cells[0].method for row in rows}


def _looks(curve: Sequence[Mapping[str, float]], along: str) -> list[Mapping[str, float]]:
    """The looks that tell it; none where it is 0 all along, such as bytes of training in one place."""
    looks = [look for look in curve if look.get(along) is not None]
    return looks if any(look[along] for look in looks) else []


def _rounds(largest: float) -> tuple[float, str]:
    return 1.0, "round"


def _seconds(largest: float) -> tuple[float, str]:
    return 1.0, "seconds of training on this machine (s)"


def _epsilon(largest: float) -> tuple[float, str]:
    return 1.0, "ε of a user"


def _traffic(largest: float) -> tuple[float, str]:
    scale, unit = byte_unit(largest)
    return scale, f"received and sent by a device in a round ({unit})"


def _bytes(largest: float) -> tuple[float, str]:
    scale, unit = byte_unit(largest)
    return scale, f"received and sent by the mean device ({unit})"


_AXES: dict[str, Callable[[float], tuple[float, str]]] = {
    "round": _rounds,
    "bytes_per_device": _bytes,
    "seconds": _seconds,
    "traffic": _traffic,
    "epsilon": _epsilon,
}


def _line(axes: Any, values: Sequence[Any], means: Sequence[Interval], style: Style, label: str) -> None:
    """Points with intervals on a line."""
    if values:
        errors = [[mean.value - mean.low for mean in means], [mean.high - mean.value for mean in means]]
        axes.errorbar(
            values,
            [mean.value for mean in means],
            yerr=errors,
            color=style.color,
            linestyle=style.line,
            marker=style.mark,
            markersize=5,
            linewidth=1.2,
            capsize=2.5,
            label=_short(label),
        )


def _bars(draw: Callable[..., Any], means: Sequence[Interval], places: Sequence[int]) -> None:
    errors = [[mean.value - mean.low for mean in means], [mean.high - mean.value for mean in means]]
    draw([mean.value for mean in means], places, xerr=errors, fmt="o", color="black", capsize=3, markersize=5)


def _spread_out(axes: Any, numbers: Sequence[float]) -> None:
    """A logarithmic axis where the numbers span more than a factor of ten, linear around 0 where one is 0."""
    positive = [number for number in numbers if number > 0]
    if positive and max(positive) / min(positive) > 10:
        if len(positive) == len(numbers):
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=10 ** math.floor(math.log10(min(positive))))


def _short(label: str, width: int = 60) -> str:
    return textwrap.shorten(label, width, placeholder=" …")


def _legend(figure: Any) -> None:
    """A legend under the axes, for which the picture grows."""
    legend = figure.legend(loc="outside lower center", fontsize=8, frameon=False, handlelength=3.5)
    figure.set_figheight(_HEIGHT + _LINE * len(legend.texts))


def _png(figure: Any) -> bytes:
    """The file; the same figure gives the same bytes."""
    file = io.BytesIO()
    figure.savefig(file, dpi=_DPI, format="png", metadata={"Software": None})
    pyplot.close(figure)
    return file.getvalue()
