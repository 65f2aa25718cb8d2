"""Generated files of MovieLens' layout: exactly the size asked for, read back by the loader, worth learning from."""

import pathlib
import tempfile

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_rec.data import features, item_tags, movielens, ratings, splits
from tff_rec.data.synthetic_movielens import MovieLensSize, generate_movielens, write_movielens
from tff_rec.errors import InputError
from tff_rec.evaluation import rating_baselines

SMALL = MovieLensSize(users=200, movies=300, ratings=8000, tags=900)


class SyntheticMovieLensTest(tf.test.TestCase):
    def test_size_and_shape(self):
        data = generate_movielens(SMALL)
        self.assertLen(data.interactions, 8000)
        self.assertLen(data.tags, 900)
        self.assertLen(data.items, 300)
        self.assertEqual(data.interactions["user_id"].nunique(), 200)
        popular = data.interactions["item_id"].value_counts()
        self.assertGreater(popular.head(30).sum(), 0.2 * popular.sum())  # A tenth of the movies.
        self.assertTrue((2 * data.interactions["rating"] % 1 == 0).all())
        tagged = data.tags.merge(data.interactions, on=["user_id", "item_id"])
        self.assertLen(tagged, 900)
        counts = data.tags["tag"].str.lower().value_counts()
        self.assertGreater((counts == 1).sum(), 0.03 * len(data.tags))

    def test_deterministic_in_the_seed(self):
        first, same = generate_movielens(SMALL), generate_movielens(SMALL)
        other = generate_movielens(MovieLensSize(200, 300, 8000, 900, seed=1))
        pd.testing.assert_frame_equal(first.interactions, same.interactions)
        pd.testing.assert_frame_equal(first.tags, same.tags)
        self.assertFalse(first.interactions.equals(other.interactions))

    def test_files_are_read_back(self):
        data = generate_movielens(SMALL)
        genome = pd.DataFrame(
            {"item_id": ["1", "2", "1"], "tag": ["dark", "dark", "odd"], "relevance": np.float32([0.5, 1, 0])}
        )
        object.__setattr__(data, "genome", genome)
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "new"
        write_movielens(data, folder)
        self.assertCountEqual(
            [file.stem for file in folder.iterdir()],
            ["ratings", "tags", "movies", "links", "genome-scores", "genome-tags"],
        )
        self.assertEqual((folder / "links.csv").read_text().splitlines()[:2], ["movieId,imdbId,tmdbId", "1,0000001,1"])
        back = movielens.read_movielens(folder, "ml-20m")
        self.assertEqual(back.cleaning, ())
        pd.testing.assert_frame_equal(back.interactions, data.interactions)
        pd.testing.assert_frame_equal(back.tags, data.tags)
        pd.testing.assert_frame_equal(
            back.items[["item_id", "title", "genres"]], data.items[["item_id", "title", "genres"]]
        )
        merged = genome.merge(back.genome, on=["item_id", "tag"])
        self.assertAllClose(merged["relevance_x"], merged["relevance_y"])
        self.assertLen(merged, 3)

    def test_there_is_something_to_learn(self):
        """Tastes beat biases, though noise of 0.6 floors both; tag rows of movies of the same genres are nearer."""
        data = generate_movielens(MovieLensSize(users=300, movies=400, ratings=20_000, tags=4000))
        split = splits.random_ratings(data, 0)
        vocabulary = features.build_item_vocabulary(split.train)
        store = ratings.build_rating_store(split.train, vocabulary)
        test = ratings.held_out_ratings(store, split.test, vocabulary)
        tags = item_tags.build_item_tags(data, vocabulary, split.train)
        predictors = (rating_baselines.biases(store, len(vocabulary)), rating_baselines.taste_ridge(store, tags.genres))
        biases, taste = (np.std(predict(test.users, test.items) - test.ratings) for predict in predictors)
        self.assertLess(taste, 0.985 * biases)
        rows, same = (tags.tags @ tags.tags.T).toarray(), (tags.genres @ tags.genres.T).toarray() > 0.99
        np.fill_diagonal(same, False)
        others = ~same & ~np.eye(len(same), dtype=bool)
        self.assertGreater(rows[same].mean(), 1.2 * rows[others].mean())

    def test_refusals(self):
        for size, sentence in (
            (MovieLensSize(100, 300, 400, 10), "give 5 or more ratings a user"),
            (MovieLensSize(100, 300, 1000, 1001), "no more tags than ratings"),
            (MovieLensSize(100, 40, 3500, 0), "give more movies or fewer rows"),
        ):
            with self.assertRaisesRegex(InputError, sentence):
                generate_movielens(size)


if __name__ == "__main__":
    tf.test.main()
