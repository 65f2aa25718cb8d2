"""The published data sets themselves, where TFF_REC_DATA says they are: counts that their authors or we measured."""

import real_data
from absl.testing import absltest, parameterized

from tff_rec.data import features, splits
from tff_rec.data.sources import read_source


class RealDataTest(parameterized.TestCase):
    def require(self, path: str) -> None:
        """Skips the test where the published data lack a source's folder or file."""
        reason = real_data.missing(path)
        if reason:
            self.skipTest(reason)

    @parameterized.parameters(
        # Ratings, users, rated movies, listed movies, tags.
        ("ml-latest-small", 100_836, 610, 9_724, 9_742, 3_683),
        ("ml-100k", 100_000, 943, 1_682, 1_682, 0),
        ("ml-1m", 1_000_209, 6_040, 3_706, 3_883, 0),
    )
    def test_movielens(self, source, num_ratings, num_users, num_rated, num_items, num_tags):
        self.require(source)
        data = read_source(source)
        counts = (
            len(data.interactions), data.interactions["user_id"].nunique(), data.interactions["item_id"].nunique(),
            len(data.items), len(data.tags),
        )  # fmt: skip
        self.assertEqual(counts, (num_ratings, num_users, num_rated, num_items, num_tags))
        self.assertEqual(data.cleaning, ())
        split = splits.leave_one_out(data)
        self.assertLen(split.test, num_users)
        vocabulary = features.build_item_vocabulary(split.train)
        result = features.build_item_features(data, vocabulary, split.train)
        self.assertIn("genres=Film-Noir", result.names)
        self.assertGreater((result.weights > 0).any(axis=1).mean(), 0.99)

    def test_first_row_of_ml_1m(self):
        self.require("ml-1m")
        row = read_source("ml-1m").interactions.loc[0, ["user_id", "item_id", "rating"]].tolist()
        self.assertEqual(row, ["1", "1193", 5.0])

    def test_hm_last_week(self):
        self.require("hm/transactions_train-lastweek.csv.gz")
        data = read_source("hm", min_user_items=3, min_item_users=5)
        self.assertEqual(data.interactions["user_id"].nunique(), 25_779)
        self.assertEqual(data.interactions["item_id"].nunique(), 5_415)
        self.assertIn("transactions_train-lastweek.csv.gz", data.cleaning[0].what)
        self.assertEqual(data.cleaning[1].count, 240_311 - 213_728)
        self.assertTrue((data.interactions["item_id"].str.len() == 10).all())
        self.assertIn("colour_group_name", data.item_feature_columns)


if __name__ == "__main__":
    absltest.main()
