"""Federated training of the tag-aware filter by a few silos, each with the ratings of many users of its own.

A silo trains a copy of all global weights for some epochs over its mini-batches and sends the change, weighted by its
number of ratings. What the server does with the mean change names the algorithm: SGD of rate 1 adopts it, as in FedAvg
(McMahan et al. 2017); Adam, Yogi and Adagrad take it for a gradient, as in FedOpt (Reddi et al. 2021). A proximal term
on the silo keeps the copy near what was sent, as in FedProx (Li et al. 2020). One silo and a server of rate 1 are
centralised training.

Personalisation of a silo needs no message: some epochs more from the global weights (`fine_tune`), and the mixture of
global and local weights (`mixture`; Mansour et al. 2020, https://arxiv.org/abs/2002.10619).
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import aggregators, stages, tag_aware
from tff_rec.federated.encoding import Encode
from tff_rec.federated.tower_updates import TowerUpdates
from tff_rec.models.objectives import Block
from tff_rec.models.tag_aware import TagAware

BuildOptimizer = Callable[[float], tff.learning.optimizers.Optimizer]


@dataclasses.dataclass(frozen=True)
class SiloTraining:
    """What a silo does with the weights it receives.

    Attributes:
        epochs: Passes over the silo's mini-batches in a round.
        learning_rate: Of the optimizer, in the first round.
        proximal: FedProx's µ: µ/2 times the squared distance from what was sent joins the loss.
        build_optimizer: From a learning rate to an optimizer, which begins anew in every round.
        decay: Factor of the learning rate from one round to the next.
        clip_norm: Largest L2 norm of a silo's change of all weights together; None for no bound.
    """

    epochs: int
    learning_rate: float
    proximal: float = 0.0
    build_optimizer: BuildOptimizer = tff.learning.optimizers.build_sgdm
    decay: float = 1.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {self.epochs}.")
        if self.proximal < 0:
            raise ValueError(f"proximal must not be negative, as {self.proximal} is.")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm must be positive or None, not {self.clip_norm}.")
        for name in ("learning_rate", "decay"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}.")


@dataclasses.dataclass(frozen=True)
class Step:
    """What a mini-batch gives.

    Attributes:
        loss: float32 [], its loss times its weight.
        weight: float32 [], e.g. its number of ratings.
        gradients: Of its mean loss and of the penalty, in the order of `TagAware.trainable_weights`.
    """

    loss: tf.Tensor
    weight: tf.Tensor
    gradients: list[tf.Tensor]


@dataclasses.dataclass(frozen=True)
class MiniBatches:
    """What a silo's data set holds, and how one of its elements is differentiated.

    Attributes:
        blocks_type: Of the data set.
        differentiate: From all weights, a mini-batch and the number of the epoch, int32 from 0, to a step.
    """

    blocks_type: tff.SequenceType
    differentiate: Callable[[list[tf.Tensor], Block, tf.Tensor], Step]


@dataclasses.dataclass(frozen=True)
class _Trained:
    """Of a silo, after its epochs: all weights; its mean loss over the first epoch; the weight of that epoch."""

    weights: list[tf.Tensor]
    loss: tf.Tensor
    weight: tf.Tensor


def build_silo_tag_aware(
    model: TagAware,
    silo: SiloTraining,
    server_optimizer: tff.learning.optimizers.Optimizer,
    aggregator: aggregators.UserMeanFactory | None = None,
    mini_batches: MiniBatches | None = None,
) -> tff.learning.templates.LearningProcess:
    """Builds `(<state@SERVER, {<items=int32[?,?],ratings=float32[?,?],seed=int32[?]>*}@CLIENTS> -> <state, metrics>)`.

    A TFF client is a silo, and each element of its dataset one of its mini-batches, a block of users. The state's
    `global_model_weights.trainable` are in the order of `model.trainable_weights` and begin as they stand in `model`.
    The finalizer's metric `loss` is the mean squared error of all ratings as the first epoch came upon them.

    Args:
        model: Both towers, the catalogue's features and the penalties.
        silo: What each silo does.
        server_optimizer: Sees minus the mean change of the weights.
        aggregator: From silos, in place of users, to their mean; plain by default. Of the parts that it may bound,
            `query` is the change of the rating tower and `items` that of the item tower.
        mini_batches: Of a silo; by default `open_batches`. A silo weighs what its mini-batches weigh together.
    """
    aggregator = aggregator or aggregators.PlainMeanFactory()
    mini_batches = mini_batches or open_batches(model)
    initial_weights = stages.initial_model_weights(model)
    distributor = tff.learning.templates.build_broadcast_process(initial_weights.type_signature.result)
    client_work = build_silo_work(model, silo, aggregator.encode, mini_batches)
    result_type = client_work.next.type_signature.result.result.member
    aggregation = aggregator.create(result_type.update, result_type.update_weight)
    finalizer = build_silo_finalizer(model, server_optimizer, aggregation.next.type_signature.result.result.member)
    return tff.learning.templates.compose_learning_process(
        initial_weights, distributor, client_work, aggregation, finalizer
    )


def fine_tune(
    model: TagAware, weights: Sequence[np.ndarray], blocks: Iterable[Block], silo: SiloTraining
) -> list[np.ndarray]:
    """A silo's own weights: those after its epochs from the global ones, as in a first round, and sent to nobody.

    Args:
        model: Gives the computation; its own weights are left alone.
        weights: Global, in the order of `model.trainable_weights`.
        blocks: The silo's mini-batches.
        silo: What it does.
    """
    spec = collections.OrderedDict(
        items=tf.TensorSpec([None, None], tf.int32),
        ratings=tf.TensorSpec([None, None], tf.float32),
        seed=tf.TensorSpec([None], tf.int32),
    )
    held = [{name: block[name] for name in spec} for block in blocks]
    dataset = tf.data.Dataset.from_generator(lambda: iter(held), output_signature=dict(spec))
    mini_batches = open_batches(model)
    train = tf.function(lambda sent: _train(model, silo, mini_batches, sent, dataset, tf.constant(0)).weights)
    return [value.numpy() for value in train([tf.convert_to_tensor(value) for value in weights])]


def mixture(global_weights: Sequence[np.ndarray], local: Sequence[np.ndarray], share: float) -> list[np.ndarray]:
    """`(1 - share) · global + share · local`, weight by weight.

    Raises:
        ValueError: The share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"The share of local weights is {share}; give one in [0, 1].")
    return [(1 - share) * one + share * other for one, other in zip(global_weights, local, strict=True)]


