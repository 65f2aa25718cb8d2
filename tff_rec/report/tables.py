"""A group of rows as tables: test metrics with what others published, and who pays for federation."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from tff_rec.evaluation.bootstrap import Interval
from tff_rec.report import groups, pairs
from tff_rec.report.document import Grid, Text, Tone
from tff_rec.report.groups import Group, Row
from tff_rec.report.metrics import Metric, byte_unit, main_metric, metric
from tff_rec.report.pairs import Pair, Pairs
from tff_rec.report.study import Published

_BUCKETS = {"popularity": "interactions of the item in training", "activity": "interactions of the user in training"}
_PROTOCOLS = {
    "loo-full": "LOO-full (last interaction held out, ranked among all items the user has not met)",
    "loo-99": "LOO+99 (last interaction held out, ranked among 99 negatives)",
    "held-out-users": "held-out users (ratings of users of no round, from others that they bring)",
    "ratings": "ratings (random 80/10/10)",
}


def title_of(group: Group) -> str:
    """Data set and the protocol's short name."""
    return f"{group.data}, {_protocol(group.protocol).split(' (')[0]}"


def protocol_of(group: Group) -> str:
    """Data set, protocol and part of the data, to stand with every table and picture."""
    part = f"test, {group.table.group} only" if group.table.group else "test"
    return f"{group.data}, {_protocol(group.protocol)}, {part}"


def validation_of(data: str, protocol: str) -> str:
    """Data set and protocol of looks at validation, which rank the whole catalogue whatever test does."""
    return f"{data}, {_protocol('loo-full' if protocol == 'loo-99' else protocol)}, validation"


def results_grid(group: Group, tested: Pairs) -> Grid:
    """Methods × metrics, in a table the difference to its first row, and published rows under them."""
    names = group.table.metrics
    head = ["method", *([_points(group)] if _points(group) else []), *(metric(name).axis for name in names)]
    if _has_pairs(group):
        head.append(f"{metric(main_metric(names)).label} against the first row")
    head += _costs(group)
    if group.rows:
        head.append("seeds")
    best = {name: _best(group.recommenders, name) for name in names}
    rows = [_result_row(group, row, tested, best) for row in group.rows]
    rows += [_published_row(group, one) for one in group.published]
    return Grid(title_of(group), protocol_of(group), "", tuple(head), tuple(rows))


def buckets_grid(group: Group, way: str) -> Grid | None:
    """Quality by popularity, activity or another way to part, means over seeds; None where no result has it."""
    rows = rows_with_buckets(group, way)
    if not rows:
        return None
    name = bucket_metric(rows, way, main_metric(group.table.metrics))
    labels = bucket_labels(rows, way)
    lines = []
    for row in rows:
        values = bucket_values(row, way, name)
        texts = (Text(metric(name).number(values[label])) if label in values else _MISSING for label in labels)
        lines.append((Text(row.label), *texts))
    users = bucket_values(rows[0], way, "users")
    counted = (Text(f"{users[label]:,.0f}" if label in users else "–") for label in labels)
    lines.append((Text("users", "published"), *counted))
    title = f"{title_of(group)}: {metric(name).axis} by {bucket_axis(way)}"
    return Grid(title, protocol_of(group), "Means over seeds.", ("method", *labels), tuple(lines), folded=True)


def catalogue_grid(group: Group) -> Grid | None:
    """Coverage and popularity bias, means over seeds; None where no result has them."""
    ways = {"coverage": "catalogue in top-10 lists (%)", "popularity_bias": "popularity percentile of what is in them"}
    scales = {"coverage": 100.0, "popularity_bias": 1.0}
    rows = [row for row in group.recommenders if any(_extra(row, name) for name in ways)]
    if not rows:
        return None
    lines = []
    for row in rows:
        found = [[scales[name] * value for value in _extra(row, name)] for name in ways]
        texts = (Text(f"{sum(values) / len(values):.1f}") if values else _MISSING for values in found)
        lines.append((Text(row.label), *texts))
    caption = "Means over seeds; lists drawn at random have percentile 50, those of the most popular items near 100."
    return Grid(
        f"{title_of(group)}: coverage and popularity bias",
        protocol_of(group),
        caption,
        ("method", *ways.values()),
        tuple(lines),
    )


def rows_with_buckets(group: Group, way: str) -> list[Row]:
    """Rows with a result that tells buckets apart."""
    return [row for row in group.recommenders if any(result.buckets.get(way) for result in row.results)]


def bucket_ways(found: Sequence[Group]) -> list[str]:
    """All ways in which results are parted."""
    return list(
        dict.fromkeys(way for group in found for row in group.done for one in row.results for way in one.buckets)
    )


def bucket_axis(way: str) -> str:
    """A way to part, in words."""
    return _BUCKETS.get(way, way)


