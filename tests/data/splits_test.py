"""Splits of a few rows, by hand; partition and seed properties."""

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from tff_rec.data import splits
from tff_rec.data.schema import InteractionData, empty_genome, empty_tags
from tff_rec.errors import InputError


def interaction_data(rows: list[tuple[str, str, int]]) -> InteractionData:
    """Interactions (user, item, timestamp) in file order."""
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    interactions = table.assign(rating=np.float32(1))[["user_id", "item_id", "rating", "timestamp"]]
    items = pd.DataFrame({"item_id": table["item_id"].unique(), "title": ""})
    users = pd.DataFrame({"user_id": table["user_id"].unique()})
    return InteractionData("hand", interactions, items, empty_tags(), empty_genome(), users)


def pairs(part: pd.DataFrame) -> list[str]:
    return (part["user_id"] + part["item_id"]).tolist()


# User b comes first in the file; b's rows 2 and 4 share a second, so that file order decides; c has two rows only.
HAND = interaction_data(
    [
        ("b", "1", 5),
        ("a", "1", 9),
        ("b", "2", 7),
        ("a", "2", 3),
        ("b", "4", 7),
        ("c", "1", 1),
        ("a", "3", 4),
        ("c", "2", 0),
    ]
)
ORDERED = ["b1", "b2", "b4", "a2", "a3", "a1", "c2", "c1"]
RANDOM = interaction_data(
    [(str(u), str(i), (7 * u + 3 * i) % 11) for u in range(20) for i in range(50) if (u * i + u + i) % 4]
)


class LeaveOneOutTest(absltest.TestCase):
    def test_by_hand(self):
        split = splits.leave_one_out(HAND)
        self.assertEqual(pairs(split.train), ["b1", "a2", "c2", "c1"])
        self.assertEqual(pairs(split.validation), ["b2", "a3"])
        self.assertEqual(pairs(split.test), ["b4", "a1"])
        self.assertIn("LOO-full", split.protocol)
        self.assertEqual(list(split.train.columns), list(HAND.interactions.columns))
        self.assertEqual(split.train.index.tolist(), [0, 1, 2, 3])


class NoSplitTest(absltest.TestCase):
    def test_everything_is_training(self):
        split = splits.no_split(HAND)
        self.assertEqual(pairs(split.train), ORDERED)
        self.assertEmpty(split.validation)
        self.assertEmpty(split.test)


class RandomRatingsTest(parameterized.TestCase):
    def test_shares_and_seed(self):
        split = splits.random_ratings(RANDOM, seed=3)
        total = len(RANDOM.interactions)
        self.assertEqual([len(split.validation), len(split.test)], [round(total * 0.1)] * 2)
        self.assertEqual(split.protocol, "random 80/10/10 per rating, seed 3")
        self.assertEqual(pairs(split.test), pairs(splits.random_ratings(RANDOM, seed=3).test))
        self.assertNotEqual(pairs(split.test), pairs(splits.random_ratings(RANDOM, seed=4).test))

    def test_no_validation(self):
        split = splits.random_ratings(RANDOM, seed=0, fractions=(0.5, 0, 0.5))
        self.assertEmpty(split.validation)
        self.assertLen(split.test, round(len(RANDOM.interactions) / 2))

    @parameterized.parameters((0.8, 0.1), (0.8, 0.3, -0.1), (0.5, 0.1, 0.1), (0.0, 0.5, 0.5))
    def test_no_shares(self, *fractions):
        with self.assertRaisesRegex(InputError, "give three that sum to 1"):
            splits.random_ratings(RANDOM, 0, fractions)