def open_batches(model: TagAware) -> MiniBatches:
    """Blocks of users that weigh their numbers of ratings, and gradients of `TagAware.compute_loss`."""

    @tf.autograph.experimental.do_not_convert
    def differentiate(weights: list[tf.Tensor], block: Block, epoch: tf.Tensor) -> Step:
        seeds = tag_aware.seeds_at(block, epoch)
        count = tf.reduce_sum(tf.cast(block["items"] >= 0, tf.float32))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            items, tower = tag_aware.split_weights(model, weights)
            losses = model.rating_tower.losses(tower, model.item_table(items), block["items"], block["ratings"], seeds)
            squares = tf.reduce_sum(losses)
            loss = tf.math.divide_no_nan(squares, count) + model.penalties.penalty(items | tower) / model.num_ratings
        gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
        return Step(squares, count, [tf.convert_to_tensor(value) for value in gradients])

    return MiniBatches(tag_aware.block_type(), differentiate)


def build_silo_work(
    model: TagAware, silo: SiloTraining, encode: Encode | None, mini_batches: MiniBatches
) -> tff.learning.templates.ClientWorkProcess:
    """`(<rounds=int32@SERVER, weights@CLIENTS, blocks@CLIENTS> -> <rounds, ClientResult@CLIENTS, ()>)`."""
    weights_type = stages.initial_model_weights(model).type_signature.result

    @tff.tensorflow.computation(weights_type, mini_batches.blocks_type, np.int32)
    def work(weights: Any, blocks: Any, round_number: Any) -> tff.learning.templates.ClientResult:
        @tf.function
        def change(sent: list[tf.Tensor], blocks: Any, round_number: tf.Tensor) -> Any:
            trained = _train(model, silo, mini_batches, sent, blocks, round_number)
            return _contribution(model, silo, encode, sent, trained)

        update = change(list(weights.trainable), blocks, round_number)
        weight = update.pop("weight")
        return tff.learning.templates.ClientResult(update=update, update_weight=weight)

    @tff.tensorflow.computation(np.int32)
    def following(round_number: Any) -> Any:
        return round_number + 1

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_value(np.int32(0), tff.SERVER)

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(weights_type, tff.CLIENTS),
        tff.FederatedType(mini_batches.blocks_type, tff.CLIENTS),
    )
    def next_fn(round_number: Any, weights: Any, blocks: Any) -> Any:
        result = tff.federated_map(work, (weights, blocks, tff.federated_broadcast(round_number)))
        after = tff.federated_map(following, round_number)
        return tff.templates.MeasuredProcessOutput(after, result, tff.federated_value((), tff.SERVER))

    return tff.learning.templates.ClientWorkProcess(initialize, next_fn)


