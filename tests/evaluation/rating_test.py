"""Rating metrics by hand and against `ir-measures`; intervals that cover; groups."""

import ir_measures
import numpy as np
import tensorflow as tf
from ir_measures import P, R, nDCG

from tff_rec.errors import InputError
from tff_rec.evaluation import rating

# User 7 rates 5, 3, 4 and is predicted 4, 4, 3; user 2 rates 2 (no relevant rating) and is predicted 2.5.
USERS = np.array([7, 7, 2, 7])
RATINGS = np.array([5, 3, 2, 4], np.float32)
PREDICTIONS = np.array([4, 4, 2.5, 3], np.float32)


def _random(num_users=200, seed=0, noise=1.0):
    """Half-star ratings of users in random order, and predictions rounded so that many tie."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, num_users, 8 * num_users)
    ratings = rng.integers(1, 11, len(users)) / 2
    return users, np.round(ratings + rng.normal(0, noise, len(users))), ratings


def _evaluate(*arrays, **options):
    return rating.evaluate(*arrays, **({"resamples": 50} | options))


class MetricsTest(tf.test.TestCase):
    def test_by_hand(self):
        """Errors 1, 1, 0.5, 1: MSE 3.25 / 4, MAE 3.5 / 4.

        At 2, user 7's order is the 3 (ties with the 5 and is not relevant, so stands first), the 5, then the 4: one of
        two is relevant, one of two relevant ones is found, at place 2: NDCG (1 / log2 3) / (1 + 1 / log2 3). User 2 has
        no relevant rating and does not count.
        """
        metrics = _evaluate(USERS, PREDICTIONS, RATINGS, k=2)
        found = {name: getattr(metrics, name).value for name in rating.METRICS}
        second = 1 / np.log2(3)
        expected = {"mse": 3.25 / 4, "rmse": np.sqrt(3.25 / 4), "mae": 3.5 / 4}
        expected |= {"precision": 0.5, "recall": 0.5, "ndcg": second / (1 + second)}
        self.assertAllClose(found, expected)
        self.assertEqual((metrics.users, metrics.ratings, metrics.k), (2, 4, 2))

    def test_a_short_list_does_not_reach_precision_1(self):
        """Three ratings, two relevant, cut at 10: precision 2/10, recall 1; the order 3, 5, 4 costs NDCG."""
        metrics = _evaluate(USERS, PREDICTIONS, RATINGS, k=10)
        gain = (1 / np.log2(3) + 1 / 2) / (1 + 1 / np.log2(3))
        values = [metrics.precision.value, metrics.recall.value, metrics.ndcg.value]
        self.assertAllClose(values, [0.2, 1.0, gain])

    def test_agrees_with_ir_measures(self):
        """`ir_measures` knows no ties that count against, so its runs take a little from relevant ratings."""
        users, predictions, ratings = _random()
        qrels = [
            ir_measures.Qrel(str(u), str(i), int(r >= 4)) for i, (u, r) in enumerate(zip(users, ratings, strict=True))
        ]
        wanted = {user for user, stars in zip(users, ratings, strict=True) if stars >= 4}
        self.assertBetween(len(wanted), 100, 199)  # Some users have no relevant rating, and are left out.
        docs = [
            ir_measures.ScoredDoc(str(user), str(place), score - 0.1 * (stars >= 4))
            for place, (user, score, stars) in enumerate(zip(users, predictions, ratings, strict=True))
            if user in wanted
        ]
        qrels = [qrel for qrel in qrels if int(qrel.query_id) in wanted]
        for k in (1, 3, 10):
            theirs = ir_measures.calc_aggregate([P @ k, R @ k, nDCG @ k], qrels, docs)
            metrics = _evaluate(users, predictions, ratings, k=k)
            ours = [metrics.precision.value, metrics.recall.value, metrics.ndcg.value]
            self.assertAllClose(ours, [theirs[P @ k], theirs[R @ k], theirs[nDCG @ k]])

    def test_order_of_rows_does_not_matter(self):
        arrays = _random()
        order = np.random.default_rng(1).permutation(len(arrays[0]))
        self.assertEqual(_evaluate(*arrays), _evaluate(*(array[order] for array in arrays)))

    def test_a_constant_gains_nothing_where_irrelevant_ratings_fill_the_list(self):
        ratings = np.array([5.0, 1.0, 1.0, 4.0])
        metrics = _evaluate(np.zeros(4, int), np.full(4, 3.0), ratings, k=2)
        self.assertEqual((metrics.precision.value, metrics.recall.value, metrics.ndcg.value), (0, 0, 0))

    def test_unknown_users_are_one_each(self):
        metrics = _evaluate(np.array([-1, -1, 0]), np.ones(3), np.array([5.0, 5.0, 1.0]), k=1)
        self.assertEqual((metrics.users, metrics.precision.value), (3, 1.0))

    def test_without_relevant_ratings_ranking_is_undefined(self):
        metrics = _evaluate(np.array([0, 1]), np.ones(2), np.array([1.0, 2.0]))
        self.assertAllEqual([metrics.ndcg.value, metrics.ndcg.low], [np.nan, np.nan])
        self.assertAllClose(metrics.rmse.value, np.sqrt(0.5))

    def test_refusals(self):
        nothing = np.zeros(0)
        for arrays, options in (
            ((nothing.astype(int), nothing, nothing), {}),
            ((USERS, PREDICTIONS, RATINGS), {"k": 0}),
            ((USERS, PREDICTIONS, RATINGS), {"resamples": 0}),
        ):
            with self.assertRaisesRegex(InputError, "give 1 or more"):
                _evaluate(*arrays, **options)

    def test_describe(self):
        text = _evaluate(USERS, PREDICTIONS, RATINGS, k=2).describe()
        self.assertRegex(text, r"^RMSE 0\.9014 \(.*\), MAE 0\.8750, P@2 0\.5000, .* 2 users, 4 ratings$")


class IntervalsTest(tf.test.TestCase):
    def test_width_is_that_of_the_normal_approximation(self):
        """One rating a user, errors of a unit normal: the MAE's interval is ± 1.96 · sd / sqrt(n), sd² = 1 - 2 / pi."""
        errors = np.random.default_rng(0).normal(0, 1, 4000)
        mae = rating.evaluate(np.arange(4000), errors, np.zeros(4000), resamples=2000).mae
        half = 1.96 * np.std(np.abs(errors)) / np.sqrt(4000)
        self.assertAllClose([mae.value - mae.low, mae.high - mae.value], [half, half], rtol=0.08)

    def test_users_are_drawn_and_not_ratings(self):
        """100 ratings of one error each a user are worth no more than one: the same interval, to the same draws."""
        errors = np.random.default_rng(1).normal(0, 1, 50)
        once = rating.evaluate(np.arange(50), errors, np.zeros(50), seed=3)
        often = rating.evaluate(np.repeat(np.arange(50), 100), np.repeat(errors, 100), np.zeros(5000), seed=3)
        self.assertAllClose([once.mse.low, once.mse.high], [often.mse.low, often.mse.high])

    def test_the_seed_decides(self):
        arrays = _random()
        self.assertEqual(_evaluate(*arrays, seed=1), _evaluate(*arrays, seed=1))
        self.assertNotEqual(_evaluate(*arrays, seed=1).mse, _evaluate(*arrays, seed=2).mse)
        self.assertEqual(_evaluate(*arrays, seed=1).mse.value, _evaluate(*arrays, seed=2).mse.value)


