"""The split process: its types, three clients by hand, secure sums, and rounds that do not depend on grouping."""

import collections
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import two_tower_cases as cases
from absl.testing import parameterized

from tff_rec.federated import aggregators, contributions, split_two_tower, stages
from tff_rec.models import objectives, query_towers, two_tower
from tff_rec.models.candidate_tower import CandidateTower

pytestmark = pytest.mark.usefixtures("execution_context")

C = math.sqrt(math.log(2.0))
SECURE = aggregators.secure_mean(query_bound=1.0, item_bound=1.0, weight_bound=8.0)
FLOAT, INTEGER = tff.TensorType(np.float32), tff.TensorType(np.int64)
NO_STATE = tff.FederatedType((), tff.SERVER)


def hand_model() -> two_tower.TwoTower:
    """Vectors of length 1: items (C, 0, -C); the query is the mean of the history's vectors, then an MLP of zeros."""
    query_tower = query_towers.BagQueryTower(1, half_lives=(0.0,), hidden=1)
    model = two_tower.TwoTower(
        query_tower,
        CandidateTower(3, 1, 1),
        np.zeros([3, 1], np.int32),
        np.array([[2.0], [0.0], [1.0]], np.float32),
        objectives.FullSoftmax(),
    )
    for weight in query_tower.trainable_weights:
        weight.assign(tf.zeros_like(weight))
    model.candidate_tower.tensors["items"].assign([[0.0], [0.0], [-1.5 * C]])
    model.candidate_tower.tensors["features"].assign([[0.5 * C]])
    return model


def hand_clients() -> list[list[collections.OrderedDict[str, np.ndarray]]]:
    return [[cases.block([np.array(history, np.int32)], [0])] for history in ([1, 0], [0, 1], [1, 1, 2])]


def hand_optimizers() -> stages.ServerOptimizers:
    return stages.ServerOptimizers(
        query=tff.learning.optimizers.build_sgdm(0.5), candidate=tff.learning.optimizers.build_sgdm(2.0)
    )


class HandTest(tf.test.TestCase):
    """One round of three clients.

    Client A has the history (1, 0): its query is v1 = 0, all logits are 0, p = 1/3 each. The derivative by the query is
    the mean of v minus v0, that is -C; it reaches the output bias and v1. Gradients: bias -C, v (0, -C, 0). Loss ln 3.
    Client B, (0, 1): query C, logits (ln 2, 0, -ln 2), p = (4, 2, 1)/7. By the query: C(4 - 1)/7 = 3C/7. By the vectors
    as candidates: C(p - [0, 1, 0]) = C(4, -5, 1)/7, and through the query 3C/7 more for v0. Gradients: bias 3C/7,
    v C(7, -5, 1)/7. Loss ln 3.5.
    Client C, (1, 1, 2), two predictions: both queries are 0. The first, item 1, has derivative 0; the second, item 2,
    has C, and reaches v1 twice by halves. Means over two: bias C/2, v (0, C/2, 0). Loss ln 3.
    Weights are 1, 1, 2. Mean gradients: bias (-1 + 3/7 + 1)C/4 = 3C/28; v ((1, -1 - 5/7 + 1, 1/7)C/4 = C(7, -5, 1)/28.
    The features' weights are (2, 0, 1): the pull-back gives the items' embeddings the gradient of v and the feature's
    2 * 7C/28 + C/28 = 15C/28.
    """

    def _round(self, aggregator=None, **options):
        model = hand_model()
        process = split_two_tower.build_split_two_tower(
            model, cases.training(model, **options), hand_optimizers(), aggregator
        )
        output = process.next(process.initialize(), hand_clients())
        return output.state.global_model_weights.trainable, output.metrics

    def test_plain(self):
        (kernel, bias, out_kernel, out_bias, items, feature), metrics = self._round()
        self.assertAllClose([kernel[0], bias, out_kernel[0]], np.zeros([3, 1]))
        self.assertAllClose(out_bias, [-0.5 * 3 * C / 28])
        self.assertAllClose(items[:, 0], [-2 * 7 * C / 28, 2 * 5 * C / 28, -1.5 * C - 2 * C / 28])
        self.assertAllClose(feature, [[0.5 * C - 2 * 15 * C / 28]])
        self.assertAllClose(metrics["finalizer"]["loss"], (3 * math.log(3) + math.log(3.5)) / 4)

    def test_local_learning_rate_scales_the_query_update_alone(self):
        weights, _ = self._round(learning_rate=0.1)
        self.assertAllClose(weights[3], [-0.1 * 0.5 * 3 * C / 28])
        self.assertAllClose(weights[4][0], [-2 * 7 * C / 28])

    def test_clipped(self):
        """Query updates are cut to C/4: minus bias gradients (-C, 3C/7, C/2) become -(-1, 1, 1)C/4; their mean by
        weights 1, 1, 2 is -C/8. Item gradients are cut to C/2: A's to (0, -C/2, 0); B's norm is C sqrt(75)/7, so that
        it shrinks by s = 7/(2 sqrt(75)); C's has norm C/2 and stays.
        """
        weights, _ = self._round(query_clip_norm=C / 4, item_clip_norm=C / 2)
        shrink = 7 / (2 * math.sqrt(75))
        gradient = C * np.array([shrink, -0.5 - shrink * 5 / 7 + 1.0, shrink / 7]) / 4
        self.assertAllClose(weights[3], [-0.5 * C / 8])
        self.assertAllClose(weights[4][:, 0], [-2 * gradient[0], -2 * gradient[1], -1.5 * C - 2 * gradient[2]])
        self.assertAllClose(weights[5], [[0.5 * C - 2 * (2 * gradient[0] + gradient[2])]])

    def test_secure_equals_plain_within_quantisation(self):
        """A value of one user is at most half a step away; the mean over weights 4 of three users, 3/8 of a step.

        Gradients of items are, by rate 2: those in a history are rounded in two parts, twice as far away.
        """
        bits, weight_bound = 16, 4.0
        plain, plain_metrics = self._round()
        secure, metrics = self._round(aggregators.secure_mean(1.0, 1.0, weight_bound, loss_bound=2.0, bits=bits))
        step = weight_bound / (2 ** (bits - 1) - 1)
        self.assertAllClose(secure[3], plain[3], atol=0.5 * 3 / 8 * step + 1e-5)
        self.assertAllClose(secure[4], plain[4], atol=2.0 * 3 / 4 * step + 1e-5)
        self.assertAllClose(metrics["finalizer"]["loss"], plain_metrics["finalizer"]["loss"], atol=1e-3)
        self.assertNotAllEqual(secure[4], plain[4])


