"""What a block of devices computes, and how each user's contribution is bounded before anything is summed.

Plain TensorFlow: no federated word is needed to run or test it. The users of a block share nothing but the model they
were sent. Clipping, weighting and encoding happen for each user alone; only then is the block summed. So the result
does not depend on how users are grouped into blocks.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tff_rec.federated import adaptive_clipping, by_user
from tff_rec.federated.encoding import Encode
from tff_rec.federated.item_gradients import ItemGradient, Released, RowGradient, TableGradient
from tff_rec.federated.products import Products
from tff_rec.federated.tower_updates import TowerUpdates
from tff_rec.models import layers, objectives, randomness
from tff_rec.models.objectives import Block, Objective
from tff_rec.models.query_towers import QueryTower
from tff_rec.models.two_tower import UserWeighting

Units = Mapping[str, tf.Tensor]
"""Of adaptive clipping: the present norms of `query` and `items`, float32 [], which are the units of these parts."""
UploadNoise = Callable[[collections.OrderedDict[str, Any], tf.Tensor], collections.OrderedDict[str, Any]]
"""From a block's sums and its users' seeds, int32 [users], to the sums of what users send who add noise themselves."""


@dataclasses.dataclass(frozen=True)
class LocalTraining:
    """What a device does with the item vectors it receives.

    Attributes:
        query_tower: The model that it trains.
        objective: Its loss.
        weighting: Its weight in the mean over users, from its number of predictions.
        local_steps: Full-batch SGD steps on the query tower. Item gradients are summed over the steps.
        learning_rate: Of those steps.
        query_clip_norm: Largest L2 norm of a user's query-tower update; None for no bound.
        item_clip_norm: Largest L2 norm of a user's gradients of all item vectors together; None for no bound.
        loss_bound: Largest loss that a user reports; None for no bound.
        upload_noise: What users add to their parts before they send them; not for values that are encoded.
    """

    query_tower: QueryTower
    objective: Objective
    weighting: UserWeighting
    local_steps: int = 1
    learning_rate: float = 1.0
    query_clip_norm: float | None = None
    item_clip_norm: float | None = None
    loss_bound: float | None = None
    upload_noise: UploadNoise | None = None

    def __post_init__(self) -> None:
        if self.local_steps < 1:
            raise ValueError(f"local_steps must be at least 1, not {self.local_steps}.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}.")
        for name in ("query_clip_norm", "item_clip_norm", "loss_bound"):
            norm = getattr(self, name)
            if norm is not None and norm <= 0:
                raise ValueError(f"{name} must be positive or None, not {norm}.")


@dataclasses.dataclass(frozen=True)
class ReceivedItems:
    """Item vectors as a group of devices holds them: the whole table, or the rows that were asked for.

    Attributes:
        num_items: Size of the catalogue.
        vectors: float32 [rows, d].
        ids: int32 [rows], ascending, which items they belong to; None for the whole table.
    """

    num_items: int
    vectors: tf.Tensor
    ids: tf.Tensor | None = None

    def of(self, items: tf.Tensor) -> tf.Tensor:
        """Vectors of items, int32 of any shape; any vector for PADDING."""
        places = items if self.ids is None else tf.searchsorted(self.ids, tf.reshape(items, [-1]))
        return tf.gather(self.vectors, tf.reshape(tf.maximum(places, 0), tf.shape(items)))


@dataclasses.dataclass(frozen=True)
class _Leaves:
    """What is differentiated: the query tower, shared or one a user; and the item vectors that each user reads.

    In a first step users who have a tower each share its kernels, which note what a user's gradient is made of.
    Of `rows`, which are None for the whole table, users send those that are `released`; all where that is None.
    """

    query: layers.Weights
    items: tf.Tensor
    rows: tf.Tensor | None
    released: Released | None
    query_per_user: bool


@tf.autograph.experimental.do_not_convert
def block_sum(
    training: LocalTraining,
    encode: Encode | None,
    query_weights: layers.Weights,
    received: ReceivedItems,
    block: Block,
    units: Units | None = None,
    released: Released | None = None,
) -> collections.OrderedDict[str, Any]:
    """Trains every user of a block and sums what they send.

    Args:
        training: What each device does.
        encode: Turns each user's values into the integers that are summed; None sums the values themselves.
        query_weights: The query tower as sent, by name.
        received: Item vectors as sent.
        block: `history`, int32 [users, n], indices of items, oldest first, padded at the end with -1; `seed`, int32
            [users], what each device draws its random numbers from; and what else the objective reads.
        units: With adaptive clipping; clip norms are then multiples of them.
        released: With rings: of the rows that users asked for those that enough members did, whose gradients they send;
            None if they send all.

    Returns:
        `query`: by name, the sum over users of weight × (update of the query tower); `items`: [items, d], the sum of
        weight × (gradient of the item vectors); `loss`: the sum of weight × loss of the first step; `weight`: the sum
        of weights. With units the first two are multiples of them, and there is `below`, [2]: by part the sum of 1/2
        for users whom clipping left alone and -1/2 for others. Float32, or the type that `encode` gives.
    """
    weights = training.weighting(training.objective.num_positives(block["history"]))
    leaves = _leaves(training, encode is not None, query_weights, received, block, released)
    query_update, item_gradient, losses = _train(training, leaves, received, weights, block)
    query_unit, item_unit = (tf.ones([]) if units is None else units[name] for name in adaptive_clipping.PARTS)
    query, query_scale = _sum_query(training, encode, leaves, query_update, weights, query_unit)
    items, item_scale = _sum_items(training, encode, leaves, item_gradient, weights, item_unit)
    sums = collections.OrderedDict(query=query, items=items)
    numbers = {"loss": bounded_losses(losses, training.loss_bound) * weights, "weight": weights}
    if units is not None:
        numbers[adaptive_clipping.BELOW] = below_halves([query_scale, item_scale], weights)
    add_numbers(sums, numbers, encode)
    return sent_sums(sums, training.upload_noise, encode, block)


def add_numbers(
    sums: collections.OrderedDict[str, Any], numbers: Mapping[str, tf.Tensor], encode: Encode | None
) -> None:
    """Adds parts of a number or a few a user, [users, ...], to a block's sums."""
    for name, values in numbers.items():
        sums[name] = tf.reduce_sum(values, axis=0) if encode is None else encode.sum(name, values)


