"""Training of the rating model in one place: what federation is held against, on the same arrays and schedule.

A round is a step of the server's optimizer on the pooled ratings of a cohort. Over the users of one silo it is what
that silo reaches alone.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tff_rec.models.layers import own_weights
from tff_rec.models.tag_aware import TagAware
from tff_rec.simulation import rating_assembly, rating_predictions, rating_rounds
from tff_rec.simulation.checkpoints import Progress
from tff_rec.simulation.rating_config import TagAwareConfig
from tff_rec.simulation.rating_preparation import PreparedRatings
from tff_rec.simulation.rating_rounds import RatingRound


def initial_progress(model: TagAware) -> Progress:
    """Nothing done yet."""
    return Progress(state=None, best_weights=[weight.numpy() for weight in model.trainable_weights])


def train(
    config: TagAwareConfig, prepared: PreparedRatings, model: TagAware, progress: Progress
) -> Iterator[RatingRound]:
    """Trains on the prepared users as `training` of the options says; arguments as in `rating_rounds.train`."""
    optimizer = rating_assembly.server_optimizer(config.training)
    weights = list(model.trainable_weights)
    state = optimizer.initialize([tf.TensorSpec(weight.shape, weight.dtype) for weight in weights])
    differentiate, penalty = _build_gradients(model)
    step = tf.function(optimizer.next)
    predict = rating_predictions.build_predict(model)
    rounds, patience = config.training.rounds, config.evaluation.patience if config.judged else 0
    while progress.rounds < rounds and not (patience and progress.looks_since_best >= patience):
        blocks = rating_assembly.cohort_blocks(config, prepared, progress.rounds)
        began = time.perf_counter()
        sums = [differentiate(block["items"], block["ratings"], block["seed"]) for block in blocks]
        squares, count, gradients = tf.nest.map_structure(lambda *parts: tf.add_n(parts), *sums)
        gradients = [one / count + other for one, other in zip(gradients, penalty(), strict=True)]
        state, new = step(state, [tf.convert_to_tensor(weight) for weight in weights], gradients)
        _assign(weights, new)
        progress.rounds += 1
        seconds, rmse = time.perf_counter() - began, None
        if progress.rounds == rounds or progress.rounds % config.evaluation.every == 0:
            values = [value.numpy() for value in weights]
            rmse = rating_rounds.look(config, prepared, model, predict, values, progress)
        yield RatingRound(progress.rounds, float(squares / count), seconds, rmse)


def _assign(weights: list[tf.Variable], values: list[tf.Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.assign(value)


def _build_gradients(model: TagAware) -> tuple[Callable[..., Any], Callable[[], list[tf.Tensor]]]:
    """From a block to its sum of squared errors, number of ratings and gradients; and the penalty's gradients."""
    weights = list(model.trainable_weights)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None]),
            tf.TensorSpec([None], tf.int32),
        ],
        autograph=False,
    )
    def differentiate(
        items: tf.Tensor, ratings: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tower = own_weights(model.rating_tower)
            squares = tf.reduce_sum(model.rating_tower.losses(tower, model.item_table(), items, ratings, seeds))
        gradients = tape.gradient(squares, weights, unconnected_gradients="zero")
        count = tf.reduce_sum(tf.cast(items >= 0, tf.float32))
        return squares, count, [tf.convert_to_tensor(gradient) for gradient in gradients]

    @tf.function(autograph=False)
    def penalty() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            named = {**own_weights(model.item_tower), **own_weights(model.rating_tower)}
            total = model.penalties.penalty(named) / model.num_ratings
        gradients = tape.gradient(total, weights, unconnected_gradients="zero")
        return [tf.convert_to_tensor(gradient) for gradient in gradients]

    return differentiate, penalty
