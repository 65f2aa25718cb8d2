"""Cells that predict ratings: how each way is fitted, tuned on validation and judged on test."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rich.console import Console

from tff_rec.errors import InputError
from tff_rec.evaluation import rating, rating_baselines, tuning
from tff_rec.evaluation.tuning import Settings, Tuned
from tff_rec.models.tag_aware import TagAware
from tff_rec.simulation import (
    rating_assembly,
    rating_central,
    rating_predictions,
    rating_preparation,
    rating_report,
    rating_silos,
    rounds,
    tag_aware,
)
from tff_rec.simulation.config import CONFIG_FILE
from tff_rec.simulation.privacy_config import PrivacyConfig
from tff_rec.simulation.rating_config import TagAwareConfig
from tff_rec.simulation.rating_preparation import PreparedRatings
from tff_rec.simulation.rating_silos import Predict
from tff_rec.simulation.run_folder import find_run_folder
from tff_rec.simulation.study_cells import Curve, Judgement, Trained, epsilon_record, traffic_record
from tff_rec.simulation.study_config import Cell

_BASELINES = {
    "global-mean": "global mean",
    "bias": "user and item bias",
    "matrix-factorisation": "biased matrix factorisation",
}
_SILOS = "4"
TunedPredictor = Tuned[Trained[Predict]]


def fit(cell: Cell, run_folder: pathlib.Path, console: Console) -> TunedPredictor:
    """Fits a cell's predictor, the best on validation (RMSE) of its settings; arguments as of `study_ranking.fit`."""
    validation = _prepared(_tag_aware(cell.run)).validation

    def judge_validation(trained: Trained[Predict]) -> dict[str, float]:
        return {"rmse": rating_baselines.rmse(trained.model(validation), validation)}

    return tuning.best(_candidates(cell, run_folder, console), judge_validation, lambda scores: -scores["rmse"])


def judge(cell: Cell, tuned: TunedPredictor) -> Judgement:
    """Looks at test, or at the table's group of it.

    Raises:
        InputError: The data has no such group.
    """
    run = _tag_aware(cell.run)
    prepared = _prepared(run)
    chosen = np.ones(len(prepared.test.ratings), dtype=bool)
    if cell.table.group:
        masks = rating_report.test_masks(prepared)
        if not masks.get(cell.table.group, ~chosen).any():
            raise InputError(f"There is no test rating of '{cell.table.group}'; choose of {', '.join(masks)}.")
        chosen = masks[cell.table.group]
    test = prepared.test.taken(chosen)
    predictions = tuned.model.model(test)
    evaluation = run.evaluation
    options: dict[str, Any] = {"k": evaluation.k, "seed": cell.seed, "resamples": evaluation.resamples}
    metrics = rating.evaluate(test.users, predictions, test.ratings, **options)
    return Judgement(
        metrics={name: getattr(metrics, name) for name in rating.METRICS},
        users=metrics.users,
        values=(predictions.astype(np.float64) - test.ratings) ** 2,
        owners=test.users,
        buckets=_buckets(prepared, chosen, predictions),
    )


@functools.lru_cache(maxsize=1)
def _prepared(run: TagAwareConfig) -> PreparedRatings:
    """With silos to judge by, also where the run has none: nothing is trained in those, and they add no noise."""
    if run.num_silos:
        return rating_preparation.prepare(run)
    return rating_preparation.prepare(dataclasses.replace(run, clients=_SILOS, privacy=PrivacyConfig()))


def _candidates(
    cell: Cell, run_folder: pathlib.Path, console: Console
) -> Iterator[tuple[Settings, Callable[[], Trained[Predict]]]]:
    """Settings of a cell's way, and what fits it with them."""
    if cell.way in _BASELINES:
        prepared = _prepared(_tag_aware(cell.run))
        found = rating_baselines.candidates(_BASELINES[cell.way], prepared.store, prepared.item_rows.genres)
        for settings, build in found:
            yield settings, functools.partial(_baseline, build)
        return
    for number, (settings, choice) in enumerate(cell.choices):
        run = _tag_aware(choice)
        own = run_folder if len(cell.choices) == 1 else run_folder.with_name(f"{run_folder.name}-{number}")
        fitting: dict[str, Callable[[], Trained[Predict]]] = {
            "federated": functools.partial(_federated, run, own, console),
            "personalised": functools.partial(_personalised, run, own, console),
            "centralised": functools.partial(_centralised, run),
            "silos-alone": functools.partial(_silos_alone, run),
        }
        yield settings, fitting[cell.way]