class CompareTest(tf.test.TestCase):
    def test_a_model_equals_itself(self):
        users, predictions, ratings = _random()
        for difference in rating.compare(users, predictions, predictions, ratings, resamples=50).values():
            self.assertEqual(difference, rating.Difference(0, 0, 0, 1))

    def test_pairs_see_what_separate_intervals_do_not(self):
        """Users' errors vary much, and the second model's are 1 % larger for all."""
        rng = np.random.default_rng(0)
        errors = rng.normal(0, 1, 500) * rng.lognormal(0, 1, 500)
        users, ratings = np.arange(500), np.zeros(500)
        first, second = (rating.evaluate(users, scale * errors, ratings).rmse for scale in (1, 1.01))
        self.assertLess(second.low, first.high)
        found = rating.compare(users, errors, 1.01 * errors, ratings)["rmse"]
        self.assertAllClose(found.value, -0.01 * first.value)
        self.assertLess(found.high, 0)
        self.assertAllClose(found.p_value, 2 / 1001)

    def test_noise_is_no_difference(self):
        """Two models with errors of the same law, 40 times: p is below 5 % in 2 of 40 on average, 8 is five sigma."""
        rng, users, ratings = np.random.default_rng(0), np.arange(100), np.zeros(100)
        found = [
            rating.compare(users, *rng.normal(0, 1, (2, 100)), ratings, resamples=300)["mse"].p_value for _ in range(40)
        ]
        self.assertLess(np.sum(np.array(found) < 0.05), 9)
        self.assertGreater(np.median(found), 0.2)


class GroupsTest(tf.test.TestCase):
    def test_silos(self):
        groups = rating.silo_groups(np.array([3, 0, -1, 1, 9]), [np.array([0, 3]), np.array([1, 2])])
        self.assertEqual(groups.names, ("silo 1", "silo 2", "no silo"))
        self.assertAllEqual(groups.of, [0, 0, 2, 1, 2])

    def test_counts(self):
        """Things with 0, 1, 9 and 10 ratings in training, and an unknown one."""
        groups = rating.count_groups(np.array([0, 1, 2, 3, -1]), np.array([0, 1, 9, 10]), (1, 10))
        self.assertEqual(groups.names, ("0", "1 to 9", "10 or more"))
        self.assertAllEqual(groups.of, [0, 1, 1, 2, 0])
        for thresholds in ((0, 5), (5, 5), (9, 3)):
            with self.assertRaisesRegex(InputError, "do not ascend"):
                rating.count_groups(np.array([0]), np.array([1]), thresholds)

    def test_each_group_by_itself(self):
        users, predictions, ratings = _random()
        groups = rating.count_groups(users, np.arange(200), (50, 500))
        found = rating.evaluate_groups(groups, users, predictions, ratings, resamples=50)
        self.assertEqual(list(found), ["0 to 49", "50 to 499"])  # Nobody has 500.
        low = users < 50
        self.assertEqual(found["0 to 49"], _evaluate(users[low], predictions[low], ratings[low]))
        self.assertEqual(found["50 to 499"].ratings, np.sum(~low))


if __name__ == "__main__":
    tf.test.main()
