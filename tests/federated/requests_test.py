"""Requests: decoys are as many as asked for, never positives, fresh or the same each round; rows below the minimum."""

import hashlib
import unittest

import hypothesis
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from hypothesis import strategies
from scipy import stats

from tff_rec.federated import requests


def _secrets(count):
    return [hashlib.sha256(bytes([device])).digest() for device in range(count)]


def _ids(num_items):
    return [str(item) for item in range(num_items)]


def _positives(sizes, num_items, seed=0):
    rng = np.random.default_rng(seed)
    return requests.item_sets([rng.permutation(num_items)[:size] for size in sizes])


class DecoysTest(tf.test.TestCase, parameterized.TestCase):
    @hypothesis.settings(max_examples=100, deadline=None)
    @hypothesis.given(
        strategies.lists(strategies.integers(0, 30), max_size=6),
        strategies.sampled_from([0.0, 0.1, 0.25, 1.0, 1.5, 4.0]),
        strategies.booleans(),
        strategies.integers(0, 2**31),
    )
    def test_decoys_are_distinct_and_never_positives(self, sizes, rho, by_popularity, seed):
        num_items = 30
        positives = _positives(sizes, num_items, seed)
        popularity = np.arange(1.0, 31.0) if by_popularity else None
        rng = np.random.default_rng(seed)
        for decoys in (
            requests.fresh_decoys(positives, num_items, rho, rng, popularity),
            requests.persistent_decoys(positives, _ids(num_items), rho, _secrets(len(sizes)), popularity),
        ):
            asked = requests.shuffled_requests(positives, decoys, rng)
            self.assertLen(asked, len(sizes))
            for device, size in enumerate(sizes):
                self.assertLen(decoys[device], min(int(np.ceil(rho * size - 1e-9)), num_items - size))
                together = set(positives[device]) | set(decoys[device])
                self.assertLen(together, size + len(decoys[device]))
                self.assertCountEqual(asked[device].tolist(), together)

    def test_counts_are_rounded_up(self):
        given = [(14, 0.25), (110, 0.25), (30, 0.1), (3, 0.1), (0, 4.0), (100, 4.0)]
        counts = [requests.num_decoys(number, 134, rho) for number, rho in given]
        self.assertEqual(counts, [4, 24, 3, 1, 0, 34])

    def test_persistent_decoys_stay_and_fresh_ones_do_not(self):
        positives, rng = _positives([20] * 5, 2000), np.random.default_rng(0)
        first, second = (requests.persistent_decoys(positives, _ids(2000), 4.0, _secrets(5)) for _ in range(2))
        self.assertAllEqual(first.items, second.items)
        self.assertFalse(np.array_equal(first[0], first[1]))
        one, other = (requests.fresh_decoys(positives, 2000, 4.0, rng) for _ in range(2))
        # Two draws of 80 of 1980 have 3.2 in common on average.
        self.assertLess(len(np.intersect1d(one[0], other[0])), 15)

    def test_a_new_positive_keeps_the_decoys(self):
        before = requests.item_sets([np.arange(10)])
        decoys = requests.persistent_decoys(before, _ids(500), 2.0, _secrets(1))[0]
        for new in (decoys[0], np.setdiff1d(np.arange(10, 500), decoys)[0]):
            after = requests.item_sets([np.append(np.arange(10), new)])
            grown = requests.persistent_decoys(after, _ids(500), 2.0, _secrets(1))[0]
            self.assertLen(grown, 22)
            self.assertContainsSubset(set(decoys) - {new}, set(grown))

    @parameterized.parameters(None, 3)
    def test_a_new_item_leaves_the_decoys(self, popular):
        """Wherever it is sorted in: 300 of 700 items are decoys, and one item more takes the place of one at most."""
        positives, ids = requests.item_sets([np.arange(300)]), [f"b{item}" for item in range(1000)]
        popularity = None if popular is None else np.random.default_rng(0).zipf(popular, 1000).astype(np.float64)
        before = requests.persistent_decoys(positives, ids, 1.0, _secrets(1), popularity)[0]
        shifted = requests.item_sets([np.arange(1, 301)])
        popularity = None if popularity is None else np.append(1.0, popularity)
        after = requests.persistent_decoys(shifted, ["a", *ids], 1.0, _secrets(1), popularity)[0] - 1
        self.assertLessEqual(len(np.setdiff1d(before, after)), 1)
        self.assertLen(after, 300)

    def test_distributions(self):
        """Over 4000 devices: 3 decoys of 9 items, uniform; and 1 of 9 by popularity 1..9 (chi-square, fixed seeds)."""
        positives = requests.item_sets([np.array([9])] * 4000)
        secrets = [hashlib.sha256(str(device).encode()).digest() for device in range(4000)]
        popularity = np.arange(1.0, 11.0)
        rng = np.random.default_rng(0)
        for uniform, popular in (
            (
                requests.fresh_decoys(positives, 10, 3.0, rng),
                requests.fresh_decoys(positives, 10, 1.0, rng, popularity),
            ),
            (
                requests.persistent_decoys(positives, _ids(10), 3.0, secrets),
                requests.persistent_decoys(positives, _ids(10), 1.0, secrets, popularity),
            ),
        ):
            self.assertGreater(stats.chisquare(np.bincount(uniform.items)).pvalue, 0.001)
            expected = 4000 * popularity[:9] / popularity[:9].sum()
            self.assertGreater(stats.chisquare(np.bincount(popular.items), expected).pvalue, 0.001)

    def test_the_order_tells_nothing(self):
        """A positive stands first in a request as often as one item in two does (binomial, four deviations)."""
        positives = _positives([5] * 2000, 100)
        rng = np.random.default_rng(0)
        asked = requests.shuffled_requests(positives, requests.fresh_decoys(positives, 100, 1.0, rng), rng)
        first = sum(asked[device][0] in positives[device] for device in range(2000))
        self.assertLess(abs(first - 1000), 4 * np.sqrt(500))

    def test_refusals(self):
        positives, rng = _positives([2], 5), np.random.default_rng(0)
        for rho in (-1.0, np.inf, np.nan):
            with self.assertRaisesRegex(ValueError, "ρ must be 0 or more"):
                requests.fresh_decoys(positives, 5, rho, rng)
        for popularity in (np.ones(4), np.zeros(5)):
            with self.assertRaisesRegex(ValueError, "5 positive weights"):
                requests.fresh_decoys(positives, 5, 1.0, rng, popularity)
        with self.assertRaisesRegex(ValueError, "2 secrets for 1 devices"):
            requests.persistent_decoys(positives, _ids(5), 1.0, _secrets(2))


