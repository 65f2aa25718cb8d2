"""Sums of tables that each user rounds by itself, of which a few rows exist at a time.

A user's table, of item gradients or of a kernel's, is the product of a few vectors, which takes hardly longer than
writing it down: what costs are the passes over its numbers. So some rows of some users are made at once, few enough to
stay in a cache; they come rounded out of the product, by a number that is added to every entry as one more of its terms
(`FixedPoint.shift`); and their bits are added as they are.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

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

    @property
    def largest_in_rows(self) -> tf.Tensor:
        """The largest magnitude of what each user adds in rows: float32 [users], 0 where that is nothing."""
        return tf.maximum(tf.reduce_max(tf.abs(self.rows), axis=[1, 2]), 0.0)

    def part(self, first: tf.Tensor, end: tf.Tensor, first_item: tf.Tensor, end_item: tf.Tensor) -> "Tables":
        """Those of some users and items, both numbered from 0."""
        ids = self.ids[first:end]
        return Tables(
            Products(self.product.left[first:end, :, first_item:end_item], self.product.right[first:end]),
            tf.where((ids >= first_item) & (ids < end_item), ids - first_item, -1),
            self.rows[first:end],
        )


def sums_of_products(products: Sequence[Products], point: FixedPoint, encode: Encode) -> list[tf.Tensor]:
    """`sum_of_codes` of several small tables in whose rows nothing is added: one loop over users makes them all."""

    def sums(own: Sequence[Products], sum_of: Callable[[Products], tf.Tensor]) -> list[tf.Tensor]:
        first_at_place = encode.first_at_place(tf.shape(own[0].left)[0])
        zeros = [tf.zeros([each.left.shape[-1], each.right.shape[-1]], encode.word) for each in own]

        def of_users(begin: tf.Tensor, end: tf.Tensor) -> list[tf.Tensor]:
            return [sum_of(Products(each.left[begin:end], each.right[begin:end])) for each in own]

        by_place = [
            _over_users(first_at_place[place], first_at_place[place + 1], zeros, of_users)
            for place in range(encode.places)
        ]
        return [tf.stack(of_product) for of_product in zip(*by_place, strict=True)]

    return _shifted_or_clipped(
        tf.reduce_all([_fit(product.largest, point) for product in products]),
        point,
        lambda shift, bits: sums(
            [_with_shift(product, shift) for product in products], lambda part: _sum_of_bits(part, bits, encode)
        ),
        lambda: sums(products, lambda part: _sum(point.rounded(part.matrices()), point, encode)),
    )


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

    def clipped() -> tf.Tensor:
        def sum_of(part: Tables) -> tf.Tensor:
            whole = by_user.scatter_to_each(part.product.matrices(), part.ids, part.rows)
            return _sum(point.rounded(whole), point, encode)

        return _over_parts(tables, encode, sum_of)

    def shifted(shift: float, bits: int) -> tf.Tensor:
        rows = tf.cast(tf.round(tables.rows), tf.int32)
        added = encode.by_item(tables.ids, rows, tables.product.left.shape[-1], point.limit)
        own = dataclasses.replace(tables, product=_with_shift(tables.product, shift))
        return added + _over_parts(own, encode, lambda part: _sum_of_bits(part.product, bits, encode))

    return _shifted_or_clipped(_fit(tables.product.largest, point, tables.largest_in_rows), point, shifted, clipped)


def _shifted_or_clipped(
    fit: tf.Tensor, point: FixedPoint, shifted: Callable[[float, int], Any], clipped: Callable[[], Any]
) -> Any:
    """By a shift, which is given with its bits, where everything fits and there is one."""
    shift = point.shift
    return clipped() if shift is None else tf.cond(fit, lambda: shifted(*shift), clipped)


def _fit(of_product: tf.Tensor, point: FixedPoint, of_rows: tf.Tensor | float = 0.0) -> tf.Tensor:
    """Whether bounds of their entries show that no table needs clipping: bool []; they do not where a number is none.

    Rounded in two parts, entries are below the limit by a step; those of products below 2^22, as the shift needs it.

    Args:
        of_product: Of each user's product, float32 [users].
        point: How users round.
        of_rows: Of what each adds in rows.
    """
    return tf.reduce_all((of_product + of_rows <= point.within - 1.0) & (of_product <= 2.0**22 - 2.0**9))


def _with_shift(product: Products, shift: float) -> Products:
    """The product with one more term, which adds a shift to every entry."""
    users, _, rows = tf.unstack(tf.shape(product.left))
    return Products(
        tf.concat([product.left, tf.ones([users, 1, rows])], axis=1),
        tf.concat([product.right, tf.fill([users, 1, product.right.shape[-1]], shift)], axis=1),
    )


def _sum_of_bits(shifted: Products, shift_bits: int, encode: Encode) -> tf.Tensor:
    """Of products with a shift: what their bits say, less those of the shifts; `encode.word`."""
    bits = tf.reduce_sum(tf.bitcast(shifted.matrices(), tf.int32), axis=0)
    return tf.cast(bits - shift_bits * tf.shape(shifted.left)[0], encode.word)


def _sum(codes: tf.Tensor, point: FixedPoint, encode: Encode) -> tf.Tensor:
    return encode.added(lambda whole: tf.reduce_sum(whole, axis=0), codes, point.limit)


def _over_users(first: tf.Tensor, last: tf.Tensor, zeros: Any, sum_of: Callable[[tf.Tensor, tf.Tensor], Any]) -> Any:
    """Sums over users from `first` to before `last`, of the shapes of `zeros`, made of those of few."""

    def add(begin: tf.Tensor, total: Any) -> tuple[tf.Tensor, Any]:
        end = tf.minimum(begin + _USERS, last)
        return end, tf.nest.map_structure(tf.add, total, sum_of(begin, end))

    return tf.while_loop(lambda begin, _: begin < last, add, (first, zeros), None, 1)[1]


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
        zeros = tf.zeros([end_item - first_item, dimension], encode.word)

        def of_users(begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
            return sum_of(tables.part(begin, end, first_item, end_item))

        total = _over_users(first_at_place[place], first_at_place[place + 1], zeros, of_users)
        return number + 1, sums.write(number, total)

    count = encode.places * num_parts
    start = tf.constant(0), tf.TensorArray(encode.word, count, infer_shape=False, element_shape=[None, dimension])
    sums = tf.while_loop(lambda number, _: number < count, sum_part, start, None, 1)[1]
    return tf.reshape(sums.concat(), [encode.places, num_items, dimension])
