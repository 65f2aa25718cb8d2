"""Cohorts and blocks: reproducible, and independent of grouping."""

import collections
import pathlib
import tempfile
import unittest

import hypothesis
import numpy as np
import pandas as pd
from hypothesis import strategies

from tff_rec.data import clients, features
from tff_rec.errors import InputError


def _store(lengths, times=None):
    rows = [(f"u{user}", f"i{place:03}") for user, length in enumerate(lengths) for place in range(length)]
    train = pd.DataFrame(rows, columns=["user_id", "item_id"])
    train["timestamp"] = range(len(train)) if times is None else times
    return clients.build_client_store(train, features.build_item_vocabulary(train))


def _blocks(store, users, **options):
    defaults = {
        "max_length": 5,
        "users_per_block": 3,
        "random_window": 0.5,
        "shuffle_ties": False,
        "seed": 1,
        "round_number": 2,
    }
    return list(clients.blocks(store, np.asarray(users), **(defaults | options)))


def _by_user(store, users, **options):
    """(history, seed) of every user, told apart by their items: user u's items begin at u * 1000."""
    rows = {}
    for block in _blocks(store, users, **options):
        for history, seed in zip(block["history"], block["seed"], strict=True):
            items = tuple(history[history >= 0].tolist())
            rows[items] = (*rows.get(items, ()), int(seed))
    return rows


class ClientStoreTest(unittest.TestCase):
    def test_histories_are_the_rows_of_each_user(self):
        train = pd.DataFrame(
            {"user_id": ["b", "b", "a", "c"], "item_id": ["y", "x", "z", "x"], "timestamp": [3, 9, 1, 5]}
        )
        store = clients.build_client_store(train, features.ItemVocabulary(("x", "y", "z")))
        self.assertEqual(store.user_ids.tolist(), ["b", "a", "c"])
        self.assertEqual([store.history(user).tolist() for user in range(3)], [[1, 0], [2], [0]])
        self.assertEqual(store.timestamps.tolist(), [3, 9, 1, 5])

    def test_items_outside_the_vocabulary_are_left_out(self):
        train = pd.DataFrame({"user_id": ["b", "b", "a"], "item_id": ["y", "x", "y"], "timestamp": [0, 0, 0]})
        store = clients.build_client_store(train, features.ItemVocabulary(("x",)))
        self.assertEqual([store.history(user).tolist() for user in range(2)], [[0], []])

    def test_rows_of_a_user_must_stand_together(self):
        train = pd.DataFrame({"user_id": ["b", "a", "b"], "item_id": ["y", "x", "z"], "timestamp": [0, 0, 0]})
        with self.assertRaisesRegex(ValueError, "stand together"):
            clients.build_client_store(train, features.build_item_vocabulary(train))

    def test_memory_mapped_arrays_are_equal(self):
        store = _store([3, 1, 4])
        with tempfile.TemporaryDirectory() as directory:
            mapped = clients.memory_mapped(store, pathlib.Path(directory))
            self.assertIsInstance(mapped.items, np.memmap)
            np.testing.assert_array_equal(mapped.items, store.items)
            np.testing.assert_array_equal(mapped.offsets, store.offsets)

    def test_held_out_items_are_of_the_right_users(self):
        store = _store([2, 2, 2])
        part = pd.DataFrame({"user_id": ["u2", "u0"], "item_id": ["i001", "never seen"]})
        held_out = clients.held_out_items(store, part, features.ItemVocabulary(("i000", "i001")))
        self.assertEqual(held_out.users.tolist(), [0, 2])
        self.assertEqual(held_out.items.tolist(), [-1, 1])


