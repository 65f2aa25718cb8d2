"""Hashed random numbers: uniform, reproducible, a stream of its own for every seed and name."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tff_rec.models import randomness

# 99.99 % quantile of chi-square with 63 degrees of freedom.
_LIMIT = 113.5


def chi_square(cells, num_cells):
    counts = np.bincount(np.asarray(cells).ravel(), minlength=num_cells)
    expected = counts.sum() / num_cells
    return float(np.sum((counts - expected) ** 2 / expected))


class RandomnessTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(("many_seeds", 4000, 16), ("long_streams", 4, 16000))
    def test_is_uniform(self, users, count):
        draws = randomness.uniform(tf.range(users), count, "a").numpy()
        self.assertAllInRange(draws, 0.0, 1.0, open_upper_bound=True)
        self.assertLess(chi_square((draws * 64).astype(int), 64), _LIMIT)
        self.assertLess(chi_square(randomness.integers(tf.range(users), count, 64, "b"), 64), _LIMIT)
        low_bits = randomness.bits(tf.range(users), count, "c").numpy() & 63
        self.assertLess(chi_square(low_bits, 64), _LIMIT)

    def test_neighbouring_seeds_counters_and_streams_are_independent(self):
        draws = (randomness.uniform(tf.range(400), 200, "a").numpy() * 8).astype(int)
        others = (randomness.uniform(tf.range(400), 200, "b").numpy() * 8).astype(int)
        for first, second in ((draws[1:], draws[:-1]), (draws[:, 1:], draws[:, :-1]), (draws, others)):
            self.assertLess(chi_square(first * 8 + second, 64), _LIMIT)

    def test_reproduces_and_does_not_depend_on_neighbours(self):
        together = randomness.bits(tf.constant([3, -5, 7]), 10, "a").numpy()
        self.assertAllEqual(together, randomness.bits(tf.constant([3, -5, 7]), 10, "a").numpy())
        self.assertAllEqual(together[1:2, :6], randomness.bits(tf.constant([-5]), 6, "a").numpy())
        at = randomness.bits_at(tf.constant([-5]), tf.constant([4, 2]), "a").numpy()
        self.assertAllEqual(at, together[1:2, [4, 2]])
        self.assertEqual(len(np.unique(together)), 30)

    @parameterized.parameters(1, 2, 3706, 105_542)
    def test_integers_stay_below_the_bound(self, bound):
        draws = randomness.integers(tf.range(50), 400, bound, "a")
        self.assertAllInRange(draws, 0, bound - 1)

    def test_known_value(self):
        """Pinned, so that runs reproduce across versions: the MurmurHash3 finalizer, by hand in Python integers."""

        def mix(word):
            for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
                word = (word ^ word >> shift) * factor % 2**32
            return word ^ word >> 16

        import zlib

        expected = mix((mix(5 ^ zlib.crc32(b"negatives")) + 2 * 0x9E3779B9) % 2**32)
        self.assertEqual(int(randomness.bits(tf.constant([5]), 3, "negatives").numpy()[0, 2]), expected)


if __name__ == "__main__":
    tf.test.main()
