"""Per-user rounds of the tag-aware filter: types, three clients by hand, bounds, secure sums, grouping."""

import collections
import functools
import math

import numpy as np
import pytest
import tag_aware_cases as cases
import tensorflow as tf
import tensorflow_federated as tff
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_rec.federated import aggregators, ring_aggregator, stages, tag_aware
from tff_rec.models import two_tower
from tff_rec.models.layers import own_weights

pytestmark = pytest.mark.usefixtures("execution_context")

SECURE = aggregators.secure_mean(query_bound=8.0, item_bound=8.0, weight_bound=8.0, bits=32)
NO_STATE = tff.FederatedType((), tff.SERVER)
BLOCKS = "<items=int32[?,?],ratings=float32[?,?],seed=int32[?]>*"


def both(optimizer):
    return stages.ServerOptimizers(query=optimizer, candidate=optimizer)


def hand_optimizers():
    return stages.ServerOptimizers(query=cases.sgd(0.5), candidate=cases.sgd(2.0))


def runner(built, encode=None, **options):
    """`block_sum` of a model as a function of a block."""
    local = tag_aware.LocalRatings(built.rating_tower, **options)
    return lambda block: tag_aware.block_sum(
        local, encode, own_weights(built.rating_tower), built.item_table(), dict(block)
    )


def compiled(run):
    """The same as a graph, which takes longer to make than a few calls and is sooner done with many."""
    specs = {name: tf.TensorSpec([None, None], dtype) for name, dtype in (("items", tf.int32), ("ratings", tf.float32))}
    specs["seed"] = tf.TensorSpec([None], tf.int32)
    graph = tf.function(run, autograph=False, input_signature=[specs])
    return lambda block: graph(dict(block))


def total(run, population, grouping):
    sums = [run(block) for blocks in cases.clients(population, grouping) for block in blocks]
    return tf.nest.map_structure(lambda *parts: np.sum([part.numpy() for part in parts], axis=0), *sums)


