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


def predict_without_each(
    designs: tf.Tensor, residuals: tf.Tensor, prior_rows: tf.Tensor, prior_scale: tf.Tensor
) -> tf.Tensor:
    """Each rating's residual as the user's others predict it: `x_i · p_i` with the vectors of `solve_without_each`.

    The evidence without rating i is r - y_i x_i - s c_i, with r = Σ_j y_j x_j + s Σ_j c_j, so that of all vectors only
    two products with A⁻¹x_i are needed. `solve_without_each` gives the same by the longer way.

    Args:
        designs: As in `solve`.
        residuals: float32 [users, n], y; zeros where padded.
        prior_rows: float32 [users, n, d], c: what each item adds to the prior mean, not yet scaled; zeros where padded.
        prior_scale: float32 [users, 1], s: that of a user with one rating less.

    Returns:
        float32 [users, n]; zeros where padded.
    """
    leverages = tf.matmul(designs, _inverse(designs))
    own = tf.reduce_sum(leverages * designs, axis=-1)
    prior = prior_scale * tf.reduce_sum(prior_rows, axis=1)
    evidence = tf.linalg.matvec(designs, residuals, transpose_a=True) + prior
    by_all = tf.linalg.matvec(leverages, evidence)
    by_itself = residuals * own + prior_scale * tf.reduce_sum(leverages * prior_rows, axis=-1)
    return (by_all - by_itself) / (1.0 - own)


def _inverse(designs: tf.Tensor) -> tf.Tensor:
    """`(I + XᵀX)⁻¹`, [users, d, d]: d is small, and the gradient of an inverse is two products."""
    return tf.linalg.inv(tf.matmul(designs, designs, transpose_a=True) + tf.eye(designs.shape[-1]))
