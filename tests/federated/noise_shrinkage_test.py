"""Shrinking noised rows: by hand, over rounds, and that rows of noise stay while rows of users move."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from absl.testing import parameterized

from tff_rec.federated import aggregators, noise_shrinkage, privacy

pytestmark = pytest.mark.usefixtures("execution_context")

ROWS, WIDTH, USERS = 300, 4, 10
PARTS = {"query": privacy.Part(1.0, 0.5), "items": privacy.Part(2.0, 0.5)}


def built(strength, momentum, multiplier=1.0):
    noised = privacy.NoisedMeanFactory(aggregators.PlainMeanFactory(), PARTS, multiplier, USERS, seed=3)
    factory = noise_shrinkage.ShrunkMeanFactory(noised, noise_shrinkage.Shrinkage(strength, momentum))
    value_type = collections.OrderedDict(query=np.float32, items=(np.float32, [ROWS, WIDTH]))
    return factory.create(tff.types.to_type(value_type), tff.TensorType(np.float32))


def one_round(process, state, items):
    value = collections.OrderedDict(query=np.float32(20.0), items=items.astype(np.float32))
    return process.next(state, [value], [np.float32(1.0)])


class ShrunkRowsTest(tf.test.TestCase, parameterized.TestCase):
    def test_by_hand(self):
        """d · variance is 2 · 2 = 4; of the energies 25, 4 and 0 the shares 1 - 4 / 25, 0 and 0 are left."""
        rows = tf.constant([[3.0, 4.0], [2.0, 0.0], [0.0, 0.0]])
        left = noise_shrinkage.shrunk_rows(noise_shrinkage.Shrinkage(1.0), rows, tf.constant(2.0))
        self.assertAllClose(left, [[3.0 * 0.84, 4.0 * 0.84], [0.0, 0.0], [0.0, 0.0]])

    @parameterized.parameters({"strength": -0.1}, {"strength": 1.0, "momentum": 1.0}, {"strength": 1.0, "momentum": -1})
    def test_options_are_checked(self, **options):
        with self.assertRaises(ValueError):
            noise_shrinkage.Shrinkage(**options)


class ShrunkMeanTest(tf.test.TestCase):
    def test_without_noise_it_is_a_mean_over_rounds(self):
        process = built(1.0, 0.5, multiplier=0.0)
        items = np.arange(ROWS * WIDTH, dtype=np.float32).reshape([ROWS, WIDTH])
        first = one_round(process, process.initialize(), items)
        second = one_round(process, first.state, 3.0 * items)
        self.assertAllClose(first.result["items"], 0.5 * items / USERS)
        self.assertAllClose(second.result["items"], (0.25 + 1.5) * items / USERS)
        self.assertAllClose(second.result["query"], 20.0 / USERS)

    def test_rows_of_noise_stay_and_rows_of_users_move(self):
        """The noise on a mean has the deviation 2 / sqrt(1 / 2) / 10; the mean over rounds what its variance says."""
        process = built(1.0, 0.9)
        items = np.zeros([ROWS, WIDTH])
        items[0] = 100.0
        state = process.initialize()
        for _ in range(20):
            output = one_round(process, state, items)
            state = output.state
        running, variance = (state["own"][name] for name in ("running", "variance"))
        by_hand = 0.0
        for _ in range(20):
            by_hand = 0.81 * by_hand + 0.01 * (2.0 * np.sqrt(2.0) / USERS) ** 2
        self.assertAllClose(variance, by_hand, rtol=1e-5)
        # 1,196 numbers: the estimate of a variance has the relative error sqrt(2 / 1196), of which five are allowed.
        self.assertAllClose(np.mean(running[1:] ** 2), by_hand, rtol=5 * np.sqrt(2 / 1196))
        kept = np.linalg.norm(output.result["items"], axis=1) / np.linalg.norm(running, axis=1)
        self.assertGreater(kept[0], 0.99)
        self.assertLess(np.mean(kept[1:]), 0.25)


if __name__ == "__main__":
    tf.test.main()
