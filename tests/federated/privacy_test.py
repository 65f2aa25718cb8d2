"""Noise of differential privacy: how much, on what, and that grouping, secure sums and empty cohorts change nothing."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import two_tower_cases as cases
from absl.testing import parameterized

from tff_rec.federated import aggregators, contributions, privacy, ring_aggregator, split_two_tower
from tff_rec.models.two_tower import equally

pytestmark = pytest.mark.usefixtures("execution_context")

PARTS = {"query": privacy.Part(0.5, 0.4), "items": privacy.Part(2.0, 0.4), "loss": privacy.Part(3.0, 0.2)}
WIDTH = 40
SUMS = 400


def noised(multiplier=1.5, inner=None, parts=None, **options):
    options = {"expected_users": 5.0, "seed": 11} | options
    return privacy.NoisedMeanFactory(inner or aggregators.PlainMeanFactory(), parts or PARTS, multiplier, **options)


def types(dtype=np.float32):
    value = collections.OrderedDict(
        query=collections.OrderedDict(b=(dtype, [2]), a=dtype), items=(dtype, [WIDTH, 1]), loss=dtype
    )
    return tff.types.to_type(value), tff.TensorType(dtype)


def value(number, dtype=np.float32):
    return collections.OrderedDict(
        query=collections.OrderedDict(b=np.full([2], number, dtype), a=dtype(number)),
        items=np.full([WIDTH, 1], 3 * number, dtype),
        loss=dtype(number),
    )


class NoiseTest(parameterized.TestCase, tf.test.TestCase):
    def test_type(self):
        process = noised().create(*types())
        state = process.initialize.type_signature.result.member
        own = collections.OrderedDict(seed=(np.int32, [2]), round=np.int32, noise_multiplier=np.float32)
        self.assertTrue(state.own.is_equivalent_to(tff.types.to_type(own)))
        self.assertTrue(process.next.type_signature.result.result.member.is_equivalent_to(types()[0]))
        self.assertTrue(process.next.type_signature.result.measurements.member.is_equivalent_to(tff.to_type(())))

    def test_sums_have_the_claimed_deviation(self):
        """Deviations z · C / √share: query 1.5 · 0.5 / √0.4, items 1.5 · 2 / √0.4, loss 1.5 · 3 / √0.2; over 5 users.

        A deviation from n numbers has the relative error 1 / √2n, a correlation the error 1 / √n; five are allowed.
        """
        process = noised().create(*types())
        state, sums = process.initialize(), []
        for _ in range(SUMS):
            output = process.next(state, [value(1.0), value(2.0)], [1.0, 1.0])
            state = output.state
            sums.append(output.result)
        for name, expected, mean in (("query", 1.18585, 3.0), ("items", 4.74342, 9.0), ("loss", 10.06231, 3.0)):
            numbers = np.stack([np.concatenate([np.ravel(leaf) for leaf in tf.nest.flatten(s[name])]) for s in sums])
            error = 5 / np.sqrt(2 * numbers.size)
            self.assertAllClose(5 * numbers.std(), expected, rtol=error)
            self.assertAllClose(5 * numbers.mean(), mean, atol=5 * expected / np.sqrt(numbers.size))
            if numbers.shape[1] > 1:
                self.assertLess(abs(np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1]), 5 / np.sqrt(SUMS))
            self.assertLess(abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]), 5 / np.sqrt(SUMS))
        self.assertEqual(state["own"]["round"], SUMS)

    def test_without_noise_the_sum_over_the_expected_count(self):
        process = noised(0.0).create(*types())
        for weights in ([1.0, 1.0], [7.0, 0.0]):
            result = process.next(process.initialize(), [value(1.0), value(2.0)], weights).result
            tf.nest.map_structure(self.assertAllClose, result, value(3.0 / 5.0))

    def test_noise_depends_on_seed_and_round_alone(self):
        process = noised().create(*types())
        state = process.initialize()
        one = process.next(state, [value(3.0)], [1.0])
        two = process.next(state, [value(1.0), value(2.0)], [4.0, 4.0])
        tf.nest.map_structure(lambda a, b: self.assertAllClose(a, b, atol=1e-6), one.result, two.result)
        later = process.next(one.state, [value(3.0)], [1.0])
        self.assertNotAllClose(one.result["items"], later.result["items"])
        other = noised(seed=12).create(*types())
        self.assertNotAllClose(one.result["items"], other.next(other.initialize(), [value(3.0)], [1.0]).result["items"])

    def test_rounding_is_added_to_the_clip_norm(self):
        bounds = aggregators.weighted_bounds(0.5, 2.0, 1.0, 3.0, bits=8)
        factory = noised(inner=aggregators.SecureMeanFactory(bounds))
        expected = 1.5 * (2.0 + np.sqrt(WIDTH) * bounds["items"].step) / np.sqrt(0.4)
        self.assertAllClose(factory.standard_deviation("items", WIDTH), expected)

    def test_refuses(self):
        with self.assertRaisesRegex(ValueError, "add up to 1"):
            noised(parts={"query": privacy.Part(1.0, 0.5)})
        with self.assertRaisesRegex(ValueError, "noise multiplier"):
            noised(-1.0)
        with self.assertRaisesRegex(ValueError, "no mean"):
            noised(expected_users=0)
        with self.assertRaisesRegex(ValueError, "bounded are query"):
            noised(parts={"query": privacy.Part(1.0, 1.0)}).create(*types())
        with self.assertRaisesRegex(ValueError, "clip norm"):
            privacy.Part(0.0, 1.0)
        with self.assertRaisesRegex(ValueError, "share"):
            privacy.Part(1.0, 0.0)
        with self.assertRaisesRegex(ValueError, "epoch"):
            privacy.tree_noise(0)


class TreeTest(tf.test.TestCase):
    def test_sums_over_rounds_are_those_of_few_nodes(self):
        """The sum to round t of an epoch of 6 has as many nodes as t has bits; that of the second begins anew."""
        noise = tf.function(privacy.tree_noise(6))
        key = tf.constant([5, 1])
        totals = np.cumsum([noise([20_000], key, tf.constant(number)).numpy() for number in range(8)], axis=0)
        self.assertAllClose(totals.var(axis=1), [1, 1, 2, 1, 2, 2, 3, 3], rtol=0.06)
        # Rounds 4 and 6 share the node of rounds 1 to 4.
        self.assertAllClose(np.cov(totals[3], totals[5])[0, 1], 1.0, atol=0.06)
        self.assertAllClose(np.cov(totals[2], totals[3])[0, 1], 0.0, atol=0.06)

    def test_in_a_process(self):
        process = noised(noise=privacy.tree_noise(4)).create(*types())
        state = process.initialize()
        first = process.next(state, [value(0.0)], [1.0])
        second = process.next(first.state, [value(0.0)], [1.0])
        self.assertNotAllClose(first.result["items"], second.result["items"])
        self.assertEqual(second.state["own"]["round"], 2)


def split(inner=None, noise=1.0, objective=cases.FULL, **options):
    built = cases.small_model(objective)
    local = contributions.LocalTraining(
        built.query_tower, objective, equally, query_clip_norm=0.5, item_clip_norm=0.2, loss_bound=3.0, **options
    )
    parts = {"query": privacy.Part(0.5, 0.45), "items": privacy.Part(0.2, 0.45), "loss": privacy.Part(3.0, 0.1)}
    factory = noised(noise, inner, parts)
    return split_two_tower.build_split_two_tower(built, local, cases.sgd(), factory)


class SplitTest(cases.TwoTowerTestCase, parameterized.TestCase):
    def test_grouping_does_not_matter(self):
        users = cases.histories()
        process = split()
        expected = cases.trained(process, [cases.datasets(users)] * 2)
        for grouping in cases.GROUPINGS.values():
            self.assert_same(cases.trained(process, [cases.datasets(users, grouping)] * 2), expected)

    def test_secure_sum_and_ring_equal_plain_within_rounding(self):
        users = cases.histories()
        bounds = aggregators.weighted_bounds(0.5, 0.2, 1.0, 3.0, bits=24)
        plain = cases.trained(split(), [cases.datasets(users)])
        secure = split(aggregators.SecureMeanFactory(bounds))
        ring = ring_aggregator.Ring(bounds["items"].limit, 100, 2, 3)
        ringed = split(ring_aggregator.RingMeanFactory(bounds, ring))
        for process in (secure, ringed):
            self.assert_same(cases.trained(process, [cases.datasets(users)]), plain, 1e-5)
        tff.test.assert_not_contains_unsecure_aggregation(secure.next)

    def test_a_cohort_of_nobody_gets_noise(self):
        process = split()
        nobody = [cases.datasets(cases.histories())[0].take(0)]
        output = process.next(process.initialize(), nobody)
        self.assertTrue(np.isfinite(output.metrics["finalizer"]["loss"]))
        still = cases.trained(split(noise=0.0), [nobody])
        self.assert_same(still, [weight.numpy() for weight in cases.small_model(cases.FULL).trainable_weights])

    @parameterized.parameters(cases.FULL, cases.SAMPLED)
    def test_every_user_of_a_block_is_bounded(self, objective):
        """From the sums with and without a user: what the user adds is within the norms, whatever the others send."""
        built = cases.small_model(objective)
        local = contributions.LocalTraining(
            built.query_tower,
            objective,
            equally,
            local_steps=2,
            learning_rate=5.0,
            query_clip_norm=0.5,
            item_clip_norm=0.2,
            loss_bound=0.7,
        )
        query, candidate = split_weights(built)
        received = contributions.ReceivedItems(cases.NUM_ITEMS, built.candidate_embeddings(candidate))
        block = {name: tf.constant(part) for name, part in cases.clients(cases.histories())[0][0].items()}

        def sums(chosen):
            few = {name: tf.gather(part, chosen) for name, part in block.items()}
            return contributions.block_sum(local, None, query, received, few)

        everybody, clipped = range(len(cases.LENGTHS)), 0
        for user in everybody:
            others = sums([other for other in everybody if other != user])
            own = tf.nest.map_structure(tf.subtract, sums(list(everybody)), others)
            norm = tf.linalg.global_norm(list(own["query"].values()))
            self.assertLessEqual(norm, 0.5 + 1e-5)
            self.assertLessEqual(tf.norm(own["items"]), 0.2 + 1e-5)
            self.assertBetween(own["loss"], -1e-5, 0.7 + 1e-5)
            self.assertBetween(own["weight"], 0.0, 1.0)
            clipped += int(norm > 0.499)
        self.assertGreater(clipped, 2)


def split_weights(built):
    count = len(built.query_tower.weight_specs())
    trainable = [tf.constant(weight.numpy()) for weight in built.trainable_weights]
    return built.query_tower.as_weights(trainable[:count]), built.candidate_tower.as_weights(trainable[count:])


class LaplaceTest(tf.test.TestCase):
    def test_each_user_adds_noise_of_the_scale(self):
        """A Laplace number of scale b has the variance 2 b²; a block of three users has three times that."""
        sums = collections.OrderedDict(
            query=collections.OrderedDict(a=tf.zeros([20_000])), items=tf.ones([20_000, 1]), loss=tf.constant(2.0)
        )
        noised_sums = privacy.laplace_uploads({"query": 0.5, "items": 2.0})(sums, tf.constant([3, 7, 9]))
        self.assertAllClose(np.var(noised_sums["query"]["a"]), 3 * 2 * 0.25, rtol=0.06)
        self.assertAllClose(np.var(noised_sums["items"]), 3 * 2 * 4.0, rtol=0.06)
        self.assertAllClose(np.mean(noised_sums["items"]), 1.0, atol=0.2)
        self.assertEqual(noised_sums["loss"], 2.0)

    def test_grouping_does_not_matter(self):
        add = privacy.laplace_uploads({"items": 1.0})
        zeros = collections.OrderedDict(items=tf.zeros([7, 2]))
        together = add(zeros, tf.constant([3, 7]))["items"]
        apart = add(zeros, tf.constant([3]))["items"] + add(zeros, tf.constant([7]))["items"]
        self.assertAllClose(together, apart, atol=1e-5)

    def test_not_for_encoded_values(self):
        bounds = aggregators.weighted_bounds(0.5, 2.0, 1.0, 3.0, bits=8)
        with self.assertRaisesRegex(ValueError, "does not encode"):
            contributions.sent_sums(
                collections.OrderedDict(),
                privacy.laplace_uploads({"items": 1.0}),
                aggregators.SecureMeanFactory(bounds).encode,
                {"seed": tf.constant([1])},
            )


if __name__ == "__main__":
    tf.test.main()
