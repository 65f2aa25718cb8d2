"""Federated training of the tag-aware filter by one client a user, as a TFF learning process.

Partially local training (Singhal et al. 2021, https://arxiv.org/abs/2102.03448): the user's part is formed anew on the
device and never leaves it. Here it is a closed form of the history and of what was sent (`models.reconstruction`), so
that a device stores nothing between rounds. A round in four typed parts:

- distributor: the server runs the item tower over the catalogue and sends its table and the rating tower;
- client work: a device takes SGD steps on its copy of the rating tower and of the rows of its own items. It gives the
  mean gradient on the way, which is weighted, bounded and encoded for each user alone before a block is summed. FedProx
  (Li et al. 2020) keeps the copies near what was sent;
- aggregator: any `aggregators.UserMeanFactory`;
- finalizer: the mean gradient of the table is pulled back through the item tower; the penalties, which are on the sum
  over all ratings, add theirs; then an optimizer for each tower, as in FedOpt (Reddi et al. 2021).
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import adaptive_clipping, aggregators, by_user, contributions, stages
from tff_rec.federated.encoding import Encode
from tff_rec.federated.item_gradients import RowGradient
from tff_rec.federated.tower_updates import TowerUpdates
from tff_rec.models import layers
from tff_rec.models.objectives import Block
from tff_rec.models.rating_towers import RatingTower, rows_of
from tff_rec.models.tag_aware import TagAware
from tff_rec.models.two_tower import UserWeighting, by_positives

_SEED_STRIDE = 1_000_003
_ROWS = "rows"


@dataclasses.dataclass(frozen=True)
class LocalRatings:
    """What a device does with the table's rows and the rating tower that it receives.

    Attributes:
        rating_tower: Forms the user's part and predicts.
        local_steps: SGD steps on the sum of squared errors over all ratings of the user.
        learning_rate: Of those steps, on rows; without effect where there is one.
        tower_learning_rate: The same on the rating tower, whose every weight feels all ratings and not one.
        proximal: FedProx's µ: µ/2 times the squared distance from what was sent joins that sum.
        row_clip_norm: Largest L2 norm of a user's mean gradient of all rows together, of its mean squared error; None
            for no bound.
        tower_clip_norm: The same of the rating tower.
        weighting: The user's weight in the mean over users, from its number of ratings.
        loss_bound: Largest mean squared error that a user reports; None for no bound.
        upload_noise: As in `contributions.LocalTraining`.
    """

    rating_tower: RatingTower
    local_steps: int = 1
    learning_rate: float = 0.02
    tower_learning_rate: float = 2e-5
    proximal: float = 0.0
    row_clip_norm: float | None = None
    tower_clip_norm: float | None = None
    weighting: UserWeighting = by_positives
    loss_bound: float | None = None
    upload_noise: contributions.UploadNoise | None = None

    def __post_init__(self) -> None:
        if self.local_steps < 1:
            raise ValueError(f"local_steps must be at least 1, not {self.local_steps}.")
        if self.proximal < 0:
            raise ValueError(f"proximal must not be negative, as {self.proximal} is.")
        for name in ("learning_rate", "tower_learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}.")
        for name in ("row_clip_norm", "tower_clip_norm", "loss_bound"):
            norm = getattr(self, name)
            if norm is not None and norm <= 0:
                raise ValueError(f"{name} must be positive or None, not {norm}.")


def build_tag_aware(
    model: TagAware,
    local: LocalRatings,
    optimizers: stages.ServerOptimizers,
    aggregator: aggregators.UserMeanFactory | None = None,
    clipping: adaptive_clipping.AdaptiveClipping | None = None,
) -> tff.learning.templates.LearningProcess:
    """Builds `(<state@SERVER, {<items=int32[?,?],ratings=float32[?,?],seed=int32[?]>*}@CLIENTS> -> <state, metrics>)`.

    A TFF client is a group of devices: each element of its dataset is a block of users. The state's
    `global_model_weights.trainable` are in the order of `model.trainable_weights`, the item tower's and then the rating
    tower's, and begin as they stand in `model`. The finalizer's metric `loss` is the mean squared error of the cohort
    before its local steps, every rating predicted from the user's others.

    Args:
        model: Both towers, the catalogue's features and the penalties.
        local: What each device does.
        optimizers: At the server, `query` of the rating tower and `candidate` of the item tower. They see the gradient
            of the mean squared error and its penalty, as in centralised training.
        aggregator: From users to their mean; plain by default. Of the parts that it may bound, `query` is the rating
            tower's and `items` the table's.
        clipping: Clip norms that move from round to round, of which those of `local` are multiples: 1.

    Raises:
        ValueError: There are adaptive clip norms, and others than 1 in `local`.
    """
    if clipping is not None:
        adaptive_clipping.check_unit_norms(local.tower_clip_norm, local.row_clip_norm)
    mean = aggregator or aggregators.PlainMeanFactory()

    def sum_of_block(sent: Any, block: Block) -> stages.Sums:
        units = sent.get(adaptive_clipping.NORMS)
        return block_sum(local, mean.encode, sent["query"], sent["items"], block, units)

    return stages.compose_users(
        stages.initial_model_weights(model),
        build_distributor(model),
        block_type(),
        sum_of_block,
        collections.OrderedDict(query=stages.weight_shapes(model.rating_tower), items=table_shape(model)),
        mean,
        lambda mean_type: build_finalizer(model, optimizers, mean_type),
        clipping,
    )


@tf.autograph.experimental.do_not_convert
def block_sum(
    local: LocalRatings,
    encode: Encode | None,
    tower: layers.Weights,
    table: tf.Tensor,
    block: Block,
    units: contributions.Units | None = None,
) -> stages.Sums:
    """Trains every user of a block and sums what they send; plain TensorFlow.

    Args:
        local: What each device does.
        encode: As in `contributions.block_sum`.
        tower: The rating tower's weights as sent, by name.
        table: float32 [items, width] as sent, of which a device reads the rows of its own items.
        block: `items`, int32 [users, n], each item at most once a user, padded with -1; `ratings`, float32 [users, n];
            `seed`, int32 [users], what each device draws its dropout from.
        units: As in `contributions.block_sum`.

    Returns:
        `query`: by name, the sum over users of weight × mean gradient of the rating tower; `items`: [items, width], the
        same of the table; `loss`: the sum of weight × mean squared error at the first step; `weight`: the sum of
        weights; with units `below`, as in `contributions.block_sum`. Float32, or int64 where encoded.
    """
    counts = tf.reduce_sum(tf.cast(block["items"] >= 0, tf.float32), axis=1)
    weights = local.weighting(counts)
    # From the sum over a user's ratings to its weighted mean.
    shares = tf.math.divide_no_nan(weights, counts)
    numbers = {"weight": weights}
    if _apart(local, encode):
        gradients, rows, losses = _train(local, tower, table, block)
        tower_shares, row_shares = (
            (shares, shares) if units is None else (shares / units[name] for name in adaptive_clipping.PARTS)
        )
        tower_scale = _scale(gradients.values(), tower_shares, local.tower_clip_norm, weights)
        row_scale = _scale([rows], row_shares, local.row_clip_norm, weights)
        query = contributions.sum_tower(encode, TowerUpdates(gradients), tower_shares * tower_scale)
        row_gradient = RowGradient(table.shape[0], block["items"], rows)
        items = contributions.sum_items(encode, row_gradient, row_shares * row_scale)
        if units is not None:
            numbers[adaptive_clipping.BELOW] = contributions.below_halves([tower_scale, row_scale], weights)
    else:
        query, items, losses = _differentiate(local, tower, table, block, shares)
    mean_losses = contributions.bounded_losses(tf.math.divide_no_nan(losses, counts), local.loss_bound)
    numbers["loss"] = mean_losses * weights
    sums: stages.Sums = collections.OrderedDict(query=query, items=items)
    contributions.add_numbers(sums, numbers, encode)
    return contributions.sent_sums(sums, local.upload_noise, encode, block)


def seeds_at(block: Block, step: tf.Tensor | int) -> tf.Tensor:
    """What users draw from in a later pass over a block: int32 [users]; at step 0 the block's own seeds."""
    return block["seed"] + tf.constant(_SEED_STRIDE) * step


