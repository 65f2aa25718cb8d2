"""Rating baselines: by hand, against normal equations, and the numbers measured elsewhere on real data."""

import numpy as np
import real_data
import tensorflow as tf
from scipy import sparse

from tff_rec.data import features, item_tags, ratings, sources, splits
from tff_rec.data.ratings import HeldOutRatings, RatingStore
from tff_rec.evaluation import rating_baselines


def _store(offsets, items, stars):
    ids = np.array([f"u{number}" for number in range(len(offsets) - 1)], dtype=object)
    return RatingStore(ids, np.asarray(offsets), np.asarray(items, np.int32), np.asarray(stars, np.float32))


def _low_rank(num_users=200, num_items=60, seed=0):
    """Ratings 3 + product of vectors of length 2 + noise of 0.1; half of the cells train, the others are held out."""
    rng = np.random.default_rng(seed)
    truth = 3 + 0.5 * rng.normal(size=(num_users, 2)) @ rng.normal(size=(num_items, 2)).T
    truth += rng.normal(0, 0.1, truth.shape)
    seen = rng.random(truth.shape) < 0.5
    users, items = np.nonzero(seen)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=num_users))])
    others = np.nonzero(~seen)
    held_out = HeldOutRatings(*others, truth[others])
    return _store(offsets, items, truth[users, items]), held_out


def _error(predictor, held_out):
    return np.sqrt(np.mean((predictor(held_out.users, held_out.items) - held_out.ratings) ** 2))


