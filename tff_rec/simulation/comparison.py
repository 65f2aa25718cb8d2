"""A table of ways to train the rating model, cell by cell: one method on one seed's split.

A cell that is done lies in a file and is not done again; one that fails is reported, and the others go on.
"""

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rich.console import Console

from tff_rec.data.ratings import HeldOutRatings
from tff_rec.federated import silos
from tff_rec.models.tag_aware import TagAware
from tff_rec.simulation import (
    execution,
    rating_assembly,
    rating_central,
    rating_predictions,
    rating_preparation,
    rating_report,
    rating_rounds,
    rounds,
)
from tff_rec.simulation.checkpoints import Progress
from tff_rec.simulation.comparison_config import CompareConfig, Method
from tff_rec.simulation.rating_config import TagAwareConfig
from tff_rec.simulation.rating_preparation import PreparedRatings
from tff_rec.simulation.rating_rounds import RatingRound
from tff_rec.simulation.run_folder import RunFolder, write_text

_BASELINES: dict[Method, str] = {
    "global-mean": "global mean",
    "bias": "user and item bias",
    "matrix-factorisation": "biased matrix factorisation",
}
Curve = list[dict[str, float]]
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # Of local weights; 1 is fine-tuning alone.


@dataclasses.dataclass(frozen=True)
class Cell:
    """One method on one seed.

    Attributes:
        method: Of `comparison_config.METHODS`.
        seed: Of split, silos and weights.
        scores: As `rating_report.as_record` gives, of this method alone: group, then metrics.
        curve: Looks at validation: `round`, `rmse`, `bytes` (of a client until then), `seconds` (likewise).
        predictions: Of the test ratings, float32.
    """

    method: Method
    seed: int
    scores: dict[str, Any]
    curve: Curve
    predictions: np.ndarray


def run(config: CompareConfig, folder: RunFolder, console: Console) -> tuple[list[Cell], list[str]]:
    """All cells, done before or now, and what failed in words.

    Args:
        config: The comparison.
        folder: Holds the cells' files.
        console: Where progress is shown.
    """
    execution.end_on_signals()
    cells, failures = [], []
    for seed in range(config.seed, config.seed + config.seeds):
        wanted = {method: _path(folder, method, seed) for method in config.methods}
        missing = [method for method, path in wanted.items() if not path.is_file()]
        bench = _Bench(config, seed) if missing else None
        for method, path in wanted.items():
            began = time.perf_counter()
            try:
                if bench is not None and method in missing:
                    write(path, bench.cell(method))
                    console.print(f"{method}, seed {seed}: {time.perf_counter() - began:.0f} s")
                cells.append(read(path))
            except Exception as error:  # Whatever it is, the other cells go on.
                failures.append(f"{method}, seed {seed}: {type(error).__name__}: {error}")
                console.print(f"failed: {failures[-1]}", soft_wrap=True)
    return cells, failures


