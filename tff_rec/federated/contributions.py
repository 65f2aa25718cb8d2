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

from tff_rec.federated import adaptive_clipping
from tff_rec.models import layers, randomness
from tff_rec.models.objectives import Block, Objective
from tff_rec.models.query_towers import QueryTower
from tff_rec.models.two_tower import UserWeighting

Encode = Callable[[str, tf.Tensor], tf.Tensor]
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
    """What is differentiated: shared tensors, or one a user where users must be told apart."""

    query: dict[str, tf.Tensor]
    items: tf.Tensor
    rows: tf.Tensor | None
    query_per_user: bool
    items_per_user: bool


@tf.autograph.experimental.do_not_convert
def block_sum(
    training: LocalTraining,
    encode: Encode | None,
    query_weights: layers.Weights,
    received: ReceivedItems,
    block: Block,
    units: Units | None = None,
) -> collections.OrderedDict[str, Any]:
    """Trains every user of a block and sums what they send.

    Args:
        training: What each device does.
        encode: Turns a part (`query`, `items`, `loss` or `weight`) of one user's contribution into what is summed, e.g.
            integers, elementwise (unsigned ones are residues of a ring); None sums the values themselves.
        query_weights: The query tower as sent, by name.
        received: Item vectors as sent.
        block: `history`, int32 [users, n], indices of items, oldest first, padded at the end with -1; `seed`, int32
            [users], what each device draws its random numbers from; and what else the objective reads.
        units: With adaptive clipping; clip norms are then multiples of them.

    Returns:
        `query`: by name, the sum over users of weight × (update of the query tower); `items`: [items, d], the sum of
        weight × (gradient of the item vectors); `loss`: the sum of weight × loss of the first step; `weight`: the sum
        of weights. With units the first two are multiples of them, and there is `below`, [2]: by part the sum of 1/2
        for users whom clipping left alone and -1/2 for others. Float32, or the type that `encode` gives.
    """
    weights = training.weighting(training.objective.num_positives(block["history"]))
    leaves = _leaves(training, encode is not None, query_weights, received, block)
    item_weights = weights if units is None else weights / units["items"]
    query_update, item_gradient, losses = _train(training, leaves, weights, item_weights, block)
    if units is not None:
        query_update = {name: value / units["query"] for name, value in query_update.items()}
    query, query_scale = _sum_query(training, encode, leaves, query_update, weights)
    items, item_scale = _sum_items(training, encode, leaves, item_gradient, weights, received.num_items)
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
        sums[name] = tf.reduce_sum(values, axis=0) if encode is None else integer_sum(encode(name, values))


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


def integer_sum(encoded: tf.Tensor) -> tf.Tensor:
    """Sums encoded values over users: integers [users, ...] → int64 [...]; unsigned ones wrap, being residues."""
    if encoded.dtype.is_unsigned:
        total = tf.reduce_sum(encoded, axis=0)
        return tf.bitcast(total, tf.int64) if total.dtype.size == tf.int64.size else tf.cast(total, tf.int64)
    return tf.reduce_sum(tf.cast(encoded, tf.int64), axis=0)


def _leaves(
    training: LocalTraining,
    encoded: bool,
    query_weights: layers.Weights,
    received: ReceivedItems,
    block: Block,
) -> _Leaves:
    """Copies the model once a user only where that is needed: the sum of gradients is the gradient of the sum."""
    users = tf.shape(block["history"])[0]
    query_per_user = encoded or training.local_steps > 1 or training.query_clip_norm is not None
    items_per_user = encoded or training.item_clip_norm is not None
    rows = training.objective.rows(block, received.num_items)
    if rows is not None:
        items = received.of(rows)
        items_per_user = True
    elif received.ids is not None:
        raise ValueError("The objective scores the whole table, and only some rows were sent.")
    else:
        items = stack_by_user(received.vectors, users) if items_per_user else received.vectors
    query = {name: stack_by_user(value, users) if query_per_user else value for name, value in query_weights.items()}
    return _Leaves(query, items, rows, query_per_user, items_per_user)


def stack_by_user(value: tf.Tensor, users: tf.Tensor) -> tf.Tensor:
    """One copy a user: [...] → [users, ...]."""
    return tf.tile(value[tf.newaxis], tf.concat([[users], tf.ones([value.shape.rank], tf.int32)], axis=0))


def _train(
    training: LocalTraining, leaves: _Leaves, weights: tf.Tensor, item_weights: tf.Tensor, block: Block
) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
    """Local steps.

    The item vectors stay what they are over the steps, so their gradient is taken once, of the sum of all losses, with
    the query tower of each step held constant.

    Returns:
        Updates of the query tower, one a user or else weighted and summed; weighted item gradients; losses of the first
        step, [users].
    """
    step_seeds = tf.bitcast(randomness.bits(block["seed"], training.local_steps, "local steps"), tf.int32)
    query, losses = dict(leaves.query), []
    with tf.GradientTape(watch_accessed_variables=False) as item_tape:
        item_tape.watch(leaves.items)
        loss_fn = training.objective.prepare(training.query_tower, leaves.items, block, leaves.rows)
        for step in range(training.local_steps):
            with tf.GradientTape(watch_accessed_variables=False) as query_tape:
                query_tape.watch(query)
                losses.append(loss_fn(query, step_seeds[:, step]))
                # The gradient of a sum over users is each user's own where every user has its own weights.
                target = losses[-1] if leaves.query_per_user else losses[-1] * weights
            with item_tape.stop_recording():
                gradients = query_tape.gradient(target, query, unconnected_gradients="zero")
                query = {
                    name: query[name] - training.learning_rate * tf.convert_to_tensor(gradients[name]) for name in query
                }
        total = tf.add_n(losses) * item_weights
    item_gradient = item_tape.gradient(total, leaves.items, unconnected_gradients="zero")
    update = {name: query[name] - leaves.query[name] for name in query}
    return update, tf.convert_to_tensor(item_gradient), losses[0]


