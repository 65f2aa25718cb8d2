import ir_measures
import numpy as np
import tensorflow as tf
from ir_measures import RR, Success, nDCG

from tff_rec.errors import InputError
from tff_rec.evaluation import ranking, recommenders
from tff_rec.models import candidate_tower, objectives, query_towers, two_tower

NOTHING = np.empty(0, np.int32)


def _scores(*rows):
    return np.array(rows, np.float32)


def _items(*items):
    return np.array(items, np.int32)


class MetricsTest(tf.test.TestCase):
    def test_hand_derived(self):
        """Ranks 1, 3, 12, miss.

        HR@10 = 2/4; NDCG@10 = (1/log2 2 + 1/log2 4) / 4 = 1.5/4; HR@20 = 3/4; MRR = (1 + 1/3 + 1/12 + 0) / 4 = 17/48.
        """
        metrics = ranking.metrics_from_ranks(np.array([1, 3, 12, ranking.MISS]))
        expected = {"hit_rate_10": 0.5, "ndcg_10": 0.375, "hit_rate_20": 0.75, "mrr": 17 / 48, "users": 4}
        self.assertAllClose(metrics.as_dict(), expected)
        self.assertAllClose(metrics.hit_rate_10_error, 0.25)
        self.assertEqual(metrics.describe(), "HR@10 50.0 % (± 25.0), NDCG@10 37.5 %, HR@20 75.0 %, MRR 35.4 %, 4 users")

    def test_edges_of_the_cut(self):
        at_10, at_11 = (ranking.metrics_from_ranks(np.array([rank])) for rank in (10, 11))
        self.assertAllClose([at_10.hit_rate_10, at_10.ndcg_10], [1.0, 1 / np.log2(11)])
        self.assertEqual([at_11.hit_rate_10, at_11.ndcg_10, at_11.hit_rate_20], [0, 0, 1])
        self.assertEqual(ranking.metrics_from_ranks(np.array([21])).hit_rate_20, 0)

    def test_nobody_is_refused(self):
        with self.assertRaisesRegex(InputError, "No user has a held-out item"):
            ranking.metrics_from_ranks(np.empty(0, np.int64))

    def test_agrees_with_ir_measures(self):
        """1,000 rankings of 60 items with many ties, histories of up to 30.

        `ir_measures` knows no ties that count against: its runs hold each item's level, the held-out item half below.
        """
        rng = np.random.default_rng(0)
        scores = rng.integers(0, 25, (1000, 60)).astype(np.float32)
        order = rng.permuted(np.tile(np.arange(60, dtype=np.int32), (1000, 1)), axis=1)
        held_out, histories = order[:, 0], [row[1 : 1 + rng.integers(0, 31)] for row in order]
        metrics = ranking.metrics_from_ranks(ranking.rank_of_held_out(scores, held_out, histories))

        qrels = [ir_measures.Qrel(str(user), str(item), 1) for user, item in enumerate(held_out)]
        runs = scores.astype(np.float64)
        runs[np.arange(1000), held_out] -= 0.5
        docs = [
            ir_measures.ScoredDoc(str(user), str(item), runs[user, item])
            for user, history in enumerate(histories)
            for item in np.setdiff1d(np.arange(60), history)
        ]
        wanted = [Success @ 10, nDCG @ 10, Success @ 20, RR]
        theirs = ir_measures.calc_aggregate(wanted, qrels, docs)
        ours = (metrics.hit_rate_10, metrics.ndcg_10, metrics.hit_rate_20, metrics.mrr)
        self.assertAllClose(ours, [theirs[measure] for measure in wanted], rtol=1e-9, atol=1e-9)
        self.assertGreater(metrics.hit_rate_10, 0.1)
        self.assertLess(metrics.hit_rate_20, 0.9)