def write(path: pathlib.Path, cell: Cell) -> None:
    """Writes the predictions, then the rest, which says that the cell is done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.partial.npy")
    np.save(beside, cell.predictions)
    beside.replace(path.with_suffix(".npy"))
    parts = dataclasses.asdict(cell)
    del parts["predictions"]
    write_text(path, json.dumps(parts, indent=1))


def read(path: pathlib.Path) -> Cell:
    """A cell that was written."""
    return Cell(**json.loads(path.read_text(encoding="utf-8")), predictions=np.load(path.with_suffix(".npy")))


def _path(folder: RunFolder, method: Method, seed: int) -> pathlib.Path:
    return folder.path / "cells" / f"{method}-{seed}.json"


class _Bench:
    """One seed's data, prepared once, and how each method is trained on it."""

    def __init__(self, config: CompareConfig, seed: int) -> None:
        self._config = config
        self._seed = seed
        self._prepared = rating_preparation.prepare(config.of_silos(seed))

    @functools.cached_property
    def _baselines(self) -> dict[str, np.ndarray]:
        """Predictions of the test ratings by name, tuned once for all of them."""
        return rating_report.baseline_predictions(self._prepared)

    def cell(self, method: Method) -> Cell:
        """Trains, and judges on test."""
        predictions, curve = self._predictions(method)
        judged = self._config.of_silos(self._seed)
        scores = rating_report.as_record(rating_report.score(judged, self._prepared, {method: predictions}))
        return Cell(method, self._seed, {group: found[method] for group, found in scores.items()}, curve, predictions)

    def _predictions(self, method: Method) -> tuple[np.ndarray, Curve]:
        config, seed, prepared = self._config, self._seed, self._prepared
        if method in _BASELINES:
            return self._baselines[_BASELINES[method]], []
        if method == "silos-alone":
            return self._alone()
        if method == "personalised":
            return self._personalised()
        if method == "centralised":
            return _centrally(config.of_users(seed), prepared, prepared.test)
        if method == "users-untagged":
            model = dataclasses.replace(config.model, features="untagged")
            run = dataclasses.replace(config.of_users(seed), model=model)
            without = dataclasses.replace(rating_preparation.prepare(run), silos=prepared.silos)
            return _federated(run, without)
        runs: dict[str, Callable[[int], TagAwareConfig]] = {
            "users": config.of_users,
            "fedavg": config.of_silos,
            "fedprox": config.of_fedprox,
            "fedopt": config.of_fedopt,
        }
        return _federated(runs[method](seed), prepared)

    def _personalised(self) -> tuple[np.ndarray, Curve]:
        """FedAvg's weights mixed with what each silo makes of them, by the share that suits its validation best."""
        run, prepared = self._config.of_silos(self._seed), self._prepared
        model, progress, curve = _trained(run, prepared)
        training = rating_assembly.silo_training(run)
        rate = training.learning_rate * training.decay**progress.best_round
        training = dataclasses.replace(training, learning_rate=rate, proximal=0.0)
        predict = rating_predictions.build_predict(model)
        predictions = np.empty(len(prepared.test.ratings), dtype=np.float32)
        for silo in prepared.silos:
            blocks = rating_assembly.batches(run, prepared, silo, progress.best_round)
            local = silos.fine_tune(model, progress.best_weights, blocks, training)
            known = _of_users(prepared.validation, silo)

            def error(share: float, local: list[np.ndarray] = local, known: HeldOutRatings = known) -> float:
                rounds.assign(model, silos.mixture(progress.best_weights, local, share))
                return float(np.mean((predict(prepared.store, known) - known.ratings) ** 2))

            best = min(_SHARES, key=error)
            rounds.assign(model, silos.mixture(progress.best_weights, local, best))
            rows = np.isin(prepared.test.users, silo)
            predictions[rows] = predict(prepared.store, _of_users(prepared.test, silo))
        return predictions, curve

    def _alone(self) -> tuple[np.ndarray, Curve]:
        """Each silo's model, trained on its users alone, for its users; features are what all have."""
        run = self._config.of_users(self._seed)
        cohort = max(1, run.training.clients_per_round // len(self._prepared.silos))
        predictions = np.empty(len(self._prepared.test.ratings), dtype=np.float32)
        for silo in self._prepared.silos:
            users = np.intersect1d(silo, self._prepared.training_users)
            training = dataclasses.replace(run.training, clients_per_round=min(cohort, len(users)))
            own = dataclasses.replace(
                self._prepared, training_users=users, validation=_of_users(self._prepared.validation, silo)
            )
            rows = np.isin(self._prepared.test.users, silo)
            judged = _of_users(self._prepared.test, silo)
            predictions[rows], _ = _centrally(dataclasses.replace(run, training=training), own, judged)
        return predictions, []


def _federated(run: TagAwareConfig, prepared: PreparedRatings) -> tuple[np.ndarray, Curve]:
    model, progress, curve = _trained(run, prepared)
    return _best_predictions(model, progress, prepared, prepared.test), curve


def _trained(run: TagAwareConfig, prepared: PreparedRatings) -> tuple[TagAware, Progress, Curve]:
    execution.start()
    try:
        model = rating_assembly.build_model(run, prepared)
        process = rating_assembly.build_process(run, model)
        progress = rounds.initial_progress(process)
        data = rating_assembly.round_data(run, prepared)
        done = rating_rounds.train(run, prepared, model, process, data, progress, lambda _: None)
        return model, progress, _curve(done, rating_assembly.traffic(run, model).total)
    finally:
        execution.stop()


def _centrally(run: TagAwareConfig, prepared: PreparedRatings, judged: HeldOutRatings) -> tuple[np.ndarray, Curve]:
    model = rating_assembly.build_model(run, prepared)
    progress = rating_central.initial_progress(model)
    curve = _curve(rating_central.train(run, prepared, model, progress), 0)
    return _best_predictions(model, progress, prepared, judged), curve


def _best_predictions(
    model: TagAware, progress: Progress, prepared: PreparedRatings, judged: HeldOutRatings
) -> np.ndarray:
    rounds.assign(model, progress.best_weights)
    return rating_predictions.build_predict(model)(prepared.store, judged)


def _curve(done: Iterator[RatingRound], bytes_a_round: int) -> Curve:
    curve, seconds = [], 0.0
    for one in done:
        seconds += one.seconds
        if one.validation_rmse is not None:
            sent = float(bytes_a_round * one.number)
            curve.append({"round": one.number, "rmse": one.validation_rmse, "bytes": sent, "seconds": seconds})
    return curve


def _of_users(held_out: HeldOutRatings, users: np.ndarray) -> HeldOutRatings:
    rows = np.isin(held_out.users, users)
    return HeldOutRatings(held_out.users[rows], held_out.items[rows], held_out.ratings[rows])
