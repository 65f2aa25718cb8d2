"""Query towers look back only and never at padding; stacked weights are each user's own; layers rebuild from config."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_rec.models import layers, query_towers
from tff_rec.models.candidate_tower import CandidateTower, sparse_features

TOWERS = (
    ("bag", lambda **options: query_towers.BagQueryTower(8, (1.0, 0.0), hidden=6, se_ratio=4, **options)),
    ("bag_plain", lambda **options: query_towers.BagQueryTower(8, (0.0,), hidden=6, residual=False, **options)),
    ("attention", lambda **options: query_towers.AttentionQueryTower(8, 9, num_heads=2, se_ratio=4, **options)),
)


def inputs(seed, lengths=(7, 4, 1)):
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal([len(lengths), max(lengths), 8]).astype(np.float32)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, np.newaxis]).astype(np.float32)
    return tf.constant(vectors * mask[:, :, np.newaxis]), tf.constant(mask)


def perturbed_weights(tower, seed, users=None):
    """Weights away from their initial values, shared or one a user."""
    tower.build()
    generator = np.random.default_rng(seed)
    weights = {}
    for name, value in layers.own_weights(tower).items():
        shape = value.shape if users is None else [users, *value.shape]
        weights[name] = value + 0.3 * tf.constant(generator.standard_normal(shape), tf.float32)
    return weights


class QueryTowerTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*TOWERS)
    def test_encode_is_causal(self, build):
        tower = build()
        weights = perturbed_weights(tower, 1)

        @settings(max_examples=8, deadline=None, derandomize=True)
        @given(st.integers(0, 1000), st.integers(0, 6))
        def check(seed, changed):
            vectors, mask = inputs(seed, (7, 7))
            before = tower.encode(weights, vectors, mask)
            noise = np.zeros([2, 7, 8], np.float32)
            noise[:, changed] = np.linspace(-1.0, 2.0, 8)
            after = tower.encode(weights, vectors + noise, mask)
            self.assertAllClose(before[:, :changed], after[:, :changed], atol=1e-5)
            self.assertNotAllClose(before[:, changed], after[:, changed], atol=1e-4)

        check()

    @parameterized.named_parameters(*TOWERS)
    def test_padding_does_not_matter(self, build):
        tower = build(dropout=0.4)
        weights = perturbed_weights(tower, 1)
        seeds = tf.constant([5, 6, 7])
        vectors, mask = inputs(2)
        longer = tf.pad(vectors, [[0, 0], [0, 2], [0, 0]]), tf.pad(mask, [[0, 0], [0, 2]])
        for draws in (None, seeds):
            real = mask[:, :, tf.newaxis]
            short = tower.encode(weights, vectors, mask, draws)
            self.assertAllClose(short * real, tower.encode(weights, *longer, draws)[:, :7] * real, atol=1e-5)
            self.assertAllClose(
                tower.query(weights, vectors, mask, draws), tower.query(weights, *longer, draws), atol=1e-5
            )

    @parameterized.named_parameters(*TOWERS)
    def test_query_is_the_last_position_of_encode(self, build):
        tower = build()
        weights = perturbed_weights(tower, 1)
        vectors, mask = inputs(3)
        encoded = tower.encode(weights, vectors, mask).numpy()
        last = [encoded[user, length - 1] for user, length in enumerate((7, 4, 1))]
        self.assertAllClose(tower.query(weights, vectors, mask), last, atol=1e-5)

    @parameterized.named_parameters(*TOWERS)
    def test_an_empty_history_has_a_finite_query(self, build):
        tower = build()
        weights = perturbed_weights(tower, 1)
        self.assertAllInRange(tower.query(weights, tf.zeros([1, 3, 8]), tf.zeros([1, 3])), -1e3, 1e3)

    @parameterized.named_parameters(*TOWERS)
    def test_stacked_weights_equal_a_loop_over_users(self, build):
        tower = build(dropout=0.3)
        stacked = perturbed_weights(tower, 4, users=3)
        vectors, mask = inputs(5)
        seeds = tf.constant([11, 12, 13])
        together = tower.encode(stacked, vectors, mask, seeds)
        queries = tower.query(stacked, vectors, mask, seeds)
        for user in range(3):
            own = {name: value[user] for name, value in stacked.items()}
            one = slice(user, user + 1)
            alone = tower.encode(own, vectors[one], mask[one], seeds[one])
            # Values are up to 3, and 1e-5 of that is rounding of float32 products, which other shapes add otherwise.
            self.assertAllClose(together[one], alone, rtol=1e-5, atol=1e-5)
            again = tower.query(own, vectors[one], mask[one], seeds[one])
            self.assertAllClose(queries[one], again, rtol=1e-5, atol=1e-5)

    @parameterized.named_parameters(*TOWERS)
    def test_config_round_trips(self, build):
        tower = build(dropout=0.3, unit_norm=True, seed=7, name="device")
        rebuilt = type(tower).from_config(tower.get_config())
        self.assertEqual(rebuilt.get_config(), tower.get_config())
        tower.build()
        rebuilt.build()
        for one, other in zip(tower.trainable_weights, rebuilt.trainable_weights, strict=True):
            self.assertAllEqual(one, other)
        vectors, mask = inputs(6)
        self.assertAllEqual(tower((vectors, mask)), rebuilt((vectors, mask)))

    @parameterized.named_parameters(*TOWERS)
    def test_unit_norm_keeps_the_direction_of_queries(self, build):
        queries, units = (tower(inputs(6)).numpy() for tower in (build(), build(unit_norm=True)))
        lengths = np.linalg.norm(queries, axis=-1, keepdims=True)
        self.assertNotAllClose(lengths, np.ones_like(lengths), atol=0.1)
        self.assertAllClose(units, queries / lengths, atol=1e-5)

    def test_bag_by_hand(self):
        """Half-life 1: after (v0, v1) v0 counts half, so (v0/2 + v1) / 1.5; the MLP's last kernel is 0."""
        tower = query_towers.BagQueryTower(1, half_lives=(1.0,), hidden=2)
        tower.build()
        tower.tensors["output/kernel"].assign(tf.zeros([2, 1]))
        queries = tower((tf.constant([[[3.0], [6.0]]]), tf.ones([1, 2])))
        self.assertAllClose(queries, [[[3.0], [5.0]]])

    def test_a_tower_without_parts_says_so(self):
        with self.assertRaisesRegex(AttributeError, "which weights"):
            layers.Tower().build()
        with self.assertRaisesRegex(AttributeError, "does not encode"):
            query_towers.QueryTower().encode({}, tf.zeros([1, 1, 1]), tf.zeros([1, 1]))


