"""Recommenders fitted in one place, with every setting of a grid: what federation is held against."""

import functools
import itertools
from collections.abc import Callable, Iterator

from scipy import sparse

from tff_rec.errors import InputError
from tff_rec.evaluation import bpr, ease, ials, item_knn
from tff_rec.evaluation.grids import GRIDS, Grid
from tff_rec.evaluation.recommenders import Recommender
from tff_rec.evaluation.tuning import Settings

Candidates = Iterator[tuple[Settings, Callable[[], Recommender]]]
_SWEEPS = 10


def candidates(way: str, interactions: sparse.csr_matrix, seed: int, grid: Grid) -> Candidates:
    """Settings of a baseline, and what fits it with them.

    Args:
        way: Of `GRIDS`.
        interactions: float32 [users, items], 1 where a user has an item in training.
        seed: Of initial vectors and draws.
        grid: Values to try by setting; of a setting that it lacks, those of `GRIDS`.

    Raises:
        InputError: The way has no such setting.
    """
    unknown = [name for name in grid if name not in GRIDS[way]]
    if unknown:
        raise InputError(f"{way} has no setting '{unknown[0]}' to try; its grid has {', '.join(GRIDS[way])}.")
    fit = _fit(way, interactions, seed)
    values = {**GRIDS[way], **grid}
    for combination in itertools.product(*values.values()):
        settings = dict(zip(values, combination, strict=True))
        yield settings, functools.partial(fit, **settings)


def _fit(way: str, interactions: sparse.csr_matrix, seed: int) -> Callable[..., Recommender]:
    """From settings to the recommender."""
    if way == "ease":
        return functools.partial(ease.build, ease.decompose(interactions))
    if way == "item-knn":
        return functools.partial(item_knn.fit, interactions)
    if way == "ials":
        return functools.partial(ials.fit, interactions, sweeps=_SWEEPS, seed=seed)
    return functools.partial(bpr.fit, interactions, seed=seed)
