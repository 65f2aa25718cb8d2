"""The intersection attack and single-requester rows, by hand and against what is known of the method."""

import hashlib
import unittest

import numpy as np
import tensorflow as tf

from tff_rec.evaluation import request_attacks
from tff_rec.federated import requests


class IntersectionTest(tf.test.TestCase):
    def test_by_hand(self):
        """Two rounds. Device 0: positives 0, 1; decoys 2 twice and 3 once. Device 1: positive 4, decoys 0 and 1 once.

        Device 0: of four pairs (positive, decoy) two tie and two are won: 0.75; twice {0, 1, 2}: F1 = 4/5.
        Device 1: all won; twice {4}: F1 = 1. At least once: F1 2/3 and 1/2.
        """
        counts = np.zeros((2, 5), np.int32)
        positives = requests.item_sets([np.array([0, 1]), np.array([4])])
        for decoys in ([np.array([2]), np.array([0])], [np.array([3, 2]), np.array([1])]):
            asked = [np.append(own, more) for own, more in zip((positives[0], positives[1]), decoys, strict=True)]
            request_attacks.count_requests(counts, requests.item_sets(asked))
        self.assertAllEqual(counts, [[2, 2, 2, 1, 0], [1, 1, 0, 0, 2]])
        guess = request_attacks.intersection_attack(counts, request_attacks.membership(positives, 5), 2)
        self.assertAllClose((guess.auc, guess.f1, guess.at_least), (0.875, 0.9, 2))

    def test_a_positive_that_not_every_round_asks_for(self):
        """Positives 0 and 1 in one of three rounds each, item 2 in none: "at least once" finds both and nothing else.

        Of a device beside it that asks for its positive 0 always, and for item 1 once, that rule takes both: F1 2/3.
        """
        counts, mine = np.array([[1, 1, 0], [3, 1, 0]]), np.array([[True, True, False], [True, False, False]])
        guess = request_attacks.intersection_attack(counts, mine, 3)
        self.assertAllClose((guess.f1, guess.at_least), (5 / 6, 1))

    def test_without_decoys(self):
        """Nothing to tell positives from: every request is one."""
        counts = np.array([[1, 1, 0]])
        guess = request_attacks.intersection_attack(counts, counts > 0, 1)
        self.assertEqual((guess.auc, guess.f1, guess.at_least), (0.5, 1.0, 1))
        self.assertEqual(request_attacks.popularity_auc(counts, counts > 0, np.ones(3)), 0.5)

    def test_fresh_fails_and_persistent_holds(self):
        """As measured for the published design: fresh gives positives away by round 3, persistent stays at 2/(2+ρ)."""
        rng, num_items = np.random.default_rng(0), 3000
        positives = requests.item_sets([rng.permutation(num_items)[:20] for _ in range(50)])
        is_positive = request_attacks.membership(positives, num_items)
        secrets = [hashlib.sha256(bytes([device])).digest() for device in range(50)]
        for rho in (1.0, 4.0):
            fresh, persistent = np.zeros(is_positive.shape, np.int32), np.zeros(is_positive.shape, np.int32)
            for number in range(1, 4):
                drawn = requests.fresh_decoys(positives, num_items, rho, rng)
                request_attacks.count_requests(fresh, requests.shuffled_requests(positives, drawn, rng))
                kept = requests.persistent_decoys(positives, list(map(str, range(num_items))), rho, secrets)
                request_attacks.count_requests(persistent, requests.shuffled_requests(positives, kept, rng))
                holds = request_attacks.intersection_attack(persistent, is_positive, number)
                self.assertAllClose((holds.auc, holds.f1), (0.5, 2 / (2 + rho)), atol=1e-9)
                fails = request_attacks.intersection_attack(fresh, is_positive, number)
                if number == 1:
                    self.assertAllClose((fails.auc, fails.f1), (0.5, 2 / (2 + rho)), atol=1e-9)
            self.assertGreater(fails.auc, 0.95)
            self.assertGreater(fails.f1, 0.95)
        table = request_attacks.intersection_attack(np.full(is_positive.shape, 7), is_positive, 7)
        self.assertAllClose((table.auc, table.f1), (0.5, 2 * 20 / (20 + num_items)))

    def test_popularity(self):
        """Positive 0 is popular and asked for as often as decoys 1 and 2: it beats the less popular 1 and loses to 2.

        Without the device itself, item 0 has 3 devices, items 1 and 2 have 2 and 5. Counts come first: item 3, the most
        popular, was asked for less often.
        """
        counts, mine = np.array([[2, 2, 2, 1, 0]]), np.array([[True, False, False, False, False]])
        popularity = np.array([4, 2, 5, 9, 50])
        self.assertAllClose(request_attacks.popularity_auc(counts, mine, popularity), 2 / 3)
        popularity[1] = 3  # A tie, since the device's own interaction does not count.
        self.assertAllClose(request_attacks.popularity_auc(counts, mine, popularity), 1.5 / 3)


class ExposureTest(tf.test.TestCase):
    def test_by_hand(self):
        """Two devices, positives {0, 1} and {1, 2}, decoys {2} and {3}: of four positives, item 0 has one requester."""
        positives = requests.item_sets([np.array([0, 1]), np.array([1, 2])])
        asked = requests.item_sets([np.array([2, 0, 1]), np.array([3, 1, 2])])
        cohorts = [(positives, asked)]
        without = request_attacks.single_requester_exposure(cohorts, 5)
        self.assertEqual((without.exposed, without.lost, without.rows_dropped), (0.25, 0.0, 0.0))
        held = request_attacks.single_requester_exposure(cohorts * 2, 5, minimum=2)
        self.assertEqual((held.exposed, held.lost, held.rows_dropped), (0.0, 0.25, 2.0))
        nothing = request_attacks.single_requester_exposure([], 5)
        self.assertEqual((nothing.exposed, nothing.lost, nothing.rows_dropped), (0.0, 0.0, 0.0))


if __name__ == "__main__":
    unittest.main()
