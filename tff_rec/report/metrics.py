"""How metrics are called and which way they are better; units of bytes."""

import dataclasses
from collections.abc import Collection


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric to print: its label, unit ("" for none), digits after the point, and whether more is better."""

    label: str
    unit: str
    digits: int
    more_is_better: bool

    @property
    def axis(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def number(self, value: float) -> str:
        """A value with the metric's digits."""
        return f"{value:.{self.digits}f}".replace("-", "−")


_KNOWN = {
    "ndcg_10": Metric("NDCG@10", "%", 2, True),
    "hit_rate_10": Metric("HR@10", "%", 2, True),
    "hit_rate_20": Metric("HR@20", "%", 2, True),
    "mrr": Metric("MRR", "%", 2, True),
    "rmse": Metric("RMSE", "", 4, False),
    "mse": Metric("MSE", "", 4, False),
    "mae": Metric("MAE", "", 4, False),
    "ndcg": Metric("NDCG", "", 4, True),
}


def metric(name: str) -> Metric:
    """The metric of a name; one that is not known keeps its name, and more of it is better."""
    return _KNOWN.get(name, Metric(name, "", 4, True))


def main_metric(names: Collection[str]) -> str:
    """The metric that tests and pictures are about: NDCG@10 or RMSE where it is there, else the first."""
    return next((name for name in ("ndcg_10", "rmse") if name in names), next(iter(names)))


def byte_unit(largest: float) -> tuple[float, str]:
    """The unit in which a number of bytes is read easily: its size and name."""
    units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
    return next((size, name) for size, name in units if largest >= size or size == 1)
