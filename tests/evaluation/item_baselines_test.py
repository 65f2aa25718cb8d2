"""Fitted baselines: EASE against its normal equations, neighbours by hand, factorisations on data of two tastes."""

import numpy as np
import tensorflow as tf
from scipy import sparse

from tff_rec.errors import InputError
from tff_rec.evaluation import bpr, ease, grids, ials, item_baselines, item_knn, sessions


def _scores(recommender, histories):
    (_, scores), *more = recommender(np.arange(len(histories)), histories)
    assert not more
    return scores


def _two_tastes():
    """40 users; half of them have items of 0..9, the others of 10..19, 7 of 10 each, and are to find the rest."""
    rng, rows = np.random.default_rng(0), np.zeros([40, 20], np.float32)
    for user in range(40):
        rows[user, 10 * (user % 2) + rng.permutation(10)[:7]] = 1
    return sparse.csr_matrix(rows), [np.flatnonzero(row).astype(np.int32) for row in rows]


class SessionsTest(tf.test.TestCase):
    def test_rows_of_histories(self):
        found = sessions.matrix([np.array([2, -1, 0]), np.array([], np.int32), np.array([1, 1])], 3)
        self.assertAllEqual(found.toarray(), [[1, 0, 1], [0, 0, 0], [0, 1, 0]])


class EaseTest(tf.test.TestCase):
    def test_equals_the_closed_form(self):
        """B = I - P / diag(P), P the inverse of X'X + λ; with fewer users than items, and with more."""
        rng = np.random.default_rng(1)
        for users, items in ((12, 30), (40, 15)):
            interactions = (rng.random((users, items)) < 0.3).astype(np.float32)
            histories = [np.flatnonzero(row) for row in (rng.random((5, items)) < 0.4)]
            inverse = np.linalg.inv(interactions.T @ interactions + 7.0 * np.eye(items))
            weights = np.eye(items) - inverse / np.diag(inverse)
            self.assertAllClose(np.diag(weights), np.zeros(items))
            recommender = ease.build(ease.decompose(sparse.csr_matrix(interactions)), penalty=7.0)
            expected = sessions.matrix(histories, items) @ weights
            self.assertAllClose(_scores(recommender, histories), expected, atol=1e-4)


class ItemKnnTest(tf.test.TestCase):
    def test_cosine_by_hand(self):
        """Items 0 and 1 share both users of 0 and of 1's two: 1; 2 shares one of its one with 0: 1 / sqrt 2.

        A history of 0 so scores item 1 with 1, item 2 with 0.71, item 3, which nobody else has, with 0.
        """
        interactions = sparse.csr_matrix(np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]], np.float32))
        recommender = item_knn.fit(interactions, similarity="cosine", neighbours=4)
        scores = _scores(recommender, [np.array([0])])[0]
        self.assertAllClose(scores[1:], [1, 0.5**0.5, 0], atol=1e-6)

    def test_only_the_nearest_count(self):
        """With two neighbours, itself and the nearest other, item 2 no longer hears of the history's item 3."""
        interactions = sparse.csr_matrix(np.array([[0, 0, 1, 1], [0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]], np.float32))
        nearest = _scores(item_knn.fit(interactions, similarity="cosine", neighbours=2), [np.array([3])])[0]
        everybody = _scores(item_knn.fit(interactions, similarity="cosine", neighbours=4), [np.array([3])])[0]
        self.assertEqual(nearest[2], 0)
        self.assertGreater(everybody[2], 0)


class FactorisationTest(tf.test.TestCase):
    def _check(self, scores, histories, wanted):
        """Of the items that a user lacks, the three of its taste come before all ten of the other."""
        for user, (row, history) in enumerate(zip(scores, histories, strict=True)):
            taste = np.arange(20) // 10 == user % 2
            own, other = np.setdiff1d(np.flatnonzero(taste), history), np.flatnonzero(~taste)
            wanted.append(row[own].min() > row[other].max())

    def test_ials_finds_tastes_of_users_that_it_was_not_fitted_on(self):
        interactions, histories = _two_tastes()
        recommender = ials.fit(interactions[:30], factors=2, penalty=1.0, weight=5.0, sweeps=20, seed=0)
        found = []
        self._check(_scores(recommender, histories), histories, found)
        self.assertGreater(np.mean(found), 0.95)

    def test_bpr_finds_tastes(self):
        interactions, histories = _two_tastes()
        recommender = bpr.fit(interactions, factors=8, penalty=0.01, learning_rate=0.1, passes=100, seed=0)
        found = []
        self._check(_scores(recommender, histories), histories, found)
        self.assertGreater(np.mean(found), 0.9)

    def test_the_seed_decides(self):
        interactions, histories = _two_tastes()
        options = {"factors": 4, "penalty": 0.01, "learning_rate": 0.1, "passes": 5}
        one, same, other = (_scores(bpr.fit(interactions, seed=seed, **options), histories) for seed in (0, 0, 1))
        self.assertAllEqual(one, same)
        self.assertNotAllClose(one, other)


class GridTest(tf.test.TestCase):
    def test_all_combinations_with_some_values_replaced(self):
        interactions, histories = _two_tastes()
        found = list(item_baselines.candidates("item-knn", interactions, 0, {"neighbours": [3]}))
        self.assertEqual([settings["similarity"] for settings, _ in found], ["cosine", "tf-idf"])
        self.assertEqual({settings["neighbours"] for settings, _ in found}, {3})
        for _, fit in found:
            self.assertEqual(_scores(fit(), histories).shape, (40, 20))

    def test_every_way_has_a_default_grid(self):
        interactions, histories = _two_tastes()
        for way in grids.GRIDS:
            _, fit = next(item_baselines.candidates(way, interactions, 0, {}))
            self.assertEqual(_scores(fit(), histories).shape, (40, 20))

    def test_unknown_settings_are_named(self):
        with self.assertRaisesRegex(InputError, "ease has no setting 'factors'.*penalty"):
            next(item_baselines.candidates("ease", _two_tastes()[0], 0, {"factors": [3]}))


if __name__ == "__main__":
    tf.test.main()
