"""Intervals and paired tests of rankings, groups of users, and what lists are made of, by hand."""

import numpy as np
import tensorflow as tf

from tff_rec.errors import InputError
from tff_rec.evaluation import ranking, ranking_quality, recommenders, tuning


class IntervalsTest(tf.test.TestCase):
    def test_values_are_the_metrics_in_percent(self):
        ranks = np.array([1, 3, 12, ranking.MISS])
        found = ranking_quality.intervals(ranks, resamples=50)
        metrics = ranking.metrics_from_ranks(ranks)
        for name, interval in found.items():
            self.assertAllClose(interval.value, 100 * getattr(metrics, name))
            self.assertBetween(interval.value, interval.low, interval.high)

    def test_the_interval_of_a_share_is_the_binomials(self):
        """300 of 1,000 users hit: standard error 1.449 points, so about 30 ± 2.84."""
        ranks = np.where(np.arange(1000) < 300, 1, 100)
        interval = ranking_quality.intervals(ranks)["hit_rate_10"]
        self.assertAllClose([interval.low, interval.high], [27.16, 32.84], atol=0.4)

    def test_nobody_is_refused(self):
        with self.assertRaisesRegex(InputError, "No user has a held-out item"):
            ranking_quality.intervals(np.empty(0, np.int64))

    def test_pairs_see_what_separate_intervals_do_not(self):
        """The second model is worse for 30 of 1,000 users and the same for all others."""
        first = np.where(np.arange(1000) < 300, 1, 100)
        second = np.where(np.arange(1000) < 270, 1, 100)
        difference = ranking_quality.compare(first, second)["hit_rate_10"]
        self.assertAllClose(difference.value, 3.0)
        self.assertLess(difference.p_value, 0.01)
        one, other = (ranking_quality.intervals(ranks)["hit_rate_10"] for ranks in (first, second))
        self.assertLess(one.low, other.high)
        self.assertEqual(ranking_quality.compare(first, first)["ndcg_10"].p_value, 1)


class BucketsTest(tf.test.TestCase):
    def test_groups_by_the_count_of_the_held_out_item(self):
        """Counts 0 (unknown), 1, 2, 2, 5, 5, 9, 9 of eight users: quartiles begin at 2, 5 and 9."""
        counts, rows = np.array([1, 2, 5, 9]), np.array([-1, 0, 1, 1, 2, 2, 3, 3])
        ranks = np.array([100, 1, 1, 1, 1, 100, 100, 100])
        found = ranking_quality.bucketed(ranks, rows, counts)
        self.assertEqual([group["users"] for group in found], [2, 2, 2, 2])
        self.assertEqual([group["label"] for group in found], ["0 to 1", "2 to 4", "5 to 8", "9 or more"])
        self.assertEqual([group["hit_rate_10"] for group in found], [50, 100, 50, 0])

    def test_one_group_where_all_are_alike(self):
        found = ranking_quality.bucketed(np.array([1, 2, 3]), np.zeros(3, int), np.array([4]))
        self.assertEqual([group["users"] for group in found], [3])


class ListsTest(tf.test.TestCase):
    def test_coverage_and_popularity_by_hand(self):
        """Items 0, 2 of 4 are listed. Percentiles: counts 1, 1 share places 0 and 1: 25; 3 has 62.5, 7 has 87.5."""
        top = np.array([[0, 2], [2, -1]], np.int32)
        self.assertEqual(ranking_quality.coverage(top, 4), 0.5)
        self.assertAllClose(ranking_quality.popularity_bias(top, np.array([1, 1, 3, 7])), (25 + 62.5 + 62.5) / 3)

    def test_lists_leave_out_histories_and_are_short_where_little_is_left(self):
        scores = np.tile(np.arange(12, dtype=np.float32), [2, 1])
        scores[1, 11] = np.nan
        recommender = recommenders.in_batches(lambda users, histories: scores[users])
        histories = [np.array([11, 10, -1]), np.arange(4)]
        found = recommenders.rank(recommender, np.arange(2), histories, np.array([9, 11], np.int32))
        self.assertAllEqual(found.ranks, [1, 8])
        self.assertAllEqual(np.sort(found.top), [np.arange(10), [-1, -1, *range(4, 12)]])


class TuningTest(tf.test.TestCase):
    def test_the_first_of_the_best_and_all_that_was_tried(self):
        tried = [({"a": value}, lambda value=value: value) for value in (1, 3, -3, 2)]
        found = tuning.best(tried, lambda model: {"square": model**2}, lambda scores: scores["square"])
        self.assertEqual((found.model, found.chosen, found.validation), (3, {"a": 3}, {"square": 9}))
        self.assertEqual([one["validation"]["square"] for one in found.grid], [1, 9, 9, 4])
        self.assertEqual(found.grid[2]["hyperparameters"], {"a": -3})


if __name__ == "__main__":
    tf.test.main()
