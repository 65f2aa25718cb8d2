"""Arrays of ratings, by hand; blocks that do not depend on grouping."""

import pathlib
import tempfile

import hypothesis
import numpy as np
import pandas as pd
import tensorflow as tf
from hypothesis import strategies

from tff_rec.data import features, ratings

TRAIN = pd.DataFrame(
    {"user_id": ["b", "b", "b", "a", "c"], "item_id": ["z", "x", "?", "y", "?"], "rating": [3.0, 4.5, 1.0, 2.0, 5.0]}
)
VOCABULARY = features.ItemVocabulary(("x", "y", "z"))


def _store(lengths):
    """User u has items 0, 1, … with ratings u + 0.001, u + 0.002, …"""
    rows = [
        (f"u{user}", f"i{place:03}", user + (place + 1) / 1000) for user, n in enumerate(lengths) for place in range(n)
    ]
    train = pd.DataFrame(rows, columns=["user_id", "item_id", "rating"])
    return ratings.build_rating_store(train, features.build_item_vocabulary(train))


def _by_user(store, users, **options):
    """(items, ratings, seed) of every user, who is told by the whole part of the ratings."""
    defaults = {"users_per_block": 3, "max_ratings": 5, "seed": 1, "round_number": 2}
    rows = {}
    for block in ratings.rating_blocks(store, np.asarray(users), **(defaults | options)):
        for items, values, seed in zip(*block.values(), strict=True):
            known = items >= 0
            rows[int(values[0])] = (items[known].tolist(), values[known].tolist(), int(seed))
    return rows


class RatingStoreTest(tf.test.TestCase):
    def test_rows_of_each_user_without_unknown_items(self):
        store = ratings.build_rating_store(TRAIN, VOCABULARY)
        self.assertEqual(store.user_ids.tolist(), ["b", "a", "c"])
        self.assertAllEqual(store.offsets, [0, 2, 3, 3])
        self.assertAllEqual(store.items, [2, 0, 1])
        self.assertAllEqual(store.ratings, [3.0, 4.5, 2.0])
        self.assertEqual(
            (store.offsets.dtype, store.items.dtype, store.ratings.dtype), (np.int64, np.int32, np.float32)
        )
        self.assertAllEqual(store.lengths(), [2, 1, 0])
        self.assertAllEqual(store.owners(), [0, 0, 1])

    def test_rows_of_a_user_must_stand_together(self):
        with self.assertRaisesRegex(ValueError, "stand together"):
            ratings.build_rating_store(TRAIN.iloc[[0, 3, 1]], VOCABULARY)

    def test_memory_mapped_arrays_are_equal(self):
        store = _store([3, 1, 4])
        mapped = ratings.memory_mapped(store, pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())))
        self.assertIsInstance(mapped.ratings, np.memmap)
        for name in ("offsets", "items", "ratings"):
            self.assertAllEqual(getattr(mapped, name), getattr(store, name))
        self.assertEqual(_by_user(mapped, [0, 1, 2]), _by_user(store, [0, 1, 2]))

    def test_interaction_matrix(self):
        """User b rated z 3 and x 4.5, a rated y 2; the store is left as it was, b's items out of order."""
        store = ratings.build_rating_store(TRAIN, VOCABULARY)
        matrix = ratings.interaction_matrix(store, 4)
        self.assertAllEqual(matrix.toarray(), [[4.5, 0, 3, 0], [0, 2, 0, 0], [0, 0, 0, 0]])
        self.assertEqual(matrix.dtype, np.float32)
        self.assertAllEqual(matrix.indices, [0, 2, 1])
        self.assertAllEqual(store.items, [2, 0, 1])

    def test_held_out_ratings_keep_every_row(self):
        store = ratings.build_rating_store(TRAIN, VOCABULARY)
        part = pd.DataFrame({"user_id": ["new", "a", "b"], "item_id": ["x", "?", "y"], "rating": [1.0, 2.5, 4.0]})
        held_out = ratings.held_out_ratings(store, part, VOCABULARY)
        self.assertAllEqual(held_out.users, [-1, 1, 0])
        self.assertAllEqual(held_out.items, [0, -1, 1])
        self.assertAllEqual(held_out.ratings, [1.0, 2.5, 4.0])
        self.assertEqual((held_out.users.dtype, held_out.items.dtype), (np.int64, np.int32))


class RatingBlocksTest(tf.test.TestCase):
    @hypothesis.settings(max_examples=30, deadline=None)
    @hypothesis.given(
        lengths=strategies.lists(strategies.integers(1, 12), min_size=1, max_size=9),
        size=strategies.integers(1, 9),
        seed=strategies.integers(0, 3),
    )
    def test_grouping_changes_nothing_for_a_user(self, lengths, size, seed):
        store, users = _store(lengths), np.arange(len(lengths))
        alone = _by_user(store, users, users_per_block=1, seed=seed)
        self.assertLen(alone, len(lengths))
        self.assertEqual(_by_user(store, users[::-1], users_per_block=size, seed=seed), alone)

    def test_padding_and_types(self):
        store = _store([1, 4, 2])
        first, second = ratings.rating_blocks(
            store, np.arange(3), users_per_block=2, max_ratings=9, seed=0, round_number=0
        )
        self.assertEqual(list(first), ["items", "ratings", "seed"])
        self.assertAllEqual(first["items"], [[0, 1, 2, 3], [0, 1, -1, -1]])
        self.assertAllClose(first["ratings"], [[1.001, 1.002, 1.003, 1.004], [2.001, 2.002, 0, 0]])
        self.assertAllEqual(second["items"], [[0]])
        self.assertEqual([array.dtype for array in first.values()], [np.int32, np.float32, np.int32])
        self.assertEqual(first["seed"].shape, (2,))

    def test_long_users_train_on_a_subset_in_order_that_changes_with_the_round(self):
        """10 of a user's ratings, 4 a round: each in 40 % of the rounds; 400 rounds leave 0.4 ± 0.12 at five sigma."""
        store, counts, seeds = _store([10, 3]), np.zeros(10), set()
        for number in range(400):
            rows = _by_user(store, [0, 1], max_ratings=4, round_number=number)
            items, values, seed = rows[0]
            self.assertEqual(items, sorted(set(items)))
            self.assertAllClose(values, [(item + 1) / 1000 for item in items])
            self.assertEqual(rows[1][0], [0, 1, 2])
            counts[items] += 1
            seeds.add(seed)
        self.assertAllClose(counts / 400, np.full(10, 0.4), atol=0.12)
        self.assertLen(seeds, 400)

    def test_users_have_subsets_of_their_own(self):
        rows = _by_user(_store([40, 40]), [0, 1], max_ratings=20)
        self.assertNotEqual(rows[0][0], rows[1][0])
        self.assertLen(rows[1][0], 20)

    def test_a_user_without_ratings_is_padding(self):
        store = ratings.build_rating_store(TRAIN, VOCABULARY)
        (block,) = ratings.rating_blocks(store, np.array([2]), users_per_block=1, max_ratings=3, seed=0, round_number=0)
        self.assertAllEqual(block["items"], [[-1]])
        self.assertAllEqual(block["ratings"], [[0.0]])


if __name__ == "__main__":
    tf.test.main()
