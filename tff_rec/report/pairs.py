"""Paired tests of a table's methods against its first, by bootstrap over test users, kept in `paired.json`.

A pair's draws take the same users for both methods. Of rankings a user counts with the mean over the seeds; of ratings,
of which every seed has a split of its own, with all test ratings of the seeds that both methods have. What was tested
before is not tested again, and a test of results that have changed since is not shown.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from tff_rec.evaluation import bootstrap
from tff_rec.report.groups import Group, Row
from tff_rec.report.metrics import main_metric

PAIRS_FILE = "paired.json"
_GAINS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "hit_rate_10": lambda ranks: ranks <= 10,
    "hit_rate_20": lambda ranks: ranks <= 20,
    "ndcg_10": lambda ranks: np.where(ranks <= 10, 1 / np.log2(1.0 + ranks), 0.0),
    "mrr": lambda ranks: np.where(ranks == np.iinfo(ranks.dtype).max, 0.0, 1 / ranks),
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """A method less the first one, in a metric's own unit and relative to the first.

    Attributes:
        of: Fingerprint of both methods' results.
        value: Difference of means over seeds.
        low: Of its 95 % interval.
        high: Of its 95 % interval.
        relative: Value, low and high over the first method's mean, as shares of 1; None where that is 0.
        p_value: Two-sided, that there is no difference.
        number: Users drawn.
    """

    of: str
    value: float
    low: float
    high: float
    relative: tuple[float, float, float] | None
    p_value: float
    number: int


Pairs = dict[str, Pair]


def compare(groups: Sequence[Group], folder: pathlib.Path) -> Pairs:
    """All pairs that can be tested, by `name_of`.

    Args:
        groups: Of all tables.
        folder: The study's, with `ranks/` and `errors/`; without these only the tests of `paired.json` are there.
    """
    before = _read(folder / PAIRS_FILE)
    found: Pairs = {}
    for group in (group for group in groups if group.table.kind == "table"):
        for row in group.done[1:] if group.rows and group.rows[0].results else ():
            name, first = name_of(group, row), group.rows[0]
            of = hashlib.sha256(f"{first.fingerprint}{row.fingerprint}{bootstrap.RESAMPLES}".encode()).hexdigest()
            pair = before.get(name)
            if pair is None or pair.of != of:
                pair = _test(folder, first, row, main_metric(group.table.metrics), of)
            if pair is not None:
                found[name] = pair
    return found


def as_json(pairs: Pairs) -> str:
    """The contents of `paired.json`."""
    return json.dumps({name: dataclasses.asdict(pair) for name, pair in pairs.items()}, indent=1) + "\n"


def name_of(group: Group, row: Row) -> str:
    """The name of a row's test, of no other row in the study."""
    return f"{group.name}: {row.cells[0].method}"


def _read(path: pathlib.Path) -> Pairs:
    if not path.is_file():
        return {}
    try:
        return {name: Pair(**values) for name, values in json.loads(path.read_text(encoding="utf-8")).items()}
    except (json.JSONDecodeError, TypeError, AttributeError):
        return {}  # Not this version's: tested anew.


def _test(folder: pathlib.Path, first: Row, row: Row, metric: str, of: str) -> Pair | None:
    if metric in _GAINS:
        sums, statistic = _gains(folder, first, row, _GAINS[metric]), _percent
    elif metric == "rmse":
        sums, statistic = _errors(folder, first, row), _root
    else:
        return None
    return None if sums is None else _bootstrap(sums, statistic, of)


def _percent(means: np.ndarray) -> np.ndarray:
    return 100 * means


def _root(means: np.ndarray) -> np.ndarray:
    return np.sqrt(means)


def _gains(folder: pathlib.Path, first: Row, row: Row, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
    """Each user's gains by both methods, means over seeds, and 1: float64 [users, 3]; None without the same users."""
    columns = []
    for one in (first, row):
        paths = [folder / "ranks" / f"{result.key}.npy" for result in one.results]
        if not all(path.is_file() for path in paths):
            return None
        ranks = [np.load(path) for path in paths]
        if len({len(of_seed) for of_seed in ranks}) > 1:
            return None
        columns.append(np.mean([gain(of_seed) for of_seed in ranks], axis=0))
    same = len(columns[0]) == len(columns[1])
    return np.stack([*columns, np.ones(len(columns[0]))], axis=1) if same else None


def _errors(folder: pathlib.Path, first: Row, row: Row) -> np.ndarray | None:
    """Each user's squared errors by both methods, and ratings: float64 [users, 3], sums over the seeds both have."""
    before = {cell.seed: cell.key for cell in first.cells}
    names = [(before[cell.seed], cell.key) for cell in row.cells if cell.seed in before]
    errors, owners = [], []
    for pair in names:
        paths = [folder / "errors" / f"{key}.npy" for key in pair]
        if not all(path.is_file() for path in paths):
            continue
        loaded = [np.load(path).astype(np.float64) for path in paths]
        owned = np.load(folder / "owners" / f"{pair[1]}.npy")
        if not len(loaded[0]) == len(loaded[1]) == len(owned):
            return None
        errors.append(np.stack([*loaded, np.ones(len(owned))], axis=1))
        owners.append(owned)
    return _sums_of_users(np.concatenate(errors), np.concatenate(owners)) if errors else None


def _sums_of_users(values: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Rows of values [n, columns] added up by owner; each -1, unknown, is somebody else."""
    _, user = np.unique(np.where(owners < 0, -1 - np.arange(len(owners)), owners), return_inverse=True)
    return np.stack([np.bincount(user, column) for column in values.T], axis=1)


def _bootstrap(sums: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], of: str) -> Pair:
    """The second column less the first, of a statistic of means over users; the third column counts."""

    def metric(total: np.ndarray) -> np.ndarray:
        return statistic(total[..., :1] / total[..., 1:])

    def change(total: np.ndarray) -> np.ndarray:
        first, second = metric(total[..., [0, 2]]), metric(total[..., [1, 2]])
        return second / first - 1

    difference = bootstrap.differences(sums[:, [1, 2]], sums[:, [0, 2]], metric)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = bootstrap.intervals(sums, change)[0]
    relative = (share.value, share.low, share.high)
    return Pair(
        of=of,
        value=difference.value,
        low=difference.low,
        high=difference.high,
        relative=relative if np.isfinite(relative).all() else None,
        p_value=difference.p_value,
        number=len(sums),
    )
