"""Stages of a round that the split and the unsplit process share.

They differ in what is sent, in what a block of devices sums, and in where the gradients of item vectors become those of
the candidate tower's weights. The rest is here: `compose` takes those three as functions.
"""

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated.aggregators import UserMeanFactory
from tff_rec.models.two_tower import TwoTower

BLOCK_TYPE = tff.SequenceType(
    collections.OrderedDict(history=tff.TensorType(np.int32, [None, None]), seed=tff.TensorType(np.int32, [None]))
)

Named = dict[str, tf.Tensor]
WhatIsSent = Callable[[Named, Named], collections.OrderedDict[str, Any]]
BlockSum = Callable[[Any, tf.Tensor, tf.Tensor], collections.OrderedDict[str, Any]]
CandidateGradients = Callable[[list[tf.Tensor], Any], list[tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class ServerOptimizers:
    """Optimizers of the two towers at the server, e.g. `tff.learning.optimizers.build_adam(1e-3)` for FedAdam."""

    query: tff.learning.optimizers.Optimizer
    candidate: tff.learning.optimizers.Optimizer


def compose(
    model: TwoTower,
    optimizers: ServerOptimizers,
    aggregator: UserMeanFactory,
    *,
    what_is_sent: WhatIsSent,
    block_sum: BlockSum,
    candidate_gradients: CandidateGradients,
) -> tff.learning.templates.LearningProcess:
    """Builds `(<state@SERVER, {<history=int32[?,?], seed=int32[?]>*}@CLIENTS> -> <state, metrics>)`.

    Args:
        model: The two towers; their present weights are the initial ones.
        optimizers: At the server. They see minus the mean update of the query tower, and the mean gradient of the
            candidate tower.
        aggregator: From users to their mean.
        what_is_sent: From the weights of the query and of the candidate tower, by name, to what every device gets.
        block_sum: From what was sent, and a block's `history` and `seed`, to the sums over its users: the keys and
            shapes of what was sent, and `loss` and `weight`.
        candidate_gradients: From the candidate tower's weights and the mean over users, at the server, to the
            gradients of those weights.
    """
    distributor = build_distributor(model, what_is_sent)
    client_work = build_client_work(distributor, block_sum, tf.float32 if aggregator.encode is None else tf.int64)
    result_type = client_work.next.type_signature.result.result.member
    aggregation = aggregator.create(result_type.update, result_type.update_weight)
    mean_type = aggregation.next.type_signature.result.result.member
    finalizer = build_finalizer(model, optimizers, mean_type, candidate_gradients)
    return tff.learning.templates.compose_learning_process(
        initial_model_weights(model), distributor, client_work, aggregation, finalizer
    )


def initial_model_weights(model: TwoTower) -> tff.Computation:
    """`( -> ModelWeights)` with the present weights of both towers."""
    values = [weight.numpy() for weight in model.trainable_weights]

    @tff.tensorflow.computation
    def initial() -> tff.learning.models.ModelWeights:
        return tff.learning.models.ModelWeights([tf.constant(value) for value in values], [])

    return initial


def split_weights(model: TwoTower, trainable: Any) -> tuple[Named, Named]:
    """Names the weights of the query tower and of the candidate tower in a list of all."""
    count = len(model.query_tower.weight_specs())
    query = model.query_tower.as_weights(trainable[:count])
    return dict(query), dict(model.candidate_tower.as_weights(trainable[count:]))


def pull_back(model: TwoTower, candidate: list[tf.Tensor], item_gradient: tf.Tensor) -> list[tf.Tensor]:
    """Vector-Jacobian product of the candidate tower: gradients of its weights from those of its item vectors."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(candidate)
        table = model.candidate_embeddings(model.candidate_tower.as_weights(candidate))
    gradients = tape.gradient(table, candidate, output_gradients=item_gradient, unconnected_gradients="zero")
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


def build_distributor(model: TwoTower, what_is_sent: WhatIsSent) -> tff.learning.templates.DistributionProcess:
    """`(<()@SERVER, weights@SERVER> -> <(), what_is_sent(weights)@CLIENTS, ()>)`."""
    weights_type = initial_model_weights(model).type_signature.result

    @tff.tensorflow.computation(weights_type)
    def prepare(weights: Any) -> Any:
        return what_is_sent(*split_weights(model, weights.trainable))

    @tff.federated_computation(_no_state.type_signature.result, tff.FederatedType(weights_type, tff.SERVER))
    def next_fn(state: Any, weights: Any) -> Any:
        sent = tff.federated_broadcast(tff.federated_map(prepare, weights))
        return tff.templates.MeasuredProcessOutput(state, sent, tff.federated_value((), tff.SERVER))

    return tff.learning.templates.DistributionProcess(_no_state, next_fn)


def build_client_work(
    distributor: tff.learning.templates.DistributionProcess, block_sum: BlockSum, dtype: tf.DType
) -> tff.learning.templates.ClientWorkProcess:
    """`(<()@SERVER, sent@CLIENTS, blocks@CLIENTS> -> <(), ClientResult@CLIENTS, ()>)`."""
    sent_type = distributor.next.type_signature.result.result.member

    @tff.tensorflow.computation(sent_type, BLOCK_TYPE)
    def work(sent: Any, blocks: Any) -> tff.learning.templates.ClientResult:
        @tf.function
        def over_blocks(sent: Any, blocks: Any) -> Any:
            total = _zeros(sent, dtype)
            for block in iter(blocks.with_options(_plain_iteration())):
                total = tf.nest.map_structure(tf.add, total, block_sum(sent, block["history"], block["seed"]))
            return total

        total = over_blocks(sent, blocks)
        weight = total.pop("weight")
        return tff.learning.templates.ClientResult(update=total, update_weight=weight)

    @tff.federated_computation(
        _no_state.type_signature.result,
        tff.FederatedType(sent_type, tff.CLIENTS),
        tff.FederatedType(BLOCK_TYPE, tff.CLIENTS),
    )
    def next_fn(state: Any, sent: Any, blocks: Any) -> Any:
        result = tff.federated_map(work, (sent, blocks))
        return tff.templates.MeasuredProcessOutput(state, result, tff.federated_value((), tff.SERVER))

    return tff.learning.templates.ClientWorkProcess(_no_state, next_fn)


def build_finalizer(
    model: TwoTower, optimizers: ServerOptimizers, mean_type: tff.Type, candidate_gradients: CandidateGradients
) -> tff.learning.templates.FinalizerProcess:
    """`(<S@SERVER, weights@SERVER, mean@SERVER> -> <S, weights, <loss=float32>>)`."""
    weights_type = initial_model_weights(model).type_signature.result
    count = len(model.query_tower.weight_specs())
    shapes = [tf.TensorSpec(weight.shape, weight.dtype) for weight in model.trainable_weights]

    @tff.tensorflow.computation
    def initial_state() -> Any:
        return optimizers.query.initialize(shapes[:count]), optimizers.candidate.initialize(shapes[count:])

    @tff.tensorflow.computation(initial_state.type_signature.result, weights_type, mean_type)
    @tf.function
    def step(state: Any, weights: Any, mean: Any) -> Any:
        query, candidate = list(weights.trainable[:count]), list(weights.trainable[count:])
        gradients = [-value for value in mean["query"].values()]
        query_state, query = optimizers.query.next(state[0], query, gradients)
        gradients = candidate_gradients(candidate, mean)
        candidate_state, candidate = optimizers.candidate.next(state[1], candidate, gradients)
        new_weights = tff.learning.models.ModelWeights(list(query) + list(candidate), [])
        return (query_state, candidate_state), new_weights, collections.OrderedDict(loss=mean["loss"])

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_eval(initial_state, tff.SERVER)

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(weights_type, tff.SERVER),
        tff.FederatedType(mean_type, tff.SERVER),
    )
    def next_fn(state: Any, weights: Any, mean: Any) -> Any:
        new_state, new_weights, measurements = tff.federated_map(step, (state, weights, mean))
        return tff.templates.MeasuredProcessOutput(new_state, new_weights, measurements)

    return tff.learning.templates.FinalizerProcess(initialize, next_fn)


@tff.federated_computation
def _no_state() -> Any:
    return tff.federated_value((), tff.SERVER)


def _zeros(sent: Any, dtype: tf.DType) -> Any:
    total = tf.nest.map_structure(lambda value: tf.zeros(value.shape, dtype), collections.OrderedDict(sent))
    total["loss"] = tf.zeros([], dtype)
    total["weight"] = tf.zeros([], dtype)
    return total


def _plain_iteration() -> tf.data.Options:
    """No rewriting of a data set that only hands out its few blocks: it would cost more than the blocks."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    options.deterministic = True
    return options