def sum_tower(encode: Encode | None, updates: TowerUpdates, factors: tf.Tensor) -> dict[str, tf.Tensor]:
    """Sums factors × updates over users, by name."""
    return updates.sum(factors) if encode is None else updates.encoded_sum(factors, encode)


def sum_items(encode: Encode | None, gradient: ItemGradient, factors: tf.Tensor) -> tf.Tensor:
    """Sums factors × item gradients over users."""
    if encode is None:
        return gradient.sum(factors)
    return gradient.encoded_sum(factors, encode)


def below_halves(scales: Sequence[tf.Tensor], weights: tf.Tensor) -> tf.Tensor:
    """Whether clipping left parts as they were: from `clip_scale` of each, [users], to ±1/2, [users, parts].

    A user of weight 0, who takes no part, has 0.
    """
    below = tf.cast(tf.stack(scales, axis=1) >= 1.0, tf.float32)
    return (below - adaptive_clipping.BELOW_BOUND) * tf.cast(weights > 0, tf.float32)[:, tf.newaxis]


def bounded_losses(losses: tf.Tensor, bound: float | None) -> tf.Tensor:
    """Losses, [users], brought into [0, bound] where there is one."""
    return losses if bound is None else tf.clip_by_value(losses, 0.0, bound)


def sent_sums(
    sums: collections.OrderedDict[str, Any], upload_noise: UploadNoise | None, encode: Encode | None, block: Block
) -> collections.OrderedDict[str, Any]:
    """A block's sums with the noise that its users add.

    Raises:
        ValueError: Users would add noise to values that are encoded.
    """
    if upload_noise is None:
        return sums
    if encode is not None:
        raise ValueError("Users who add noise themselves send floats: give an aggregator that does not encode.")
    return upload_noise(sums, block["seed"])


def _leaves(
    training: LocalTraining,
    encoded: bool,
    query_weights: layers.Weights,
    received: ReceivedItems,
    block: Block,
    released: Released | None,
) -> _Leaves:
    """Copies of the query tower one a user only where users need them: the sum of gradients is that of the sum."""
    tower, users = training.query_tower, tf.shape(block["history"])[0]
    per_user = encoded or training.local_steps > 1 or training.query_clip_norm is not None
    noted = tower.kernels() if training.local_steps == 1 else []
    query = dict(query_weights)
    if per_user:
        query = {
            name: layers.NotedKernel(value) if name in noted else by_user.stack(value, users)
            for name, value in query_weights.items()
        }
    rows = training.objective.rows(block, received.num_items)
    if rows is None and received.ids is not None:
        raise ValueError("The objective scores the whole table, and only some rows were sent.")
    return _Leaves(query, received.of(block["history"] if rows is None else rows), rows, released, per_user)