def _sum_query(
    training: LocalTraining,
    encode: Encode | None,
    leaves: _Leaves,
    update: dict[str, tf.Tensor],
    weights: tf.Tensor,
) -> tuple[collections.OrderedDict[str, tf.Tensor], tf.Tensor]:
    """Clipped, weighted and encoded for each user, and summed; and what clipping did, as `clip_scale` gives it."""
    scale = tf.ones_like(weights)
    if leaves.query_per_user:
        if training.query_clip_norm is not None:
            squares = [tf.reduce_sum(tf.square(value), axis=range(1, value.shape.rank)) for value in update.values()]
            scale = clip_scale(tf.add_n(squares), training.query_clip_norm)
        weights *= scale
        if encode is None:
            update = {name: tf.tensordot(weights, value, 1) for name, value in update.items()}
        else:
            encoded = {name: encode("query", value * beside(weights, value)) for name, value in update.items()}
            update = {name: integer_sum(value) for name, value in encoded.items()}
    first = 1 if leaves.query_per_user else 0
    shapes = {name: weight.shape[first:] for name, weight in leaves.query.items()}
    return collections.OrderedDict((name, tf.ensure_shape(update[name], shapes[name])) for name in shapes), scale


def _sum_items(
    training: LocalTraining,
    encode: Encode | None,
    leaves: _Leaves,
    gradient: tf.Tensor,
    weights: tf.Tensor,
    num_items: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """As `_sum_query`."""
    rows, scale = leaves.rows, tf.ones_like(weights)
    bounded = encode is not None or training.item_clip_norm is not None
    if rows is not None and bounded:
        rows, gradient = combine_rows(rows, gradient)
    if training.item_clip_norm is not None:
        scale = clip_scale(tf.reduce_sum(tf.square(gradient), axis=[1, 2]), training.item_clip_norm * weights)
        gradient = gradient * beside(scale, gradient)
    if encode is not None:
        gradient = encode("items", gradient)
        if rows is None:
            return integer_sum(gradient), scale
        gradient = tf.cast(gradient, tf.int64)
    if rows is not None:
        return scatter_sum(rows, gradient, num_items), scale
    return (tf.reduce_sum(gradient, axis=0) if leaves.items_per_user else gradient), scale


def combine_rows(rows: tf.Tensor, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Adds up the gradients of an item that one user named several times, so that norms and rounding see one row.

    Args:
        rows: int32 [users, r], ids of items; negative ids are ignored.
        gradient: float32 [users, r, d].

    Returns:
        Ids int32 [users, r], each at most once a user, then -1; and their gradients, float32 [users, r, d].
    """
    users, count = tf.shape(rows)[0], tf.shape(rows)[1]
    order = tf.argsort(rows, axis=1)
    ordered = tf.gather(rows, order, batch_dims=1)
    begins = tf.concat([tf.ones([users, 1], tf.bool), tf.not_equal(ordered[:, 1:], ordered[:, :-1])], axis=1)
    slots = tf.cumsum(tf.cast(begins, tf.int32), axis=1) - 1
    segments = tf.reshape(slots + count * tf.range(users)[:, tf.newaxis], [-1])
    total = users * count
    moved = tf.reshape(tf.gather(gradient, order, batch_dims=1), [-1, gradient.shape[-1]])
    sums = tf.math.unsorted_segment_sum(moved, segments, total)
    ids = tf.maximum(tf.math.unsorted_segment_max(tf.reshape(ordered, [-1]), segments, total), -1)
    shape = tf.shape(gradient)
    ids = tf.reshape(ids, [users, count])
    return ids, tf.reshape(sums, shape) * tf.cast(ids >= 0, tf.float32)[:, :, tf.newaxis]


def scatter_sum(rows: tf.Tensor, values: tf.Tensor, num_rows: int) -> tf.Tensor:
    """Sums [..., d] values by their rows, [...], to [num_rows, d]; negative rows go to a last one that is cut off."""
    places = tf.reshape(tf.where(rows >= 0, rows, num_rows), [-1, 1])
    dimension = values.shape[-1]
    total = tf.zeros([num_rows + 1, dimension], values.dtype)
    return tf.tensor_scatter_nd_add(total, places, tf.reshape(values, [-1, dimension]))[:-1]


def clip_scale(squares: tf.Tensor, limit: tf.Tensor | float) -> tf.Tensor:
    """Factor, [users], that brings a contribution of the given square norm, [users], to at most `limit`."""
    return tf.where(squares > limit**2, tf.math.divide_no_nan(limit, tf.sqrt(squares)), 1.0)


def beside(vector: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Reshapes [users] to broadcast against [users, ...]."""
    return tf.reshape(vector, tf.concat([[-1], tf.ones([value.shape.rank - 1], tf.int32)], axis=0))