def build_silo_finalizer(
    model: TagAware, optimizer: tff.learning.optimizers.Optimizer, mean_type: tff.Type
) -> tff.learning.templates.FinalizerProcess:
    """`(<S@SERVER, weights@SERVER, mean@SERVER> -> <S, weights, <loss=float32>>)`."""
    weights_type = stages.initial_model_weights(model).type_signature.result

    @tff.tensorflow.computation
    def initial_state() -> Any:
        return optimizer.initialize(_specs(model))

    @tff.tensorflow.computation(initial_state.type_signature.result, weights_type, mean_type)
    @tf.function(autograph=False)
    def step(state: Any, weights: Any, mean: Any) -> Any:
        gradients = [-value for part in ("items", "query") for value in mean[part].values()]
        new_state, new_weights = optimizer.next(state, list(weights.trainable), gradients)
        new_weights = tff.learning.models.ModelWeights(list(new_weights), [])
        return new_state, new_weights, collections.OrderedDict(loss=mean["loss"])

    return stages.finalizer_of(initial_state, step)


def _specs(model: TagAware) -> list[tf.TensorSpec]:
    return [tf.TensorSpec(weight.shape, weight.dtype) for weight in model.trainable_weights]


def _train(
    model: TagAware,
    silo: SiloTraining,
    mini_batches: MiniBatches,
    sent: list[tf.Tensor],
    blocks: tf.data.Dataset,
    round_number: tf.Tensor,
) -> _Trained:
    """The silo's epochs; inside a `tf.function`, whose loops it needs."""
    optimizer = silo.build_optimizer(silo.learning_rate)
    state = _with_rate(optimizer, optimizer.initialize(_specs(model)), silo, round_number)
    weights = list(sent)
    loss, weight = tf.constant(0.0), tf.constant(0.0)
    for epoch in tf.range(silo.epochs):
        first = tf.cast(tf.equal(epoch, 0), tf.float32)
        for block in iter(blocks):
            step = mini_batches.differentiate(weights, block, epoch)
            state, weights = optimizer.next(state, weights, _pulled(silo, step.gradients, weights, sent))
            loss += first * step.loss
            weight += first * step.weight
    return _Trained(weights, tf.math.divide_no_nan(loss, weight), weight)


@tf.autograph.experimental.do_not_convert
def _pulled(
    silo: SiloTraining, gradients: list[tf.Tensor], weights: list[tf.Tensor], sent: list[tf.Tensor]
) -> list[tf.Tensor]:
    """Gradients with that of FedProx's term."""
    pulled = zip(gradients, weights, sent, strict=True)
    return [gradient + silo.proximal * (now - before) for gradient, now, before in pulled]


@tf.autograph.experimental.do_not_convert
def _with_rate(
    optimizer: tff.learning.optimizers.Optimizer, state: Any, silo: SiloTraining, round_number: tf.Tensor
) -> Any:
    """The optimizer's state with the round's learning rate."""
    rate = silo.learning_rate * tf.pow(tf.constant(silo.decay), tf.cast(round_number, tf.float32))
    hparams = optimizer.get_hparams(state)
    hparams[tff.learning.optimizers.LEARNING_RATE_KEY] = rate
    return tf.nest.map_structure(tf.convert_to_tensor, optimizer.set_hparams(state, hparams))


@tf.autograph.experimental.do_not_convert
def _contribution(
    model: TagAware,
    silo: SiloTraining,
    encode: Encode | None,
    sent: list[tf.Tensor],
    trained: _Trained,
) -> collections.OrderedDict[str, Any]:
    """What a silo sends: weighted, bounded and encoded."""
    changes = [after - before for after, before in zip(trained.weights, sent, strict=True)]
    if silo.clip_norm is not None:
        changes, _ = tf.clip_by_global_norm(changes, silo.clip_norm)
    items, tower = tag_aware.split_weights(model, [trained.weight * change for change in changes])
    parts: collections.OrderedDict[str, Any] = collections.OrderedDict(
        query=collections.OrderedDict(tower),
        items=collections.OrderedDict(items),
        loss=trained.weight * trained.loss,
        weight=trained.weight,
    )
    if encode is None:
        return parts
    # The encoding is written for parts of several users, [users, ...], and sums: here of one.
    return collections.OrderedDict((name, _encoded(encode, name, part)) for name, part in parts.items())


def _encoded(encode: Encode, name: str, part: Any) -> Any:
    """Of a tensor, or of tensors by name."""
    if isinstance(part, tf.Tensor):
        return encode.sum(name, part[tf.newaxis])
    return TowerUpdates({key: value[tf.newaxis] for key, value in part.items()}).encoded_sum(tf.ones([1]), encode, name)