class HandTest(tf.test.TestCase):
    """One round of three clients, see `cases.hand_model`: x = (1, 0) for every item.

    With residuals y = r - 3 and two ratings, A = I + XᵀX without the other one is diag(2, 1), and the user's bias from
    the other rating is y'/2, so e = y - y'/2. The other component is the other's choice, 1, over √1, and meets x = 0.
    Derivatives of e₁² + e₂² by y₁: 2e₁ - e₂; by the bias b₁ minus that; by the intercept minus their sum. The choice of
    the bias, q₁, joins y₁ where the other is predicted: -e₂. The vector v₁ meets the component 1 and lowers e₁, and
    tilts A, which raises e₂ by 1/2: -2e₁ + e₂, as b₁. By c: c²/(1 + c²) has the derivative 1/2 at 1: -e₁y₂ - e₂y₁.
    Client A, items 0 and 1: y (1, -1), e (3/2, -3/2). b (-9/2, 9/2), q (3/2, -3/2), intercept 0, c 3. Loss 9/2.
    Client B, item 1, predicts from nothing: y 2, e 2. b -4, intercept -4, and v, q and c 0. Loss 4.
    Client C, items 2 and 0: y (0, 2), e (-1, 2). b₂ 4, b₀ -5, q₂ -2, q₀ 1, intercept -1, c 2. Loss 5.
    Sums: b (-19/2, 1/2, 4), v (-19/2, 9/2, 4), q (5/2, -3/2, -2), intercept -5, c 5, loss 27/2; over 5 ratings.
    The features' weights are 2, 0, 1: the pull-back gives 2 b₀ + b₂ = -15, likewise v -15, q 3. The penalty adds
    2 · 2.5 · 1/10 to the gradient of the items' choices that are 1.
    """

    def _round(self, aggregator=None, **options):
        model = cases.hand_model()
        local = tag_aware.LocalRatings(model.rating_tower, **options)
        process = tag_aware.build_tag_aware(model, local, hand_optimizers(), aggregator)
        output = process.next(process.initialize(), cases.hand_clients())
        names = [*model.item_tower.weight_specs(), *model.rating_tower.weight_specs()]
        weights = dict(zip(names, output.state.global_model_weights.trainable, strict=True))
        return weights, output.metrics["finalizer"]["loss"]

    def _assert_round(self, round_, tolerance=1e-5):
        weights, loss = round_
        close = functools.partial(self.assertAllClose, rtol=0, atol=tolerance)
        close(weights["items/biases"][:, 0], -2.0 / 5 * np.array([-9.5, 0.5, 4.0]))
        close(weights["items/vectors"][:, 0], -2.0 / 5 * np.array([-9.5, 4.5, 4.0]))
        close(weights["items/choices"][:, 0], -2.0 / 5 * np.array([2.5, -1.5, -2.0]))
        close(weights["items/choices"][:, 1], np.full([3], 1.0 - 2.0 * 0.5))
        close(weights["features/biases"], [[2.0 / 5 * 15]])
        close(weights["features/vectors"], [[2.0 / 5 * 15]])
        close(weights["features/choices"], [[-2.0 / 5 * 3, 0.0]])
        close(weights["intercept"], [3.0 + 0.5 / 5 * 5])
        close(weights["user_bias"], [1.0 - 0.5 / 5 * 5])
        close(loss, 13.5 / 5)

    def test_gradient_of_the_sum(self):
        self._assert_round(self._round())

    def test_users_apart_send_the_same(self):
        self._assert_round(self._round(row_clip_norm=100.0))

    def test_with_one_step_learning_rates_and_proximal_term_change_nothing(self):
        self._assert_round(self._round(learning_rate=0.7, tower_learning_rate=0.3, proximal=2.0))

    def test_secure_is_plain_within_quantisation(self):
        """A user's value is at most half a step away: over 5 ratings and by rate 2 and features' 2 + 1, 18/10 of it."""
        aggregator = aggregators.secure_mean(9.0, 9.0, 2.0, bits=20)
        step = 32.0 * 2.0 / (2**19 - 1)
        secure = self._round(aggregator)
        self._assert_round(secure, tolerance=1.8 * step)
        self.assertNotAllClose(
            secure[0]["items/biases"][:, 0], -2.0 / 5 * np.array([-9.5, 0.5, 4.0]), rtol=0, atol=1e-6
        )

    def test_equal_weights(self):
        """Means of the three mean errors; B's gradient of b₁ counts double against A's 9/4."""
        weights, loss = self._round(weighting=two_tower.equally)
        self.assertAllClose(loss, (4.5 / 2 + 4.0 + 5.0 / 2) / 3)
        self.assertAllClose(weights["items/biases"][1], [-2.0 / 3 * (4.5 / 2 - 4.0)])
        self.assertAllClose(weights["intercept"], [3.0 + 0.5 / 3 * (4.0 + 1.0 / 2)])

    def test_clipped(self):
        """Of the tower: A's (0, 3)/2, B's (-4, 0), C's (-1, 2)/2 to norm 1: (0, 1), (-1, 0), (-1, 2)/√5.

        Of the rows: A's b, v, q over 2 have the norm √(2 · 81/2 + 9/2)/2 = √85.5/2, B's is 4, C's √(2 · 41 + 5)/2 =
        √87/2. Bounded by 1, b₁ becomes 4.5/√85.5 from A, by weight 2, and -1 from B.
        """
        weights, _ = self._round(tower_clip_norm=1.0, row_clip_norm=1.0)
        self.assertAllClose(weights["intercept"], [3.0 - 0.5 / 5 * (-1.0 - 2.0 / math.sqrt(5.0))])
        self.assertAllClose(weights["user_bias"], [1.0 - 0.5 / 5 * (2.0 + 4.0 / math.sqrt(5.0))])
        self.assertAllClose(weights["items/biases"][1], [-2.0 / 5 * (2.0 * 4.5 / math.sqrt(85.5) - 1.0)])
        self.assertAllClose(weights["items/biases"][2], [-2.0 / 5 * (2.0 * 4.0 / math.sqrt(87.0))])


