"""Clip norms that move: where to, what noise they get, what it costs, and that grouping and encoding change nothing."""

import collections
import functools
import math
import pathlib
import tempfile

import dp_accounting
import numpy as np
import pytest
import tag_aware_cases
import tensorflow as tf
import tensorflow_federated as tff
import two_tower_cases as cases
from absl.testing import parameterized

from tff_rec.federated import (
    adaptive_clipping,
    aggregators,
    contributions,
    privacy,
    privacy_accounting,
    ring_aggregator,
    split_two_tower,
    tag_aware,
)
from tff_rec.models import layers
from tff_rec.models.two_tower import equally
from tff_rec.simulation import privacy_assembly
from tff_rec.simulation.checkpoints import Checkpoints, Progress
from tff_rec.simulation.privacy_config import PrivacyConfig

pytestmark = [pytest.mark.usefixtures("execution_context"), pytest.mark.xdist_group("adaptive clipping")]

OPTIONS = PrivacyConfig("gaussian", noise_multiplier=1.5, clipping="adaptive", clip_share=0.04)
PARTS = privacy_assembly.parts(OPTIONS, 1.0, 1.0)
BOUNDS = aggregators.weighted_bounds(1.0, 1.0, 1.0, OPTIONS.loss_bound, bits=24)
CLIPPING = adaptive_clipping.AdaptiveClipping(0.4, 0.2)
RING = ring_aggregator.Ring(BOUNDS["items"].limit, 100, 2, 3)
INNER = {
    "plain": aggregators.PlainMeanFactory(),
    "secure": aggregators.SecureMeanFactory(BOUNDS),
    "ring": ring_aggregator.RingMeanFactory(BOUNDS, RING),
}


def two_tower_local(model, norm):
    return contributions.LocalTraining(
        model.query_tower,
        model.objective,
        equally,
        local_steps=2,
        query_clip_norm=norm,
        item_clip_norm=norm,
        loss_bound=OPTIONS.loss_bound,
    )


def rating_local(model, norm):
    return tag_aware.LocalRatings(
        model.rating_tower,
        row_clip_norm=norm,
        tower_clip_norm=norm,
        weighting=equally,
        loss_bound=OPTIONS.loss_bound,
    )


def noised(aggregation, expected_users):
    return privacy.NoisedMeanFactory(INNER[aggregation], PARTS, 1.5, expected_users, seed=11)


@functools.cache
def two_tower(aggregation="plain"):
    """Of the seven users, two have no prediction and take no part."""
    model = cases.small_model(cases.FULL)
    return split_two_tower.build_split_two_tower(
        model, two_tower_local(model, 1.0), cases.sgd(), noised(aggregation, 5.0), clipping=CLIPPING
    )


@functools.cache
def ratings(aggregation="plain"):
    """Of the seven users, one has no rating and takes no part."""
    model = tag_aware_cases.model()
    return tag_aware.build_tag_aware(model, rating_local(model, 1.0), cases.sgd(), noised(aggregation, 6.0), CLIPPING)


def two_tower_data(grouping=cases.ALL_IN_ONE):
    return cases.datasets(cases.histories(), grouping)


def rating_data(grouping=tag_aware_cases.ALL_IN_ONE):
    return list(map(tag_aware_cases.dataset, tag_aware_cases.clients(tag_aware_cases.users(), grouping)))


def two_tower_sums(norm):
    """From units and a block to `contributions.block_sum`; and blocks of one user each."""
    model = cases.small_model(cases.FULL)
    received = contributions.ReceivedItems(cases.NUM_ITEMS, model.candidate_embeddings())
    query, local = layers.own_weights(model.query_tower), two_tower_local(model, norm)
    [blocks] = cases.clients(cases.histories(), cases.GROUPINGS["one_user_a_block"])
    return functools.partial(contributions.block_sum, local, None, query, received), blocks


def rating_sums(norm):
    model = tag_aware_cases.model()
    tower, table, local = layers.own_weights(model.rating_tower), model.item_table(), rating_local(model, norm)
    [blocks] = tag_aware_cases.clients(tag_aware_cases.users(), tag_aware_cases.GROUPINGS["one_user_a_block"])
    return functools.partial(tag_aware.block_sum, local, None, tower, table), blocks


def lone_norms(sums_of):
    """Norms of the query part and of the item part of users who take part, [2, users], each alone in a block."""
    block_sum, blocks = sums_of(None)
    sums = [block_sum({name: tf.constant(part) for name, part in block.items()}) for block in blocks]
    sums = [one for one in sums if one["weight"] > 0]
    return np.array(
        [[tf.linalg.global_norm(tf.nest.flatten(one[part])) for one in sums] for part in ("query", "items")]
    )


BOTH = (("two_tower", two_tower, two_tower_data, two_tower_sums), ("ratings", ratings, rating_data, rating_sums))


