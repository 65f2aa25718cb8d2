"""Tensors whose first axis is users: copies, factors, bounds, integers, sums."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Protocol

import tensorflow as tf

NOT_A_NUMBER = "not a number"
"""What errors say of a value that cannot be encoded."""


class Rings(Protocol):
    """Masks on integers of users that cancel in the sum over a ring, where an entry is the same thing for all members.

    The first users of a block are its first ring, the next its second, and so on.
    """

    def of(self, users: tf.Tensor) -> tf.Tensor:
        """From a number of users, int32 [], to the ring of each: int32 [users], from 0."""
        ...

    def masks(self, shape: tf.Tensor) -> tf.Tensor:
        """Signed integers of a shape, int32 [rank], users first, to add to theirs."""
        ...

    def uploads(self, masked: tf.Tensor) -> tf.Tensor:
        """What users send, unsigned, from their integers and masks together, which may have wrapped."""
        ...


@dataclasses.dataclass(frozen=True)
class Encode:
    """What each user does to its values before they are added to anybody's.

    Attributes:
        code: From a part of contributions (`query`, `items`, `loss` or `weight`) and its values, float32 [users, ...],
            to signed integers of that shape.
        rings: What hides these integers, so that only sums over whole rings mean something; None where every integer
            stands for itself.
    """

    code: Callable[[str, tf.Tensor], tf.Tensor]
    rings: Rings | None = None

    def __call__(self, part: str, values: tf.Tensor) -> tf.Tensor:
        """What users send: their integers, or unsigned residues of a ring."""
        codes = self.code(part, values)
        return codes if self.rings is None else masked(codes, self.rings)


def masked(codes: tf.Tensor, rings: Rings) -> tf.Tensor:
    """Uploads of users whose integers all have the same entries: signed to unsigned, [users, ...]."""
    masks = rings.masks(tf.shape(codes))
    return rings.uploads(tf.cast(codes, masks.dtype) + masks)


def stack(value: tf.Tensor, users: tf.Tensor) -> tf.Tensor:
    """One copy a user: [...] → [users, ...]."""
    return tf.tile(value[tf.newaxis], tf.concat([[users], tf.ones([value.shape.rank], tf.int32)], axis=0))


def beside(vector: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Reshapes [users] to broadcast against [users, ...]."""
    return tf.reshape(vector, tf.concat([[-1], tf.ones([value.shape.rank - 1], tf.int32)], axis=0))


def squares(values: Iterable[tf.Tensor]) -> tf.Tensor:
    """Each user's squared L2 norm over some tensors together: [users, ...] each → float32 [users]."""
    return tf.add_n([tf.reduce_sum(tf.square(value), axis=range(1, value.shape.rank)) for value in values])


def clip_scale(squares: tf.Tensor, limit: tf.Tensor | float) -> tf.Tensor:
    """Factor, [users], that brings a contribution of the given square norm, [users], to at most `limit`."""
    return tf.where(squares > limit**2, tf.math.divide_no_nan(limit, tf.sqrt(squares)), 1.0)


def integer_sum(encoded: tf.Tensor) -> tf.Tensor:
    """Sums encoded values over users, exactly: int32 [users, ...] → int64 [...]; or unsigned, residues, which wrap.

    Raises:
        tf.errors.InvalidArgumentError: A user's value was not a number before it was encoded.
    """
    if encoded.dtype.is_unsigned:
        total = tf.reduce_sum(encoded, axis=0)
        return tf.bitcast(total, tf.int64) if total.dtype.size == tf.int64.size else tf.cast(total, tf.int64)
    smallest = smallest_code(encoded)
    return tf.cond(
        _sums_fit(encoded, smallest),
        lambda: tf.cast(tf.reduce_sum(encoded, axis=0), tf.int64),  # Thrice as fast.
        lambda: tf.reduce_sum(tf.cast(encoded, tf.int64), axis=0),
    )


def smallest_code(encoded: tf.Tensor) -> tf.Tensor:
    """The smallest of int32 values, [], which is never the smallest of its type: that is what NaN is cast to.

    Raises:
        tf.errors.InvalidArgumentError: It is.
    """
    smallest = tf.reduce_min(encoded)
    tf.debugging.assert_greater(smallest, encoded.dtype.min, f"A user's value is {NOT_A_NUMBER}.")
    return smallest


def _sums_fit(encoded: tf.Tensor, smallest: tf.Tensor) -> tf.Tensor:
    """Whether no sum over users, of any of them, can leave the type of the values: bool []."""
    ends = tf.cast([tf.reduce_max(encoded), smallest], tf.int64)
    return tf.reduce_max(tf.abs(ends)) * tf.shape(encoded, tf.int64)[0] <= encoded.dtype.max


def scatter_sum(rows: tf.Tensor, values: tf.Tensor, num_rows: int) -> tf.Tensor:
    """Sums [..., d] values by their rows, [...], to [num_rows, d]; negative rows go to a last one that is cut off."""
    places = tf.reshape(tf.where(rows >= 0, rows, num_rows), [-1, 1])
    dimension = values.shape[-1]
    total = tf.zeros([num_rows + 1, dimension], values.dtype)
    return tf.tensor_scatter_nd_add(total, places, tf.reshape(values, [-1, dimension]))[:-1]


def scatter_to_each(tables: tf.Tensor, rows: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Adds [users, r, d] values to the given rows, [users, r], of tables, one a user; negative rows are ignored."""
    named = tf.where(rows >= 0)
    places = tf.stack([named[:, 0], tf.cast(tf.gather_nd(rows, named), tf.int64)], axis=-1)
    return tf.tensor_scatter_nd_add(tables, places, tf.gather_nd(values, named))


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