class TemporalTest(parameterized.TestCase):
    def test_by_hand(self):
        """Times in order: c2 0, c1 1, a2 3, a3 4, b1 5, b2 7, b4 7, a1 9. A quarter of 8 is two rows.

        The two newest are a1 and one of b2, b4: both of second 7 go to test. The two newest of the rest are a3, b1.
        """
        split = splits.temporal(HAND, validation_fraction=0.25, test_fraction=0.25)
        self.assertEqual(pairs(split.test), ["b2", "b4", "a1"])
        self.assertEqual(pairs(split.validation), ["b1", "a3"])
        self.assertEqual(pairs(split.train), ["a2", "c2", "c1"])
        self.assertEqual(split.protocol, "temporal: newest 25 % of interactions test, 25 % before validation")

    def test_test_only(self):
        split = splits.temporal(HAND, 0, 0.1)
        self.assertEqual(pairs(split.test), ["a1"])
        self.assertEmpty(split.validation)

    def test_no_test(self):
        self.assertEmpty(splits.temporal(HAND, 0.1, 0).test)

    @parameterized.parameters((0.5, 0.5), (-0.1, 0.1), (0.1, -0.1))
    def test_wrong_fractions(self, validation_fraction, test_fraction):
        with self.assertRaisesRegex(InputError, "together below 1"):
            splits.temporal(HAND, validation_fraction, test_fraction)

    @parameterized.parameters((0.5, 0.1), (0.0, 0.5))
    def test_one_moment_leaves_nothing_to_train_on(self, validation_fraction, test_fraction):
        data = interaction_data([("a", str(i), 1) for i in range(9)])
        with self.assertRaisesRegex(InputError, "leaves nothing to train on"):
            splits.temporal(data, validation_fraction, test_fraction)


class HeldOutUsersTest(parameterized.TestCase):
    def test_users_are_whole(self):
        split = splits.held_out_users(RANDOM, fraction=0.25, seed=1)
        parts = [set(part["user_id"]) for part in (split.train, split.validation, split.test)]
        self.assertEqual([len(part) for part in parts], [15, 2, 3])
        self.assertLen(set.union(*parts), 20)
        self.assertIn("held-out users: 3 test and 2 validation users of 20", split.protocol)
        self.assertEqual(pairs(split.test), pairs(splits.held_out_users(RANDOM, 0.25, 1).test))
        self.assertNotEqual(pairs(split.test), pairs(splits.held_out_users(RANDOM, 0.25, 2).test))

    def test_users_with_one_row_stay_in_training(self):
        data = interaction_data(
            [*((f"one{i}", "x", 0) for i in range(50)), ("a", "x", 0), ("a", "y", 1), ("b", "x", 0), ("b", "y", 1)]
        )
        split = splits.held_out_users(data, 0.9, seed=0)
        self.assertEqual({*split.validation["user_id"], *split.test["user_id"]}, {"a", "b"})

    @parameterized.parameters(0.0, 1.0, 0.01)
    def test_wrong_fraction(self, fraction):
        with self.assertRaises(InputError):
            splits.held_out_users(RANDOM, fraction, 0)

    def test_history_and_target(self):
        history, target = splits.history_and_target(splits.no_split(HAND).train)
        self.assertEqual(pairs(history), ["b1", "b2", "a2", "a3", "c2"])
        self.assertEqual(pairs(target), ["b4", "a1", "c1"])

    def test_history_and_target_of_nothing(self):
        history, target = splits.history_and_target(splits.no_split(HAND).test)
        self.assertEmpty(history)
        self.assertEmpty(target)


class EverySplitTest(parameterized.TestCase):
    @parameterized.parameters(
        splits.leave_one_out,
        splits.no_split,
        lambda data: splits.random_ratings(data, 5),
        lambda data: splits.temporal(data, 0.1, 0.2),
        lambda data: splits.held_out_users(data, 0.3, 5),
    )
    def test_parts_are_disjoint_complete_and_ordered(self, split_of):
        split = split_of(RANDOM)
        parts = [split.train, split.validation, split.test]
        self.assertCountEqual(pairs(pd.concat(parts)), pairs(RANDOM.interactions))
        for part in parts:
            self.assertEqual(pairs(part), pairs(splits.order_by_user_and_time(part)))
            self.assertEqual(part.index.tolist(), list(range(len(part))))
            self.assertEqual(part.dtypes.tolist(), RANDOM.interactions.dtypes.tolist())


if __name__ == "__main__":
    absltest.main()