def norms_of(state):
    return [float(norm) for norm in state.global_model_weights.non_trainable]


def start(process, norms, noise=1.5):
    """The first state with other norms and another noise."""
    first = process.initialize()
    weights = tff.learning.models.ModelWeights(first.global_model_weights.trainable, list(map(np.float32, norms)))
    own = collections.OrderedDict(first.aggregator["own"], noise_multiplier=np.float32(noise))
    aggregator = collections.OrderedDict(inner=first.aggregator["inner"], own=own)
    return tff.learning.templates.LearningAlgorithmState(
        weights, first.distributor, first.client_work, aggregator, first.finalizer
    )


class QuantileTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(0.3, 0.5, 0.9)
    def test_norms_go_to_the_quantile(self, quantile):
        """Norms of 1,000 users are e^x of normal x; both clip norms begin far off; counts are noised."""
        draw = np.random.default_rng(3)
        norms = np.exp(draw.normal(size=1000))
        clipping = adaptive_clipping.AdaptiveClipping(20.0, 0.01, quantile)
        present, late = [tf.constant(20.0), tf.constant(0.01)], []
        for round_number in range(400):
            counts = np.array([np.mean(norms <= norm) - 0.5 for norm in present])
            noise = draw.normal(scale=0.02, size=2)
            present = clipping.following(present, tf.constant(counts + noise, tf.float32))
            if round_number >= 300:
                late.append(present)
        expected = float(np.quantile(norms, quantile))
        self.assertAllClose(np.mean(late, axis=0), [expected, expected], rtol=0.05)

    def test_a_step_by_hand(self):
        """Shares of 1 and 0 for a quantile of 1/4 move by exp(-0.15) and exp(0.05); noise moves no further."""
        clipping = adaptive_clipping.AdaptiveClipping(1.0, 1.0, 0.25)
        for below in ([0.5, -0.5], [9.0, -9.0]):
            moved = clipping.following([tf.constant(2.0), tf.constant(4.0)], tf.constant(below))
            self.assertAllClose(moved, [2 * math.exp(-0.15), 4 * math.exp(0.05)])

    @parameterized.parameters(
        {"query_norm": 0.0}, {"item_norm": math.inf}, {"quantile": 1.0}, {"quantile": 0.0}, {"rate": 0.0}
    )
    def test_refuses(self, **options):
        with self.assertRaisesRegex(ValueError, next(iter(options))):
            adaptive_clipping.AdaptiveClipping(**({"query_norm": 1.0, "item_norm": 1.0} | options))

    def test_refuses_other_units(self):
        with self.assertRaisesRegex(ValueError, "let clip norms be 1"):
            adaptive_clipping.check_unit_norms(1.0, 0.5)


class BlockTest(cases.TwoTowerTestCase, parameterized.TestCase):
    @parameterized.parameters(two_tower_sums, rating_sums)
    def test_users_send_multiples_of_the_norms(self, sums_of):
        """Norms between users': who is longer sends 1 and -1/2, who is shorter its part in units and 1/2."""
        units = {"query": tf.constant(float(np.median(lone_norms(sums_of)[0]))), "items": tf.constant(0.1)}
        (block_sum, blocks), (free_sum, _) = sums_of(1.0), sums_of(None)
        seen = set()
        for block in blocks[:4]:
            block = {name: tf.constant(part) for name, part in block.items()}
            sent, free = block_sum(block, units), free_sum(block)
            for place, part in enumerate(("query", "items")):
                norm = tf.linalg.global_norm(tf.nest.flatten(free[part])) / units[part]
                factor = 1.0 / (units[part] * tf.maximum(norm, 1.0))
                self.assert_same(sent[part], tf.nest.map_structure(functools.partial(tf.multiply, factor), free[part]))
                half = 0.0 if free["weight"] == 0 else 0.5 if norm <= 1.0 else -0.5
                self.assertEqual(sent["below"][place], half)
                seen.add(half)
        self.assertEqual(seen, {0.0, 0.5, -0.5})


