"""Sums of tables that each user rounds by itself, of which a few rows exist at a time.

A user's table is the product of a few vectors, which takes hardly longer than writing it down: what costs are the
passes over its numbers. So some rows of some users are made at once, few enough to stay in a cache; they come rounded
out of the product, by a number that is added to every entry as one more of its terms (`FixedPoint.shift`); and their
bits are added as they are.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tff_rec.federated import by_user
from tff_rec.federated.encoding import Encode, FixedPoint

_USERS, _NUMBERS = 64, 1_400_000  # Most that are made at once.


@dataclasses.dataclass(frozen=True)
class Tables:
    """A table a user, `logitsᵀ queries` and what is added in rows of it, all in units of a step.

    Attributes:
        logits: float32 [users, m, items].
        queries: float32 [users, m, d].
        ids: int32 [users, n], rows of the table, each once a user; negative for none.
        rows: float32 [users, n, d], what is added there.
    """

    logits: tf.Tensor
    queries: tf.Tensor
    ids: tf.Tensor
    rows: tf.Tensor

    def part(self, first: tf.Tensor, end: tf.Tensor, first_item: tf.Tensor, end_item: tf.Tensor) -> "Tables":
        """Those of some users and items, both numbered from 0."""
        ids = self.ids[first:end]
        return Tables(
            self.logits[first:end, :, first_item:end_item],
            self.queries[first:end],
            tf.where((ids >= first_item) & (ids < end_item), ids - first_item, -1),
            self.rows[first:end],
        )


def sum_of_codes(tables: Tables, point: FixedPoint, encode: Encode, fit: tf.Tensor) -> tf.Tensor:
    """The sum over users of what they send, who each round their table.

    A table that fits is rounded by half a step, and by a step where a row is added.

    Args:
        tables: Of all users.
        point: How they round.
        encode: What they do then.
        fit: Whether all entries are known to be below the limit by a step, and those of the product below 2^22: bool
            []. Else what is beyond the bound is clipped, which takes longer.

    Returns:
        int64 [items, d]; with rings residues.

    Raises:
        tf.errors.InvalidArgumentError: A number is none; `fit` must be false then.
    """
    shift = point.shift

    def clipped() -> tf.Tensor:
        return _over_parts(tables, encode, lambda part: _sum_of_clipped(part, point))

    if shift is None:
        return encode.sent(clipped())

    def shifted() -> tf.Tensor:
        products = _over_parts(tables, encode, lambda part: _sum_of_products(part, *shift))
        rows = tf.cast(tf.round(tables.rows), tf.int32)
        return products + encode.by_item(tables.ids, rows, tables.logits.shape[-1], point.limit)

    return encode.sent(tf.cond(fit, shifted, clipped))


def _over_parts(tables: Tables, encode: Encode, sum_of: Callable[[Tables], tf.Tensor]) -> tf.Tensor:
    """Sums over the users at each place, [places, items, d], from those over few users of few rows."""
    num_items, dimension = tables.logits.shape[-1], tables.queries.shape[-1]
    first_at_place = encode.first_at_place(tf.shape(tables.ids)[0])
    together = tf.clip_by_value(first_at_place[1], 1, _USERS)
    part_items = tf.maximum(_NUMBERS // (together * dimension), 1)
    num_parts = -(-num_items // part_items)

    def sum_part(number: tf.Tensor, sums: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        place, first_item = number // num_parts, number % num_parts * part_items
        end_item, last = tf.minimum(first_item + part_items, num_items), first_at_place[place + 1]

        def add(first: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            end = tf.minimum(first + together, last)
            return end, total + tf.cast(sum_of(tables.part(first, end, first_item, end_item)), encode.word)

        start = first_at_place[place], tf.zeros([end_item - first_item, dimension], encode.word)
        return number + 1, sums.write(number, tf.while_loop(lambda first, _: first < last, add, start, None, 1)[1])

    count = encode.places * num_parts
    start = tf.constant(0), tf.TensorArray(encode.word, count, infer_shape=False, element_shape=[None, dimension])
    sums = tf.while_loop(lambda number, _: number < count, sum_part, start, None, 1)[1]
    return tf.reshape(sums.concat(), [encode.places, num_items, dimension])


def _sum_of_products(tables: Tables, shift: float, shift_bits: int) -> tf.Tensor:
    """Of up to `_USERS` users' products that fit what their bits say, less the shifts: int32 [items, d]."""
    users, _, num_items = tf.unstack(tf.shape(tables.logits))
    logits = tf.concat([tables.logits, tf.ones([users, 1, num_items])], axis=1)
    queries = tf.concat([tables.queries, tf.fill([users, 1, tables.queries.shape[-1]], shift)], axis=1)
    bits = tf.bitcast(tf.matmul(logits, queries, transpose_a=True), tf.int32)
    return tf.reduce_sum(bits, axis=0) - users * shift_bits


def _sum_of_clipped(tables: Tables, point: FixedPoint) -> tf.Tensor:
    """Of up to `_USERS` users' tables, rows added before they are rounded: int32 or int64 [items, d]."""
    product = tf.matmul(tables.logits, tables.queries, transpose_a=True)
    codes = point.rounded(by_user.scatter_to_each(product, tables.ids, tables.rows))
    return tf.reduce_sum(tf.cast(codes, tf.int32 if _USERS * point.limit <= tf.int32.max else tf.int64), axis=0)
