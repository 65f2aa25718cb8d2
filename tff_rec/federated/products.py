"""Matrices, one a user, as the products that they are: summed and measured without a matrix a user.

The gradient of a matrix by which a user multiplied vectors is the product of these with the gradients of the results.
The sum over users is then one product, and the norm of each needs no more than inner products of its factors,
`|LᵀR|² = ⟨LLᵀ, RRᵀ⟩`: Goodfellow 2015 (https://arxiv.org/abs/1510.01799), "ghost clipping" of Li et al. 2022
(https://arxiv.org/abs/2110.05679).
"""

import dataclasses
import functools

import tensorflow as tf

from tff_rec.federated import by_user


@dataclasses.dataclass(frozen=True)
class Products:
    """`leftᵀ right` of each user.

    Attributes:
        left: float32 [users, m, rows].
        right: float32 [users, m, columns].
    """

    left: tf.Tensor
    right: tf.Tensor

    def times(self, factors: tf.Tensor) -> "Products":
        """Each user's times its factor, float32 [users]."""
        return Products(self.left, self.right * by_user.beside(factors, self.right))

    def matrices(self) -> tf.Tensor:
        """Multiplied out: float32 [users, rows, columns]."""
        return tf.matmul(self.left, self.right, transpose_a=True)

    @functools.cached_property
    def squares(self) -> tf.Tensor:
        """Each user's squared norm: float32 [users]; by inner products where there are fewer of them than entries."""
        rows, columns = self.left.shape[-1], self.right.shape[-1]
        few = tf.shape(self.left)[1] * (rows + columns) < rows * columns
        return tf.cond(few, self._squares_by_inner_products, lambda: by_user.squares([self.matrices()]))

    def _squares_by_inner_products(self) -> tf.Tensor:
        of_left = tf.matmul(self.left, self.left, transpose_b=True)
        return tf.reduce_sum(of_left * tf.matmul(self.right, self.right, transpose_b=True), [1, 2])

    @property
    def largest(self) -> tf.Tensor:
        """Bounds each user's entries, but for float32's errors: float32 [users], NaN where a number is none.

        By Cauchy and Schwarz the largest norm among the columns of `left` times that of `right`.
        """
        of_left, of_right = (
            tf.reduce_max(tf.math.reduce_euclidean_norm(side, axis=1), axis=1) for side in (self.left, self.right)
        )
        return of_left * of_right

    def sum(self) -> tf.Tensor:
        """Over users: float32 [rows, columns]."""
        left, right = (tf.reshape(side, [-1, side.shape[-1]]) for side in (self.left, self.right))
        return tf.matmul(left, right, transpose_a=True)