class TypesTest(tf.test.TestCase):
    """Without execution; shapes are those of `hand_model`."""

    def setUp(self):
        super().setUp()
        self.model = hand_model()
        self.query = collections.OrderedDict(
            {
                "hidden/kernel": (np.float32, [1, 1]),
                "hidden/bias": (np.float32, [1]),
                "output/kernel": (np.float32, [1, 1]),
                "output/bias": (np.float32, [1]),
            }
        )
        self.sent = tff.types.to_type(collections.OrderedDict(query=self.query, items=(np.float32, [3, 1])))
        self.weights = tff.types.to_type(
            tff.learning.models.ModelWeights(
                [(np.float32, shape) for shape in ([1, 1], [1], [1, 1], [1], [3, 1], [1, 1])], []
            )
        )

    def _sums(self, dtype):
        return tff.types.to_type(
            collections.OrderedDict(
                query=collections.OrderedDict((name, (dtype, shape)) for name, (_, shape) in self.query.items()),
                items=(dtype, [3, 1]),
                loss=dtype,
            )
        )

    def _assert_type(self, computation, parameter, result):
        expected = tff.FunctionType(parameter, result)
        self.assertTrue(
            computation.type_signature.is_equivalent_to(expected), f"{computation.type_signature}\nis not\n{expected}"
        )

    def _distributor(self):
        def what_is_sent(query, candidate):
            table = self.model.candidate_embeddings(candidate)
            return collections.OrderedDict(query=collections.OrderedDict(query), items=table)

        return stages.build_distributor(self.model, what_is_sent)

    def test_block(self):
        self.assertEqual(str(stages.block_type(self.model)), "<history=int32[?,?],seed=int32[?]>*")
        requested = cases.model(cases.REQUESTED)
        self.assertEqual(str(stages.block_type(requested)), "<history=int32[?,?],seed=int32[?],decoys=int32[?,?]>*")

    def test_distributor(self):
        self._assert_type(
            self._distributor().next,
            collections.OrderedDict(state=NO_STATE, weights=tff.FederatedType(self.weights, tff.SERVER)),
            tff.templates.MeasuredProcessOutput(
                NO_STATE, tff.FederatedType(self.sent, tff.CLIENTS, all_equal=True), NO_STATE
            ),
        )

    def test_client_work(self):
        for encode, dtype in ((None, np.float32), (SECURE.encode, np.int64)):

            def block_sum(sent, block, encode=encode):
                training = cases.training(self.model)
                received = contributions.ReceivedItems(3, sent["items"])
                return contributions.block_sum(training, encode, sent["query"], received, block)

            blocks_type = stages.block_type(self.model)
            sums = split_two_tower.sums(self.model, split_two_tower.WHOLE_TABLE, SECURE)
            zeros = stages.zero_sums(sums, tf.as_dtype(dtype))
            work = stages.build_client_work(self._distributor(), blocks_type, block_sum, zeros, None)
            result = tff.learning.templates.ClientResult(self._sums(dtype), tff.TensorType(dtype))
            self._assert_type(
                work.next,
                collections.OrderedDict(
                    state=NO_STATE,
                    sent=tff.FederatedType(self.sent, tff.CLIENTS),
                    blocks=tff.FederatedType(blocks_type, tff.CLIENTS),
                ),
                tff.templates.MeasuredProcessOutput(NO_STATE, tff.FederatedType(result, tff.CLIENTS), NO_STATE),
            )

    def test_finalizer(self):
        finalizer = stages.build_finalizer(
            self.model, hand_optimizers(), self._sums(np.float32), lambda candidate, mean: candidate
        )
        rate = collections.OrderedDict(learning_rate=np.float32)
        state = tff.FederatedType((rate, rate), tff.SERVER)
        self._assert_type(
            finalizer.next,
            collections.OrderedDict(
                state=state,
                weights=tff.FederatedType(self.weights, tff.SERVER),
                mean=tff.FederatedType(self._sums(np.float32), tff.SERVER),
            ),
            tff.templates.MeasuredProcessOutput(
                state,
                tff.FederatedType(self.weights, tff.SERVER),
                tff.FederatedType(collections.OrderedDict(loss=np.float32), tff.SERVER),
            ),
        )

    def test_process(self):
        for aggregator in (None, SECURE):
            process = split_two_tower.build_split_two_tower(
                self.model, cases.training(self.model), hand_optimizers(), aggregator
            )
            state, data = process.next.type_signature.parameter
            self.assertEqual(data, tff.FederatedType(stages.block_type(self.model), tff.CLIENTS))
            self.assertEqual(state, process.initialize.type_signature.result)
            self.assertTrue(state.member.global_model_weights.is_equivalent_to(self.weights))
            metrics = process.next.type_signature.result.metrics
            self.assertIs(metrics.placement, tff.SERVER)
            self.assertEqual(metrics.member.finalizer, tff.types.to_type(collections.OrderedDict(loss=np.float32)))


