"""The generated data: the same for the same seed, MovieLens-shaped, and with an oracle worth beating."""

import dataclasses

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from tff_rec.data import features, splits
from tff_rec.data.synthetic import SyntheticConfig, SyntheticData, generate_synthetic
from tff_rec.errors import InputError

SMALL = SyntheticConfig(num_users=60, num_items=40, mean_interactions=12)


def ndcg_at_10(split: splits.Split, vocabulary: features.ItemVocabulary, scores: np.ndarray) -> float:
    """LOO-full NDCG@10 of scores [test rows, items]; seen items are left out, ties count against the scores."""
    row_of = {user: row for row, user in enumerate(split.test["user_id"])}
    scores = scores.astype(np.float64)
    for part in (split.train, split.validation):
        part = part[part["user_id"].isin(row_of)]
        columns = vocabulary.index(part["item_id"])
        scores[part["user_id"].map(row_of).to_numpy()[columns >= 0], columns[columns >= 0]] = -np.inf
    target = vocabulary.index(split.test["item_id"])
    known = np.flatnonzero(target >= 0)
    ranks = (scores[known] >= scores[known, target[known]][:, None]).sum(axis=1)
    return float(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).sum() / len(target))


class GenerateTest(parameterized.TestCase):
    def test_deterministic_in_the_seed(self):
        one, same = generate_synthetic(SMALL), generate_synthetic(SMALL)
        other = generate_synthetic(dataclasses.replace(SMALL, seed=1))
        for table in ("interactions", "items", "tags", "users"):
            pd.testing.assert_frame_equal(getattr(one.data, table), getattr(same.data, table))
        np.testing.assert_array_equal(one.user_vectors, same.user_vectors)
        self.assertFalse(one.data.interactions.equals(other.data.interactions))

    def test_default_is_shaped_like_movielens(self):
        data = generate_synthetic(SyntheticConfig()).data
        counts = data.interactions["user_id"].value_counts()
        self.assertLen(counts, 1000)
        self.assertGreaterEqual(counts.min(), 5)
        self.assertLessEqual(counts.max(), 300)
        self.assertBetween(counts.mean(), 35, 45)
        popular = data.interactions["item_id"].value_counts()
        self.assertGreater(popular.head(60).sum(), 0.25 * popular.sum())  # A tenth of the items.
        self.assertTrue(data.interactions["rating"].isin(np.arange(1, 11) / 2).all())
        self.assertBetween(data.interactions["rating"].mean(), 3, 4)
        self.assertLen({genre for genres in data.items["genres"] for genre in genres.split("|")}, 18)
        self.assertTrue(data.items["title"].is_unique)
        self.assertTrue((data.interactions.groupby("user_id")["timestamp"].diff().dropna() >= 0).all())
        self.assertGreater(len(data.tags), 1000)

    def test_titles_stay_unique_beyond_the_names(self):
        data = generate_synthetic(SyntheticConfig(num_users=5, num_items=2000)).data
        self.assertTrue(data.items["title"].is_unique)

    def test_the_draw_follows_the_weights(self):
        """With no taste, an item's chance to be the first of `min_interactions=1` draws is its share of popularity."""
        config = SyntheticConfig(
            num_users=40_000,
            num_items=10,
            mean_interactions=1,
            activity_sigma=0,
            min_interactions=1,
            strength=0,
            tag_rate=0,
        )
        synthetic = generate_synthetic(config)
        counts = synthetic.data.interactions["item_id"].value_counts().reindex(synthetic.item_ids).to_numpy()
        expected = np.exp(synthetic.oracle_scores(["1"], synthetic.item_ids))[0]
        np.testing.assert_allclose(counts / counts.sum(), expected, atol=0.01)

    @parameterized.parameters(
        (dict(num_users=0), "cannot be made"),
        (dict(num_items=9), "at least one user and 10 items"),
        (dict(mean_interactions=0), "must be positive"),
        (dict(tag_rate=1.5), "tag_rate is 1.5"),
    )
    def test_wrong_config(self, changed, message):
        with self.assertRaisesRegex(InputError, message):
            SyntheticConfig(**changed)


class OracleTest(absltest.TestCase):
    def test_log_probabilities(self):
        synthetic = generate_synthetic(SMALL)
        scores = synthetic.oracle_scores(synthetic.user_ids, synthetic.item_ids)
        self.assertEqual((scores.shape, scores.dtype), ((60, 40), np.float32))
        np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)
        some = synthetic.oracle_scores(["3", "1"], ["40", "2"])
        np.testing.assert_array_equal(some, scores[[2, 0]][:, [39, 1]])

    def test_unknown_ids(self):
        synthetic = generate_synthetic(SMALL)
        with self.assertRaisesRegex(InputError, "no user 'x'"):
            synthetic.oracle_scores(["1", "x"], ["1"])
        with self.assertRaisesRegex(InputError, "no item '41'"):
            synthetic.oracle_scores(["1"], ["41"])

    def test_oracle_is_three_times_above_popularity(self):
        for seed in range(3):
            synthetic = generate_synthetic(SyntheticConfig(seed=seed))
            oracle, popularity = self.oracle_and_popularity(synthetic)
            self.assertGreater(oracle, 3 * popularity, f"seed {seed}")

    def test_strangers_are_no_oracle(self):
        """The truth of the wrong users is no better than popularity: the gain is taste."""
        synthetic = generate_synthetic(SyntheticConfig())
        shuffled = dataclasses.replace(synthetic, user_vectors=synthetic.user_vectors[::-1])
        stranger, popularity = self.oracle_and_popularity(shuffled)
        self.assertLess(stranger, 1.5 * popularity)

    def oracle_and_popularity(self, synthetic: SyntheticData) -> tuple[float, float]:
        split = splits.leave_one_out(synthetic.data)
        vocabulary = features.build_item_vocabulary(split.train)
        users = split.test["user_id"].tolist()
        popularity = np.tile(features.popularity(split.train, vocabulary), (len(users), 1))
        oracle = synthetic.oracle_scores(users, vocabulary.item_ids)
        return ndcg_at_10(split, vocabulary, oracle), ndcg_at_10(split, vocabulary, popularity)


if __name__ == "__main__":
    absltest.main()
