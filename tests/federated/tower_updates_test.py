"""Products of factors equal the matrices they make, by themselves and as kernels of a tower's updates."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tff_rec.federated import encoding, ring_aggregator, secret_sharing
from tff_rec.federated.products import Products
from tff_rec.federated.tower_updates import TowerUpdates

ROWS, COLUMNS = 6, 4
POINT = encoding.FixedPoint(100.0, 22)
RINGS = ring_aggregator.BlockRings(secret_sharing.Ring(POINT.limit, 100, shares=2, group_size=4, modulus_bits=32))


def products(seed, users, terms):
    rng = np.random.default_rng(seed)
    left, right = (rng.standard_normal([users, terms, size]).astype(np.float32) for size in (ROWS, COLUMNS))
    return Products(tf.constant(left), tf.constant(right))


class ProductsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1, 2, 3, 9)
    def test_equal_the_matrices_they_make(self, terms):
        """Few terms, whose inner products are taken, and many."""
        factors = np.float32([0.5, 0.0, 3.0])
        product = products(terms, 3, terms)
        matrices = np.einsum("umr,umc->urc", product.left.numpy().astype(np.float64), product.right.numpy())
        self.assertAllClose(product.matrices(), matrices, atol=1e-5)
        self.assertAllClose(product.squares, np.sum(matrices**2, axis=(1, 2)), rtol=1e-5)
        self.assertAllClose(product.times(tf.constant(factors)).sum(), np.tensordot(factors, matrices, 1), atol=1e-5)

    def test_no_entry_is_above_the_bound(self):
        """Of one term it is the largest entry."""
        for seed in range(50):
            terms = 1 + seed % 5
            product = products(seed, 3, terms)
            entries = np.abs(product.matrices()).max(axis=(1, 2))
            self.assertTrue(np.all(product.largest * (1 + 1e-6) >= entries))
            if terms == 1:
                self.assertAllClose(product.largest, entries)

    def test_what_is_no_number_has_no_bound(self):
        product = products(0, 3, 2)
        left = tf.tensor_scatter_nd_update(product.left, [[1, 0, 3]], [np.nan])
        self.assertAllEqual(np.isnan(Products(left, product.right).largest), [False, True, False])


class TowerUpdatesTest(tf.test.TestCase):
    def test_kernels_in_factors_equal_stacked_ones(self):
        """In norms, in sums, and in sums of codes by a step a user, whether rounded alone or in rings."""
        users = 9
        kernels = {"a": products(0, users, 1), "b": products(1, users, 7)}
        bias = tf.constant(np.random.default_rng(2).standard_normal([users, 5]).astype(np.float32))
        factored = TowerUpdates({"bias": bias}, kernels)
        stacked = TowerUpdates({"bias": bias} | {name: kernel.matrices() for name, kernel in kernels.items()})
        factors = tf.constant(np.linspace(0.1, 2.0, users).astype(np.float32))
        self.assertAllClose(factored.squares, stacked.squares, rtol=1e-5)
        self.assertAllClose(factored.sum(factors), stacked.sum(factors), atol=1e-4)
        expected = stacked.encoded_sum(factors, encoding.Encode({"query": POINT}))
        self.assertAllClose(expected["a"].numpy() * POINT.step, stacked.sum(factors)["a"], atol=1e-2)
        for rings in (None, RINGS):
            for updates in (factored, stacked):
                sums = updates.encoded_sum(factors, encoding.Encode({"query": POINT}, rings))
                for name, total in sums.items():
                    if rings is not None:
                        total = secret_sharing.group_sum(total.numpy().view(np.uint64)[np.newaxis], rings.ring)
                    self.assertAllClose(total, expected[name], rtol=0, atol=users)

    def test_a_tower_may_be_all_kernels(self):
        kernel = products(0, 3, 2)
        updates, ones = TowerUpdates({}, {"a": kernel}), tf.ones([3])
        self.assertAllClose(updates.squares, kernel.squares)
        self.assertAllClose(updates.sum(ones)["a"], kernel.sum())
        codes = updates.encoded_sum(ones, encoding.Encode({"query": POINT}))["a"]
        self.assertAllClose(codes.numpy() * POINT.step, kernel.sum(), atol=1e-3)

    def test_an_update_beyond_the_bound_is_clipped(self):
        """Of three users each has 1 in one entry, 90 in another; the bound is 50."""
        kernel = Products(tf.constant([[[1.0, 90.0]]] * 3), tf.ones([3, 1, 1]))
        point = encoding.FixedPoint(50.0, 22)
        sums = TowerUpdates({"bias": tf.ones([3, 1])}, {"a": kernel}).encoded_sum(
            tf.ones([3]), encoding.Encode({"query": point})
        )
        self.assertAllEqual(sums["a"], [[3 * np.rint(1 / point.step)], [3 * point.limit]])


if __name__ == "__main__":
    tf.test.main()