def bucket_labels(rows: Sequence[Row], way: str) -> list[str]:
    """The buckets' labels, in the order of the results."""
    found = (one["label"] for row in rows for result in row.results for one in result.buckets.get(way, ()))
    return [str(label) for label in dict.fromkeys(found)]


def bucket_metric(rows: Sequence[Row], way: str, wanted: str) -> str:
    """The metric that buckets are shown by: the wanted one where they have it, else their first."""
    one: dict[str, Any] = next(
        dict(bucket) for row in rows for result in row.results for bucket in result.buckets.get(way, ())
    )
    return wanted if wanted in one else next(name for name in one if name not in ("label", "users", "ratings"))


def bucket_values(row: Row, way: str, name: str) -> dict[str, float]:
    """A number of each bucket, mean over seeds, by label."""
    found: dict[str, list[float]] = {}
    for result in row.results:
        for one in result.buckets.get(way, ()):
            if one.get(name) is not None:
                found.setdefault(str(one["label"]), []).append(float(one[name]))
    return {label: sum(values) / len(values) for label, values in found.items()}


def _interval_text(of: Metric, interval: Interval, tone: Tone) -> Text:
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    bounds = f"{of.number(interval.low)} to {of.number(interval.high)}" if known else "no interval"
    return Text(of.number(interval.value), tone, bounds)


def _pair_text(pair: Pair | None) -> Text:
    """Relative difference with its interval, and p."""
    if pair is None:
        return Text("not tested", "missing")
    p = f"p = {pair.p_value:.3f}"
    if pair.relative is None:
        return Text(_signed(pair.value, 4), "", f"{_signed(pair.low, 4)} to {_signed(pair.high, 4)}, {p}")
    value, low, high = (_signed(100 * share, 1) for share in pair.relative)
    return Text(f"{value} %", "", f"{low} to {high}, {p}")


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


_MISSING = Text("not measured", "missing")


def _protocol(name: str) -> str:
    return _PROTOCOLS.get(name, name)


def _points(group: Group) -> str:
    """The name and unit of a sweep's axis; "" where there is none."""
    return next((row.x.axis for row in group.rows if row.x is not None), "")


def _best(rows: Sequence[Row], name: str) -> Row | None:
    found = [(mean.value, row) for row in rows if (mean := row.mean(name)) is not None]
    if len(found) < 2:
        return None
    pick = max if metric(name).more_is_better else min
    return pick(found, key=lambda pair: pair[0])[1]


def _result_row(group: Group, row: Row, tested: Pairs, best: dict[str, Row | None]) -> tuple[Text, ...]:
    texts = [Text(row.label)]
    if _points(group):
        texts.append(Text(_point_text(row)))
    for name in group.table.metrics:
        mean = row.mean(name)
        if mean is not None:
            texts.append(_interval_text(metric(name), mean, "best" if best[name] is row else ""))
        else:
            texts.append(_MISSING if row.results else Text(row.state, "missing"))
    if _has_pairs(group):
        texts.append(_against(group, row, tested))
    texts += [Text(_COSTS[name](row)) for name in _costs(group)]
    return (*texts, Text(row.runs, "missing" if row.missing else ""))


def _bytes_text(row: Row) -> str:
    size = groups.bytes_per_round(row)
    if size is None:
        return "–"
    scale, unit = byte_unit(size)
    return f"{size / scale:.3g} {unit}"


def _epsilon_text(row: Row) -> str:
    epsilon = groups.epsilon(row)
    return "–" if epsilon is None else f"{epsilon:.3g}"


_COSTS: dict[str, Callable[[Row], str]] = {"traffic of a device and round": _bytes_text, "ε": _epsilon_text}


def _costs(group: Group) -> list[str]:
    """What some row of a group has been counted to cost."""
    return [name for name, text in _COSTS.items() if any(text(row) != "–" for row in group.done)]


def _against(group: Group, row: Row, tested: Pairs) -> Text:
    if row is group.rows[0]:
        return Text("–")
    return _pair_text(tested.get(pairs.name_of(group, row))) if row.results else Text(row.state, "missing")


def _has_pairs(group: Group) -> bool:
    """Whether a group's rows are tested against the first: a table's with more than one."""
    return group.table.kind == "table" and len(group.rows) > 1


def _point_text(row: Row) -> str:
    if row.x is None:
        return "–"
    if row.x.value is None:
        return "no limit"
    return row.x.value if isinstance(row.x.value, str) else f"{row.x.value:g}"


def _published_row(group: Group, one: Published) -> tuple[Text, ...]:
    numbers = [f"{one.values[name]:g}" if name in one.values else "–" for name in group.table.metrics]
    before, after = ["–"] * bool(_points(group)), ["–"] * (_has_pairs(group) + len(_costs(group)) + bool(group.rows))
    name = f"published: {one.label} ({one.source})"
    return tuple(Text(text, "published") for text in (name, *before, *numbers, *after))


def _extra(row: Row, name: str) -> list[float]:
    return [float(result.line[name]) for result in row.results if result.line.get(name) is not None]