class RoundGroupingTest(cases.TwoTowerTestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("plain", cases.FULL, None, {"local_steps": 2, "learning_rate": 0.2}),
        ("clipped", cases.SAMPLED, None, {"query_clip_norm": 0.1, "item_clip_norm": 0.1}),
        ("secure", cases.SAMPLED, SECURE, {"query_clip_norm": 1.0, "item_clip_norm": 1.0, "local_steps": 2}),
    )
    def test_two_rounds_are_the_same_however_users_are_grouped(self, objective, aggregator, options):
        model = cases.model(objective, cases.bag(dropout=0.3))
        process = split_two_tower.build_split_two_tower(
            model, cases.training(model, **options), cases.adam(0.02), aggregator
        )
        rounds = [cases.histories(seed) for seed in (1, 2)]
        together = cases.trained(process, [cases.datasets(users) for users in rounds])
        for grouping in cases.GROUPINGS.values():
            separate = cases.trained(process, [cases.datasets(users, grouping) for users in rounds])
            self.assert_same(separate, together)
        self.assertNotAllClose(together[0], model.trainable_weights[0], atol=1e-3)


class CentralTest(cases.TwoTowerTestCase):
    def test_one_step_of_rate_one_with_adam_is_central_adam_on_the_cohort(self):
        """A device's update is minus its gradient, so the server's Adam sees the gradient of the mean loss."""
        model = cases.model(cases.FULL)
        optimizers = cases.adam(0.01)
        process = split_two_tower.build_split_two_tower(model, cases.training(model), optimizers)
        rounds = [cases.clients(cases.histories(seed)) for seed in range(3)]
        federated = cases.trained(process, rounds)
        adam = tf.keras.optimizers.Adam(0.01, beta_2=0.98, epsilon=1e-2)
        for [[block]] in rounds:
            with tf.GradientTape() as tape:
                loss = model.compute_loss({name: tf.constant(value) for name, value in block.items()})
            adam.apply_gradients(
                zip(tape.gradient(loss, model.trainable_weights), model.trainable_weights, strict=True)
            )
        self.assert_same(federated, [weight.numpy() for weight in model.trainable_weights])


if __name__ == "__main__":
    tf.test.main()