def block_type() -> tff.SequenceType:
    """Blocks of ratings: `{<items=int32[?,?],ratings=float32[?,?],seed=int32[?]>*}`."""
    return tff.SequenceType(
        collections.OrderedDict(
            items=tff.TensorType(np.int32, [None, None]),
            ratings=tff.TensorType(np.float32, [None, None]),
            seed=tff.TensorType(np.int32, [None]),
        )
    )


def split_weights(model: TagAware, trainable: Sequence[tf.Tensor]) -> tuple[stages.Named, stages.Named]:
    """Names the weights of the item tower and of the rating tower in a list of all."""
    count = len(model.item_tower.weight_specs())
    tower = model.rating_tower.as_weights(list(trainable[count:]))
    return dict(model.item_tower.as_weights(list(trainable[:count]))), dict(tower)


def build_distributor(model: TagAware) -> tff.learning.templates.DistributionProcess:
    """`(<()@SERVER, weights@SERVER> -> <(), <query=…,items=float32[items,width]>@CLIENTS, ()>)`."""
    weights_type = stages.initial_model_weights(model).type_signature.result

    @tff.tensorflow.computation(weights_type)
    def prepare(weights: Any) -> Any:
        items, tower = split_weights(model, weights.trainable)
        return collections.OrderedDict(query=collections.OrderedDict(tower), items=model.item_table(items))

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(initialize.type_signature.result, tff.FederatedType(weights_type, tff.SERVER))
    def next_fn(state: Any, weights: Any) -> Any:
        sent = tff.federated_broadcast(tff.federated_map(prepare, weights))
        return tff.templates.MeasuredProcessOutput(state, sent, tff.federated_value((), tff.SERVER))

    return tff.learning.templates.DistributionProcess(initialize, next_fn)


