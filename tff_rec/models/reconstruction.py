"""The private vector of a user, solved from its own ratings in closed form.

Partially local training (Singhal et al. 2021, https://arxiv.org/abs/2102.03448) rebuilds on the device, in every round
and when serving, what is the user's own. For a vector p that enters the prediction linearly the end of such training is
known. A user with items of design rows x_j, residuals y_j and a prior mean m minimises |y - X p|² + |p - m|²; gradient
steps from anywhere lead to

    p = (I + XᵀX)⁻¹ (m + Σ_j y_j x_j),

which is what this module computes, and differentiates through, for a block of users. The penalty needs no factor: the
design rows are learnt, and their length is the inverse of it.

Training wants the error on ratings that the vector has not seen. With A = I + XᵀX and h_i = x_iᵀA⁻¹x_i the inverse
without row i is A⁻¹ + (A⁻¹x_i)(A⁻¹x_i)ᵀ / (1 - h_i) (Sherman and Morrison 1950). One factorisation gives all the
vectors, each without one rating: every rating of a user serves to train the global weights, and none meets itself.
"""

import tensorflow as tf


def solve(designs: tf.Tensor, evidence: tf.Tensor) -> tf.Tensor:
    """Vector of each user: `(I + XᵀX)⁻¹ evidence`.

    Args:
        designs: float32 [users, n, d], rows of the rated items; zeros where padded.
        evidence: float32 [users, d], the prior mean and the sum of residual × design row.

    Returns:
        float32 [users, d]; zeros for a user with neither ratings nor prior mean.
    """
    return tf.linalg.matvec(_inverse(designs), evidence)


def solve_without_each(designs: tf.Tensor, evidence: tf.Tensor) -> tf.Tensor:
    """Vectors of each user had it not rated the first, the second, … of its items.

    Args:
        designs: As in `solve`.
        evidence: float32 [users, n, d], at i that of the other ratings: prior mean and sum, both without rating i.

    Returns:
        float32 [users, n, d]; where padded, any.
    """
    inverse = _inverse(designs)
    leverages = tf.matmul(designs, inverse)
    remaining = 1.0 - tf.reduce_sum(designs * leverages, axis=-1, keepdims=True)
    # With r the evidence: A⁻¹r + A⁻¹x (xᵀA⁻¹r) / (1 - h).
    predictions = tf.reduce_sum(leverages * evidence, axis=-1, keepdims=True)
    return tf.matmul(evidence, inverse) + leverages * predictions / remaining


def _inverse(designs: tf.Tensor) -> tf.Tensor:
    """`(I + XᵀX)⁻¹`, [users, d, d]: d is small, and products with it are faster than substitution."""
    identity = tf.eye(designs.shape[-1])
    gram = tf.matmul(designs, designs, transpose_a=True) + identity
    return tf.linalg.cholesky_solve(tf.linalg.cholesky(gram), tf.broadcast_to(identity, tf.shape(gram)))
