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
import tensorflow_recommenders as tfrs

from tff_rec.federated import adaptive_clipping
from tff_rec.federated.aggregators import UserMeanFactory
from tff_rec.models import layers
from tff_rec.models.objectives import Block
from tff_rec.models.two_tower import TwoTower

Named = dict[str, tf.Tensor]
WhatIsSent = Callable[[Named, Named], collections.OrderedDict[str, Any]]
BlockSum = Callable[[Any, Block], collections.OrderedDict[str, Any]]
Sums = collections.OrderedDict[str, Any]
Zeros = Callable[[], Any]
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
    sums: Sums,
    candidate_gradients: CandidateGradients,
    clipping: adaptive_clipping.AdaptiveClipping | None = None,
) -> tff.learning.templates.LearningProcess:
    """Builds `(<state@SERVER, {<history=int32[?,?], seed=int32[?]>*}@CLIENTS> -> <state, metrics>)`.

    Args:
        model: The two towers; their present weights are the initial ones.
        optimizers: At the server. They see minus the mean update of the query tower, and the mean gradient of the
            candidate tower.
        aggregator: From users to their mean.
        what_is_sent: From the weights of the query and of the candidate tower, by name, to what every device gets.
        block_sum: From what was sent, and a block, to the sums over its users: `sums`, and `loss` and `weight`.
        sums: Shapes and types of what is summed. Floats become integers where the aggregator encodes.
        candidate_gradients: From the candidate tower's weights and the mean over users, at the server, to the
            gradients of those weights.
        clipping: As in `compose_users`.
    """
    return compose_users(
        initial_model_weights(model),
        build_distributor(model, what_is_sent),
        block_type(model),
        block_sum,
        sums,
        aggregator,
        lambda mean_type: build_finalizer(model, optimizers, mean_type, candidate_gradients),
        clipping,
    )


def compose_users(
    initial_weights: tff.Computation,
    distributor: tff.learning.templates.DistributionProcess,
    blocks_type: tff.SequenceType,
    block_sum: BlockSum,
    sums: Sums,
    aggregator: UserMeanFactory,
    finalizer_of_mean: Callable[[tff.Type], tff.learning.templates.FinalizerProcess],
    clipping: adaptive_clipping.AdaptiveClipping | None,
) -> tff.learning.templates.LearningProcess:
    """The learning process of a model that blocks of users train.

    Args:
        initial_weights: `( -> ModelWeights)`.
        distributor: From weights to what every device gets.
        blocks_type: Of a TFF client's data.
        block_sum: As in `compose`; with `clipping` what was sent has the norms beside.
        sums: As in `compose`.
        aggregator: From users to their mean; with `clipping` of one part more.
        finalizer_of_mean: From the type of the mean to the finalizer.
        clipping: Moves the clip norms from round to round; None where they are fixed.
    """
    if clipping is not None:
        initial_weights = adaptive_clipping.build_initial_weights(initial_weights, clipping)
        weights_type = initial_weights.type_signature.result
        distributor = adaptive_clipping.build_distributor(distributor, weights_type)
        sums = collections.OrderedDict(sums, **{adaptive_clipping.BELOW: adaptive_clipping.BELOW_SPEC})
    zeros = zero_sums(sums, tf.float32 if aggregator.encode is None else tf.int64)
    client_work = build_client_work(distributor, blocks_type, block_sum, zeros, aggregator.most_users)
    result_type = client_work.next.type_signature.result.result.member
    aggregation = aggregator.create(result_type.update, result_type.update_weight)
    finalizer = finalizer_of_mean(aggregation.next.type_signature.result.result.member)
    if clipping is not None:
        finalizer = adaptive_clipping.build_finalizer(finalizer, clipping, weights_type)
    return tff.learning.templates.compose_learning_process(
        initial_weights, distributor, client_work, aggregation, finalizer
    )


