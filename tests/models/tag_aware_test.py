"""The tag-aware filter: what it predicts for whom, what a rating may see, and that it learns from tags."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tff_rec.models import rating_towers, tag_aware
from tff_rec.models.layers import own_weights

ITEMS, FEATURES, DIMENSION = 12, 3, 4


def rating_tower(**kwargs):
    tower = rating_towers.RatingTower(DIMENSION, 3.5, 0.5, 5.0, **kwargs)
    tower.build()
    return tower


def table(seed=0, scale=0.5, items=ITEMS):
    return tf.constant(scale * np.random.default_rng(seed).normal(size=[items, 2 + 2 * DIMENSION]), tf.float32)


def histories(seed=0, users=5, length=6):
    draw = np.random.default_rng(seed)
    items = np.stack([draw.permutation(ITEMS)[:length] for _ in range(users)]).astype(np.int32)
    return tf.constant(items), tf.constant(draw.integers(1, 11, size=[users, length]) / 2, tf.float32)


def randomised(tower, seed=0):
    """The tower's weights, moved away from zeros."""
    draw = np.random.default_rng(seed)
    moved = {}
    for name, value in own_weights(tower).items():
        moved[name] = value + tf.constant(0.3 * draw.normal(size=value.shape), tf.float32)
    return moved


def model(penalties=None, dropout=0.0, hidden=4, feature_weight=1.0, num_ratings=100):
    return tag_aware.TagAware(
        rating_towers.ItemTower(ITEMS, FEATURES, DIMENSION),
        rating_tower(hidden=hidden, dropout=dropout),
        np.arange(ITEMS)[:, np.newaxis] % FEATURES,
        np.full([ITEMS, 1], feature_weight, np.float32),
        penalties or tag_aware.Penalties(1.0, 1.0, 1.0, 1.0, 1.0),
        num_ratings,
    )


class ItemTowerTest(tf.test.TestCase):
    def test_sums_embeddings_of_id_and_features(self):
        built = model()
        weights = randomised(built.item_tower)
        part = rating_towers.item_part(built.item_table(weights))
        for name in ("biases", "vectors", "choices"):
            described = tf.gather(weights[f"features/{name}"], np.arange(ITEMS) % FEATURES)
            expected = tf.squeeze(weights[f"items/{name}"] + described)
            self.assertAllClose(getattr(part, name), expected)

    def test_config_rebuilds_it(self):
        tower = rating_towers.ItemTower(ITEMS, FEATURES, DIMENSION, stddev=0.3, seed=4)
        again = rating_towers.ItemTower.from_config(tower.get_config())
        for built in (tower, again):
            built.build()
        self.assertEqual(again.get_config(), tower.get_config())
        self.assertAllClose(own_weights(again), own_weights(tower))


