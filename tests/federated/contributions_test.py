"""What a block computes: independent of grouping and padding, bounded for each user, equal items added up."""

import functools

import numpy as np
import tensorflow as tf
import two_tower_cases as cases
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_rec.federated import aggregators, by_user, contributions
from tff_rec.models import layers, objectives

SECURE = aggregators.secure_mean(query_bound=1.0, item_bound=1.0, weight_bound=8.0)


def runner(built, encode=None, **options):
    """`block_sum` of a model as a function of a block's parts."""
    training = cases.training(built, **options)

    def run(block):
        received = contributions.ReceivedItems(cases.NUM_ITEMS, built.candidate_embeddings())
        return contributions.block_sum(training, encode, layers.own_weights(built.query_tower), received, block)

    return run


def compiled(run, objective):
    """The same as a graph, which takes longer to make than a few calls and is sooner done with many."""
    specs = {name: tf.TensorSpec([None, None], tf.int32) for name in ("history", *objective.block_keys)}
    specs["seed"] = tf.TensorSpec([None], tf.int32)
    return tf.function(run, autograph=False, input_signature=[specs])


def total(run, users, grouping, objective=cases.FULL):
    sums = [run(block) for blocks in cases.clients(users, grouping, objective) for block in blocks]
    return tf.nest.map_structure(lambda *parts: np.sum([part.numpy() for part in parts], axis=0), *sums)


class NotANumberTest(tf.test.TestCase):
    def test_one_diverged_user_stops_the_sum(self):
        for objective in (cases.FULL, cases.REQUESTED):
            built = cases.model(objective)
            run = runner(built, SECURE.encode, query_clip_norm=1.0, item_clip_norm=1.0)
            [[block]] = cases.clients(cases.histories(2), cases.ALL_IN_ONE, objective)
            run(block)
            built.query_tower.trainable_weights[0].assign_add(np.nan * built.query_tower.trainable_weights[0])
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "is not a number"):
                run(block)


class SquaresTest(tf.test.TestCase):
    def test_are_those_of_float64_and_no_smaller_than_the_largest(self):
        """Also of one large value among many small ones, of which a running sum loses most."""
        rng = np.random.default_rng(0)
        one_large = np.full([2, 3000, 700], 1e-4, np.float32)
        one_large[:, 0, 0] = 1.0
        mixed = rng.standard_normal([20, 50, 7]) * 10.0 ** rng.integers(-6, 1, [20, 50, 7])
        for values in (one_large, mixed.astype(np.float32), one_large[:, :1, :1], one_large[:0]):
            found = by_user.squares([tf.constant(values), tf.constant(2 * values)])
            self.assertAllClose(found, 5 * np.sum(values.astype(np.float64) ** 2, axis=(1, 2)), rtol=1e-5)
            alone = by_user.squares([tf.constant(values)])
            self.assertTrue(np.all(alone >= np.square(values).max(axis=(1, 2)) * (1 - 2.0**-21)))


class GroupingTest(cases.TwoTowerTestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("full", cases.FULL, cases.bag, None, {"local_steps": 2, "learning_rate": 0.3}),
        ("full_clipped", cases.FULL, cases.bag, None, {"query_clip_norm": 0.05, "item_clip_norm": 0.05}),
        ("full_encoded", cases.FULL, cases.bag, SECURE.encode, {"query_clip_norm": 1.0, "item_clip_norm": 1.0}),
        ("sampled", cases.SAMPLED, cases.attention, None, {"local_steps": 2, "learning_rate": 0.1}),
        ("sampled_clipped", cases.CORRECTED, cases.bag, None, {"query_clip_norm": 0.05, "item_clip_norm": 0.05}),
        (
            "sampled_encoded",
            cases.SAMPLED,
            cases.attention,
            SECURE.encode,
            {"item_clip_norm": 0.5, "local_steps": 2, "learning_rate": 0.1},
        ),
        ("requested", cases.REQUESTED, cases.bag, None, {"local_steps": 2, "learning_rate": 0.3}),
        ("requested_encoded", cases.REQUESTED, cases.bag, SECURE.encode, {"item_clip_norm": 0.5}),
        ("own_items", cases.OWN_ITEMS, cases.bag, None, {"local_steps": 3, "learning_rate": 0.3}),
    )
    def test_sums_depend_neither_on_grouping_nor_on_padding(self, objective, tower, encode, options):
        run = compiled(runner(cases.model(objective, tower(dropout=0.4)), encode, **options), objective)

        @settings(max_examples=5, deadline=None, derandomize=True)
        @given(st.integers(0, 2**31), st.lists(st.integers(0, 8), min_size=7, max_size=7))
        def check(seed, lengths):
            users = cases.histories(seed, lengths)
            together = total(run, users, cases.ALL_IN_ONE, objective)
            for grouping in cases.GROUPINGS.values():
                separate = total(run, users, grouping, objective)
                if encode is None:
                    self.assert_same(separate, together)
                else:
                    self.assertAllClose(separate, together, rtol=0, atol=50)

        check()

    def test_users_without_predictions_send_nothing(self):
        run = runner(cases.model(cases.SAMPLED), local_steps=2)
        sums = run(cases.block([np.array([], np.int32), np.array([3], np.int32)], [1, 2]))
        self.assertTrue(all(np.all(part.numpy() == 0) for part in tf.nest.flatten(sums)))

    def test_users_with_repeated_items_are_one_row_an_item(self):
        run = runner(cases.model(cases.FULL), item_clip_norm=0.01)
        repeated = np.array([3, 3, 5, 3], np.int32)
        sums = run(cases.block([repeated], [1]))
        self.assertAllClose(tf.norm(sums["items"]), 0.01 * 3, rtol=1e-5)


