"""The trap: a sampler that spares held-out items gives them away. Ours must not; a control shows that we would see."""

import numpy as np
import tensorflow as tf

from tff_rec.evaluation import never_drawn, ranking, recommenders
from tff_rec.models import objectives

USERS, ITEMS, LENGTH, ROUNDS = 200, 300, 20, 60


class SamplerTest(tf.test.TestCase):
    """Each user: 20 items of history (some users fewer), one held out, 99 candidates from the rest; 60 rounds."""

    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        order = rng.permuted(np.tile(np.arange(ITEMS, dtype=np.int32), (USERS, 1)), axis=1)
        self.history = order[:, :LENGTH].copy()
        self.history[: USERS // 4, LENGTH // 2 :] = -1
        self.held_out = order[:, LENGTH]
        self.candidates = order[:, LENGTH + 1 : LENGTH + 100]
        self.seeds = [rng.integers(-(2**31), 2**31, USERS).astype(np.int32) for _ in range(ROUNDS)]
        weights = rng.random(ITEMS) + 0.5
        self.probabilities = (weights / weights.sum()).astype(np.float32)
        self.samplers = {
            "uniform": objectives.SampledSoftmax(1.0, 4),
            "weighted": objectives.SampledSoftmax(1.0, 4, self.probabilities),
            "own items": objectives.SampledSoftmax(1.0, 4, pairs=objectives.own_items),
        }

    def _counts(self, sampler):
        return never_drawn.count_negatives(sampler, self.history, self.seeds, ITEMS)

    def _in_history(self):
        return (self.history[:, :, np.newaxis] == np.arange(ITEMS)).any(axis=1)

    def test_counts_by_hand(self):
        """A sampler that always draws items 4 and 2 and one padding for a history of one item."""

        class Fixed(objectives.FullSoftmax):
            def rows(self, block, num_items):
                return tf.concat([block["history"], [[4, 2, -1]]], axis=1)

        seeds = [np.zeros(1, np.int32)] * 3
        counts = never_drawn.count_negatives(Fixed(1.0), np.zeros((1, 1), np.int32), seeds, 5)
        self.assertAllEqual(counts, [[0, 0, 3, 0, 3]])

    def test_history_is_never_a_negative(self):
        for name, sampler in self.samplers.items():
            with self.subTest(name):
                self.assertEqual(self._counts(sampler)[self._in_history()].sum(), 0)

    def test_everything_else_is(self):
        """A user with a full history sees 4800 draws of 280 items, a rare item 8 of them or more: few come never."""
        for name, sampler in self.samplers.items():
            with self.subTest(name):
                never = (self._counts(sampler) == 0) & ~self._in_history()
                self.assertLess(never[USERS // 4 :].sum() / (280 * 150), 1e-4)

    def test_held_out_items_are_drawn_like_any_other(self):
        """Total of the held-out items' draws against its expectation, within four standard deviations (Poisson)."""
        for name, sampler in self.samplers.items():
            with self.subTest(name):
                probabilities = np.full(ITEMS, 1 / ITEMS) if sampler.probabilities is None else sampler.probabilities
                draws = ROUNDS * 4 * (self.history >= 0).sum(axis=1)
                expected = (draws * probabilities[self.held_out]).sum()
                observed = self._counts(sampler)[np.arange(USERS), self.held_out].sum()
                self.assertLess(abs(observed - expected), 4 * np.sqrt(expected))
                self.assertGreater(expected, 1000)

    def _metrics(self, sampler_of):
        histories = [row[row >= 0] for row in self.history]
        rule = never_drawn.build(sampler_of, lambda users: [histories[user] for user in users], ITEMS, seed=1)
        ranked = recommenders.rank(rule, np.arange(USERS), histories, self.held_out, self.candidates)
        return ranking.metrics_from_ranks(ranked.ranks)

    def test_the_attack_guesses(self):
        """Chance is 10 of 100; with 200 users four standard deviations are 0.085."""
        for name, sampler in self.samplers.items():
            with self.subTest(name):
                self.assertAllClose(self._metrics(lambda users, own=sampler: own).hit_rate_10, 0.1, atol=0.085)
        self.assertAllClose(self._metrics(never_drawn.ours()).hit_rate_10, 0.1, atol=0.085)

    def test_the_attack_knows_a_leaky_sampler(self):
        """The control: with held-out items spared the same attack finds nearly all of them."""
        spared = np.stack([self.held_out, np.full(USERS, -1, np.int32)], axis=1)
        leaky = never_drawn.as_published(spared)
        counts = never_drawn.count_negatives(leaky(np.arange(USERS)), self.history, self.seeds, ITEMS)
        self.assertEqual(counts[np.arange(USERS), self.held_out].sum(), 0)
        metrics = self._metrics(leaky)
        self.assertGreater(metrics.hit_rate_10, 0.99)
        self.assertGreater(metrics.ndcg_10, 0.95)


if __name__ == "__main__":
    tf.test.main()