class CandidateTowerTest(tf.test.TestCase):
    INDICES = np.array([[0, 1], [2, 0], [1, 1]], np.int32)
    WEIGHTS = np.array([[1.0, 0.5], [2.0, 0.0], [0.0, 0.0]], np.float32)
    FEATURES = sparse_features(INDICES, WEIGHTS, 3)

    def test_sums_embeddings_of_the_item_and_of_its_features(self):
        tower = CandidateTower(3, 3, 4, stddev=1.0)
        vectors = tower(self.FEATURES)
        items, features = tower.tensors["items"].numpy(), tower.tensors["features"].numpy()
        described = np.stack([features[0] + 0.5 * features[1], 2 * features[2], np.zeros(4)])
        self.assertAllClose(vectors, items + described)

    def test_wide_embeddings_are_projected_onto_vectors(self):
        tower = CandidateTower(3, 3, 2, expansion=3, stddev=1.0)
        vectors = tower(self.FEATURES)
        wide = {name: value.numpy() for name, value in tower.tensors.items()}
        self.assertEqual(wide["items"].shape, (3, 6))
        features = wide["features"]
        described = np.stack([features[0] + 0.5 * features[1], 2 * features[2], np.zeros(6)])
        self.assertAllClose(vectors, (wide["items"] + described) @ wide["projection/kernel"], atol=1e-5)

    def test_hidden_layer_is_residual_and_deterministic(self):
        tower = CandidateTower(3, 3, 4, hidden=5, se_ratio=2, stddev=1.0)
        first = tower(self.FEATURES)
        self.assertAllEqual(first, tower(self.FEATURES))
        plain = CandidateTower(3, 3, 4, stddev=1.0)(self.FEATURES).numpy()
        tensors = tower.tensors
        hidden = np.maximum(plain @ tensors["hidden/kernel"].numpy(), 0.0)
        self.assertAllClose(first, plain + hidden @ tensors["output/kernel"].numpy(), atol=1e-5)

    def test_unit_norm_keeps_the_direction_of_vectors(self):
        options = {"expansion": 2, "hidden": 5, "se_ratio": 2, "stddev": 1.0}
        vectors = CandidateTower(3, 3, 4, **options)(self.FEATURES).numpy()
        units = CandidateTower(3, 3, 4, unit_norm=True, **options)(self.FEATURES)
        self.assertAllClose(units, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), atol=1e-5)

    def test_config_round_trips(self):
        tower = CandidateTower(3, 3, 4, expansion=2, hidden=5, se_ratio=2, unit_norm=True, stddev=0.3, seed=9)
        rebuilt = CandidateTower.from_config(tower.get_config())
        self.assertEqual(rebuilt.get_config(), tower.get_config())
        self.assertAllEqual(tower(self.FEATURES), rebuilt(self.FEATURES))


if __name__ == "__main__":
    tf.test.main()