class ClippingTest(cases.TwoTowerTestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("full", cases.FULL, cases.bag, 2),
        ("sampled", cases.SAMPLED, cases.bag, 2),
        ("own_items", cases.OWN_ITEMS, cases.bag, 2),
        ("one_step", cases.FULL, cases.bag, 1),
        ("one_step_of_attention", cases.FULL, cases.attention, 1),
        ("one_step_of_one_query", cases.OWN_ITEMS, cases.bag, 1),
    )
    def test_holds_for_every_user_and_spares_the_small(self, objective, tower, steps):
        """In one step users share kernels; what each contributes is nevertheless its own."""
        built = cases.model(objective, tower())
        free = runner(built, local_steps=steps)
        ones = [cases.block([user], [index]) for index, user in enumerate(cases.histories(2)) if len(user) > 1]
        sums = [free(one) for one in ones]
        norms = {
            part: np.array([tf.linalg.global_norm(tf.nest.flatten(each[part])) / each["weight"] for each in sums])
            for part in ("query", "items")
        }
        bounds = {part: float(np.median(values)) * 1.001 for part, values in norms.items()}
        clipped = runner(built, local_steps=steps, query_clip_norm=bounds["query"], item_clip_norm=bounds["items"])
        for index, one in enumerate(ones):
            after = clipped(one)
            for part, bound in bounds.items():
                scale = min(1.0, bound / norms[part][index])
                expected = tf.nest.map_structure(functools.partial(np.multiply, scale), sums[index][part])
                self.assertAllClose(after[part], expected, rtol=1e-4, atol=1e-5)

    @parameterized.parameters(
        {"local_steps": 0},
        {"learning_rate": 0.0},
        {"learning_rate": -1.0},
        {"query_clip_norm": 0.0},
        {"item_clip_norm": -1.0},
    )
    def test_options_are_checked(self, **options):
        with self.assertRaisesRegex(ValueError, next(iter(options))):
            cases.training(cases.model(cases.FULL), **options)


class CombineRowsTest(tf.test.TestCase):
    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 9))
    def test_equals_numpy(self, seed, users, rows):
        generator = np.random.default_rng(seed)
        ids = generator.integers(-1, 5, [users, rows]).astype(np.int32)
        gradient = generator.standard_normal([users, rows, 2]).astype(np.float32)
        combined, sums = [part.numpy() for part in by_user.combine_rows(tf.constant(ids), tf.constant(gradient))]
        for user in range(users):
            kept = combined[user][combined[user] >= 0]
            self.assertCountEqual(kept, set(ids[user][ids[user] >= 0]))
            self.assertAllEqual(sums[user][combined[user] < 0], np.zeros([rows - len(kept), 2]))
            for item, value in zip(combined[user], sums[user], strict=True):
                if item >= 0:
                    self.assertAllClose(value, gradient[user][ids[user] == item].sum(axis=0), atol=1e-5)


class StackedWeightsTest(tf.test.TestCase):
    def test_local_steps_equal_a_loop_over_users(self):
        """Two steps of one user by hand: gradient at the weights, step, gradient at the new weights."""
        built = cases.model(cases.FULL)
        run = runner(built, local_steps=2, learning_rate=0.5)
        user = cases.histories(1)[0]
        one = cases.block([user], [7])
        weights: layers.Weights = dict(layers.own_weights(built.query_tower))
        start, table = dict(weights), built.candidate_embeddings()
        item_gradient = tf.zeros_like(table)
        for _ in range(2):
            with tf.GradientTape() as tape:
                tape.watch([weights, table])
                losses = objectives.mean_losses(cases.FULL, built.query_tower, weights, table, one, None, None)
                loss = tf.reduce_sum(losses)
            gradients, items = tape.gradient(loss, [weights, table])
            weights = {name: weights[name] - 0.5 * gradients[name] for name in weights}
            item_gradient += tf.convert_to_tensor(items)
        count = len(user) - 1.0
        sums = run(one)
        self.assertAllClose(sums["items"], count * item_gradient, atol=1e-5)
        for name, value in sums["query"].items():
            self.assertAllClose(value, count * (weights[name] - start[name]), atol=1e-5)


if __name__ == "__main__":
    tf.test.main()
