"""How a run on ratings is judged: the model beside baselines on test, overall and for groups of ratings apart."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table

from tff_rec.evaluation import rating, rating_baselines
from tff_rec.evaluation.rating import Groups, RatingMetrics
from tff_rec.simulation.rating_config import TagAwareConfig
from tff_rec.simulation.rating_preparation import PreparedRatings

USER_THRESHOLDS = (10, 50)
ITEM_THRESHOLDS = (1, 5)
BASELINES = ("global mean", "user and item bias", "biased matrix factorisation")

Scores = dict[str, dict[str, RatingMetrics]]
"""By group of ratings (`all` first), then by method."""


def baseline_predictions(prepared: PreparedRatings) -> dict[str, np.ndarray]:
    """Of the test ratings, by baseline: fitted on what devices hold and tuned on validation; float32 [ratings] each."""
    data = prepared.store, prepared.item_rows.genres, prepared.validation
    fitted = {name: rating_baselines.tuned(name, *data).model for name in BASELINES}
    return {name: predict(prepared.test.users, prepared.test.items) for name, predict in fitted.items()}


def ways_to_part(prepared: PreparedRatings) -> dict[str, Groups]:
    """Ways to part the test ratings: by ratings of the item and of the user in training, by tags, by silo."""
    test = prepared.test
    users = rating.count_groups(test.users, prepared.store.lengths(), USER_THRESHOLDS)
    items = rating.count_groups(test.items, prepared.popularity.astype(np.int64), ITEM_THRESHOLDS)
    ways = {"popularity": items, "activity": users}
    if prepared.item_rows.tags.nnz:
        ways["tags"] = Groups(tagged(prepared), ("items without tags", "items with tags"))
    if prepared.silos:
        ways["silos"] = rating.silo_groups(test.users, prepared.silos)
    return ways


def test_groups(prepared: PreparedRatings) -> list[Groups]:
    """`ways_to_part` with groups named in full."""
    ways = ways_to_part(prepared)
    sentences = {"activity": "users with {} training ratings", "popularity": "items with {} training ratings"}
    named = {name: _named(ways[name], sentence) for name, sentence in sentences.items()}
    return [(ways | named)[name] for name in ("silos", "activity", "popularity", "tags") if name in ways]


def test_masks(prepared: PreparedRatings) -> dict[str, np.ndarray]:
    """Which test ratings belong to a group, bool [ratings], by the group's name; also those of cold items with tags."""
    masks = {name: way.of == number for way in test_groups(prepared) for number, name in enumerate(way.names)}
    least = max(ITEM_THRESHOLDS)
    cold = np.append(prepared.popularity, 0)[prepared.test.items] < least  # Item -1, unknown, has no ratings.
    return masks | {f"items with tags, under {least} training ratings": cold & (tagged(prepared) > 0)}


def score(config: TagAwareConfig, prepared: PreparedRatings, predictions: Mapping[str, np.ndarray]) -> Scores:
    """Metrics with 95 % intervals over users of each method's test predictions, by group."""
    test, evaluation = prepared.test, config.evaluation
    options: dict[str, Any] = {"k": evaluation.k, "seed": config.seed, "resamples": evaluation.resamples}
    scores: Scores = {"all": {}}
    for method, predicted in predictions.items():
        scores["all"][method] = rating.evaluate(test.users, predicted, test.ratings, **options)
        for way in test_groups(prepared):
            for name, metrics in rating.evaluate_groups(way, test.users, predicted, test.ratings, **options).items():
                scores.setdefault(name, {})[method] = metrics
    return scores


def as_record(scores: Scores) -> dict[str, Any]:
    """Scores as JSON values: group, method, metric, and of a metric its value and interval; NaN as null."""
    return {
        group: {method: _json_value(dataclasses.asdict(metrics)) for method, metrics in methods.items()}
        for group, methods in scores.items()
    }


def overall_table(title: str, scores: Scores) -> Table:
    """All metrics of all test ratings, a method a row."""
    first = next(iter(scores["all"].values()))
    table = Table(title=title)
    names = ("", "RMSE (95 %)", "MSE", "MAE", f"P@{first.k}", f"R@{first.k}", f"NDCG@{first.k}")
    for name in names:
        table.add_column(name, justify="right" if name else "left")
    for method, metrics in scores["all"].items():
        others = (metrics.mse, metrics.mae, metrics.precision, metrics.recall, metrics.ndcg)
        table.add_row(method, metrics.rmse.describe(), *(f"{other.value:.4f}" for other in others))
    return table


def groups_table(title: str, scores: Scores) -> Table:
    """RMSE of groups of test ratings, a method a column, the first method's with its interval."""
    methods = list(scores["all"])
    table = Table(title=title)
    table.add_column("")
    for name in ("ratings", "users", *methods):
        table.add_column(name, justify="right")
    for group, metrics in scores.items():
        if group != "all":
            first = metrics[methods[0]]
            others = (f"{metrics[method].rmse.value:.4f}" for method in methods[1:])
            table.add_row(group, f"{first.ratings:,}", f"{first.users:,}", first.rmse.describe(), *others)
    return table


def tagged(prepared: PreparedRatings) -> np.ndarray:
    """1 where the item of a test rating has a tag in training, else 0: int64 [ratings]."""
    tagged = np.append(np.diff(prepared.item_rows.tags.indptr) > 0, False)  # Item -1, unknown, has none.
    return tagged[prepared.test.items].astype(np.int64)


def _named(groups: Groups, sentence: str) -> Groups:
    return Groups(groups.of, tuple(sentence.format(name) for name in groups.names))


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json_value(part) for name, part in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value
