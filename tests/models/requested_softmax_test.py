"""The softmax over requested rows: by hand in NumPy, its rows, and that it estimates the full softmax."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from scipy import stats

from tff_rec.models import layers, objectives, query_towers, requested_softmax

ITEMS, DIMENSION = 30, 4
HISTORY = np.array([[3, 1, 4], [5, 2, -1], [7, -1, -1], [-1, -1, -1]], np.int32)
DECOYS = np.array([[8, 0, 9], [20, 21, -1], [11, -1, -1], [-1, -1, -1]], np.int32)
BLOCK = {"history": tf.constant(HISTORY), "seed": tf.constant([1, 2, 3, 4]), "decoys": tf.constant(DECOYS)}
PROBABILITIES = (np.arange(1, ITEMS + 1) / (ITEMS * (ITEMS + 1) / 2)).astype(np.float32)
TEMPERATURE = 0.5


def tower():
    return query_towers.BagQueryTower(DIMENSION, (0.0,), hidden=3, seed=1)


def table():
    return np.random.default_rng(0).normal(size=[ITEMS, DIMENSION]).astype(np.float32)


def largest_key(decoys):
    """t such that the probabilities 1 - exp(-p t) sum up to the number of decoys, by bisection."""
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.sum(1 - np.exp(-PROBABILITIES * middle)) < decoys else (low, middle)
    return low


def losses(objective, block, vectors):
    built = tower()
    built.build()
    rows = objective.rows(block, ITEMS)
    picked = vectors if rows is None else tf.gather(vectors, tf.maximum(rows, 0))
    return objectives.mean_losses(objective, built, layers.own_weights(built), picked, block, rows, None)


class RequestedSoftmaxTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        (None, 0, None), (None, 6, None), (PROBABILITIES, 0, None), (PROBABILITIES, 6, None), (None, 6, PROBABILITIES)
    )
    def test_equals_numpy(self, probabilities, fresh_rows, law):
        """A negative counts one over the probability that it is a decoy or a fresh row."""
        objective = requested_softmax.RequestedSoftmax(TEMPERATURE, ITEMS, probabilities, fresh_rows, law)
        vectors, rows, built = table(), objective.rows(BLOCK, ITEMS).numpy(), tower()
        built.build()
        result = losses(objective, BLOCK, tf.constant(vectors))
        for user, decoys in ((0, 3), (1, 2)):
            history = HISTORY[user][HISTORY[user] >= 0]
            negatives = rows[user, 3:][rows[user, 3:] >= 0]
            a = decoys / ITEMS if probabilities is None else 1 - np.exp(-largest_key(decoys) * probabilities[negatives])
            drawn = 1 / ITEMS if law is None else law[negatives]
            counts = 1 / (1 - (1 - a) * (1 - drawn) ** fresh_rows) * np.ones(len(negatives))
            inputs = vectors[history][np.newaxis], np.ones([1, len(history)], np.float32)
            queries = built(tuple(map(tf.constant, inputs)))[0].numpy() / 0.5
            each = []
            for place in range(1, len(history)):
                scores = np.exp(queries[place - 1] @ vectors.T)
                total = scores[history].sum() + np.sum(counts * scores[negatives])
                each.append(-np.log(scores[history[place]] / total))
            self.assertAllClose(result[user], np.mean(each), atol=1e-5)
        self.assertAllEqual(result[2:], [0.0, 0.0])

    def test_rows_name_every_item_once_and_begin_with_history_and_decoys(self):
        objective = requested_softmax.RequestedSoftmax(TEMPERATURE, ITEMS, None, 40)
        rows = objective.rows(BLOCK, ITEMS).numpy()
        self.assertAllEqual(rows[:, :6], np.concatenate([HISTORY, DECOYS], axis=1))
        for row in rows:
            self.assertLen(set(row[row >= 0]), np.sum(row >= 0))
            self.assertGreater(np.sum(row[6:] >= 0), 5)

    def test_fresh_rows_change_with_the_seed_and_not_with_neighbours_or_padding(self):
        objective = requested_softmax.RequestedSoftmax(TEMPERATURE, ITEMS, None, 12)
        rows = objective.rows(BLOCK, ITEMS).numpy()
        alone = {name: value[1:2, :2] if name != "seed" else value[1:2] for name, value in BLOCK.items()}
        self.assertAllEqual(objective.rows(alone, ITEMS)[0, 4:], rows[1, 6:])
        other = objective.rows(BLOCK | {"seed": tf.constant([5, 6, 7, 8])}, ITEMS).numpy()
        self.assertNotAllEqual(rows[:, 6:], other[:, 6:])

    @parameterized.parameters((None,), (PROBABILITIES,))
    def test_expected_rows_are_those_asked_for(self, law):
        """By many devices without items of their own; of uniform draws those that a device has are taken off."""
        users = 3000
        objective = requested_softmax.RequestedSoftmax(TEMPERATURE, ITEMS, None, 12, law)
        nothing = tf.fill([users, 1], objectives.PADDING)
        rows = objective.rows({"history": nothing, "decoys": nothing, "seed": tf.range(users)}, ITEMS).numpy()
        expected = objective.expected_rows(np.array([0.0, 5.0]))
        self.assertAllClose(np.mean(np.sum(rows >= 0, axis=1)), expected[0], rtol=0.01)
        fewer = 5.0 * (1 - (1 - 1 / ITEMS) ** 12) if law is None else 0.0
        self.assertAllClose(expected[1], 5.0 + expected[0] - fewer)

    def test_fresh_rows_by_a_law_follow_it(self):
        users = 20000
        objective = requested_softmax.RequestedSoftmax(TEMPERATURE, ITEMS, None, 1, PROBABILITIES)
        nothing = tf.fill([users, 1], objectives.PADDING)
        rows = objective.rows({"history": nothing, "decoys": nothing, "seed": tf.range(users)}, ITEMS).numpy()[:, 2]
        self.assertGreater(stats.chisquare(np.bincount(rows, minlength=ITEMS), users * PROBABILITIES).pvalue, 1e-3)

    @parameterized.parameters((None, None), (PROBABILITIES, None), (PROBABILITIES, PROBABILITIES))
    def test_the_sum_estimates_that_of_the_full_softmax(self, probabilities, law):
        """Over many devices with the same history and decoys of their own the mean of the sum is the full one.

        Items of the history count 1; the rest is estimated. Uniform decoys come from outside the history, so that
        their inclusion is taken 30/28 too low, which fresh rows dilute; 4 % are allowed.
        """
        rng, users, per_user = np.random.default_rng(1), 4000, 6
        keys = -np.log(rng.random([users, ITEMS])) / (PROBABILITIES if probabilities is not None else 1.0)
        keys[:, [3, 5]] = np.inf
        block = {
            "history": tf.tile(tf.constant([[3, 5]]), [users, 1]),
            "seed": tf.range(users),
            "decoys": tf.constant(np.argsort(keys, axis=1)[:, :per_user].astype(np.int32)),
        }
        objective = requested_softmax.RequestedSoftmax(TEMPERATURE, ITEMS, probabilities, 10, law)
        vectors = tf.constant(0.3 * table())
        estimate = np.mean(np.exp(losses(objective, block, vectors).numpy()))
        full = losses(objectives.FullSoftmax(TEMPERATURE), {"history": block["history"][:1]}, vectors)
        self.assertAllClose(estimate, np.exp(full[0]), rtol=0.04)
        unweighted = requested_softmax.RequestedSoftmax(TEMPERATURE, per_user, None, 10)
        naive = np.mean(np.exp(losses(unweighted, block | {"seed": tf.range(users)}, vectors).numpy()))
        self.assertGreater(abs(naive - np.exp(full[0])), 0.2 * np.exp(full[0]))


if __name__ == "__main__":
    tf.test.main()
