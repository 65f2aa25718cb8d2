"""Training of the two-tower model in one place by plain TensorFlow: what federation is held against.

Same model, objective and arrays. A round is a step of the server's optimizers on the pooled predictions of a mini-batch
of users, drawn as a cohort is: passes over the users in new orders.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.data import clients
from tff_rec.models import layers, objectives
from tff_rec.models.two_tower import TwoTower
from tff_rec.simulation import assembly, rounds
from tff_rec.simulation.checkpoints import Progress
from tff_rec.simulation.config import TwoTowerConfig
from tff_rec.simulation.preparation import Prepared
from tff_rec.simulation.rounds import Round


def initial_progress(model: TwoTower) -> Progress:
    """Nothing done yet."""
    return Progress(state=None, best_weights=_values(model.trainable_weights))


def train(config: TwoTowerConfig, prepared: Prepared, model: TwoTower, progress: Progress) -> Iterator[Round]:
    """Trains on the prepared users as `training` of the options says; arguments as in `rounds.train`."""
    training = config.training
    weights, count = list(model.trainable_weights), len(model.query_tower.weight_specs())
    optimizers = assembly.server_optimizers(training)
    towers = (_Tower(optimizers.query, weights[:count]), _Tower(optimizers.candidate, weights[count:]))
    differentiate = _build_gradients(model)
    blocks_of = rounds.block_source(config, prepared, model)
    users, patience = prepared.trainable_users, config.evaluation.patience if config.judged else 0
    while progress.rounds < training.rounds and not (patience and progress.looks_since_best >= patience):
        cohort = clients.cohort(users, training.clients_per_round, config.seed, progress.rounds)
        blocks = blocks_of(cohort, progress.rounds)
        began = time.perf_counter()
        sums = [differentiate({name: tf.constant(value) for name, value in block.items()}) for block in blocks]
        losses, weight, gradients = tf.nest.map_structure(lambda *values: tf.add_n(values), *sums)
        gradients = [gradient / weight for gradient in gradients]
        for tower, own in zip(towers, (gradients[:count], gradients[count:]), strict=True):
            tower.step(own)
        progress.rounds += 1
        seconds, validation = time.perf_counter() - began, None
        if training.averaging_rounds:
            progress.average(_values(weights), training.averaging_rounds)
        if progress.rounds == training.rounds or progress.rounds % config.evaluation.every == 0:
            values = _values(weights)
            validation = rounds.look(config, prepared, model, progress.mean_weights or values, progress)
            rounds.assign(model, values)
        yield Round(progress.rounds, float(losses / weight), seconds, validation)


def _values(weights: list[tf.Variable]) -> list[np.ndarray]:
    return [weight.numpy() for weight in weights]


class _Tower:
    """Weights, and the optimizer that steps them."""

    def __init__(self, optimizer: tff.learning.optimizers.Optimizer, weights: list[tf.Variable]) -> None:
        self._weights = weights
        self._state = optimizer.initialize([tf.TensorSpec(weight.shape, weight.dtype) for weight in weights])
        self._next = tf.function(optimizer.next)

    def step(self, gradients: list[tf.Tensor]) -> None:
        """Steps the weights."""
        self._state, new = self._next(
            self._state, [tf.convert_to_tensor(weight) for weight in self._weights], gradients
        )
        for weight, value in zip(self._weights, new, strict=True):
            weight.assign(value)


def _build_gradients(model: TwoTower) -> Callable[..., Any]:
    """From a block to the weighted sum of its users' losses, the sum of weights, and gradients of the former."""
    weights = list(model.trainable_weights)
    matrix = tf.TensorSpec([None, None], tf.int32)
    signature = {"history": matrix, "seed": tf.TensorSpec([None], tf.int32)}
    signature |= dict.fromkeys(model.objective.block_keys, matrix)

    @tf.function(input_signature=[signature], autograph=False)
    def differentiate(block: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        user_weights = model.weighting(model.objective.num_positives(block["history"]))
        with tf.GradientTape() as tape:
            table = model.candidate_embeddings()
            rows = model.objective.rows(block, model.candidate_tower.num_items)
            vectors = table if rows is None else tf.gather(table, tf.maximum(rows, 0))
            own = layers.own_weights(model.query_tower)
            losses = objectives.mean_losses(
                model.objective, model.query_tower, own, vectors, block, rows, block["seed"]
            )
            total = tf.reduce_sum(losses * user_weights)
        gradients = tape.gradient(total, weights, unconnected_gradients="zero")
        return total, tf.reduce_sum(user_weights), [tf.convert_to_tensor(gradient) for gradient in gradients]

    return differentiate
