"""Sums of tables that each user rounds by itself, of which a few rows exist at a time.

A user's table, of item gradients or of a kernel's, is the product of a few vectors, which takes hardly longer than
writing it down: what costs are the passes over its numbers. So some rows of some users are made at once, few enough to
stay in a cache; they come rounded out of the product, by a number that is added to every entry as one more of its terms
(`FixedPoint.shift`); and their bits are added as they are.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tff_rec.federated import by_user
from tff_rec.federated.encoding import Encode, FixedPoint
from tff_rec.federated.products import Products

_USERS, _NUMBERS = 32, 1_000_000  # Most that are made at once. Integers of 24 bits of so many users add up to 29.


@dataclasses.dataclass(frozen=True)
class Tables:
    """A table a user: a product and what is added in rows of it, all in units of a step.

    Attributes:
        product: Of tables [items, d].
        ids: int32 [users, n], rows of the table, each once a user; negative for none.
        rows: float32 [users, n, d], what is added there.
    """

    product: Products
    ids: tf.Tensor
    rows: tf.Tensor

    def part(self, first: tf.Tensor, end: tf.Tensor, first_item: tf.Tensor, end_item: tf.Tensor) -> "Tables":
        """Those of some users and items, both numbered from 0."""
        ids = self.ids[first:end]
        return Tables(
            Products(self.product.left[first:end, :, first_item:end_item], self.product.right[first:end]),
            tf.where((ids >= first_item) & (ids < end_item), ids - first_item, -1),
            self.rows[first:end],
        )


def of_products(product: Products) -> Tables:
    """Tables in whose rows nothing is added."""
    users = tf.shape(product.left)[0]
    return Tables(product, tf.zeros([users, 0], tf.int32), tf.zeros([users, 0, product.right.shape[-1]]))


def sum_of_codes(tables: Tables, point: FixedPoint, encode: Encode) -> tf.Tensor:
    """Sums over the users at each place of what they encode, who each round their table.

    A table of which it is certain that it needs no clipping is rounded by half a step, and by a step where a row is
    added. Clipping takes longer.

    Args:
        tables: Of all users.
        point: How they round.
        encode: What they do then.

    Returns:
        `encode.word` [places, items, d].

    Raises:
        tf.errors.InvalidArgumentError: A number is none.
    """
    shift = point.shift

    def clipped() -> tf.Tensor:
        return _sum_of_clipped(tables, point, encode)

    if shift is None:
        return clipped()

    def shifted() -> tf.Tensor:
        rows = tf.cast(tf.round(tables.rows), tf.int32)
        added = encode.by_item(tables.ids, rows, tables.product.left.shape[-1], point.limit)
        return _sum_of_shifted(tables, *shift, encode) + added

    return tf.cond(_fit(tables, point), shifted, clipped)


def _fit(tables: Tables, point: FixedPoint) -> tf.Tensor:
    """Whether bounds of their entries show that no table needs clipping: bool []; they do not where a number is none.

    Rounded in two parts, entries are below the limit by a step; those of products below 2^22, as the shift needs it.
    """
    of_product = tables.product.largest
    of_all = of_product + tf.maximum(tf.reduce_max(tf.abs(tables.rows), axis=[1, 2]), 0.0)
    return tf.reduce_all((of_all <= point.within - 1.0) & (of_product <= 2.0**22 - 2.0**9))


def _sum_of_shifted(tables: Tables, shift: float, shift_bits: int, encode: Encode) -> tf.Tensor:
    """Of products that fit, at each place: what the bits of products and shift say, less those of the shifts."""
    left, right = tables.product.left, tables.product.right
    users, _, num_items = tf.unstack(tf.shape(left))
    shifted = Products(
        tf.concat([left, tf.ones([users, 1, num_items])], axis=1),
        tf.concat([right, tf.fill([users, 1, right.shape[-1]], shift)], axis=1),
    )

    def sum_of(part: Tables) -> tf.Tensor:
        bits = tf.reduce_sum(tf.bitcast(part.product.matrices(), tf.int32), axis=0)
        return tf.cast(bits - shift_bits * tf.shape(part.ids)[0], encode.word)

    return _over_parts(dataclasses.replace(tables, product=shifted), encode, sum_of)


def _sum_of_clipped(tables: Tables, point: FixedPoint, encode: Encode) -> tf.Tensor:
    """Of tables to which rows are added before they are rounded, at each place."""

    def sum_of(part: Tables) -> tf.Tensor:
        codes = point.rounded(by_user.scatter_to_each(part.product.matrices(), part.ids, part.rows))
        return encode.added(lambda whole: tf.reduce_sum(whole, axis=0), codes, point.limit)

    return _over_parts(tables, encode, sum_of)


def _over_parts(tables: Tables, encode: Encode, sum_of: Callable[[Tables], tf.Tensor]) -> tf.Tensor:
    """Sums over the users at each place, `encode.word` [places, items, d], made of those of few users and items.

    Args:
        tables: Of all users.
        encode: Has the places.
        sum_of: From the tables of some users to the sum of their integers, `encode.word` [items, d].
    """
    num_items, dimension = tables.product.left.shape[-1], tables.product.right.shape[-1]
    first_at_place = encode.first_at_place(tf.shape(tables.ids)[0])
    together = tf.clip_by_value(tf.reduce_max(first_at_place[1:] - first_at_place[:-1]), 1, _USERS)
    part_items = tf.maximum(_NUMBERS // (together * dimension), 1)
    num_parts = -(-num_items // part_items)

    def sum_part(number: tf.Tensor, sums: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        place, first_item = number // num_parts, number % num_parts * part_items
        end_item = tf.minimum(first_item + part_items, num_items)
        first, last = first_at_place[place], first_at_place[place + 1]

        def add(begin: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            end = tf.minimum(begin + together, last)
            return end, total + sum_of(tables.part(begin, end, first_item, end_item))

        start = first, tf.zeros([end_item - first_item, dimension], encode.word)
        return number + 1, sums.write(number, tf.while_loop(lambda begin, _: begin < last, add, start, None, 1)[1])

    count = encode.places * num_parts
    start = tf.constant(0), tf.TensorArray(encode.word, count, infer_shape=False, element_shape=[None, dimension])
    sums = tf.while_loop(lambda number, _: number < count, sum_part, start, None, 1)[1]
    return tf.reshape(sums.concat(), [encode.places, num_items, dimension])