def _train(
    training: LocalTraining, leaves: _Leaves, received: ReceivedItems, weights: tf.Tensor, block: Block
) -> tuple[dict[str, tf.Tensor | Products], ItemGradient, tf.Tensor]:
    """Local steps, over which the item vectors stay what they are and their gradients add up.

    Returns:
        Updates of the query tower, and item gradients: each user's own, or weighted where users share the query tower
        (its updates are summed then); losses of the first step, [users].
    """
    step_seeds = tf.bitcast(randomness.bits(block["seed"], training.local_steps, "local steps"), tf.int32)
    update: dict[str, Any] = {}  # Tensors or, after the only step, products.
    steps, losses = [], []
    for step in range(training.local_steps):
        query = {name: leaves.query[name] + change for name, change in update.items()} or leaves.query
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((layers.values(query), leaves.items))
            scored = _score(training, leaves, received, block, query, step_seeds[:, step])
            # The gradient of a sum over users is each user's own where every user has its own weights.
            target = scored.losses if leaves.query_per_user else scored.losses * weights
        of_table = [] if scored.logits is None else [scored.logits]
        sources = [layers.differentiable(query), leaves.items, *of_table]
        gradients, *of_items = tape.gradient(target, sources, unconnected_gradients="zero")
        changes = {name: _change(query[name], gradients[name], training.learning_rate) for name in query}
        update = {name: update[name] + change if update else change for name, change in changes.items()}
        steps.append((scored.queries, of_items))
        losses.append(scored.losses)
    return update, _item_gradient(training, leaves, received, block, steps), losses[0]


def _change(weight: tf.Tensor | layers.NotedKernel, gradient: Any, learning_rate: float) -> tf.Tensor | Products:
    """What a step adds to a weight, from its gradient or, of a noted kernel, those of what it made."""
    if not isinstance(weight, layers.NotedKernel):
        return -learning_rate * tf.convert_to_tensor(gradient)
    return Products(tf.concat(weight.inputs, axis=1), -learning_rate * tf.concat(gradient, axis=1))


def _score(
    training: LocalTraining,
    leaves: _Leaves,
    received: ReceivedItems,
    block: Block,
    query: layers.Weights,
    seeds: tf.Tensor,
) -> objectives.Scored:
    objective, tower = training.objective, training.query_tower
    if isinstance(objective, objectives.FullSoftmax):
        return objective.score(tower, query, received.vectors, leaves.items, block, seeds)
    losses = objective.prepare(tower, leaves.items, block, leaves.rows)(query, seeds)
    return objectives.Scored(losses)


def _item_gradient(
    training: LocalTraining,
    leaves: _Leaves,
    received: ReceivedItems,
    block: Block,
    steps: list[tuple[tf.Tensor | None, list[tf.Tensor]]],
) -> ItemGradient:
    """From each step's queries and gradients: of the vectors that users read and, of a whole table, of the scores."""
    values = tf.add_n([of_items[0] for _, of_items in steps])
    if leaves.rows is not None:
        return RowGradient(received.num_items, leaves.rows, values, leaves.released)
    return TableGradient(
        received.num_items,
        block["history"],
        values,
        tf.concat([of_items[1] for _, of_items in steps], axis=1),
        tf.concat([queries for queries, _ in steps], axis=1),
    )


def _sum_query(
    training: LocalTraining,
    encode: Encode | None,
    leaves: _Leaves,
    update: dict[str, tf.Tensor | Products],
    weights: tf.Tensor,
    unit: tf.Tensor,
) -> tuple[collections.OrderedDict[str, tf.Tensor], tf.Tensor]:
    """Clipped, weighted and encoded for each user, and summed, in multiples of a unit, float32 []; and what clipping
    did, as `clip_scale` gives it."""
    scale = tf.ones_like(weights)
    if leaves.query_per_user:
        products = {name: value for name, value in update.items() if isinstance(value, Products)}
        updates = TowerUpdates({name: value for name, value in update.items() if name not in products}, products)
        if training.query_clip_norm is not None:
            scale = by_user.clip_scale(updates.squares / tf.square(unit), training.query_clip_norm)
        sums = sum_tower(encode, updates, weights * scale / unit)
    else:
        sums = {name: value / unit for name, value in update.items()}
    shapes = {name: shape for name, (shape, _) in training.query_tower.weight_specs().items()}
    return collections.OrderedDict((name, tf.ensure_shape(sums[name], shapes[name])) for name in leaves.query), scale


def _sum_items(
    training: LocalTraining,
    encode: Encode | None,
    leaves: _Leaves,
    gradient: ItemGradient,
    weights: tf.Tensor,
    unit: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """As `_sum_query`."""
    # Where users share the query tower gradients are weighted already.
    factors = (weights if leaves.query_per_user else tf.ones_like(weights)) / unit
    scale = tf.ones_like(weights)
    if training.item_clip_norm is not None or encode is not None:
        gradient = gradient.combined()
    if training.item_clip_norm is not None:
        scale = by_user.clip_scale(gradient.squares * tf.square(factors), training.item_clip_norm * weights)
        factors *= scale
    return sum_items(encode, gradient, factors), scale
