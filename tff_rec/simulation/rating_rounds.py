"""The round loop of the tag-aware simulation: validation chooses the weights and stops, test is looked at once."""

import dataclasses
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow_federated as tff

from tff_rec.evaluation import rating_baselines
from tff_rec.models.tag_aware import TagAware
from tff_rec.simulation import execution, rating_predictions, rounds
from tff_rec.simulation.checkpoints import Progress
from tff_rec.simulation.privacy_ledger import Ledger
from tff_rec.simulation.rating_assembly import RoundData
from tff_rec.simulation.rating_config import TagAwareConfig
from tff_rec.simulation.rating_preparation import PreparedRatings


@dataclasses.dataclass(frozen=True)
class RatingRound:
    """What is known after a round.

    Attributes:
        number: Rounds done.
        loss: Mean squared error of the clients in training, each rating predicted from its user's others.
        seconds: Wall time, cohort and evaluation excluded.
        validation_rmse: After a look at validation, else None.
        clip_norms: As of `rounds.Round`.
    """

    number: int
    loss: float
    seconds: float
    validation_rmse: float | None
    clip_norms: rounds.ClipNorms = dataclasses.field(default_factory=dict)


def train(
    config: TagAwareConfig,
    prepared: PreparedRatings,
    model: TagAware,
    process: tff.learning.templates.LearningProcess,
    data: RoundData,
    progress: Progress,
    save: Callable[[Progress], None],
    ledger: Ledger | None = None,
) -> Iterator[RatingRound]:
    """Runs rounds until the last, or until validation stops improving.

    Args:
        config: The run.
        prepared: Its data.
        model: Is given the weights that validation looks at.
        process: Of users or of silos.
        data: Of its rounds.
        progress: Where to go on; brought up to date in place.
        save: Called with it every `checkpoint_every` rounds and after the last.
        ledger: Of the run's privacy.

    Raises:
        InputError: The ledger's budget is spent, or integers are summed and training has diverged.
    """
    last, every = config.server.rounds, 1 if config.num_silos else config.evaluation.every
    patience = config.evaluation.patience if config.judged else 0
    predict = rating_predictions.build_predict(model)
    while progress.rounds < last and not (patience and progress.looks_since_best >= patience):
        if ledger is not None:
            ledger.check(progress.rounds + 1)
        datasets = data(progress.rounds)
        began = time.perf_counter()
        with execution.round_number(progress.rounds + 1):
            output = process.next(progress.state, datasets)
        seconds = time.perf_counter() - began
        progress.state, progress.rounds = output.state, progress.rounds + 1
        done, rmse = progress.rounds == last, None
        if done or progress.rounds % every == 0:
            weights = [np.asarray(value) for value in process.get_model_weights(progress.state).trainable]
            rmse = look(config, prepared, model, predict, weights, progress)
        # A loss that was released with noise may fall below 0.
        loss = max(0.0, float(output.metrics["finalizer"]["loss"]))
        yield RatingRound(progress.rounds, loss, seconds, rmse, rounds.clip_norms(output))
        if done or progress.rounds % config.checkpoint_every == 0:
            save(progress)


def look(
    config: TagAwareConfig,
    prepared: PreparedRatings,
    model: TagAware,
    predict: rating_predictions.Predict,
    weights: list[np.ndarray],
    progress: Progress,
) -> float | None:
    """Validation RMSE of weights, which become the best if they are; None where nothing is held out."""
    if not config.judged:
        progress.best_weights, progress.best_round = weights, progress.rounds
        return None
    rounds.assign(model, weights)
    held_out = prepared.validation
    predictions = predict(prepared.store, held_out)
    rmse = rating_baselines.rmse(predictions, held_out)
    if -rmse > progress.best_score:
        progress.best_weights, progress.best_round = weights, progress.rounds
        progress.best_score, progress.looks_since_best = -rmse, 0
    else:
        progress.looks_since_best += 1
    return rmse
