"""Silos: a partition of the users every way, and each way what its name says."""

import hypothesis
import numpy as np
import tensorflow as tf
from hypothesis import strategies
from scipy import sparse

from tff_rec.data import silos
from tff_rec.data.ratings import RatingStore
from tff_rec.errors import InputError

ROWS = sparse.csr_matrix(np.eye(4, dtype=np.float32))


def _store(items_of):
    """User u rated the given items with 4 stars."""
    offsets = np.cumsum([0, *map(len, items_of)])
    items = np.concatenate([np.asarray(items, np.int32) for items in items_of])
    ids = np.array([str(user) for user in range(len(items_of))], dtype=object)
    return RatingStore(ids, offsets, items, np.full(len(items), 4, np.float32))


def _random_store(num_users, seed=0):
    rng = np.random.default_rng(seed)
    return _store([rng.choice(4, rng.integers(1, 5), replace=False) for _ in range(num_users)])


WAYS = (
    silos.at_random,
    silos.by_activity,
    lambda store, num_silos, seed: silos.by_taste(store, ROWS, num_silos, seed),
)


class SilosTest(tf.test.TestCase):
    @hypothesis.settings(max_examples=25, deadline=None)
    @hypothesis.given(
        num_users=strategies.integers(30, 60), num_silos=strategies.integers(2, 5), seed=strategies.integers(0, 9)
    )
    def test_every_way_is_a_partition_into_equal_parts(self, num_users, num_silos, seed):
        store = _random_store(num_users, seed)
        for way in WAYS:
            parts = way(store, num_silos, seed)
            self.assertLen(parts, num_silos)
            self.assertAllEqual(np.sort(np.concatenate(parts)), np.arange(num_users))
            sizes = [len(part) for part in parts]
            self.assertLessEqual(max(sizes) - min(sizes), 1)
            for part in parts:
                self.assertEqual(part.dtype, np.int64)
                self.assertAllEqual(part, np.sort(part))

    def test_the_seed_decides(self):
        store = _random_store(60)
        for way in WAYS:
            first, same = way(store, 3, 1), way(store, 3, 1)
            for one, two in zip(first, same, strict=True):
                self.assertAllEqual(one, two)
            others = [np.concatenate(way(store, 3, seed)).tolist() for seed in range(2, 6)]
            self.assertTrue(any(np.concatenate(first).tolist() != other for other in others))

    def test_refusals(self):
        for way in WAYS:
            for num_silos in (1, 0, 31):
                with self.assertRaisesRegex(InputError, f"30 users cannot be parted into {num_silos} silos"):
                    way(_random_store(30), num_silos, 0)

    def test_by_activity(self):
        """Numbers of ratings 3, 1, 4, 2: the two quiet users are 1 and 3."""
        store = _store([[0, 1, 2], [0], [0, 1, 2, 3], [2, 3]])
        self.assertAllEqual(silos.by_activity(store, 2, 0), [[1, 3], [0, 2]])

    def test_by_taste_finds_the_tastes(self):
        """Users rate one of items 0 and 1 with item 2, or item 3 alone: 20 each, in turns."""
        store = _store([items for _ in range(20) for items in ([0, 2], [1, 2], [3])])
        parts = silos.by_taste(store, ROWS, 3, seed=4)
        self.assertCountEqual([tuple(part % 3) for part in parts], [(0,) * 20, (1,) * 20, (2,) * 20])

    def test_by_taste_fills_silos_of_equal_size(self):
        """Four users like item 0, two like item 1; the one of the four that also rated item 1 goes to them."""
        store = _store([[0], [0], [0, 1], [0], [1], [1]])
        parts = sorted(silos.by_taste(store, ROWS, 2, seed=0), key=len)
        self.assertCountEqual([part.tolist() for part in parts], [[0, 1, 3], [2, 4, 5]])

    def test_like_users_cannot_be_parted_by_taste(self):
        with self.assertRaisesRegex(InputError, "do not differ enough in taste for 3 silos"):
            silos.by_taste(_store([[0], [1], [0], [1]]), ROWS, 3, 0)


if __name__ == "__main__":
    tf.test.main()