class CohortTest(unittest.TestCase):
    def test_a_pass_takes_every_user_once(self):
        users = np.arange(100, 120)
        cohorts = [clients.cohort(users, 5, seed=3, round_number=number) for number in range(4)]
        self.assertEqual(sorted(np.concatenate(cohorts).tolist()), users.tolist())
        following = [clients.cohort(users, 5, seed=3, round_number=number) for number in range(4, 8)]
        self.assertEqual(sorted(np.concatenate(following).tolist()), users.tolist())
        self.assertNotEqual(np.concatenate(cohorts).tolist(), np.concatenate(following).tolist())

    def test_seed_and_round_decide(self):
        users = np.arange(50)
        first = clients.cohort(users, 7, seed=1, round_number=9)
        self.assertEqual(first.tolist(), clients.cohort(users, 7, seed=1, round_number=9).tolist())
        self.assertNotEqual(first.tolist(), clients.cohort(users, 7, seed=2, round_number=9).tolist())

    def test_users_of_a_cohort_are_distinct_where_it_does_not_divide_the_population(self):
        for number in range(30):
            cohort = clients.cohort(np.arange(10), 4, seed=0, round_number=number)
            self.assertEqual(len(set(cohort.tolist())), 4)

    def test_too_few_users(self):
        with self.assertRaisesRegex(InputError, "cohort of 11 needs"):
            clients.cohort(np.arange(10), 11, seed=0, round_number=0)


