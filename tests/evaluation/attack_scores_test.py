"""Scores of attacks: AUC by ranks against all pairs, thresholds, F1 and intervals, by hand."""

import hypothesis
import numpy as np
from absl.testing import absltest
from hypothesis import strategies

from tff_rec.evaluation import attack_scores as scores


class ScoresTest(absltest.TestCase):
    @hypothesis.settings(deadline=None, max_examples=30)
    @hypothesis.given(strategies.lists(strategies.tuples(strategies.integers(0, 5), strategies.booleans()), min_size=2))
    def test_auc_is_the_share_of_pairs(self, cases):
        values, labels = np.array([case[0] for case in cases], float), np.array([case[1] for case in cases])
        pairs = [(a > b) + (a == b) / 2 for a in values[labels] for b in values[~labels]]
        self.assertAlmostEqual(scores.auc(values, labels), np.mean(pairs) if pairs else 0.5)

    def test_threshold(self):
        """Of 200 negatives 0 … 199 two may exceed it: 197; of ten none may."""
        self.assertEqual(scores.threshold_at(np.arange(200.0)), 197.0)
        self.assertEqual(scores.threshold_at(np.arange(10.0)), 9.0)

    def test_items_by_hand(self):
        """User 1 is told perfectly, user 2 not at all: F1 is 1, and 2/3, the floor."""
        one = scores.Guesses(np.array([2.0, 0.0]), np.array([True, False]), np.array([True, False]))
        other = scores.Guesses(np.array([1.0, 1.0]), np.array([True, False]), np.array([True, True]))
        found = scores.score_items([one, other, scores.Guesses(np.ones(1), np.ones(1, bool), np.ones(1, bool))], 0)
        self.assertEqual(found.users, 2)
        self.assertAlmostEqual(found.auc.value, 0.75)
        self.assertAlmostEqual(found.f1.value, (1 + 2 / 3) / 2)
        self.assertAlmostEqual(found.f1_floor, 2 / 3)
        self.assertAlmostEqual(found.tpr.value, 0.5)
        self.assertEqual((found.auc.low, found.auc.high), (0.5, 1.0))

    def test_users_by_hand(self):
        """Scores that tell, of 100 users; those that do not, of 2,000."""
        labels = np.arange(100) < 40
        found = scores.score_users(labels + 0.0, labels, 0)
        self.assertEqual((found.auc.value, found.f1.value, found.tpr.value), (1.0, 1.0, 1.0))
        self.assertAlmostEqual(found.f1_floor, 2 * 40 / 140)
        rng = np.random.default_rng(0)
        blind = scores.score_users(rng.random(2000), np.arange(2000) < 1000, 0)
        self.assertBetween(0.5, blind.auc.low - 0.02, blind.auc.high + 0.02)
        self.assertLess(blind.tpr.value, 0.04)

    def test_interval_is_as_wide_as_the_standard_error(self):
        """The mean of 400 users' AUCs of 0 or 1: a standard error of 0.025, so 0.098 wide."""
        truth = np.array([True, False])
        users = [
            scores.Guesses(np.array([1.0, 0.0]) if number % 2 else np.array([0.0, 1.0]), truth, truth)
            for number in range(400)
        ]
        found = scores.score_items(users, 0)
        self.assertAlmostEqual(found.auc.high - found.auc.low, 0.098, delta=0.015)

    def test_nothing_to_guess_from(self):
        for found in (scores.score_items([], 0), scores.score_users(np.ones(3), np.ones(3, bool), 0)):
            self.assertEqual((found.auc.value, found.users), (0.5, 0))


if __name__ == "__main__":
    absltest.main()
