"""Recommenders fitted in one place, with the grids that validation chooses from: what federation is held against.

A grid has as many settings as were tried of the two-tower models, or more.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from scipy import sparse

from tff_rec.evaluation import bpr, ease, ials, item_knn
from tff_rec.evaluation.recommenders import Recommender
from tff_rec.evaluation.tuning import Settings

Candidates = Iterator[tuple[Settings, Callable[[], Recommender]]]

_KNN = {"similarity": ("cosine", "tf-idf", "bm25"), "neighbours": (20, 50, 100, 200)}
_EASE = {"penalty": (30.0, 100.0, 200.0, 400.0, 800.0, 1600.0)}
_IALS = {"factors": (32, 64), "penalty": (1.0, 10.0, 30.0), "weight": (1.0, 5.0, 20.0)}
_BPR = {"factors": (32, 64), "penalty": (0.01, 0.1), "learning_rate": (0.02, 0.05), "passes": (50, 150)}
_SWEEPS = 10


def candidates(way: str, interactions: sparse.csr_matrix, seed: int) -> Candidates:
    """Settings of a baseline, and what fits it with them.

    Args:
        way: item-knn, ease, ials or bpr.
        interactions: float32 [users, items], 1 where a user has an item in training.
        seed: Of initial vectors and draws.
    """
    if way == "item-knn":
        return _grid(_KNN, functools.partial(item_knn.fit, interactions))
    if way == "ease":
        return _grid(_EASE, functools.partial(ease.build, ease.decompose(interactions)))
    if way == "ials":
        return _grid(_IALS, functools.partial(ials.fit, interactions, sweeps=_SWEEPS, seed=seed))
    if way == "bpr":
        return _grid(_BPR, functools.partial(bpr.fit, interactions, seed=seed))
    raise ValueError(f"There is no baseline '{way}'.")


def _grid(values: dict[str, tuple[Any, ...]], fit: Callable[..., Recommender]) -> Candidates:
    for combination in itertools.product(*values.values()):
        settings = dict(zip(values, combination, strict=True))
        yield settings, functools.partial(fit, **settings)