class BlocksTest(unittest.TestCase):
    @hypothesis.settings(max_examples=30, deadline=None)
    @hypothesis.given(
        lengths=strategies.lists(strategies.integers(1, 12), min_size=1, max_size=9),
        size=strategies.integers(1, 9),
        ties=strategies.booleans(),
    )
    def test_grouping_changes_nothing_for_a_user(self, lengths, size, ties):
        times = np.repeat(0, sum(lengths))
        store = _store(lengths, times)
        users = np.arange(len(lengths))
        alone = collections.Counter(
            {key: len(value) for key, value in _by_user(store, users, users_per_block=1, shuffle_ties=ties).items()}
        )
        grouped = collections.Counter(
            {key: len(value) for key, value in _by_user(store, users, users_per_block=size, shuffle_ties=ties).items()}
        )
        self.assertEqual(alone, grouped)
        self.assertEqual(
            sorted(sum(_by_user(store, users, users_per_block=1).values(), ())),
            sorted(sum(_by_user(store, users, users_per_block=size).values(), ())),
        )

    def test_without_random_windows_a_long_history_gives_its_end(self):
        (block,) = _blocks(_store([9]), [0], random_window=0.0)
        self.assertEqual(block["history"].tolist(), [[4, 5, 6, 7, 8]])

    def test_random_windows_reach_every_place_and_stay_in_the_history(self):
        store, starts = _store([9, 9]), set()
        for number in range(60):
            (block,) = _blocks(store, [1], random_window=1.0, round_number=number)
            row = block["history"][0]
            self.assertEqual(np.diff(row).tolist(), [1, 1, 1, 1])
            starts.add(int(row[0]))
        self.assertEqual(starts, {0, 1, 2, 3, 4})

    def test_blocks_are_padded_to_their_longest_history(self):
        blocks = _blocks(_store([1, 4, 2, 3]), [0, 1, 2, 3], users_per_block=2)
        self.assertEqual([block["history"].shape for block in blocks], [(2, 4), (2, 2)])
        self.assertEqual(blocks[1]["history"].tolist(), [[0, 1], [0, -1]])
        self.assertEqual(blocks[0]["history"].dtype, np.int32)
        self.assertEqual(blocks[0]["seed"].dtype, np.int32)

    def test_blocks_are_of_like_size(self):
        """7 users, at most 3 a block: 3 blocks, cut at 7/3 and 14/3, rounded: 2, 3 and 2 users; 4 would be 4 and 3."""
        store = _store([2] * 7)
        for most, sizes in ((3, [2, 3, 2]), (4, [4, 3]), (7, [7]), (100, [7]), (1, [1] * 7)):
            blocks = _blocks(store, np.arange(7), users_per_block=most)
            self.assertEqual([len(block["seed"]) for block in blocks], sizes)

    @hypothesis.settings(max_examples=200, deadline=None)
    @hypothesis.given(strategies.integers(0, 3000), strategies.integers(1, 400))
    def test_even_parts(self, total, most):
        parts = list(clients.even_parts(total, most))
        sizes = [part.stop - part.start for part in parts]
        self.assertEqual(np.concatenate([[], *(np.arange(total)[part] for part in parts)]).tolist(), [*range(total)])
        self.assertEqual(len(parts), -(-total // most))
        self.assertLessEqual(max(sizes, default=0), most)
        self.assertLessEqual(max(sizes, default=0) - min(sizes, default=0), 1)

    def test_only_ties_are_shuffled(self):
        store = _store([5], times=[0, 7, 7, 7, 9])
        orders = set()
        for number in range(40):
            (block,) = _blocks(store, [0], shuffle_ties=True, round_number=number)
            row = block["history"][0].tolist()
            self.assertEqual((row[0], row[4]), (0, 4))
            orders.add(tuple(row[1:4]))
        self.assertEqual(len(orders), 6)


def _beside(store):
    """Two numbers beside each place p of the store: 100 + 2p and 101 + 2p."""
    return {"decoys": 100 + np.arange(2 * len(store.items), dtype=np.int32).reshape(-1, 2)}


class BesideTest(unittest.TestCase):
    def test_by_hand(self):
        """Users 0 and 1 own places 0 and 1 to 7; the longer history comes first and is cut to its last five places."""
        store = _store([1, 7])
        (block,) = _blocks(store, [0, 1], random_window=0.0, beside=_beside(store))
        self.assertEqual(list(block), ["history", "seed", "decoys"])
        self.assertEqual(block["history"].tolist(), [[2, 3, 4, 5, 6], [0, -1, -1, -1, -1]])
        self.assertEqual(block["decoys"].tolist(), [list(range(106, 116)), [100, 101, *[-1] * 8]])
        self.assertEqual(block["decoys"].dtype, np.int32)

    def test_follows_random_windows(self):
        """Item i of user 1 stands at place 3 + i, with 106 + 2i and 107 + 2i beside it."""
        store, starts = _store([3, 12]), set()
        for number in range(40):
            (block,) = _blocks(store, [1], random_window=1.0, round_number=number, beside=_beside(store))
            items = block["history"][0]
            self.assertEqual(block["decoys"][0].tolist(), [106 + 2 * item + more for item in items for more in (0, 1)])
            starts.add(int(items[0]))
        self.assertGreater(len(starts), 3)

    def test_shuffled_ties_keep_what_stands_beside_the_window(self):
        """The order within the window may differ from that of the items; what is asked for may not."""
        store, orders = _store([3, 12], times=[0] * 15), set()
        for number in range(20):
            options = {"random_window": 1.0, "shuffle_ties": True, "round_number": number}
            (block,) = _blocks(store, [1], **options, beside=_beside(store))
            items = block["history"][0]
            expected = [106 + 2 * item + more for item in items for more in (0, 1)]
            self.assertEqual(sorted(block["decoys"][0].tolist()), sorted(expected))
            orders.add(tuple(np.argsort(items).tolist()))
        self.assertGreater(len(orders), 1)

    @hypothesis.settings(max_examples=30, deadline=None)
    @hypothesis.given(strategies.lists(strategies.integers(1, 12), min_size=2, max_size=9), strategies.integers(2, 9))
    def test_does_not_depend_on_grouping(self, lengths, size):
        store, users = _store(lengths), np.arange(len(lengths))
        alone, grouped = (
            collections.Counter(
                (int(seed), tuple(history[history >= 0].tolist()), tuple(decoys[decoys >= 0].tolist()))
                for block in _blocks(store, users, users_per_block=most, beside=_beside(store))
                for seed, history, decoys in zip(block["seed"], block["history"], block["decoys"], strict=True)
            )
            for most in (1, size)
        )
        self.assertEqual(alone, grouped)
        self.assertTrue(all(len(decoys) == 2 * len(history) for _, history, decoys in alone))


if __name__ == "__main__":
    unittest.main()
