"""Objectives against NumPy, their gradients against finite differences, and sampling against the full softmax."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tff_rec.models import layers, objectives, query_towers

ITEMS, D = 9, 4
HISTORY = np.array([[3, 1, 4, 8], [5, 2, -1, -1], [7, -1, -1, -1], [-1, -1, -1, -1]], np.int32)
SEEDS = tf.constant([1, 2, 3, 4])
BLOCK = {"history": tf.constant(HISTORY), "seed": SEEDS}


def tower():
    built = query_towers.BagQueryTower(D, (1.0, 0.0), hidden=5)
    built.build()
    return built


def table(seed=0):
    return np.random.default_rng(seed).standard_normal([ITEMS, D]).astype(np.float32)


def queries_of(built, vectors, history):
    """Queries [n, d] at every position of one unpadded history."""
    own = tf.constant(vectors[history][np.newaxis])
    return built.encode(layers.own_weights(built), own, tf.ones([1, len(history)]))[0].numpy()


def softmax_loss(scores, target):
    return float(np.log(np.sum(np.exp(scores - scores.max()))) + scores.max() - scores[target])


class UncorrectedSoftmax(objectives.SampledSoftmax):
    """Draws by probabilities and forgets that it did."""

    def _log_expected_count(self, ids):
        return None


class FullSoftmaxTest(tf.test.TestCase, parameterized.TestCase):
    def test_equals_numpy(self):
        objective, built, vectors = objectives.FullSoftmax(0.7), tower(), table()
        losses = objectives.mean_losses(
            objective, built, layers.own_weights(built), tf.constant(vectors), BLOCK, None, None
        )
        expected = []
        for row in HISTORY:
            history = row[row >= 0]
            each = (
                [
                    softmax_loss(query @ vectors.T / 0.7, positive)
                    for query, positive in zip(queries_of(built, vectors, history)[:-1], history[1:], strict=True)
                ]
                if len(history)
                else []
            )
            expected.append(np.mean(each) if each else 0.0)
        self.assertAllClose(losses, expected, atol=1e-5)

    def test_own_items_equals_numpy(self):
        objective = objectives.FullSoftmax(pairs=objectives.own_items)
        built, vectors = tower(), table()
        losses = objectives.mean_losses(
            objective, built, layers.own_weights(built), tf.constant(vectors), BLOCK, None, None
        )
        for row, loss in zip(HISTORY[:3], losses, strict=False):
            history = row[row >= 0]
            scores = queries_of(built, vectors, history)[-1] @ vectors.T
            self.assertAllClose(loss, np.mean([softmax_loss(scores, item) for item in history]), atol=1e-5)


class SampledSoftmaxTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("next_items", objectives.next_items, None),
        ("own_items", objectives.own_items, None),
        ("corrected", objectives.next_items, np.arange(1, ITEMS + 1, dtype=np.float32) / 45),
    )
    def test_equals_numpy(self, pairs, probabilities):
        objective = objectives.SampledSoftmax(0.5, 3, probabilities, pairs)
        built, vectors = tower(), table()
        rows = objective.rows(BLOCK, ITEMS)
        picked = tf.gather(vectors, tf.maximum(rows, 0))
        losses = objectives.mean_losses(objective, built, layers.own_weights(built), picked, BLOCK, rows, None)
        offset = 0.0 if probabilities is None else np.log(3 * probabilities)
        for user, row in enumerate(HISTORY):
            history, negatives = row[row >= 0], rows.numpy()[user, 4:].reshape(3, 4)
            each = []
            for place in range(len(history)):
                if pairs is objectives.next_items and place == 0:
                    continue
                at = place - 1 if pairs is objectives.next_items else len(history) - 1
                scores = queries_of(built, vectors, history)[at] @ vectors.T / 0.5 - offset
                drawn = [item for item in negatives[:, place] if item >= 0]
                each.append(softmax_loss(scores[[row[place], *drawn]], 0))
            self.assertAllClose(losses[user], np.mean(each) if each else 0.0, atol=1e-5)

    def test_rows_are_the_history_then_negatives_outside_it(self):
        objective = objectives.SampledSoftmax(1.0, 50)
        rows = objective.rows(BLOCK, ITEMS).numpy()
        self.assertAllEqual(rows[:, :4], HISTORY)
        for row, history in zip(rows, HISTORY, strict=True):
            negatives = row[4:].reshape(50, 4)
            self.assertAllEqual(negatives[:, history < 0], np.full([50, np.sum(history < 0)], -1))
            self.assertFalse(set(negatives[negatives >= 0]) & set(history[history >= 0]))
            if np.any(history >= 0):
                self.assertEqual(set(negatives[negatives >= 0]), set(range(ITEMS)) - set(history))

    def test_rows_do_not_depend_on_padding_or_neighbours(self):
        objective = objectives.SampledSoftmax(1.0, 3)
        long = objective.rows(BLOCK, ITEMS).numpy()[1, 4:].reshape(3, 4)
        block = {"history": tf.constant(HISTORY[1:2, :2]), "seed": SEEDS[1:2]}
        short = objective.rows(block, ITEMS).numpy()[0, 2:].reshape(3, 2)
        self.assertAllEqual(long[:, :2], short)

    def test_negatives_follow_their_probabilities(self):
        probabilities = np.array([0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0, 0], np.float32)
        objective = objectives.SampledSoftmax(1.0, 2000, probabilities)
        rows = objective.rows({"history": tf.constant([[0, 1]]), "seed": SEEDS[:1]}, ITEMS).numpy()[0, 2:]
        counts = np.bincount(rows[rows >= 0], minlength=ITEMS) / np.sum(rows >= 0)
        self.assertAllClose(counts, probabilities, atol=0.04)
        self.assertAllEqual(counts[probabilities == 0], np.zeros(5))

    def test_the_corrected_gradient_is_the_full_one_in_expectation(self):
        """With many negatives the logQ-corrected estimate is unbiased up to O(1/n); without correction it is not.

        The estimate is over the positive and items outside the history, so the full softmax is taken over those.
        """
        probabilities = np.array([0.3, 0.2, 0.15, 0.1, 0.08, 0.07, 0.05, 0.03, 0.02], np.float32)
        built, vectors = tower(), tf.constant(table())
        weights = layers.own_weights(built)
        block = {"history": tf.tile(tf.constant([[3, 5]]), [64, 1]), "seed": tf.range(64)}

        def gradient(objective):
            rows = objective.rows(block, ITEMS)
            with tf.GradientTape() as tape:
                tape.watch(vectors)
                loss = tf.reduce_mean(
                    objectives.mean_losses(
                        objective, built, weights, tf.gather(vectors, tf.maximum(rows, 0)), block, rows, None
                    )
                )
            return tf.convert_to_tensor(tape.gradient(loss, vectors)).numpy()

        with tf.GradientTape() as tape:
            tape.watch(vectors)
            query = built.encode(weights, tf.gather(vectors, [[3]]), tf.ones([1, 1]))[0, 0]
            scores = tf.linalg.matvec(tf.gather(vectors, [0, 1, 2, 4, 5, 6, 7, 8]), query)
            loss = tf.reduce_logsumexp(scores) - scores[4]
        full = tf.convert_to_tensor(tape.gradient(loss, vectors)).numpy()
        corrected = gradient(objectives.SampledSoftmax(1.0, 400, probabilities))
        uncorrected = gradient(UncorrectedSoftmax(1.0, 400, probabilities))
        self.assertLess(np.abs(corrected - full).max(), 0.05 * np.abs(full).max())
        self.assertGreater(np.abs(uncorrected - full).max(), 0.1 * np.abs(full).max())


class GradientTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("full", objectives.FullSoftmax(0.5)),
        ("full_own", objectives.FullSoftmax(pairs=objectives.own_items)),
        ("sampled", objectives.SampledSoftmax(0.5, 3)),
        ("sampled_own", objectives.SampledSoftmax(1.0, 3, pairs=objectives.own_items)),
    )
    def test_equals_finite_differences(self, objective):
        built = tower()
        names = list(built.weight_specs())
        rows = objective.rows(BLOCK, ITEMS)

        def loss(vectors, *weights):
            picked = vectors if rows is None else tf.gather(vectors, tf.maximum(rows, 0))
            named = dict(zip(names, weights, strict=True))
            return tf.reduce_sum(objectives.mean_losses(objective, built, named, picked, BLOCK, rows, None))

        weights = [value + 0.1 for value in layers.own_weights(built).values()]
        analytic, numeric = tf.test.compute_gradient(loss, [tf.constant(table()), *weights], delta=1e-2)
        for one, other in zip(analytic, numeric, strict=True):
            self.assertAllClose(one, other, atol=2e-2, rtol=2e-2)


class NumPositivesTest(tf.test.TestCase):
    def test_number_of_predictions(self):
        objective = objectives.FullSoftmax()
        self.assertAllEqual(objective.num_positives(tf.constant(HISTORY)), [3, 1, 0, 0])
        own = objectives.FullSoftmax(pairs=objectives.own_items)
        self.assertAllEqual(own.num_positives(tf.constant(HISTORY)), [4, 2, 1, 0])


if __name__ == "__main__":
    tf.test.main()