class RatingTowerTest(tf.test.TestCase, parameterized.TestCase):
    def test_prediction_by_hand(self):
        """One rated item: bias 0.5, vector (1, 0, 0, 0), no choices; c = 1, mean 3, rating 5.

        The residual is 1.5 and x = (1, 1, 0, 0, 0), so p = x · 1.5 / (1 + 2) = (0.5, 0.5, 0, 0, 0). A target of bias
        -0.2 and vector (0.4, 0, 0, 0) gets 3 - 0.2 + 0.5 + 0.2 = 3.5; an unknown item 3 + 0.5.
        """
        rows = np.zeros([2, 2 + 2 * DIMENSION], np.float32)
        rows[:, :2] = [[0.5, 1.0], [-0.2, 0.4]]
        tower = rating_tower()
        weights = {"intercept": tf.constant([3.0]), "user_bias": tf.constant([1.0])}
        history, ratings = tf.constant([[0, -1]]), tf.constant([[5.0, 0.0]])
        self.assertAllClose(tower.user_part(weights, tf.constant(rows), history, ratings), [[0.5, 0.5, 0.0, 0.0, 0.0]])
        predicted = tower.predict(weights, tf.constant(rows), history, ratings, tf.constant([[1, -1]]))
        self.assertAllClose(predicted, [[3.5, 3.5]])

    def test_choices_are_the_prior_mean(self):
        """Two items with vectors 0 and c = 0: p is the sum of the choices over √2."""
        rows = tf.concat([tf.zeros([2, 1 + DIMENSION]), tf.ones([2, 1 + DIMENSION])], axis=1)
        weights = {"intercept": tf.constant([3.0]), "user_bias": tf.constant([0.0])}
        users = rating_tower().user_part(weights, rows, tf.constant([[0, 1]]), tf.constant([[1.0, 5.0]]))
        self.assertAllClose(users, np.full([1, 1 + DIMENSION], 2**0.5))

    def test_without_history_predicts_mean_and_item_bias(self):
        tower, items = rating_tower(), table()
        nothing = tf.fill([1, 3], -1)
        predicted = tower.predict(own_weights(tower), items, nothing, tf.zeros([1, 3]), tf.range(ITEMS)[tf.newaxis])
        self.assertAllClose(predicted[0], tf.clip_by_value(3.5 + items[:, 0], 0.5, 5.0))

    def test_stays_on_the_scale(self):
        tower = rating_tower()
        predicted = tower.predict(
            own_weights(tower), table(scale=5.0), *histories(), tf.tile(tf.range(ITEMS)[tf.newaxis], [5, 1])
        )
        self.assertAllInRange(predicted, 0.5, 5.0)
        self.assertAllInSet([0.5, 5.0], set(np.unique(predicted)))

    @parameterized.named_parameters(("network", 6), ("no_network", 0))
    def test_losses_are_errors_of_predictions_from_the_other_ratings(self, hidden):
        tower, items = rating_tower(hidden=hidden), table(scale=0.2)
        weights = randomised(tower)
        history, ratings = histories()
        errors = []
        for place in range(6):
            others = [tf.constant(np.delete(values.numpy(), place, axis=1)) for values in (history, ratings)]
            predicted = rating_tower(hidden=hidden).predict(weights, items, *others, history[:, place : place + 1])
            self.assertAllInRange(predicted, 0.51, 4.99)
            errors.append(ratings[:, place] - predicted[:, 0])
        self.assertAllClose(tower.losses(weights, items, history, ratings), np.square(errors).sum(axis=0), rtol=1e-4)

    def test_ratings_of_a_user_that_rated_once_are_predicted_from_nothing(self):
        tower, items = rating_tower(), table()
        losses = tower.losses(own_weights(tower), items, tf.constant([[3, -1]]), tf.constant([[5.0, 0.0]]))
        self.assertAllClose(losses, [(5.0 - 3.5 - items[3, 0]) ** 2])

    @parameterized.named_parameters(("plain", 0.0), ("dropout", 0.5))
    def test_users_do_not_depend_on_each_other_nor_on_padding(self, dropout):
        tower, items = rating_tower(hidden=6, dropout=dropout), table()
        weights, seeds = randomised(tower), tf.constant([7, -8, 9, 10, 11])
        history, ratings = histories()
        longer = tf.pad(history, [[0, 0], [0, 9]], constant_values=-1), tf.pad(ratings, [[0, 0], [0, 9]])
        together = tower.losses(weights, items, *longer, seeds)
        alone = tower.losses(weights, items, history[2:3], ratings[2:3], seeds[2:3])
        self.assertAllClose(together[2:3], alone, rtol=1e-4)
        targets = tf.tile(tf.range(ITEMS)[tf.newaxis], [5, 1])
        self.assertAllClose(
            tower.predict(weights, items, *longer, targets)[2:3],
            tower.predict(weights, items, history[2:3], ratings[2:3], targets[2:3]),
            atol=1e-5,
        )

    def test_dropout_is_for_training_alone_and_follows_the_seed(self):
        tower, items = rating_tower(dropout=0.5), table()
        losses = [tower.losses(own_weights(tower), items, *histories(), seeds) for seeds in (None, tf.range(5))]
        self.assertNotAllClose(*losses)
        self.assertAllEqual(losses[1], tower.losses(own_weights(tower), items, *histories(), tf.range(5)))
        self.assertAllEqual(losses[0], rating_tower().losses(own_weights(tower), items, *histories()))

    def test_weights_and_rows_of_each_user(self):
        """Stacked weights, and a table of the user's own rows in reverse order: as one user at a time."""
        tower = rating_tower(hidden=6, dropout=0.2)
        history, ratings = histories()
        each = [randomised(tower, seed) for seed in range(5)]
        stacked = {name: tf.stack([weights[name] for weights in each]) for name in tower.weight_specs()}
        rows = tf.gather(table(), tf.reverse(history, [1]))
        places = tf.tile(tf.range(5, -1, -1)[tf.newaxis], [5, 1])
        losses = tower.losses(stacked, rows, places, ratings, tf.range(5))
        predicted = tower.predict(stacked, rows, places, ratings, places)
        for user, weights in enumerate(each):
            one = history[user : user + 1], ratings[user : user + 1]
            self.assertAllClose(losses[user], tower.losses(weights, table(), *one, tf.constant([user]))[0], rtol=1e-4)
            self.assertAllClose(predicted[user], tower.predict(weights, table(), *one, one[0])[0], atol=1e-5)

    def test_without_network_it_is_biased_matrix_factorisation(self):
        """Mean, item bias, user bias and the product of vectors, at the regularised optimum of the user's part."""
        tower = rating_tower()
        weights = own_weights(tower)
        items = table(scale=0.2) * tf.constant([1.0] * (1 + DIMENSION) + [0.0] * (1 + DIMENSION))
        history, ratings = histories()
        part = rating_towers.item_part(items)
        vectors, biases = part.vectors.numpy(), part.biases.numpy()
        predicted = tower.predict(weights, items, history, ratings, tf.tile(tf.range(ITEMS)[tf.newaxis], [5, 1]))
        for user in range(5):
            rated = history[user].numpy()
            rows = np.concatenate([np.full([6, 1], 0.5), vectors[rated]], axis=1)
            own = np.linalg.solve(
                rows.T @ rows + np.eye(1 + DIMENSION), rows.T @ (ratings[user].numpy() - 3.5 - biases[rated])
            )
            expected = 3.5 + biases + 0.5 * own[0] + vectors @ own[1:]
            self.assertAllClose(predicted[user], np.clip(expected, 0.5, 5.0), atol=1e-5)

    def test_network_begins_as_nothing(self):
        items, targets = table(), tf.tile(tf.range(ITEMS)[tf.newaxis], [5, 1])
        with_network, without = rating_tower(hidden=6), rating_tower()
        self.assertAllEqual(with_network((items, *histories(), targets)), without((items, *histories(), targets)))

    def test_config_rebuilds_it(self):
        tower = rating_tower(hidden=6, dropout=0.1, user_bias=0.4, seed=3)
        again = rating_towers.RatingTower.from_config(tower.get_config())
        again.build()
        self.assertEqual(again.get_config(), tower.get_config())
        self.assertAllClose(own_weights(again), own_weights(tower))


