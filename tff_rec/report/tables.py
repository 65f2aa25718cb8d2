"""A group of rows as tables: test metrics with what others published, and who pays for federation."""

from collections.abc import Sequence
from typing import Any

from tff_rec.evaluation.rating import Interval
from tff_rec.report import pairs
from tff_rec.report.document import Grid, Text
from tff_rec.report.groups import Group, Row
from tff_rec.report.metrics import Metric, main_metric, metric
from tff_rec.report.pairs import Pair, Pairs
from tff_rec.report.study import Published

BUCKETS = {"popularity": "popularity of the held-out item", "activity": "length of the user's history"}
_PROTOCOLS = {
    "loo-full": "LOO-full (last interaction held out, ranked among all items the user has not met)",
    "loo-99": "LOO+99 (last interaction held out, ranked among 99 given negatives)",
    "loo+99": "LOO+99 (last interaction held out, ranked among 99 given negatives)",
    "held-out-users": "held-out users (in no round; judged from the history they bring)",
    "rating": "random 80/10/10 of each user's ratings",
}


def protocol_of(group: Group) -> str:
    """Data set and protocol, to stand with every table and picture."""
    return f"{group.data}, {_PROTOCOLS.get(group.protocol, group.protocol)}, test"


def results_grid(group: Group, tested: Pairs) -> Grid:
    """Methods × metrics, the difference to the first method, and published rows under them."""
    names, first = group.table.metrics, group.rows[0] if group.rows else None
    about = main_metric(names)
    head = ["method", *(metric(name).axis for name in names)]
    if first is not None:
        head += [f"{metric(about).label} against {first.label}", "seeds"]
    if _points(group):
        head.insert(1, _points(group))
    best = {name: _best(group.done, name) for name in names}
    rows = [_result_row(group, row, tested, best) for row in group.rows]
    rows += [_published_row(group, one) for one in group.published]
    return Grid(group.table.title, protocol_of(group), group.table.caption, tuple(head), tuple(rows))


def buckets_grid(group: Group, way: str) -> Grid | None:
    """Quality by `popularity` or `activity`, means over seeds; None where no result has it."""
    rows = [row for row in group.done if any(result.buckets.get(way) for result in row.results)]
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
    title = f"{metric(name).axis} by {BUCKETS[way]}"
    return Grid(title, protocol_of(group), "Means over seeds.", ("method", *labels), tuple(lines))


def catalogue_grid(group: Group) -> Grid | None:
    """Coverage and popularity bias, means over seeds; None where no result has them."""
    ways = {"coverage": "coverage (share of the catalogue in top-10 lists)", "popularity_bias": "popularity percentile"}
    rows = [row for row in group.done if any(_extra(row, name) for name in ways)]
    if not rows:
        return None
    lines = []
    for row in rows:
        found = [_extra(row, name) for name in ways]
        texts = (Text(f"{100 * sum(values) / len(values):.1f} %") if values else _MISSING for values in found)
        lines.append((Text(row.label), *texts))
    caption = "Means over seeds; the percentile is of the recommended items, 100 % is the most popular one."
    return Grid("Coverage and popularity bias", protocol_of(group), caption, ("method", *ways.values()), tuple(lines))


def bucket_labels(rows: Sequence[Row], way: str) -> list[str]:
    """The buckets' labels, in the order of the results."""
    found = (one["label"] for row in rows for result in row.results for one in result.buckets.get(way, ()))
    return [str(label) for label in dict.fromkeys(found)]


def bucket_metric(rows: Sequence[Row], way: str, wanted: str) -> str:
    """The metric that buckets are shown by: the wanted one where they have it, else their first."""
    one: dict[str, Any] = next(
        dict(bucket) for row in rows for result in row.results for bucket in result.buckets.get(way, ())
    )
    return wanted if wanted in one else next(name for name in one if name not in ("label", "users"))


def bucket_values(row: Row, way: str, name: str) -> dict[str, float]:
    """A number of each bucket, mean over seeds, by label."""
    found: dict[str, list[float]] = {}
    for result in row.results:
        for one in result.buckets.get(way, ()):
            if one.get(name) is not None:
                found.setdefault(str(one["label"]), []).append(float(one[name]))
    return {label: sum(values) / len(values) for label, values in found.items()}


def interval_text(of: Metric, interval: Interval) -> str:
    """Value, and bounds in brackets."""
    return f"{of.number(interval.value)} ({of.number(interval.low)} to {of.number(interval.high)})"


def pair_text(pair: Pair | None) -> str:
    """Relative difference with its interval, and p."""
    if pair is None:
        return "not tested"
    p = f"p = {pair.p_value:.3f}"
    if pair.relative is None:
        return f"{pair.value:+.4g} ({pair.low:+.4g} to {pair.high:+.4g}), {p}"
    value, low, high = (100 * share for share in pair.relative)
    return f"{value:+.1f} % ({low:+.1f} to {high:+.1f}), {p}"


_MISSING = Text("not measured", "missing")


def _points(group: Group) -> str:
    """The name and unit of a sweep's axis; "" where there is none."""
    x = next((row.x for row in group.rows if row.x is not None), None)
    if x is None:
        return ""
    return f"{x.name} ({x.unit})" if x.unit else x.name


def _best(rows: Sequence[Row], name: str) -> Row | None:
    found = [(mean.value, row) for row in rows if (mean := row.mean(name)) is not None]
    if len(found) < 2:
        return None
    pick = max if metric(name).more_is_better else min
    return pick(found, key=lambda pair: pair[0])[1]


def _result_row(group: Group, row: Row, tested: Pairs, best: dict[str, Row | None]) -> tuple[Text, ...]:
    texts = [Text(row.label)]
    if _points(group):
        texts.append(Text(point_text(row)))
    for name in group.table.metrics:
        mean = row.mean(name)
        if mean is not None:
            texts.append(Text(interval_text(metric(name), mean), "best" if best[name] is row else ""))
        else:
            texts.append(_MISSING if row.results else Text(row.state, "missing"))
    against = "–"
    if row is not group.rows[0]:
        against = pair_text(tested.get(pairs.name_of(group, row))) if row.results else row.state
    return (*texts, Text(against), Text(row.runs, "missing" if row.missing else ""))


def point_text(row: Row) -> str:
    """Where a row stands on a sweep's axis."""
    if row.x is None:
        return "–"
    if row.x.value is None:
        return "no limit"
    return row.x.value if isinstance(row.x.value, str) else f"{row.x.value:g}"


def _published_row(group: Group, one: Published) -> tuple[Text, ...]:
    numbers = [f"{one.values[name]:g}" if name in one.values else "–" for name in group.table.metrics]
    before, after = ["–"] * bool(_points(group)), ["–", "–"] if group.rows else []
    name = f"published: {one.label} ({one.source})"
    return tuple(Text(text, "published") for text in (name, *before, *numbers, *after))


def _extra(row: Row, name: str) -> list[float]:
    return [float(result.line[name]) for result in row.results if result.line.get(name) is not None]