class RanksTest(tf.test.TestCase):
    def test_the_history_is_left_out(self):
        """Item 0 (0.2) stands behind 1, 2 and 3; the history holds 1 and 3, so its rank is 2."""
        scores = _scores([0.2, 0.9, 0.5, 0.8, 0.1])
        self.assertAllEqual(ranking.rank_of_held_out(scores, _items(0), [NOTHING]), [4])
        self.assertAllEqual(ranking.rank_of_held_out(scores, _items(0), [_items(3, 1)]), [2])
        self.assertAllEqual(ranking.rank_of_held_out(scores, _items(0), [_items(3, -1, 1, 3)]), [2])

    def test_ties_count_against(self):
        """All equal: last of the 5, and of the 3 that a history of 2 leaves."""
        scores = np.zeros((2, 5), np.float32)
        ranks = ranking.rank_of_held_out(scores, _items(0, 0), [NOTHING, _items(1, 2)])
        self.assertAllEqual(ranks, [5, 3])
        self.assertEqual(ranks.dtype, np.int64)

    def test_nan_counts_against(self):
        nan = np.nan
        scores = _scores([0.5, nan, 0.1], [nan, 0.9, 0.1], [nan, nan, nan])
        self.assertAllEqual(ranking.rank_of_held_out(scores, _items(0, 0, 0), [NOTHING] * 3), [2, 3, 3])
        self.assertAllEqual(
            ranking.ranks_among_candidates(scores, _items(0, 0, 0), _items([1, 2]).repeat(3, 0)), [2, 3, 3]
        )

    def test_infinite_scores(self):
        scores = _scores([np.inf, 1, -np.inf])
        self.assertAllEqual(ranking.rank_of_held_out(scores, _items(0), [NOTHING]), [1])
        self.assertAllEqual(ranking.rank_of_held_out(scores, _items(2), [NOTHING]), [3])

    def test_what_cannot_be_recommended_is_a_miss(self):
        """Held-out items outside the vocabulary (-1), and one that the history holds."""
        ranks = ranking.rank_of_held_out(_scores([3, 2, 1], [3, 2, 1]), _items(-1, 0), [NOTHING, _items(0)])
        self.assertAllEqual(ranks, [ranking.MISS] * 2)
        self.assertAllEqual(
            ranking.ranks_among_candidates(_scores([3, 2, 1]), _items(-1), _items([0, 1])), [ranking.MISS]
        )
        self.assertEqual(ranking.metrics_from_ranks(ranks).mrr, 0)

    def test_among_candidates(self):
        """Item 2 (0.5) against 0 (0.9, ahead), 3 (0.5, tie, ahead), 4 (0.1), an unknown one, and itself: rank 3."""
        scores = _scores([0.9, 0.8, 0.5, 0.5, 0.1])
        ranks = ranking.ranks_among_candidates(scores, _items(2), _items([0, 3, 4, -1, 2]))
        self.assertAllEqual(ranks, [3])

    def test_random_blocks_agree_with_counting(self):
        rng = np.random.default_rng(1)
        scores = rng.integers(0, 9, (40, 30)).astype(np.float32)
        held_out = rng.integers(-1, 30, 40).astype(np.int32)
        histories = [rng.choice(30, rng.integers(0, 12), replace=False).astype(np.int32) for _ in range(40)]
        expected = []
        for row, own, history in zip(scores, held_out, histories, strict=True):
            left = [item for item in range(30) if item not in history]
            expected.append(sum(row[item] >= row[own] for item in left) if own in left else ranking.MISS)
        self.assertAllEqual(ranking.rank_of_held_out(scores, held_out, histories), expected)


class HistoriesTest(tf.test.TestCase):
    def test_newest_items_padded_at_the_end(self):
        block = ranking.pad_histories([_items(5, 6, 7, 8), _items(4), NOTHING, _items(1, -1, 2, -1)], 3)
        self.assertAllEqual(block, [[6, 7, 8], [4, -1, -1], [-1, -1, -1], [1, 2, -1]])
        self.assertEqual(block.dtype, np.int32)

    def test_at_least_one_column(self):
        self.assertAllEqual(ranking.pad_histories([NOTHING, NOTHING], 3), [[-1], [-1]])


class TwoTowerTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(2)
        self.histories = [self.rng.permutation(50)[:n].astype(np.int32) for n in (12, 1, 0, 7, 30, 5, 5, 3)]
        self.held_out = _items(*[np.setdiff1d(np.arange(50), history)[0] for history in self.histories])
        self.held_out[3] = -1

    def _model(self, tower, temperature):
        features = (self.rng.integers(0, 6, (50, 2)), np.ones((50, 2)))
        candidates = candidate_tower.CandidateTower(50, 6, 8, unit_norm=tower.unit_norm, stddev=1.0)
        return two_tower.TwoTower(tower, candidates, *features, objectives.FullSoftmax(temperature))

    def _by_hand(self, model, max_length):
        """One user at a time, by the model's own functions."""
        table = model.candidate_embeddings()
        for history in self.histories:
            block = np.append(history, -1)[np.newaxis, -max_length - 1 :]
            queries = model.query_embeddings(tf.constant(block, tf.int32), table)
            yield queries.numpy() @ table.numpy().T / model.objective.temperature

    def test_agrees_with_one_user_at_a_time(self):
        towers = (
            (query_towers.BagQueryTower(8), 2.0),
            (query_towers.AttentionQueryTower(8, max_length=6, unit_norm=True), 0.1),
        )
        for tower, temperature in towers:
            model = self._model(tower, temperature)
            by_hand = list(self._by_hand(model, 5))
            expected = [
                ranking.rank_of_held_out(scores, self.held_out[[user]], [self.histories[user]])[0]
                for user, scores in enumerate(by_hand)
            ]
            ranks = ranking.two_tower_ranks(model, self.histories, self.held_out, max_length=5, batch_users=3)
            self.assertAllEqual(ranks, expected)
            self.assertEqual(ranks[3], ranking.MISS)
            candidates = self.rng.integers(0, 50, (len(by_hand), 20)).astype(np.int32)
            recommender, users = recommenders.two_tower(model, 5), np.arange(len(by_hand))
            among = recommenders.rank(recommender, users, self.histories, self.held_out, candidates)
            expected = ranking.ranks_among_candidates(np.concatenate(by_hand), self.held_out, candidates)
            self.assertAllEqual(among.ranks, expected)

    def test_leaves_out_items_older_than_max_length(self):
        """The held-out item is the only one outside the history: its rank is 1, however few items the query reads."""
        model = self._model(query_towers.BagQueryTower(8), 1.0)
        metrics = ranking.evaluate_two_tower(model, [np.arange(1, 50, dtype=np.int32)], _items(0), max_length=2)
        self.assertEqual((metrics.hit_rate_10, metrics.mrr, metrics.users), (1, 1, 1))

    def test_traces_once(self):
        """Batches differ in users and in length."""
        calls = []

        class Counting(query_towers.BagQueryTower):
            def query(self, *args):
                calls.append(args)
                return super().query(*args)

        model = self._model(Counting(8), 1.0)
        ranking.two_tower_ranks(model, self.histories, self.held_out, max_length=40, batch_users=3)
        self.assertLen(calls, 1)


if __name__ == "__main__":
    tf.test.main()