def build_finalizer(
    model: TagAware, optimizers: stages.ServerOptimizers, mean_type: tff.Type
) -> tff.learning.templates.FinalizerProcess:
    """`(<S@SERVER, weights@SERVER, mean@SERVER> -> <S, weights, <loss=float32>>)`."""
    weights_type = stages.initial_model_weights(model).type_signature.result
    item_shapes = list(stages.weight_shapes(model.item_tower).values())
    tower_shapes = list(stages.weight_shapes(model.rating_tower).values())

    @tff.tensorflow.computation
    def initial_state() -> Any:
        return optimizers.query.initialize(tower_shapes), optimizers.candidate.initialize(item_shapes)

    @tff.tensorflow.computation(initial_state.type_signature.result, weights_type, mean_type)
    @tf.function(autograph=False)
    def step(state: Any, weights: Any, mean: Any) -> Any:
        items, tower = split_weights(model, weights.trainable)
        item_gradients = penalised(model, items, pull_back(model, items, mean["items"]))
        tower_gradients = penalised(model, tower, mean["query"])
        tower_state, new_tower = optimizers.query.next(state[0], list(tower.values()), tower_gradients)
        item_state, new_items = optimizers.candidate.next(state[1], list(items.values()), item_gradients)
        new_weights = tff.learning.models.ModelWeights(list(new_items) + list(new_tower), [])
        return (tower_state, item_state), new_weights, collections.OrderedDict(loss=mean["loss"])

    return stages.finalizer_of(initial_state, step)