def initial_model_weights(model: tfrs.Model) -> tff.Computation:
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
    distributor: tff.learning.templates.DistributionProcess,
    blocks_type: tff.SequenceType,
    block_sum: BlockSum,
    zeros: Zeros,
    most_users: int | None,
) -> tff.learning.templates.ClientWorkProcess:
    """`(<()@SERVER, sent@CLIENTS, blocks@CLIENTS> -> <(), ClientResult@CLIENTS, ()>)`; as `sum_over_blocks`."""
    sent_type = distributor.next.type_signature.result.result.member

    @tff.tensorflow.computation(sent_type, blocks_type)
    def work(sent: Any, blocks: Any) -> tff.learning.templates.ClientResult:
        @tf.function
        def over_blocks(sent: Any, blocks: Any) -> Any:
            return sum_over_blocks(lambda block: block_sum(sent, block), blocks, zeros, most_users)

        total = over_blocks(sent, blocks)
        weight = total.pop("weight")
        return tff.learning.templates.ClientResult(update=total, update_weight=weight)

    @tff.federated_computation(
        _no_state.type_signature.result,
        tff.FederatedType(sent_type, tff.CLIENTS),
        tff.FederatedType(blocks_type, tff.CLIENTS),
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
    @tf.function(autograph=False)
    def step(state: Any, weights: Any, mean: Any) -> Any:
        query, candidate = list(weights.trainable[:count]), list(weights.trainable[count:])
        gradients = [-value for value in mean["query"].values()]
        query_state, query = optimizers.query.next(state[0], query, gradients)
        gradients = candidate_gradients(candidate, mean)
        candidate_state, candidate = optimizers.candidate.next(state[1], candidate, gradients)
        new_weights = tff.learning.models.ModelWeights(list(query) + list(candidate), [])
        return (query_state, candidate_state), new_weights, collections.OrderedDict(loss=mean["loss"])

    return finalizer_of(initial_state, step)


def finalizer_of(initial_state: tff.Computation, step: tff.Computation) -> tff.learning.templates.FinalizerProcess:
    """Places at the server what is computed there: `(<S@SERVER, weights@SERVER, mean@SERVER> -> <S, weights, M>)`.

    Args:
        initial_state: `( -> S)`.
        step: `(<S, weights, mean> -> <S, weights, M>)`, M the measurements.
    """
    state_type, weights_type, mean_type = step.type_signature.parameter

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_eval(initial_state, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(state_type, tff.SERVER),
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


def block_type(model: TwoTower) -> tff.SequenceType:
    """Blocks as the model's objective reads them: `{<history=int32[?,?], seed=int32[?], …>}*`."""
    more = collections.OrderedDict((key, tff.TensorType(np.int32, [None, None])) for key in model.objective.block_keys)
    return tff.SequenceType(
        collections.OrderedDict(
            history=tff.TensorType(np.int32, [None, None]), seed=tff.TensorType(np.int32, [None]), **more
        )
    )


def zero_sums(sums: Sums, dtype: tf.DType) -> Zeros:
    """What a sum over blocks begins with; `dtype` takes the place of floats."""
    scalar = tf.TensorSpec([], tf.float32)
    specs = collections.OrderedDict(sums, loss=scalar, weight=scalar)

    def zero(spec: tf.TensorSpec) -> tf.Tensor:
        return tf.zeros(spec.shape, dtype if spec.dtype.is_floating else spec.dtype)

    return lambda: tf.nest.map_structure(zero, specs)


def sum_over_blocks(
    block_sum: Callable[[Block], Any], blocks: tf.data.Dataset, zeros: Zeros, most_users: int | None
) -> Any:
    """The sum of `block_sum` over a TFF client's blocks, one after the other; inside a `tf.function`.

    Raises:
        tf.errors.InvalidArgumentError: The blocks together have more than `most_users`, whose sum might not fit.
    """
    total, users = zeros(), tf.constant(0)
    for block in iter(blocks.with_options(_plain_iteration())):
        total = tf.nest.map_structure(tf.add, total, block_sum(block))
        users += tf.size(block["seed"])
    if most_users is not None:
        tf.debugging.assert_less_equal(users, most_users, f"A client has at most {most_users} users.")
    return total


def weight_shapes(tower: layers.Tower) -> collections.OrderedDict[str, tf.TensorSpec]:
    """Of a tower's weights, by name."""
    return collections.OrderedDict((name, tf.TensorSpec(shape)) for name, (shape, _) in tower.weight_specs().items())


def _plain_iteration() -> tf.data.Options:
    """No rewriting of a data set that only hands out its few blocks: it would cost more than the blocks."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    options.deterministic = True
    return options
