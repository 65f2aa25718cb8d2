"""What silos have beside a common model: models of their own, and the common one mixed with their own weights."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tff_rec.data.ratings import HeldOutRatings
from tff_rec.evaluation import rating_baselines
from tff_rec.federated import silos
from tff_rec.models.tag_aware import TagAware
from tff_rec.simulation import rating_assembly, rating_predictions, rounds
from tff_rec.simulation.rating_config import TagAwareConfig
from tff_rec.simulation.rating_preparation import PreparedRatings

Predict = Callable[[HeldOutRatings], np.ndarray]
"""From held-out pairs to float32 predictions, as many."""

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # Of local weights; 1 is fine-tuning alone.


def alone(
    run: TagAwareConfig, prepared: PreparedRatings, fit: Callable[[TagAwareConfig, PreparedRatings], Predict]
) -> Predict:
    """Each silo's model, trained on its users alone, for its users; features are what all have.

    Args:
        run: `training` says how a silo trains, on cohorts as much smaller as it is.
        prepared: Its silos.
        fit: Trains centrally.
    """
    cohort, found = max(1, run.training.clients_per_round // len(prepared.silos)), []
    for silo in prepared.silos:
        users = np.intersect1d(silo, prepared.training_users)
        training = dataclasses.replace(run.training, clients_per_round=min(cohort, len(users)))
        validation = prepared.validation.taken(np.isin(prepared.validation.users, silo))
        own = dataclasses.replace(prepared, training_users=users, validation=validation)
        found.append(fit(dataclasses.replace(run, training=training), own))
    return _of_silos(prepared.silos, found)


def personalised(run: TagAwareConfig, prepared: PreparedRatings, model: TagAware, best_round: int) -> Predict:
    """The common weights mixed with what each silo makes of them, by the share that suits its validation best.

    Args:
        run: Of the common model.
        prepared: Its silos.
        model: Under the common weights.
        best_round: Rounds that had been done when it had them.
    """
    training = rating_assembly.silo_training(run)
    rate = training.learning_rate * training.decay**best_round
    training = dataclasses.replace(training, learning_rate=rate, proximal=0.0)
    common = [weight.numpy() for weight in model.trainable_weights]
    predict = rating_predictions.build_predict(model)

    def under(weights: list[np.ndarray]) -> Predict:
        def predict_under(held_out: HeldOutRatings) -> np.ndarray:
            rounds.assign(model, weights)
            return predict(prepared.store, held_out)

        return predict_under

    found = []
    for silo in prepared.silos:
        blocks = rating_assembly.batches(run, prepared, silo, best_round)
        local = silos.fine_tune(model, common, blocks, training)
        known = prepared.validation.taken(np.isin(prepared.validation.users, silo))
        mixtures = [under(silos.mixture(common, local, share)) for share in _SHARES]
        found.append(min(mixtures, key=lambda one, known=known: rating_baselines.rmse(one(known), known)))  # type: ignore[misc]
    return _of_silos(prepared.silos, found)


def _of_silos(parts: Sequence[np.ndarray], predictors: Sequence[Predict]) -> Predict:
    """Each user's ratings by the predictor of its silo."""

    def predict(held_out: HeldOutRatings) -> np.ndarray:
        predictions = np.empty(len(held_out.ratings), dtype=np.float32)
        for silo, own in zip(parts, predictors, strict=True):
            rows = np.isin(held_out.users, silo)
            if rows.any():
                predictions[rows] = own(held_out.taken(rows))
        return predictions

    return predict
