"""Gradients of item vectors, one a user, as what they are made of: they are bounded and summed without a table a user.

A device that was sent the whole table reads it twice: the rows of its history, and all rows to score its queries. Its
gradient is therefore `scatter(rows) + logitsᵀ queries`, of which the second part stays a product (`products`). Where
devices round, each has to have its table; then a few exist at a time, and every pass over their numbers costs as much
as making them (`table_codes`). A device that asked for rows has gradients of those.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Protocol

import tensorflow as tf

from tff_rec.federated import by_user, table_codes
from tff_rec.federated.encoding import Encode
from tff_rec.federated.products import Products

Released = Callable[[tf.Tensor], tf.Tensor]
"""From rows that users have, int32 [users, r], to those whose gradients they may send, negative for the others."""
_PART = "items"


class ItemGradient(Protocol):
    """The gradients of some users, of which user u's counts `factors[u]` times in a sum."""

    def combined(self) -> "ItemGradient":
        """The same with every item named once a user, as codes need it, and norms of rows."""
        ...

    @property
    def squares(self) -> tf.Tensor:
        """Each user's squared L2 norm over all items: float32 [users]."""
        ...

    def sum(self, factors: tf.Tensor) -> tf.Tensor:
        """The sum over users, float32 [items, d], with factors, float32 [users]."""
        ...

    def encoded_sum(self, factors: tf.Tensor, encode: Encode) -> tf.Tensor:
        """The sum over users of what each encodes of its own gradient times its factor: int64 [items, d]."""
        ...


@dataclasses.dataclass(frozen=True)
class RowGradient:
    """Gradients of rows that differ from device to device.

    Attributes:
        num_items: Size of the catalogue.
        ids: int32 [users, r]; a negative id is no row.
        values: float32 [users, r, d].
        released: With rings: which rows users send. The server, which knows who asked for what, has told the members of
            a ring, and they send no others. None if it knows nothing, and users send all that they have.
    """

    num_items: int
    ids: tf.Tensor
    values: tf.Tensor
    released: Released | None = None

    def combined(self) -> "RowGradient":
        """As `ItemGradient.combined`."""
        return RowGradient(self.num_items, *by_user.combine_rows(self.ids, self.values), self.released)

    @functools.cached_property
    def squares(self) -> tf.Tensor:
        """As `ItemGradient.squares`."""
        return by_user.squares([self.values])

    def sum(self, factors: tf.Tensor) -> tf.Tensor:
        """As `ItemGradient.sum`."""
        return by_user.scatter_sum(self.ids, self.values * by_user.beside(factors, self.values), self.num_items)

    def encoded_sum(self, factors: tf.Tensor, encode: Encode) -> tf.Tensor:
        """As `ItemGradient.encoded_sum`."""
        point = encode.points[_PART]
        codes = point.encode(self.values, factors, self.squares)
        ids = self.ids if self.released is None else self.released(self.ids)
        return encode.sent(encode.by_item(ids, codes, self.num_items, point.limit))


@dataclasses.dataclass(frozen=True)
class TableGradient:
    """Gradients of the whole table.

    Attributes:
        num_items: Size of the catalogue.
        ids: int32 [users, n], the history; negative where it is padded.
        values: float32 [users, n, d], the gradient of the history's vectors as the query tower reads them.
        logits: float32 [users, m, items], the gradient of the scores.
        queries: float32 [users, m, d], what the table was multiplied with.
    """

    num_items: int
    ids: tf.Tensor
    values: tf.Tensor
    logits: tf.Tensor
    queries: tf.Tensor

    def combined(self) -> "TableGradient":
        """As `ItemGradient.combined`."""
        ids, values = by_user.combine_rows(self.ids, self.values)
        return dataclasses.replace(self, ids=ids, values=values)

    @functools.cached_property
    def squares(self) -> tf.Tensor:
        """As `ItemGradient.squares`."""
        of_product = self._product.squares
        same = tf.cast(tf.equal(self.ids[:, :, tf.newaxis], self.ids[:, tf.newaxis, :]), tf.float32)
        of_rows = same * tf.matmul(self._rows, self._rows, transpose_b=True)
        at_history = tf.gather(self.logits, tf.maximum(self.ids, 0), axis=2, batch_dims=1)
        crossing = at_history * tf.matmul(self.queries, self._rows, transpose_b=True)
        # Rounding can bring a norm of almost nothing below zero.
        return tf.maximum(of_product + tf.reduce_sum(of_rows, [1, 2]) + 2 * tf.reduce_sum(crossing, [1, 2]), 0)

    def sum(self, factors: tf.Tensor) -> tf.Tensor:
        """As `ItemGradient.sum`."""
        rows = self.values * by_user.beside(factors, self.values)
        return self._product.times(factors).sum() + by_user.scatter_sum(self.ids, rows, self.num_items)

    def encoded_sum(self, factors: tf.Tensor, encode: Encode) -> tf.Tensor:
        """As `ItemGradient.encoded_sum`."""
        point = encode.points[_PART]
        scale = factors / point.step
        rows = self.values * by_user.beside(scale, self.values)
        tables = table_codes.Tables(self._product.times(scale), self.ids, rows)
        return encode.sent(table_codes.sum_of_codes(tables, point, encode))

    @functools.cached_property
    def _product(self) -> Products:
        return Products(self.logits, self.queries)

    @property
    def _rows(self) -> tf.Tensor:
        return self.values * tf.cast(self.ids >= 0, tf.float32)[:, :, tf.newaxis]
