import numpy as np
import pandas as pd
import real_data
import tensorflow as tf

from tff_rec.data import features, sources, splits, synthetic
from tff_rec.evaluation import baselines, ranking, recommenders


def _leave_one_out(data):
    """Users, vocabulary, popularity, and for each test row the history (training and validation) and the item."""
    split = splits.leave_one_out(data)
    vocabulary = features.build_item_vocabulary(split.train)
    known = pd.concat([split.train, split.validation])
    items_of = known.groupby("user_id")["item_id"].agg(list)
    users = split.test["user_id"].tolist()
    histories = [vocabulary.index(items_of[user]) for user in users]
    held_out = vocabulary.index(split.test["item_id"])
    return users, vocabulary, features.popularity(split.train, vocabulary), histories, held_out


def _ranks(recommender, histories, held_out, candidates=None):
    return recommenders.rank(recommender, np.arange(len(histories)), histories, held_out, candidates).ranks


class BaselinesTest(tf.test.TestCase):
    def test_popularity_by_hand(self):
        """Counts 5, 3, 3, 1. User 0 has met item 0 and holds out 1, which ties with 2: rank 2. User 1 holds out 3: 4th.

        Among candidates (3, 0) item 1 is second; among (0, 1) item 3 is third.
        """
        counts = np.array([5, 3, 3, 1], np.float32)
        histories, held_out = [np.array([0]), np.array([], np.int32)], np.array([1, 3], np.int32)
        self.assertAllEqual(_ranks(baselines.popularity(counts), histories, held_out), [2, 4])
        candidates = np.array([[3, 0], [0, 1]], np.int32)
        self.assertAllEqual(_ranks(baselines.popularity(counts), histories, held_out, candidates), [2, 3])

    def test_a_device_alone_recommends_what_is_like_its_items(self):
        """Item 0 is a drama of 1999, 1 a drama, 2 a comedy of 1999, 3 nothing; item 2 has a tag, which is not public.

        To a history of 1, item 0 is the nearest (cosine 1/sqrt 2); 2 and 3 have nothing in common with it and tie.
        """
        names, padded = ("genres=Comedy", "genres=Drama", "tag=funny", "year=1999"), [[1, 3], [1, 0], [0, 3], [0, 0]]
        weights = np.array([[1, 1], [1, 0], [1, 1], [0, 0]], np.float32)
        alone = baselines.device_alone(features.ItemFeatures(np.array(padded, np.int32), weights, names))
        histories = [np.array([1]), np.array([1]), np.array([1, -1])]
        self.assertAllEqual(_ranks(alone, histories, np.array([0, 2, 3], np.int32)), [1, 3, 3])

    def test_more_users_than_a_batch(self):
        users = ranking.BATCH_USERS + 3
        held_out = np.arange(users, dtype=np.int32)
        counts = -np.arange(users, dtype=np.float32)
        ranks = _ranks(baselines.popularity(counts), [held_out[:0]] * users, held_out)
        self.assertAllEqual(ranks, held_out + 1)

    def test_the_oracle_beats_popularity_on_synthetic_data(self):
        config = synthetic.SyntheticConfig(num_users=400, num_items=200, strength=6.0)
        generated = synthetic.generate_synthetic(config)
        users, vocabulary, counts, histories, held_out = _leave_one_out(generated.data)
        oracle = _ranks(baselines.oracle(generated, vocabulary, users), histories, held_out)
        popular = _ranks(baselines.popularity(counts), histories, held_out)
        oracle, popular = (ranking.metrics_from_ranks(ranks) for ranks in (oracle, popular))
        self.assertGreater(oracle.hit_rate_10, 1.5 * popular.hit_rate_10)
        self.assertGreater(oracle.mrr, popular.mrr)
        self.assertGreater(popular.hit_rate_10, 10 / 200)

    def test_the_oracle_by_hand(self):
        """With one user and no history, the rank is the place of the item among the true scores."""
        generated = synthetic.generate_synthetic(synthetic.SyntheticConfig(num_users=1, num_items=50))
        vocabulary = features.ItemVocabulary(tuple(sorted(generated.item_ids)))
        order = np.argsort(-generated.oracle_scores(["1"], vocabulary.item_ids)[0]).astype(np.int32)
        for place in (0, 7, 49):
            ranks = _ranks(baselines.oracle(generated, vocabulary, ["1"]), [order[:0]], order[[place]])
            self.assertAllEqual(ranks, [place + 1])


@real_data.needed("ml-100k")
class PublishedNumbersTest(tf.test.TestCase):
    def test_popularity_of_ml_100k(self):
        """Measured independently of this package: HR@10 8.6 %, NDCG@10 4.5 % (LOO-full)."""
        _, _, counts, histories, held_out = _leave_one_out(sources.read_source("ml-100k"))
        metrics = ranking.metrics_from_ranks(_ranks(baselines.popularity(counts), histories, held_out))
        self.assertAllClose([metrics.hit_rate_10, metrics.ndcg_10], [0.086, 0.045], atol=0.004)
        self.assertEqual(metrics.users, 943)


if __name__ == "__main__":
    tf.test.main()