class PenaltiesTest(tf.test.TestCase):
    def test_adds_squares_by_name(self):
        """2 · (1 + 4) + 3 · 9; intercept and c are free."""
        penalties = tag_aware.Penalties(biases=2.0, network=3.0)
        weights = {
            "items/biases": tf.constant([[1.0], [-2.0]]),
            "output/kernel": tf.constant([[3.0]]),
            "intercept": tf.constant([100.0]),
        }
        self.assertAllClose(penalties.penalty(weights), 37.0)

    def test_every_embedding_and_kernel_has_a_factor(self):
        built = model()
        names = [*built.item_tower.weight_specs(), *built.rating_tower.weight_specs()]
        free = [name for name in names if tag_aware.Penalties(1, 1, 1, 1, 1).of(name) == 0]
        self.assertEqual(free, ["intercept", "user_bias", "hidden/bias"])


class TagAwareTest(tf.test.TestCase):
    def test_loss_is_the_mean_over_ratings_and_the_penalty(self):
        built = model(tag_aware.Penalties(), num_ratings=200)
        history, ratings = histories()
        inputs = {"items": tf.where(tf.range(6) < 4, history, -1), "ratings": ratings, "seed": tf.range(5)}
        weights = own_weights(built.rating_tower)
        losses = built.rating_tower.losses(weights, built.item_table(), inputs["items"], ratings)
        mean = tf.reduce_sum(losses) / 20
        self.assertAllClose(built.compute_loss(inputs), mean)
        penalty = built.penalties.penalty(own_weights(built.item_tower) | weights) / 200
        self.assertAllClose(built.compute_loss(inputs, training=True), mean + penalty)

    def test_gradients_are_finite_and_reach_every_weight(self):
        built = model(dropout=0.2)
        for weight, value in zip(built.trainable_weights, _moved(built.trainable_weights), strict=True):
            weight.assign(value)
        history, ratings = histories()
        # One rating, and none: nothing to learn from, nor any reason for NaN.
        items = tf.concat([history, [[1] + 5 * [-1], 6 * [-1]]], axis=0)
        inputs = {"items": items, "ratings": tf.pad(ratings, [[0, 2], [0, 0]]), "seed": tf.range(7)}
        with tf.GradientTape() as tape:
            loss = built.compute_loss(inputs, training=True)
        for weight, gradient in zip(built.trainable_weights, tape.gradient(loss, built.trainable_weights), strict=True):
            gradient = tf.convert_to_tensor(gradient)
            self.assertAllInRange(gradient, -1e3, 1e3)
            self.assertGreater(float(tf.reduce_max(tf.abs(gradient))), 0.0, weight.name)

    def test_learns_what_a_user_thinks_of_a_tag_and_tells_it_of_an_unseen_item(self):
        """Half of the users love the first feature and hate the others, half the reverse; item 11 is in no history."""
        draw = np.random.default_rng(0)
        items = np.stack([draw.permutation(ITEMS - 1)[:8] for _ in range(60)]).astype(np.int32)
        taste = np.where(np.arange(60) % 2, 1.0, -1.0)[:, np.newaxis]
        ratings = (3.0 + 1.5 * taste * np.where(items % FEATURES == 0, 1.0, -1.0)).astype(np.float32)
        penalties = tag_aware.Penalties(biases=10.0, vectors=10.0, choices=10.0, features=0.1, network=1.0)
        errors = {}
        for feature_weight in (1.0, 0.0):
            built = model(penalties, feature_weight=feature_weight, num_ratings=items.size)
            built.compile(optimizer=tf.keras.optimizers.Adam(0.02))
            block = {"items": items, "ratings": ratings, "seed": np.arange(60, dtype=np.int32)}
            built.fit(tf.data.Dataset.from_tensor_slices(block).batch(30).repeat(60), epochs=1, verbose=0)
            predicted = built.predict_ratings(items, ratings, np.full([60, 1], ITEMS - 1, np.int32))
            errors[feature_weight] = np.abs(predicted - (3.0 - 1.5 * taste)).mean()
        self.assertLess(errors[1.0], 0.5)
        self.assertGreater(errors[0.0], 1.0)

    def test_weights_are_the_item_towers_then_the_rating_towers(self):
        built = model()
        expected = [*built.item_tower.weight_specs(), *built.rating_tower.weight_specs()]
        self.assertEqual([weight.name for weight in built.trainable_weights], [f"{name}:0" for name in expected])


def _moved(weights):
    draw = np.random.default_rng(0)
    return [weight + 0.1 * draw.normal(size=weight.shape).astype(np.float32) for weight in weights]


if __name__ == "__main__":
    tf.test.main()
