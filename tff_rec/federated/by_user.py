"""Tensors whose first axis is users: copies, factors, bounds, sums."""

from collections.abc import Iterable

import tensorflow as tf


def stack(value: tf.Tensor, users: tf.Tensor) -> tf.Tensor:
    """One copy a user: [...] → [users, ...]."""
    return tf.tile(value[tf.newaxis], tf.concat([[users], tf.ones([value.shape.rank], tf.int32)], axis=0))


def beside(vector: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Reshapes [users] to broadcast against [users, ...]."""
    return tf.reshape(vector, tf.concat([[-1], tf.ones([value.shape.rank - 1], tf.int32)], axis=0))


def squares(values: Iterable[tf.Tensor]) -> tf.Tensor:
    """Each user's squared L2 norm over some tensors together: [users, ...] each → float32 [users].

    Float32's errors make it no smaller than the largest square, but for the last two of its bits.
    """
    # A norm and its square, which take a pass less than the sum of squares.
    norms = [tf.math.reduce_euclidean_norm(value, axis=range(1, value.shape.rank)) for value in values]
    return tf.add_n([tf.square(norm) for norm in norms])


def clip_scale(squares: tf.Tensor, limit: tf.Tensor | float) -> tf.Tensor:
    """Factor, [users], that brings a contribution of the given square norm, [users], to at most `limit`."""
    return tf.where(squares > limit**2, tf.math.divide_no_nan(limit, tf.sqrt(squares)), 1.0)


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
    shape = tf.shape(rows)
    first = shape[1] * tf.range(shape[0])[:, tf.newaxis]  # Of each user's places.
    order = tf.argsort(rows, axis=1)
    ordered = tf.gather(rows, order, batch_dims=1)
    begins = tf.concat([tf.ones([shape[0], 1], tf.bool), tf.not_equal(ordered[:, 1:], ordered[:, :-1])], axis=1)
    slots = first + tf.cumsum(tf.cast(begins, tf.int32), axis=1) - 1
    of_ordered = tf.reshape(tf.where(ordered >= 0, slots, -1), [-1])
    segments = tf.gather(of_ordered, tf.math.invert_permutation(tf.reshape(first + order, [-1])))
    ids = tf.math.unsorted_segment_max(tf.reshape(rows, [-1]), segments, tf.size(rows))
    sums = tf.math.unsorted_segment_sum(tf.reshape(gradient, [-1, gradient.shape[-1]]), segments, tf.size(rows))
    return tf.reshape(tf.maximum(ids, -1), shape), tf.reshape(sums, tf.shape(gradient))