@tf.autograph.experimental.do_not_convert
def pull_back(model: TagAware, items: stages.Named, table_gradient: tf.Tensor) -> stages.Named:
    """Vector-Jacobian product of the item tower: gradients of its weights from that of its table, [items, width]."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(items)
        table = model.item_table(items)
    gradients = tape.gradient(table, items, output_gradients=table_gradient)
    return {name: tf.convert_to_tensor(value) for name, value in gradients.items()}


def penalised(model: TagAware, weights: stages.Named, gradients: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
    """Gradients of the mean squared error with those of the penalty a rating, in the weights' order."""
    factors = {name: 2.0 * model.penalties.of(name) / model.num_ratings for name in weights}
    return [gradients[name] + factors[name] * weights[name] for name in weights]


def table_shape(model: TagAware) -> tf.TensorSpec:
    """Of the item tower's table: float32 [items, 2 + 2 · dimension]."""
    return tf.TensorSpec([model.item_tower.num_items, 2 + 2 * model.item_tower.dimension])


def _apart(local: LocalRatings, encode: Encode | None) -> bool:
    """Whether each user needs a gradient of its own; else the gradient of the sum will do."""
    bounded = local.row_clip_norm is not None or local.tower_clip_norm is not None
    return local.local_steps > 1 or bounded or encode is not None


def _differentiate(
    local: LocalRatings, tower: layers.Weights, table: tf.Tensor, block: Block, shares: tf.Tensor
) -> tuple[stages.Named, tf.Tensor, tf.Tensor]:
    """Gradients of the sum of shares × losses by the tower and the table, and the losses, float32 [users]."""
    sent = (dict(tower), table)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(sent)
        losses = local.rating_tower.losses(*sent, block["items"], block["ratings"], block["seed"])
        total = tf.reduce_sum(losses * shares)
    query, items = tape.gradient(total, sent, unconnected_gradients="zero")
    return collections.OrderedDict(query), tf.ensure_shape(tf.convert_to_tensor(items), table.shape), losses


def _train(
    local: LocalRatings, tower: layers.Weights, table: tf.Tensor, block: Block
) -> tuple[stages.Named, tf.Tensor, tf.Tensor]:
    """Local steps of each user on its own rows and tower.

    Returns:
        The mean over steps of the gradients of a user's sum of squared errors: by the tower, by name [users, ...], and
        by the rows of its items, [users, n, width]; and the losses of the first step, [users].
    """
    items, ratings = block["items"], block["ratings"]
    sent = {name: by_user.stack(value, tf.shape(items)[0]) for name, value in tower.items()}
    sent[_ROWS] = rows_of(table, items)
    rates = dict.fromkeys(tower, local.tower_learning_rate) | {_ROWS: local.learning_rate}
    totals = {name: tf.zeros_like(value) for name, value in sent.items()}
    all_losses = []
    for step in range(local.local_steps):
        # After SGD steps the copy is what was sent minus rate × sum of gradients; so is the proximal term.
        copy = {name: sent[name] - rates[name] * totals[name] for name in sent}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(copy)
            losses = local.rating_tower.row_losses(copy, copy[_ROWS], items, ratings, seeds_at(block, step))
        gradients = tape.gradient(losses, copy, unconnected_gradients="zero")
        kept = {name: 1.0 - local.proximal * rate for name, rate in rates.items()}
        totals = {name: kept[name] * totals[name] + gradients[name] for name in sent}
        all_losses.append(losses)
    means = collections.OrderedDict((name, totals[name] / local.local_steps) for name in sent)
    rows = means.pop(_ROWS)
    return means, rows, all_losses[0]


def _scale(gradients: Iterable[tf.Tensor], shares: tf.Tensor, norm: float | None, weights: tf.Tensor) -> tf.Tensor:
    """Factor, [users], that brings share × gradients, [users, ...], to at most norm × weight."""
    if norm is None:
        return tf.ones_like(shares)
    return by_user.clip_scale(by_user.squares(gradients) * tf.square(shares), norm * weights)
