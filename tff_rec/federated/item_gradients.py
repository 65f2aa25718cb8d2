"""Gradients of item vectors, one a user, as what they are made of: they are bounded and summed without a table a user.

A device that was sent the whole table reads it twice: the rows of its history, and all rows to score its queries. Its
gradient is therefore `scatter(rows) + logitsᵀ queries`, of which the sum over users is one product, and the norm of
each needs no more than inner products of its factors, `|LᵀQ|² = ⟨LLᵀ, QQᵀ⟩`: Goodfellow 2015
(https://arxiv.org/abs/1510.01799), "ghost clipping" of Li et al. 2022 (https://arxiv.org/abs/2110.05679). A device that
asked for rows has gradients of those.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import tensorflow as tf

from tff_rec.federated import by_user, encoding
from tff_rec.federated.encoding import Encode

Released = Callable[[tf.Tensor], tf.Tensor]
"""From rows that users have, int32 [users, r], to those whose gradients they may send, negative for the others."""
_PART = "items"


class ItemGradient(Protocol):
    """The gradients of some users, of which user u's counts `factors[u]` times in a sum."""

    def combined(self, encoded: bool) -> "ItemGradient":
        """The same with every item named once a user: what norms are taken of, and codes if it will be `encoded`."""
        ...

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

    def combined(self, encoded: bool) -> "RowGradient":
        """As `ItemGradient.combined`."""
        del encoded
        return RowGradient(self.num_items, *by_user.combine_rows(self.ids, self.values), self.released)

    def squares(self) -> tf.Tensor:
        """As `ItemGradient.squares`."""
        return by_user.squares([self.values])

    def sum(self, factors: tf.Tensor) -> tf.Tensor:
        """As `ItemGradient.sum`."""
        return by_user.scatter_sum(self.ids, self.values * by_user.beside(factors, self.values), self.num_items)

    def encoded_sum(self, factors: tf.Tensor, encode: Encode) -> tf.Tensor:
        """As `ItemGradient.encoded_sum`."""
        point = encode.points[_PART]
        codes = point.encode(self.values, factors, self.squares())
        if encode.rings is not None:
            return self._sum_of_rings(codes, encode.rings)
        return encoding.exactly(
            lambda integers: by_user.scatter_sum(self.ids, integers, self.num_items), codes, point.limit
        )

    def _sum_of_rings(self, codes: tf.Tensor, rings: encoding.Rings) -> tf.Tensor:
        """One ring after the other: each sends rows of its own."""
        ids = self.ids if self.released is None else self.released(self.ids)
        ends = tf.cumsum(tf.math.bincount(rings.of(tf.shape(codes)[0])))

        def add(ring: tf.Tensor, begin: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            end = ends[ring]
            rows, tables = self._sent(ids[begin:end], codes[begin:end])
            uploads = encoding.masked(tables, rings)
            total = tf.tensor_scatter_nd_add(total, rows[:, tf.newaxis], encoding.residue_sum(uploads))
            return ring + 1, end, total

        start = tf.constant(0), tf.constant(0), tf.zeros([self.num_items, codes.shape[-1]], tf.int64)
        return tf.while_loop(lambda ring, *_: ring < tf.size(ends), add, start, parallel_iterations=1)[-1]

    def _sent(self, ids: tf.Tensor, codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The same rows of all members, zeros where one has none: all, or those that anybody has where all know it.

        Returns:
            int32 [rows], which they are; and the codes of each member, int32 [members, rows, d].
        """
        rows, places = tf.range(self.num_items), ids
        if self.released is not None:
            sent = tf.math.bincount(tf.reshape(tf.maximum(ids, -1) + 1, [-1]), minlength=self.num_items + 1)[1:] > 0
            rows = tf.cast(tf.where(sent)[:, 0], tf.int32)
            places = tf.where(ids >= 0, tf.gather(tf.cumsum(tf.cast(sent, tf.int32)) - 1, tf.maximum(ids, 0)), -1)
        return rows, by_user.tables_of(places, codes, tf.size(rows))


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

    def combined(self, encoded: bool) -> "TableGradient | DenseGradient":
        """As `ItemGradient.combined`: itself, or a table a user if there has to be one, whose norm costs less."""
        return self._dense() if encoded else self

    def squares(self) -> tf.Tensor:
        """As `ItemGradient.squares`."""
        of_logits = tf.matmul(self.logits, self.logits, transpose_b=True)
        of_queries = tf.matmul(self.queries, self.queries, transpose_b=True)
        same = tf.cast(tf.equal(self.ids[:, :, tf.newaxis], self.ids[:, tf.newaxis, :]), tf.float32)
        of_rows = same * tf.matmul(self._rows, self._rows, transpose_b=True)
        at_history = tf.gather(self.logits, tf.maximum(self.ids, 0), axis=2, batch_dims=1)
        crossing = at_history * tf.matmul(self.queries, self._rows, transpose_b=True)
        # Rounding can bring a norm of almost nothing below zero.
        return tf.maximum(
            sum(tf.reduce_sum(part, [1, 2]) for part in (of_logits * of_queries, of_rows, 2 * crossing)), 0
        )

    def sum(self, factors: tf.Tensor) -> tf.Tensor:
        """As `ItemGradient.sum`."""
        queries = tf.reshape(self.queries * by_user.beside(factors, self.queries), [-1, self.queries.shape[-1]])
        scored = tf.matmul(tf.reshape(self.logits, [-1, self.num_items]), queries, transpose_a=True)
        return scored + by_user.scatter_sum(
            self.ids, self.values * by_user.beside(factors, self.values), self.num_items
        )

    def encoded_sum(self, factors: tf.Tensor, encode: Encode) -> tf.Tensor:
        """As `ItemGradient.encoded_sum`."""
        return self._dense().encoded_sum(factors, encode)

    @property
    def _rows(self) -> tf.Tensor:
        return self.values * tf.cast(self.ids >= 0, tf.float32)[:, :, tf.newaxis]

    def _dense(self) -> "DenseGradient":
        tables = tf.matmul(self.logits, self.queries, transpose_a=True)
        return DenseGradient(by_user.scatter_to_each(tables, self.ids, self.values))


@dataclasses.dataclass(frozen=True)
class DenseGradient:
    """Gradients of the whole table, one table a user, as each user encodes its own.

    Attributes:
        tables: float32 [users, items, d].
    """

    tables: tf.Tensor

    def combined(self, encoded: bool) -> "DenseGradient":
        """As `ItemGradient.combined`: itself."""
        del encoded
        return self

    def squares(self) -> tf.Tensor:
        """As `ItemGradient.squares`."""
        return by_user.squares([self.tables])

    def sum(self, factors: tf.Tensor) -> tf.Tensor:
        """As `ItemGradient.sum`."""
        return tf.tensordot(factors, self.tables, 1)

    def encoded_sum(self, factors: tf.Tensor, encode: Encode) -> tf.Tensor:
        """As `ItemGradient.encoded_sum`."""
        return encode.sum(_PART, self.tables, factors, self.squares())
