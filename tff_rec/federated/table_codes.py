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

_USERS, _NUMBERS = 32, 1_000_000  # Most that are made at once.
_USERS_OF_A_SUM = 256  # Of so many the integers, which have up to 24 bits, add up to no more than int32 holds.


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
        return _sum_of_clipped(tables, point, encode)

    if shift is None:
        return encode.sent(clipped())

    def shifted() -> tf.Tensor:
        rows = tf.cast(tf.round(tables.rows), tf.int32)
        added = encode.by_item(tables.ids, rows, tables.logits.shape[-1], point.limit)
        return _sum_of_products(tables, *shift, encode) + added

    return encode.sent(tf.cond(fit, shifted, clipped))


def _sum_of_products(tables: Tables, shift: float, shift_bits: int, encode: Encode) -> tf.Tensor:
    """Of products that fit, at each place: what the bits of products and shift say, less those of the shifts."""
    users, _, num_items = tf.unstack(tf.shape(tables.logits))
    logits = tf.concat([tables.logits, tf.ones([users, 1, num_items])], axis=1)
    queries = tf.concat([tables.queries, tf.fill([users, 1, tables.queries.shape[-1]], shift)], axis=1)

    def bits(part: Tables) -> tf.Tensor:
        return tf.bitcast(tf.matmul(part.logits, part.queries, transpose_a=True), tf.int32)

    shifted = dataclasses.replace(tables, logits=logits, queries=queries)
    return _over_parts(shifted, encode, bits, tf.int32, shift_bits)


def _sum_of_clipped(tables: Tables, point: FixedPoint, encode: Encode) -> tf.Tensor:
    """Of tables to which rows are added before they are rounded, at each place."""
    word = tf.int32 if _USERS_OF_A_SUM * point.limit <= tf.int32.max else tf.int64

    def codes(part: Tables) -> tf.Tensor:
        product = tf.matmul(part.logits, part.queries, transpose_a=True)
        return tf.cast(point.rounded(by_user.scatter_to_each(product, part.ids, part.rows)), word)

    return _over_parts(tables, encode, codes, word)


def _over_parts(
    tables: Tables, encode: Encode, codes_of: Callable[[Tables], tf.Tensor], word: tf.DType, excess: int = 0
) -> tf.Tensor:
    """Sums over the users at each place, `encode.word` [places, items, d], made of those of few users and rows.

    Args:
        tables: Of all users.
        encode: Has the places.
        codes_of: From the tables of some users to their integers, `word` [users, items, d].
        word: Holds a sum of `_USERS_OF_A_SUM`.
        excess: By how much each integer is too large.
    """
    num_items, dimension = tables.logits.shape[-1], tables.queries.shape[-1]
    first_at_place = encode.first_at_place(tf.shape(tables.ids)[0])
    largest = tf.maximum(first_at_place[1], 1)
    together = tf.minimum(largest, _USERS)
    part_items = tf.maximum(_NUMBERS // (together * dimension), 1)
    num_parts, num_sums = -(-num_items // part_items), -(-largest // _USERS_OF_A_SUM)

    def sum_part(number: tf.Tensor, sums: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        place, of_place = number // (num_parts * num_sums), number // num_parts % num_sums
        first = first_at_place[place] + of_place * _USERS_OF_A_SUM
        last = tf.minimum(first + _USERS_OF_A_SUM, first_at_place[place + 1])
        first_item = number % num_parts * part_items
        end_item = tf.minimum(first_item + part_items, num_items)

        def add(begin: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            end = tf.minimum(begin + together, last)
            return end, total + tf.reduce_sum(codes_of(tables.part(begin, end, first_item, end_item)), axis=0)

        start = first, tf.zeros([end_item - first_item, dimension], word)
        total = tf.while_loop(lambda begin, _: begin < last, add, start, None, 1)[1]
        return number + 1, sums.write(number, tf.cast(total - tf.cast(last - first, word) * excess, encode.word))

    count = encode.places * num_sums * num_parts
    start = tf.constant(0), tf.TensorArray(encode.word, count, infer_shape=False, element_shape=[None, dimension])
    sums = tf.while_loop(lambda number, _: number < count, sum_part, start, None, 1)[1]
    return tf.reduce_sum(tf.reshape(sums.concat(), [encode.places, num_sums, num_items, dimension]), axis=1)