class PairingTest(tf.test.TestCase):
    @hypothesis.settings(max_examples=100, deadline=None)
    @hypothesis.given(
        strategies.lists(strategies.integers(0, 30), max_size=6),
        strategies.integers(0, 4),
        strategies.integers(0, 2**31),
    )
    def test_every_decoy_is_placed_once_beside_its_own_device(self, sizes, rho, seed):
        """Where the 30 items are not enough for the decoys, as many cells are empty as decoys are missing."""
        positives = _positives(sizes, 30, seed)
        decoys = requests.persistent_decoys(positives, _ids(30), rho, _secrets(len(sizes)))
        seeds = [(seed, device) for device in range(len(sizes))]
        paired = requests.decoys_by_place(positives, decoys, rho, seeds)
        self.assertEqual((paired.shape, paired.dtype), ((sum(sizes), rho), np.int32))
        for device, size in enumerate(sizes):
            cells = paired[positives.offsets[device] : positives.offsets[device + 1]]
            self.assertCountEqual(cells[cells >= 0].tolist(), decoys[device].tolist())
            self.assertEqual(np.sum(cells == -1), rho * size - min(rho * size, 30 - size))

    def test_the_same_seeds_give_the_same_pairing(self):
        positives = _positives([40, 40], 500)
        decoys = requests.persistent_decoys(positives, _ids(500), 2.0, _secrets(2))
        first = requests.decoys_by_place(positives, decoys, 2, [(7, 0), (7, 1)])
        self.assertAllEqual(requests.decoys_by_place(positives, decoys, 2, [(7, 0), (7, 1)]), first)
        other = requests.decoys_by_place(positives, decoys, 2, [(7, 0), (8, 1)])
        self.assertAllEqual(other[:40], first[:40])
        self.assertNotAllEqual(other[40:], first[40:])

    def test_missing_decoys_fall_on_any_place(self):
        """4 positives and ρ = 2 make 8 cells for 2 decoys: over 2000 seeds each is filled 500 times (chi-square)."""
        positives = requests.item_sets([np.arange(4)])
        decoys = requests.item_sets([np.array([4, 5])])
        filled = sum(requests.decoys_by_place(positives, decoys, 2, [[seed]]) >= 0 for seed in range(2000))
        self.assertEqual(filled.sum(), 4000)
        self.assertGreater(stats.chisquare(filled.ravel()).pvalue, 0.001)

    def test_a_part_of_the_history_asks_for_exactly_its_decoys(self):
        """Over all 7 windows of 4 of 10 positives, each decoy is asked for as often as the positive it goes with.

        The positives are asked for 1, 2, 3, 4, 4, 4, 4, 3, 2 and 1 times; with ρ = 3 there are three decoys of each.
        """
        positives = _positives([10], 500)
        decoys = requests.persistent_decoys(positives, _ids(500), 3.0, _secrets(1))
        paired = requests.decoys_by_place(positives, decoys, 3, [[0]])
        asked = np.zeros(500, np.int64)
        for begin in range(7):
            window = slice(begin, begin + 4)
            rows = np.append(positives.items[window], paired[window])
            self.assertLen(set(rows.tolist()), 4 + 12)
            asked[rows] += 1
        self.assertAllEqual(asked[positives.items], [1, 2, 3, 4, 4, 4, 4, 3, 2, 1])
        self.assertAllEqual(asked[paired], np.repeat(asked[positives.items][:, np.newaxis], 3, axis=1))
        self.assertEqual(asked.sum(), 7 * 16)


class MinimumTest(tf.test.TestCase):
    def test_by_hand(self):
        """Item 0 has three requesters, item 1 two, item 3 one, items 2 and 4 none."""
        asked = requests.item_sets([np.array([0, 1]), np.array([3, 0]), np.array([1, 0])])
        release = requests.minimum_requesters(asked, 5, 2)
        self.assertAllEqual(release.requesters, [3, 2, 0, 1, 0])
        self.assertAllEqual(release.released, [True, True, False, False, False])
        self.assertEqual(release.dropped, 1)
        self.assertEqual([requests.minimum_requesters(asked, 5, least).dropped for least in (1, 3, 4)], [0, 2, 3])
        with self.assertRaisesRegex(ValueError, "minimum of 0 requesters"):
            requests.minimum_requesters(asked, 5, 0)


if __name__ == "__main__":
    unittest.main()
