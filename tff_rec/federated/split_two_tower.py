"""Split federated training of a two-tower model as a TFF learning process (SpFedRec, Qin et al. 2023).

A round in four typed parts:

- distributor: the server runs the candidate tower over the catalogue and sends the query tower and the item vectors;
- client work: devices train the query tower and differentiate the item vectors (`contributions`);
- aggregator: any `aggregators.UserMeanFactory`;
- finalizer: a server optimizer on the query tower; the mean item gradients pulled back through the candidate tower by
  its vector-Jacobian product, with an optimizer of its own.

With plain aggregation a split round equals a round in which devices hold both towers (`unsplit_two_tower`), since the
pull-back is linear.
"""

import collections
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import aggregators, contributions
from tff_rec.models import layers
from tff_rec.models.two_tower import TwoTower

BLOCK_TYPE = tff.SequenceType(
    collections.OrderedDict(history=tff.TensorType(np.int32, [None, None]), seed=tff.TensorType(np.int32, [None]))
)


@dataclasses.dataclass(frozen=True)
class ServerOptimizers:
    """Optimizers of the two towers at the server, e.g. `tff.learning.optimizers.build_adam(1e-3)` for FedAdam."""

    query: tff.learning.optimizers.Optimizer
    candidate: tff.learning.optimizers.Optimizer


def build_split_two_tower(
    model: TwoTower,
    training: contributions.LocalTraining,
    optimizers: ServerOptimizers,
    aggregator: aggregators.UserMeanFactory | None = None,
) -> tff.learning.templates.LearningProcess:
    """Builds the process `(<state@SERVER, {<history=int32[?,?], seed=int32[?]>*}@CLIENTS> -> <state, metrics>)`.

    A TFF client is a group of devices: each element of its dataset is a block of users. The state's
    `global_model_weights.trainable` are the query tower's weights, then the candidate tower's, as in
    `model.trainable_weights`; they begin as they stand in `model`.

    Args:
        model: The two towers and the catalogue's features.
        training: What each device does.
        optimizers: At the server. They see minus the mean update of the query tower, and the mean gradient of the
            candidate tower.
        aggregator: From users to their mean; plain by default.
    """
    aggregator = aggregator or aggregators.PlainMeanFactory()
    distributor = _build_distributor(model)
    client_work = _build_client_work(model, training, aggregator.encode, distributor)
    result_type = client_work.next.type_signature.result.result.member
    aggregation = aggregator.create(result_type.update, result_type.update_weight)
    mean_type = aggregation.next.type_signature.result.result.member
    finalizer = _build_finalizer(model, optimizers, mean_type)
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


def split_weights(model: TwoTower, trainable: Any) -> tuple[layers.Weights, layers.Weights]:
    """Names the weights of the query tower and of the candidate tower in a list of all."""
    count = len(model.query_tower.weight_specs())
    return model.query_tower.as_weights(trainable[:count]), model.candidate_tower.as_weights(trainable[count:])


def _build_distributor(model: TwoTower) -> tff.learning.templates.DistributionProcess:
    """`(<()@SERVER, weights@SERVER> -> <(), <query=..., items=float32[items,d]>@CLIENTS, ()>)`."""
    weights_type = initial_model_weights(model).type_signature.result

    @tff.tensorflow.computation(weights_type)
    def what_is_sent(weights: Any) -> Any:
        query, candidate = split_weights(model, weights.trainable)
        return collections.OrderedDict(
            query=collections.OrderedDict(query), items=model.candidate_embeddings(candidate)
        )

    return _distribute(what_is_sent, weights_type)


def _distribute(what_is_sent: tff.Computation, weights_type: tff.Type) -> tff.learning.templates.DistributionProcess:
    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(initialize.type_signature.result, tff.FederatedType(weights_type, tff.SERVER))
    def next_fn(state: Any, weights: Any) -> Any:
        sent = tff.federated_broadcast(tff.federated_map(what_is_sent, weights))
        return tff.templates.MeasuredProcessOutput(state, sent, tff.federated_value((), tff.SERVER))

    return tff.learning.templates.DistributionProcess(initialize, next_fn)


def _build_client_work(
    model: TwoTower,
    training: contributions.LocalTraining,
    encode: contributions.Encode | None,
    distributor: tff.learning.templates.DistributionProcess,
) -> tff.learning.templates.ClientWorkProcess:
    """`(<()@SERVER, sent@CLIENTS, blocks@CLIENTS> -> <(), ClientResult@CLIENTS, ()>)`."""
    del model
    sent_type = distributor.next.type_signature.result.result.member

    @tff.tensorflow.computation(sent_type, BLOCK_TYPE)
    def work(sent: Any, blocks: Any) -> tff.learning.templates.ClientResult:
        @tf.function
        def over_blocks(sent: Any, blocks: Any) -> Any:
            total = _zeros(sent, tf.float32 if encode is None else tf.int64)
            for block in iter(blocks.with_options(_plain_iteration())):
                sums = contributions.block_sum(
                    training, encode, sent["query"], sent["items"], block["history"], block["seed"]
                )
                total = tf.nest.map_structure(tf.add, total, sums)
            return total

        total = over_blocks(sent, blocks)
        weight = total.pop("weight")
        return tff.learning.templates.ClientResult(update=total, update_weight=weight)

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(sent_type, tff.CLIENTS),
        tff.FederatedType(BLOCK_TYPE, tff.CLIENTS),
    )
    def next_fn(state: Any, sent: Any, blocks: Any) -> Any:
        result = tff.federated_map(work, (sent, blocks))
        return tff.templates.MeasuredProcessOutput(state, result, tff.federated_value((), tff.SERVER))

    return tff.learning.templates.ClientWorkProcess(initialize, next_fn)


def _plain_iteration() -> tf.data.Options:
    """No rewriting of a data set that only hands out its few blocks: it would cost more than the blocks."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    options.deterministic = True
    return options


def _zeros(sent: Any, dtype: tf.DType) -> Any:
    total = tf.nest.map_structure(
        lambda value: tf.zeros(value.shape, dtype),
        collections.OrderedDict(query=collections.OrderedDict(sent["query"]), items=sent["items"]),
    )
    total["loss"] = tf.zeros([], dtype)
    total["weight"] = tf.zeros([], dtype)
    return total


def _build_finalizer(
    model: TwoTower, optimizers: ServerOptimizers, mean_type: tff.Type
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
        gradients = _pull_back(model, candidate, mean["items"])
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


def _pull_back(model: TwoTower, candidate: list[tf.Tensor], item_gradient: tf.Tensor) -> list[tf.Tensor]:
    """Vector-Jacobian product of the candidate tower: gradients of its weights from those of its item vectors."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(candidate)
        table = model.candidate_embeddings(model.candidate_tower.as_weights(candidate))
    gradients = tape.gradient(table, candidate, output_gradients=item_gradient, unconnected_gradients="zero")
    return [tf.convert_to_tensor(gradient) for gradient in gradients]