class TypesTest(cases.TagAwareTestCase):
    """Without execution; shapes are those of `cases.hand_model`."""

    def setUp(self):
        super().setUp()
        self.model = cases.hand_model()
        self.query = collections.OrderedDict(intercept=(np.float32, [1]), user_bias=(np.float32, [1]))
        shapes = ([3, 1], [3, 1], [3, 2], [1, 1], [1, 1], [1, 2], [1], [1])
        self.weights = tff.types.to_type(
            tff.learning.models.ModelWeights([(np.float32, shape) for shape in shapes], [])
        )

    def _sums(self, dtype):
        query = collections.OrderedDict((name, (dtype, shape)) for name, (_, shape) in self.query.items())
        return tff.types.to_type(collections.OrderedDict(query=query, items=(dtype, [3, 4]), loss=dtype))

    def test_block(self):
        self.assertEqual(str(tag_aware.block_type()), BLOCKS)

    def test_distributor(self):
        sent = tff.types.to_type(collections.OrderedDict(query=self.query, items=(np.float32, [3, 4])))
        self.assert_type(
            tag_aware.build_distributor(self.model).next,
            collections.OrderedDict(state=NO_STATE, weights=tff.FederatedType(self.weights, tff.SERVER)),
            tff.templates.MeasuredProcessOutput(
                NO_STATE, tff.FederatedType(sent, tff.CLIENTS, all_equal=True), NO_STATE
            ),
        )

    def test_finalizer(self):
        mean = self._sums(np.float32)
        rate = collections.OrderedDict(learning_rate=np.float32)
        state = tff.FederatedType((rate, rate), tff.SERVER)
        self.assert_type(
            tag_aware.build_finalizer(self.model, hand_optimizers(), mean).next,
            collections.OrderedDict(
                state=state,
                weights=tff.FederatedType(self.weights, tff.SERVER),
                mean=tff.FederatedType(mean, tff.SERVER),
            ),
            tff.templates.MeasuredProcessOutput(
                state,
                tff.FederatedType(self.weights, tff.SERVER),
                tff.FederatedType(collections.OrderedDict(loss=np.float32), tff.SERVER),
            ),
        )

    def test_process(self):
        local = tag_aware.LocalRatings(self.model.rating_tower)
        for aggregator in (None, SECURE):
            process = tag_aware.build_tag_aware(self.model, local, hand_optimizers(), aggregator)
            state, data = process.next.type_signature.parameter
            self.assertEqual(str(data), f"{{{BLOCKS}}}@CLIENTS")
            self.assertEqual(state, process.initialize.type_signature.result)
            self.assertTrue(state.member.global_model_weights.is_equivalent_to(self.weights))
            metrics = process.next.type_signature.result.metrics
            self.assertEqual(metrics.member.finalizer, tff.types.to_type(collections.OrderedDict(loss=np.float32)))

    def test_sums(self):
        for encode, dtype in ((None, tf.float32), (SECURE.encode, tf.int64)):
            [[block]] = cases.hand_clients()[:1]
            sums = runner(self.model, encode)(block)
            weight = sums.pop("weight")
            self.assertEqual(weight.dtype, dtype)
            types = tf.nest.map_structure(lambda part: tff.TensorType(part.dtype.as_numpy_dtype, part.shape), sums)
            self.assertTrue(tff.types.to_type(types).is_equivalent_to(self._sums(dtype.as_numpy_dtype)))

    def test_rings_give_the_bits_of_the_secure_sum(self):
        """Members send the whole table, zeros but for their own items."""
        block, options = cases.block(cases.users(), range(len(cases.users()))), {"local_steps": 2, "row_clip_norm": 0.5}
        ring = ring_aggregator.ring_mean(8.0, 8.0, 8.0, bits=32, group_size=3)
        secure, ringed = (runner(cases.model(), encode, **options)(block) for encode in (SECURE.encode, ring.encode))
        self.assertGreater(np.count_nonzero(secure["items"]), 0)
        tf.nest.map_structure(self.assertAllEqual, ringed, secure)

    def test_weights_fit_the_model(self):
        model = cases.model()
        process = tag_aware.build_tag_aware(model, tag_aware.LocalRatings(model.rating_tower), both(cases.sgd()))
        weights = process.get_model_weights(process.initialize()).trainable
        for variable, value in zip(model.trainable_weights, weights, strict=True):
            self.assertAllEqual(variable, value)