class BaselinesTest(tf.test.TestCase):
    def test_global_mean(self):
        predict = rating_baselines.global_mean(_store([0, 2, 3], [0, 1, 1], [1, 2, 6]))
        self.assertAllEqual(predict(np.array([0, -1]), np.array([1, -1])), [3, 3])

    def test_biases_by_hand(self):
        """Users rate item 0 with 5 and with 3: mean 4, no item bias, user biases ± 1 / (1 + penalty 1)."""
        predict = rating_baselines.biases(_store([0, 1, 2], [0, 0], [5, 3]), 2, user_penalty=1)
        found = predict(np.array([0, 1, -1, 0]), np.array([0, 0, 0, -1]))
        self.assertAllClose(found, [4.5, 3.5, 4, 4.5])
        self.assertEqual(found.dtype, np.float32)

    def test_biases_solve_their_equations(self):
        """At the least of the penalised squares each bias is the shrunken mean of what the others leave."""
        store, _ = _low_rank(20, 10)
        predict = rating_baselines.biases(store, 10, 5, 2)
        users, items = np.arange(20), np.arange(10)
        mean = store.ratings.mean()
        item_bias = predict(np.full(10, -1), items) - mean
        left = np.bincount(store.owners(), store.ratings - mean - item_bias[store.items])
        self.assertAllClose(predict(users, np.full(20, -1)) - mean, left / (store.lengths() + 5), atol=1e-4)

    def test_predictions_stay_on_the_scale(self):
        """User 0 gives 5 to all, user 1 gives 5 to item 0 and 1 to item 1: their biases add to more than 5."""
        store = _store([0, 3, 5], [0, 1, 2, 0, 1], [5, 5, 5, 5, 1])
        predict = rating_baselines.biases(store, 3, 0.01, 0.01)
        self.assertEqual(predict(np.array([0]), np.array([0])), 5)

    def test_taste_ridge_by_hand(self):
        """One user rates items 0, 1 of genre A with 5, items 2, 3 of genre B with 1; another balances them.

        Mean 3, no item biases. User 0's weights solve (2 + penalty 2) w = ± 4, so ± 1; its bias is 0.
        """
        genres = sparse.csr_matrix(np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]], np.float32))
        store = _store([0, 4, 8], [0, 1, 2, 3] * 2, [5, 5, 1, 1, 1, 1, 5, 5])
        predict = rating_baselines.taste_ridge(store, genres, penalty=2)
        found = predict(np.array([0, 0, 1, 0, -1]), np.array([4, 2, 4, -1, 4]))
        self.assertAllClose(found, [4, 2, 2, 3, 3])

    def test_factorisation_finds_the_vectors(self):
        """With noise of 0.1, biases cannot go below the products' 0.7, and the vectors come near the noise."""
        store, held_out = _low_rank()
        biases = _error(rating_baselines.biases(store, 60), held_out)
        vectors = _error(rating_baselines.factorisation(store, 60, dimension=2, penalty=0.02), held_out)
        self.assertGreater(biases, 0.5)
        self.assertLess(vectors, 0.15)

    def test_sweeps_converge(self):
        store, held_out = _low_rank(60, 20)
        options = {"dimension": 2, "penalty": 0.5}
        some, more = (
            rating_baselines.factorisation(store, 20, sweeps=sweeps, **options)(held_out.users, held_out.items)
            for sweeps in (400, 401)
        )
        self.assertAllClose(some, more, atol=1e-3)

    def test_rows_are_solved_as_one_by_one(self):
        """Rows of 0 to 12 ratings in one call, against the normal equations of each."""
        rng = np.random.default_rng(0)
        side = sparse.random(30, 25, 0.2, format="csr", random_state=1)
        others, penalties = rng.normal(size=(25, 4)), rng.uniform(1, 2, (30, 4))
        solved = rating_baselines._ridge(side, others, penalties)
        for row in range(30):
            places = slice(side.indptr[row], side.indptr[row + 1])
            rated = others[side.indices[places]]
            x = np.column_stack([rated[:, :3], np.ones(len(rated))])
            expected = np.linalg.solve(x.T @ x + np.diag(penalties[row]), x.T @ (side.data[places] - rated[:, 3]))
            self.assertAllClose(solved[row], expected)

    def test_unknown_users_and_items_get_what_is_left(self):
        store, _ = _low_rank()
        predict = rating_baselines.factorisation(store, 60, dimension=2, sweeps=2)
        unknown = predict(np.array([-1]), np.array([-1]))
        self.assertAllClose(unknown, [store.ratings.mean()], atol=1e-5)

    def test_tuned_baselines_choose_on_validation(self):
        store, held_out = _low_rank()
        rows = sparse.csr_matrix(np.eye(60, 5, dtype=np.float32))
        found = {name: rating_baselines.tuned(name, store, rows, held_out) for name in rating_baselines.NAMES}
        errors = {name: _error(tuned.model, held_out) for name, tuned in found.items()}
        self.assertLen(errors, 4)
        self.assertLess(errors["biased matrix factorisation"], errors["user and item bias"])
        self.assertLessEqual(errors["user and item bias"], _error(rating_baselines.biases(store, 60, 5, 2), held_out))
        tuned = found["biased matrix factorisation"]
        self.assertAllClose(tuned.validation["rmse"], errors["biased matrix factorisation"])
        self.assertEqual(tuned.validation["rmse"], min(tried["validation"]["rmse"] for tried in tuned.grid))


@real_data.needed("ml-latest-small")
class PublishedNumbersTest(tf.test.TestCase):
    def test_ml_latest_small(self):
        """Measured independently, means of three other splits: 1.042, 0.862, 0.840, 0.831; over splits ± 0.007."""
        data = sources.read_source("ml-latest-small")
        split = splits.random_ratings(data, 0)
        vocabulary = features.build_item_vocabulary(split.train)
        store = ratings.build_rating_store(split.train, vocabulary)
        test = ratings.held_out_ratings(store, split.test, vocabulary)
        genres = item_tags.build_item_tags(data, vocabulary, split.train).genres
        predictors = (
            rating_baselines.global_mean(store),
            rating_baselines.biases(store, len(vocabulary)),
            rating_baselines.factorisation(store, len(vocabulary)),
            rating_baselines.taste_ridge(store, genres),
        )
        errors = [_error(predict, test) for predict in predictors]
        self.assertAllClose(errors, [1.042, 0.862, 0.840, 0.831], atol=0.014)


if __name__ == "__main__":
    tf.test.main()
