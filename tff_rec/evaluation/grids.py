"""What validation chooses from for recommenders fitted in one place. Imports nothing heavy: studies are read by these.

A grid has as many settings as were tried of the two-tower models, or more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Grid = Mapping[str, Sequence[Any]]

GRIDS: Mapping[str, Grid] = {
    "item-knn": {"similarity": ("cosine", "tf-idf"), "neighbours": (5, 10, 20, 50, 200, 1000)},
    "ease": {"penalty": (30.0, 100.0, 200.0, 400.0, 800.0, 1600.0)},
    "ials": {"factors": (32, 128), "penalty": (0.3, 3.0, 10.0, 30.0), "weight": (0.3, 1.0, 5.0, 30.0)},
    "bpr": {"factors": (32, 64), "penalty": (0.01, 0.1), "learning_rate": (0.02, 0.05), "passes": (50, 150)},
}
