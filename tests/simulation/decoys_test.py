"""Decoys of simulated devices: the same for good or new each round, never what a device has, by the law asked for."""

import unittest

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from scipy import stats

from tff_rec.data import clients
from tff_rec.simulation import decoys
from tff_rec.simulation.transport_config import TransportConfig

NUM_ITEMS = 60
LENGTHS = (5, 0, 12, 1, 40, 7)


def _store(histories):
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    items = np.concatenate(histories).astype(np.int32)
    return clients.ClientStore(np.arange(len(histories)).astype(object), offsets, items, np.zeros(len(items), np.int64))


def _random_store():
    rng = np.random.default_rng(0)
    return _store([rng.permutation(NUM_ITEMS)[:length] for length in LENGTHS])


def _draw(store, strategy, rho=2, law="uniform", popularity=None, seed=3):
    popularity = np.ones(NUM_ITEMS, np.float32) if popularity is None else popularity
    transport = TransportConfig(items="rows", decoys=rho, decoy_strategy=strategy, decoy_sampling=law)
    return decoys.decoys_of_rounds(transport, store, list(map(str, range(len(popularity)))), popularity, seed)


class DecoysTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(strategy=("persistent", "fresh"), law=("uniform", "popularity"))
    def test_decoys_are_distinct_and_outside_the_whole_history(self, strategy, law):
        """Two an item of the history; the user with 40 of 60 items has but 20 others."""
        store = _random_store()
        beside = _draw(store, strategy, law=law)(np.arange(len(LENGTHS)), 4)
        self.assertEqual((beside.shape, beside.dtype), ((sum(LENGTHS), 2), np.int32))
        for user, count in enumerate((10, 0, 24, 2, 20, 14)):
            own = beside[store.offsets[user] : store.offsets[user + 1]]
            drawn = set(own[own >= 0].tolist())
            self.assertEqual((np.sum(own >= 0), len(drawn)), (count, count))
            self.assertEmpty(drawn & set(store.history(user).tolist()))

    def test_persistent_decoys_are_the_same_array_each_round(self):
        draw = _draw(_random_store(), "persistent")
        first = draw(np.array([0, 2]), 0)
        self.assertIs(draw(np.array([4]), 17), first)
        self.assertAllEqual(_draw(_random_store(), "persistent")(np.array([0, 2]), 0), first)
        self.assertNotAllEqual(_draw(_random_store(), "persistent", seed=4)(np.array([0, 2]), 0), first)

    def test_fresh_decoys_change_with_the_round(self):
        """Sets, not only their order, change: two draws of 24 of the 48 items that user 2 does not have."""
        store, cohort = _random_store(), np.array([2])
        rounds = [_draw(store, "fresh")(cohort, number) for number in (0, 1, 0)]
        self.assertAllEqual(rounds[2], rounds[0])
        first, second = (set(beside[beside >= 0].tolist()) for beside in rounds[:2])
        self.assertNotEqual(first, second)
        self.assertNotAllEqual(_draw(store, "fresh", seed=4)(cohort, 0), rounds[0])

    def test_fresh_decoys_are_for_the_cohort_alone(self):
        """In any order of its users; ρ = 1 fills all places of users 5 and 2."""
        store = _random_store()
        beside = _draw(store, "fresh", rho=1)(np.array([5, 2]), 0)
        filled = np.zeros(len(store.items), bool)
        for user in (2, 5):
            filled[store.offsets[user] : store.offsets[user + 1]] = True
        self.assertAllEqual(beside[:, 0] >= 0, filled)
        self.assertAllEqual(beside[~filled], np.full([len(filled) - 19, 1], -1))

    @parameterized.parameters("persistent", "fresh")
    def test_laws(self, strategy):
        """4000 devices that have item 0 draw one of items 1 to 4, popularity 0, 1, 3, 9: 1, 2, 4, 10 with one added.

        Chi-square with fixed seeds; by the uniform law each is drawn 1000 times.
        """
        store = _store([np.array([0])] * 4000)
        popularity = np.array([50, 0, 1, 3, 9], np.float32)
        for law, weights in (("popularity", [1, 2, 4, 10]), ("uniform", [1, 1, 1, 1])):
            beside = _draw(store, strategy, 1, law, popularity)(np.arange(4000), 0)
            counts = np.bincount(beside[:, 0], minlength=5)
            self.assertEqual(counts[0], 0)
            expected = 4000 * np.array(weights) / sum(weights)
            self.assertGreater(stats.chisquare(counts[1:], expected).pvalue, 0.001)

    def test_every_device_has_its_own_secret(self):
        secrets = {decoys.device_secret(seed, device) for seed in (0, 1) for device in range(100)}
        self.assertLen(secrets, 200)
        self.assertEqual({len(secret) for secret in secrets}, {32})
        self.assertEqual(decoys.device_secret(1, 2), decoys.device_secret(1, 2))


if __name__ == "__main__":
    unittest.main()
