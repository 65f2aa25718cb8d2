"""Closed-form private vectors: ridge regression, without each rating, and where local gradient steps lead."""

import numpy as np
import tensorflow as tf

from tff_rec.models import reconstruction


def problem(seed, users=3, length=7, dimension=4):
    draw = np.random.default_rng(seed)
    designs = draw.normal(size=[users, length, dimension]).astype(np.float32)
    residuals = draw.normal(size=[users, length]).astype(np.float32)
    return designs, residuals, np.einsum("unk,un->unk", designs, residuals)


class ReconstructionTest(tf.test.TestCase):
    def test_solve_by_hand(self):
        """Rows (1, 0) and (1, 2), residuals 3 and 1: A = [[3, 2], [2, 5]], Xᵀy = (4, 2), so p = (16, -2) / 11."""
        designs = tf.constant([[[1.0, 0.0], [1.0, 2.0]]])
        self.assertAllClose(reconstruction.solve(designs, tf.constant([[4.0, 2.0]])), [[16 / 11, -2 / 11]])

    def test_solve_equals_least_squares_with_a_row_a_component(self):
        """|y - Xp|² + |p - m|² is least squares of (y, m) on (X, I)."""
        designs, residuals, evidence = problem(0)
        priors = np.random.default_rng(1).normal(size=[3, 4]).astype(np.float32)
        solved = reconstruction.solve(designs, priors + evidence.sum(axis=1))
        for user in range(3):
            rows = np.concatenate([designs[user], np.eye(4)])
            expected = np.linalg.lstsq(rows, np.concatenate([residuals[user], priors[user]]), rcond=None)[0]
            self.assertAllClose(solved[user], expected, atol=1e-5)

    def test_local_gradient_steps_lead_to_the_solution(self):
        designs, residuals, evidence = problem(2)
        vectors = tf.zeros([3, 4])
        for _ in range(400):
            with tf.GradientTape() as tape:
                tape.watch(vectors)
                errors = residuals - tf.linalg.matvec(designs, vectors)
                loss = tf.reduce_sum(tf.square(errors)) + tf.reduce_sum(tf.square(vectors))
            vectors -= 0.02 * tape.gradient(loss, vectors)
        self.assertAllClose(vectors, reconstruction.solve(designs, evidence.sum(axis=1)), atol=1e-4)

    def test_without_each_equals_solving_again_without_it(self):
        designs, _, evidence = problem(3)
        priors = np.random.default_rng(4).normal(size=[3, 7, 4]).astype(np.float32)
        others = priors + evidence.sum(axis=1, keepdims=True) - evidence
        vectors = reconstruction.solve_without_each(designs, others)
        for place in range(7):
            fewer = np.delete(designs, place, axis=1)
            self.assertAllClose(vectors[:, place], reconstruction.solve(fewer, others[:, place]), atol=1e-4)

    def test_predictions_without_each_are_those_of_the_vectors(self):
        designs, residuals, evidence = problem(6)
        draw = np.random.default_rng(7)
        choices, scale = draw.normal(size=[3, 7, 4]).astype(np.float32), np.array([[0.5], [0.0], [2.0]], np.float32)
        for part in (designs, residuals, evidence, choices):
            part[1, 5:] = 0.0  # Padding.
        others = evidence.sum(axis=1, keepdims=True) - evidence
        others += scale[:, :, np.newaxis] * (choices.sum(axis=1, keepdims=True) - choices)
        vectors = reconstruction.solve_without_each(designs, others)
        predicted = reconstruction.predict_without_each(designs, residuals, choices, scale)
        self.assertAllClose(predicted, tf.reduce_sum(designs * vectors, axis=-1), atol=1e-4)
        self.assertAllEqual(predicted[1, 5:], [0.0, 0.0])

    def test_padding_and_neighbours_change_nothing(self):
        designs, _, evidence = problem(5)
        padding = ((0, 0), (0, 6), (0, 0))
        others = evidence.sum(axis=1, keepdims=True) - evidence
        padded = reconstruction.solve_without_each(np.pad(designs, padding), np.pad(others, padding))
        alone = reconstruction.solve_without_each(designs[1:2], others[1:2])
        self.assertAllClose(padded[1, :7], alone[0], atol=1e-6)

    def test_nothing_known_gives_zeros(self):
        self.assertAllEqual(reconstruction.solve(tf.zeros([2, 0, 3]), tf.zeros([2, 3])), np.zeros([2, 3]))


if __name__ == "__main__":
    tf.test.main()
