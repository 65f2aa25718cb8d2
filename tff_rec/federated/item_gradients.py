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

from tff_rec.federated import by_user
from tff_rec.models.objectives import Similarity

EncodeItems = Callable[[tf.Tensor], tf.Tensor]
"""From one user's gradients, float32, to the integers that are summed."""


class ItemGradient(Protocol):
    """The gradients of some users, of which user u's counts `factors[u]` times in a sum."""

    def combined(self) -> "ItemGradient":
        """The same with every item named once a user: what norms and codes are taken of."""
        ...

    def squares(self) -> tf.Tensor:
        """Each user's squared L2 norm over all items: float32 [users]."""
        ...

    def sum(self, factors: tf.Tensor) -> tf.Tensor:
        """The sum over users, float32 [items, d], with factors, float32 [users]."""
        ...

    def encoded_sum(self, factors: tf.Tensor, encode: EncodeItems) -> tf.Tensor:
        """The sum over users of what each encodes of its own gradient times its factor: int64 [items, d]."""
        ...


@dataclasses.dataclass(frozen=True)
class RowGradient:
    """Gradients of the rows that devices asked for.

    Attributes:
        num_items: Size of the catalogue.
        ids: int32 [users, r]; a negative id is no row.
        values: float32 [users, r, d].
    """

    num_items: int
    ids: tf.Tensor
    values: tf.Tensor

    def combined(self) -> "RowGradient":
        """As `ItemGradient.combined`."""
        return RowGradient(self.num_items, *by_user.combine_rows(self.ids, self.values))

    def squares(self) -> tf.Tensor:
        """As `ItemGradient.squares`."""
        return by_user.squares([self.values])

    def sum(self, factors: tf.Tensor) -> tf.Tensor:
        """As `ItemGradient.sum`."""
        return by_user.scatter_sum(self.ids, self.values * by_user.beside(factors, self.values), self.num_items)

    def encoded_sum(self, factors: tf.Tensor, encode: EncodeItems) -> tf.Tensor:
        """As `ItemGradient.encoded_sum`."""
        return by_user.scatter_sum(
            self.ids, tf.cast(encode(self.values * by_user.beside(factors, self.values)), tf.int64), self.num_items
        )


@dataclasses.dataclass(frozen=True)
class TableGradient:
    """Gradients of the whole table.

    Attributes:
        table: float32 [items, d], the vectors as received.
        similarity: Of queries and item vectors.
        ids: int32 [users, n], the history; negative where it is padded.
        values: float32 [users, n, d], the gradient of the history's vectors as the query tower reads them.
        logits: float32 [users, m, items], the gradient of the scores.
        queries: float32 [users, m, d], what the normalised table was multiplied with.
    """

    table: tf.Tensor
    similarity: Similarity
    ids: tf.Tensor
    values: tf.Tensor
    logits: tf.Tensor
    queries: tf.Tensor

    def combined(self) -> "TableGradient":
        """As `ItemGradient.combined`: itself."""
        return self

    def squares(self) -> tf.Tensor:
        """As `ItemGradient.squares`; one table a user is needed where the similarity normalises vectors."""
        if not self.similarity.is_linear:
            return by_user.squares([self._tables(self._rows, self.queries)])
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
        num_items, dimension = self.table.shape
        queries = tf.reshape(self.queries * by_user.beside(factors, self.queries), [-1, dimension])
        scored = tf.matmul(tf.reshape(self.logits, [-1, num_items]), queries, transpose_a=True)
        own = by_user.scatter_sum(self.ids, self.values * by_user.beside(factors, self.values), num_items)
        return self.similarity.pull_back(self.table, scored) + own

    def encoded_sum(self, factors: tf.Tensor, encode: EncodeItems) -> tf.Tensor:
        """As `ItemGradient.encoded_sum`; every user has a table while it encodes."""
        rows, queries = (part * by_user.beside(factors, part) for part in (self._rows, self.queries))
        return by_user.integer_sum(encode(self._tables(rows, queries)))

    @property
    def _rows(self) -> tf.Tensor:
        return self.values * tf.cast(self.ids >= 0, tf.float32)[:, :, tf.newaxis]

    def _tables(self, rows: tf.Tensor, queries: tf.Tensor) -> tf.Tensor:
        """Every user's own gradient of the table, float32 [users, items, d]."""
        tables = self.similarity.pull_back(self.table, tf.matmul(self.logits, queries, transpose_a=True))
        items = tf.maximum(self.ids, 0)
        users = tf.broadcast_to(tf.range(tf.shape(items)[0])[:, tf.newaxis], tf.shape(items))
        return tf.tensor_scatter_nd_add(tables, tf.stack([users, items], axis=-1), rows)