def _baseline(build: Callable[[], rating_baselines.Predictor]) -> Trained[Predict]:
    predict = build()
    return Trained(lambda held_out: predict(held_out.users, held_out.items))


def _federated(run: TagAwareConfig, path: pathlib.Path, console: Console) -> Trained[Predict]:
    """A run as scripts/simulate_tag_aware.py makes it; one that was cut off goes on."""
    model, prepared, _, describe = _trained(run, path, console)
    return describe(_predictor(model, prepared))


def _personalised(run: TagAwareConfig, path: pathlib.Path, console: Console) -> Trained[Predict]:
    model, prepared, best_round, describe = _trained(run, path, console)
    return describe(rating_silos.personalised(run, prepared, model, best_round))


def _trained(
    run: TagAwareConfig, path: pathlib.Path, console: Console
) -> tuple[TagAware, PreparedRatings, int, Callable[[Predict], Trained[Predict]]]:
    """The model of a federated run, its data, its best round, and what adds to a predictor what training was like."""
    run = dataclasses.replace(run, output=path, resume=(path / CONFIG_FILE).is_file())
    folder = find_run_folder(run)
    prepared = rating_preparation.prepare(run)
    folder.begin(run)
    prepared = prepared.on_disk(folder.clients)
    model, progress, ledger = tag_aware.train(run, prepared, folder, console)
    users = tag_aware.users_per_round(run, prepared)
    traffic = rating_assembly.traffic(run, model)
    curve, seconds = [], 0.0
    for record in folder.records():
        seconds += record["ms_per_user"] * users / 1000
        if "validation_rmse" in record:
            share = 1.0 if run.num_silos else users / len(prepared.training_users)
            sent = record["round"] * share * traffic.total
            looked = {"round": record["round"], "seconds": seconds, "bytes_per_device": sent}
            curve.append(looked | {"rmse": record["validation_rmse"]})
    about = curve, traffic_record(traffic), epsilon_record(ledger, progress.rounds)
    return model, prepared, progress.best_round, lambda predict: Trained(predict, *about)


def _centralised(run: TagAwareConfig) -> Trained[Predict]:
    # In one place there are no silos, and mini-batches are those of users as clients.
    run = dataclasses.replace(run, clients="users")
    prepared = rating_preparation.prepare(run)
    model, curve = _centrally(run, prepared)
    return Trained(_predictor(model, prepared), curve)


def _silos_alone(run: TagAwareConfig) -> Trained[Predict]:
    prepared = _prepared(run)
    return Trained(rating_silos.alone(run, prepared, lambda own, data: _predictor(_centrally(own, data)[0], data)))


def _centrally(run: TagAwareConfig, prepared: PreparedRatings) -> tuple[TagAware, Curve]:
    model = rating_assembly.build_model(run, prepared)
    progress = rating_central.initial_progress(model)
    curve: Curve = []
    seconds = 0.0
    for done in rating_central.train(run, prepared, model, progress):
        seconds += done.seconds
        if done.validation_rmse is not None:
            looked = {"round": done.number, "seconds": seconds, "bytes_per_device": 0.0}
            curve.append(looked | {"rmse": done.validation_rmse})
    rounds.assign(model, progress.best_weights)
    return model, curve


def _predictor(model: TagAware, prepared: PreparedRatings) -> Predict:
    predict = rating_predictions.build_predict(model)
    return lambda held_out: predict(prepared.store, held_out)


def _buckets(prepared: PreparedRatings, chosen: np.ndarray, predictions: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """RMSE by the item's and the user's training ratings, by tags and by silo."""
    test = prepared.test.taken(chosen)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, way in rating_report.ways_to_part(prepared).items():
        of = way.of[chosen]
        for number, label in enumerate(way.names):
            rows = of == number
            if rows.any():
                part = test.taken(rows)
                group = {"label": label, "users": len(np.unique(part.users)), "ratings": int(rows.sum())}
                error = rating_baselines.rmse(predictions[rows], part)
                found.setdefault(name, []).append(group | {"rmse": error})
    return found


def _tag_aware(run: object) -> TagAwareConfig:
    assert isinstance(run, TagAwareConfig), "A cell that predicts ratings is a run on ratings."
    return run