class RoundTest(cases.TwoTowerTestCase, parameterized.TestCase):
    @parameterized.named_parameters(*BOTH)
    def test_type(self, build, data, sums_of):
        """Two norms beside the weights, at the server alone, and the same among the measurements."""
        del data, sums_of
        result = build().next.type_signature.result
        weights = result.state.member.global_model_weights
        self.assertEqual([leaf.shape for _, leaf in tff.structure.to_elements(weights.non_trainable)], [(), ()])
        norms = tff.to_type(collections.OrderedDict(query=np.float32, items=np.float32))
        self.assertTrue(result.metrics.member.finalizer.norms.is_equivalent_to(norms))

    @parameterized.named_parameters(*BOTH)
    def test_norms_end_at_the_median_of_users(self, build, data, sums_of):
        """The model stands still: as many users are above the norm as below, or one is now above and now below."""
        process, lone = build(), np.sort(lone_norms(sums_of), axis=1)
        state = start(process, 2.0 * np.median(lone, axis=1), noise=0.0)
        for _ in range(40):
            state = process.next(state, data()).state
            state = start(process, norms_of(state), noise=0.0)
        low, high = lone[:, (lone.shape[1] - 1) // 2], lone[:, lone.shape[1] // 2]
        for found, least, most in zip(norms_of(state), low, high, strict=True):
            self.assertBetween(found, 0.97 * least, 1.03 * most)

    @parameterized.named_parameters(*BOTH)
    def test_grouping_does_not_matter(self, build, data, sums_of):
        del sums_of
        grouped = data(cases.GROUPINGS["two_clients_of_blocks"])
        self.assert_same(self._after_two_rounds(build(), grouped), self._after_two_rounds(build(), data()))

    def test_ring_equals_plain_within_rounding(self):
        """The encoding's range is 1 and knows nothing of norms; the secure sum has the same."""
        plain = self._after_two_rounds(two_tower(), two_tower_data())
        self.assert_same(self._after_two_rounds(two_tower("ring"), two_tower_data()), plain)

    @parameterized.named_parameters(*BOTH)
    def test_noise_scales_with_the_present_norm(self, build, data, sums_of):
        """Of a cohort of nobody the step is noise alone, and of three times the norm it is three times the noise."""
        del sums_of
        process, nobody, steps = build(), [data()[0].take(0)], {}
        for factor in (0.0, 1.0, 3.0):
            before = start(process, [0.4 * factor, 0.2 * factor])
            after = process.next(before, nobody).state.global_model_weights.trainable
            steps[factor] = [new - old for new, old in zip(after, before.global_model_weights.trainable, strict=True)]
        for still, one, three in zip(steps[0.0], steps[1.0], steps[3.0], strict=True):
            self.assertAllClose(three - still, 3 * (one - still), rtol=1e-3, atol=1e-5)

    def test_norms_are_saved_and_restored(self):
        process, data = two_tower(), two_tower_data()
        state = process.next(process.initialize(), data).state
        with tempfile.TemporaryDirectory() as directory:
            checkpoints = Checkpoints(pathlib.Path(directory))
            checkpoints.save(Progress(state, [], rounds=1))
            restored = checkpoints.restore(Progress(process.initialize(), [])).state
        self.assertEqual(norms_of(restored), norms_of(state))
        self.assertNotEqual(norms_of(state), [CLIPPING.query_norm, CLIPPING.item_norm])
        one, other = (process.next(each, data).state for each in (state, restored))
        self.assertEqual(norms_of(one), norms_of(other))

    def test_noise_has_the_claimed_deviation(self):
        """On the query tower, of a cohort of nobody: z · C / √share = 1.5 · 40 / √0.475, over 5 users."""
        process, nobody = two_tower(), [two_tower_data()[0].take(0)]
        before = start(process, [40.0, 0.2])
        after = process.next(before, nobody).state.global_model_weights.trainable
        count = len(cases.small_model(cases.FULL).query_tower.weight_specs())
        pairs = zip(after[:count], before.global_model_weights.trainable[:count], strict=True)
        noise = np.concatenate([np.ravel(new - old) for new, old in pairs])
        self.assertAllClose(noise.std(), 1.5 * 40.0 / np.sqrt(0.475) / 5.0, rtol=4 / np.sqrt(2 * noise.size))

    def _after_two_rounds(self, process, data):
        """Weights and norms."""
        state = process.initialize()
        for _ in range(2):
            state = process.next(state, data).state
        return [list(state.global_model_weights.trainable), norms_of(state)]


class AccountTest(tf.test.TestCase):
    def test_all_parts_together_cost_what_was_accounted(self):
        """Each part is a Gaussian mechanism, of its deviation over its sensitivity; `dp-accounting` adds them up."""
        factory = noised("plain", 5.0)
        numbers = {"query": 30, "items": 40, "loss": 1, "below": 2}
        norms = {"query": 1.0, "items": 1.0, "loss": 16.0, "below": math.sqrt(0.5)}
        gaussians = [
            dp_accounting.GaussianDpEvent(factory.standard_deviation(name, numbers[name]) / norms[name])
            for name in numbers
        ]
        one = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.ComposedDpEvent(gaussians))
        account = dp_accounting.rdp.RdpAccountant().compose(dp_accounting.SelfComposedDpEvent(one, 30))
        ours = privacy_accounting.epsilon(1.5, 30, 0.1, 1e-4, "rdp")
        self.assertAlmostEqual(ours, account.get_epsilon(1e-4), delta=1e-6)
        self.assertLessEqual(privacy_accounting.epsilon(1.5, 30, 0.1, 1e-4), ours)


if __name__ == "__main__":
    tf.test.main()