class BlockGroupingTest(cases.TagAwareTestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("of_the_sum", None, {}),
        ("steps", None, {"local_steps": 3, "proximal": 2.0, "tower_learning_rate": 0.01}),
        ("clipped", None, {"row_clip_norm": 0.3, "tower_clip_norm": 0.2}),
        ("encoded", SECURE.encode, {"local_steps": 2, "weighting": two_tower.equally}),
    )
    def test_sums_depend_neither_on_grouping_nor_on_padding(self, encode, options):
        run = compiled(runner(cases.model(), encode, **options))

        @settings(max_examples=5, deadline=None, derandomize=True)
        @given(st.integers(0, 2**31), st.lists(st.integers(0, 8), min_size=7, max_size=7))
        def check(seed, lengths):
            population = cases.users(seed, lengths)
            together = total(run, population, cases.ALL_IN_ONE)
            for grouping in cases.GROUPINGS.values():
                separate = total(run, population, grouping)
                if encode is None:
                    self.assert_same(separate, together)
                else:
                    # float32 holds 24 of the 32 bits.
                    self.assertAllClose(separate, together, rtol=0, atol=2**13)

        check()

    @parameterized.named_parameters(("of_the_sum", {}), ("apart", {"local_steps": 2, "row_clip_norm": 1.0}))
    def test_users_without_ratings_send_nothing(self, options):
        nobody = (np.zeros(0, np.int32), np.zeros(0, np.float32))
        sums = runner(cases.model(), **options)(cases.block([nobody, nobody], [1, 2]))
        self.assertTrue(all(np.all(part.numpy() == 0) for part in tf.nest.flatten(sums)))


class ClippingTest(cases.TagAwareTestCase, parameterized.TestCase):
    def test_holds_for_every_user_and_spares_the_small(self):
        built = cases.model()
        free = runner(built, local_steps=2)
        ones = [cases.block([user], [place]) for place, user in enumerate(cases.users(2)) if len(user[0])]
        sums = [free(one) for one in ones]
        norms = {
            part: np.array([tf.linalg.global_norm(tf.nest.flatten(each[part])) / each["weight"] for each in sums])
            for part in ("query", "items")
        }
        bounds = {part: float(np.median(values)) * 1.001 for part, values in norms.items()}
        clipped = runner(built, local_steps=2, tower_clip_norm=bounds["query"], row_clip_norm=bounds["items"])
        for place, one in enumerate(ones):
            after = clipped(one)
            for part, bound in bounds.items():
                scale = min(1.0, bound / norms[part][place])
                expected = tf.nest.map_structure(functools.partial(np.multiply, scale), sums[place][part])
                self.assertAllClose(after[part], expected, rtol=1e-4, atol=1e-5)

    @parameterized.parameters(
        {"local_steps": 0},
        {"learning_rate": 0.0},
        {"tower_learning_rate": -1.0},
        {"proximal": -0.1},
        {"row_clip_norm": 0.0},
        {"tower_clip_norm": -1.0},
    )
    def test_options_are_checked(self, **options):
        with self.assertRaisesRegex(ValueError, next(iter(options))):
            tag_aware.LocalRatings(cases.model().rating_tower, **options)


class LocalStepsTest(cases.TagAwareTestCase, parameterized.TestCase):
    @parameterized.named_parameters(("fed_avg", 0.0), ("fed_prox", 3.0))
    def test_equal_plain_sgd_of_one_user_at_a_time(self, proximal):
        """Three steps by a loop on the whole table; what is sent is minus the change over rate and steps."""
        built = cases.model()
        rates = {"learning_rate": 0.05, "tower_learning_rate": 0.01}
        run = runner(built, local_steps=3, proximal=proximal, **rates)
        population = cases.users(1)
        expected = None
        for place, user in enumerate(population):
            one = {name: tf.constant(value) for name, value in cases.block([user], [1_000_003 * (place + 1)]).items()}
            sent = dict(own_weights(built.rating_tower)), built.item_table()
            tower, table = sent
            for step in range(3):
                with tf.GradientTape() as tape:
                    tape.watch([tower, table])
                    seeds = tag_aware.seeds_at(one, step)
                    loss = tf.reduce_sum(built.rating_tower.losses(tower, table, one["items"], one["ratings"], seeds))
                    distance = tf.add_n([tf.reduce_sum(tf.square(tower[name] - sent[0][name])) for name in tower])
                    distance += tf.reduce_sum(tf.square(table - sent[1]))
                    loss += 0.5 * proximal * distance
                tower_gradient, table_gradient = tape.gradient(loss, [tower, table])
                tower = {name: tower[name] - 0.01 * tower_gradient[name] for name in tower}
                table = table - 0.05 * tf.convert_to_tensor(table_gradient)
            change = {name: (sent[0][name] - tower[name]) / 0.01 / 3 for name in tower}, (sent[1] - table) / 0.05 / 3
            expected = change if expected is None else tf.nest.map_structure(tf.add, expected, change)
        sums = total(run, population, cases.ALL_IN_ONE)
        self.assert_same(dict(sums["query"]), expected[0], 1e-3)
        self.assert_same(sums["items"], expected[1].numpy(), 1e-3)

    def test_a_proximal_term_of_nothing_changes_nothing_and_others_do(self):
        [[block]] = cases.clients(cases.users())
        sums = [
            runner(cases.model(), local_steps=2, learning_rate=0.05, proximal=proximal)(block)["items"]
            for proximal in (0.0, 1e-9, 5.0)
        ]
        self.assertAllClose(sums[1], sums[0], rtol=0, atol=1e-6)
        self.assertNotAllClose(sums[2], sums[0], rtol=0, atol=1e-3)


class RoundTest(cases.TagAwareTestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("plain", None, {"local_steps": 2}),
        ("secure", SECURE, {"local_steps": 2, "row_clip_norm": 1.0, "tower_clip_norm": 1.0}),
    )
    def test_two_rounds_are_the_same_however_users_are_grouped(self, aggregator, options):
        model = cases.model()
        local = tag_aware.LocalRatings(model.rating_tower, **options)
        process = tag_aware.build_tag_aware(model, local, both(cases.adam()), aggregator)

        def after(grouping):
            rounds = [cases.clients(cases.users(seed), grouping) for seed in (1, 2)]
            return cases.trained(process, [[cases.dataset(blocks) for blocks in data] for data in rounds])

        together = after(cases.ALL_IN_ONE)
        for grouping in cases.GROUPINGS.values():
            self.assert_same(after(grouping), together)
        self.assertNotAllClose(together[0], model.trainable_weights[0], atol=1e-3)

    @parameterized.named_parameters(("of_the_sum", {}), ("apart", {"row_clip_norm": 1e3}))
    def test_rounds_of_one_step_are_central_steps_on_the_cohort(self, options):
        """With dropout, network and penalties, under an Adam for each tower."""
        model = cases.model()
        local = tag_aware.LocalRatings(model.rating_tower, **options)
        process = tag_aware.build_tag_aware(model, local, both(cases.adam()))
        cohorts = [cases.clients(cases.users(seed)) for seed in range(3)]
        federated = cases.trained(process, cohorts)
        optimizer = cases.adam()
        state = optimizer.initialize([tf.TensorSpec(weight.shape) for weight in model.trainable_weights])
        for [[block]] in cohorts:
            gradients = cases.central_gradients(model, block)
            state, weights = optimizer.next(state, list(map(tf.constant, cases.values(model))), gradients)
            for variable, value in zip(model.trainable_weights, weights, strict=True):
                variable.assign(value)
        self.assert_same(federated, cases.values(model), 1e-4)


if __name__ == "__main__":
    tf.test.main()
