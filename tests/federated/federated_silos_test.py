"""Silo rounds of the tag-aware filter against plain TensorFlow: FedAvg, FedProx, FedOpt, centralised training."""

import collections

import numpy as np
import pytest
import tag_aware_cases as cases
import tensorflow as tf
import tensorflow_federated as tff
from absl.testing import parameterized

from tff_rec.federated import aggregators, silos, tag_aware

pytestmark = pytest.mark.usefixtures("execution_context")

SILOS = [[[0, 1], [2]], [[3, 4]], [[5], [6]]]
BLOCKS = "<items=int32[?,?],ratings=float32[?,?],seed=int32[?]>*"
SECURE = aggregators.secure_mean(query_bound=1.0, item_bound=1.0, weight_bound=16.0, bits=24)


def silo_data(seed=0):
    """Lists of mini-batches of three silos, with 11, 2 and 8 ratings."""
    return cases.clients(cases.users(seed), SILOS)


def datasets(data):
    return [cases.dataset(blocks) for blocks in data]


def num_ratings(blocks):
    return sum(int((block["items"] >= 0).sum()) for block in blocks)


def trained_plainly(model, sent, blocks, optimizer, epochs, proximal=0.0):
    """Weights after local epochs, by assigning to the model and differentiating `compute_loss`."""
    state = optimizer.initialize([tf.TensorSpec(value.shape) for value in sent])
    weights = [tf.constant(value) for value in sent]
    for epoch in range(epochs):
        for block in blocks:
            for variable, value in zip(model.trainable_weights, weights, strict=True):
                variable.assign(value)
            later = block | {"seed": tag_aware.seeds_at(block, epoch).numpy()}
            gradients = cases.central_gradients(model, later)
            pulled = zip(gradients, weights, sent, strict=True)
            gradients = [gradient + proximal * (now - before) for gradient, now, before in pulled]
            state, weights = optimizer.next(state, weights, gradients)
    return [value.numpy() for value in weights]


def mean_plainly(changes, data):
    """Mean of the silos' changes by their numbers of ratings."""
    counts = np.array([num_ratings(blocks) for blocks in data], np.float32)
    return [
        sum(count * part for count, part in zip(counts, parts, strict=True)) / counts.sum()
        for parts in zip(*changes, strict=True)
    ]


class HandTest(tf.test.TestCase):
    def test_one_epoch_of_one_batch_is_a_step_of_the_hand_derived_gradients(self):
        """The clients of `tag_aware_test.HandTest` as silos of one user, with gradients of mean errors.

        By rate 1/10 the intercept changes by 0, 4/10 and 1/2/10, and c by -3/2/10, 0 and -2/2/10, of weights 2, 1, 2.
        The penalty, 1/2 a rating, moves choices by -1/20.
        """
        process = silos.build_silo_tag_aware(cases.hand_model(), silos.SiloTraining(1, 0.1), cases.sgd())
        output = process.next(process.initialize(), cases.hand_clients())
        weights = output.state.global_model_weights.trainable
        self.assertAllClose(weights[2][:, 1], [0.95, 0.95, 0.95])
        self.assertAllClose(weights[6], [3.0 + (4.0 + 1.0) / 50])
        self.assertAllClose(weights[7], [1.0 - (3.0 + 2.0) / 50])
        self.assertAllClose(output.metrics["finalizer"]["loss"], 13.5 / 5)


class TypesTest(cases.TagAwareTestCase):
    """Without execution; shapes are those of `cases.hand_model`."""

    def setUp(self):
        super().setUp()
        self.model = cases.hand_model()
        shapes = ([3, 1], [3, 1], [3, 2], [1, 1], [1, 1], [1, 2], [1], [1])
        self.weights = tff.types.to_type(
            tff.learning.models.ModelWeights([(np.float32, shape) for shape in shapes], [])
        )

    def _mean(self, dtype):
        items = [
            (f"{rows}/{name}", (dtype, [size, width]))
            for rows, size in (("items", 3), ("features", 1))
            for name, width in (("biases", 1), ("vectors", 1), ("choices", 2))
        ]
        query = collections.OrderedDict(intercept=(dtype, [1]), user_bias=(dtype, [1]))
        return tff.types.to_type(collections.OrderedDict(query=query, items=collections.OrderedDict(items), loss=dtype))

    def test_silo_work(self):
        rounds = tff.FederatedType(np.int32, tff.SERVER)
        for encode, dtype in ((None, np.float32), (SECURE.encode, np.int64)):
            work = silos.build_silo_work(self.model, silos.SiloTraining(2, 0.1), encode, silos.open_batches(self.model))
            result = tff.learning.templates.ClientResult(self._mean(dtype), tff.TensorType(dtype))
            self.assert_type(
                work.next,
                collections.OrderedDict(
                    round_number=rounds,
                    weights=tff.FederatedType(self.weights, tff.CLIENTS),
                    blocks=tff.FederatedType(tag_aware.block_type(), tff.CLIENTS),
                ),
                tff.templates.MeasuredProcessOutput(
                    rounds, tff.FederatedType(result, tff.CLIENTS), tff.FederatedType((), tff.SERVER)
                ),
            )

    def test_finalizer(self):
        mean = self._mean(np.float32)
        state = tff.FederatedType(collections.OrderedDict(learning_rate=np.float32), tff.SERVER)
        self.assert_type(
            silos.build_silo_finalizer(self.model, cases.sgd(), mean).next,
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
        for aggregator in (None, SECURE):
            process = silos.build_silo_tag_aware(self.model, silos.SiloTraining(2, 0.1), cases.adam(), aggregator)
            state, data = process.next.type_signature.parameter
            self.assertEqual(str(data), f"{{{BLOCKS}}}@CLIENTS")
            self.assertEqual(state, process.initialize.type_signature.result)
            self.assertTrue(state.member.global_model_weights.is_equivalent_to(self.weights))
            metrics = process.next.type_signature.result.metrics
            self.assertEqual(metrics.member.finalizer, tff.types.to_type(collections.OrderedDict(loss=np.float32)))


class SecureSumTest(cases.TagAwareTestCase):
    def _process(self, aggregator):
        training = silos.SiloTraining(2, 0.01, clip_norm=1.0)
        return silos.build_silo_tag_aware(cases.model(), training, cases.sgd(), aggregator)

    def test_secure_is_plain_within_quantisation(self):
        """A silo's value is at most half a step away, three are 3/2 of it, over 21 ratings; and float32's rounding."""
        data = [datasets(silo_data())]
        plain, secure = (cases.trained(self._process(aggregator), data) for aggregator in (None, SECURE))
        step = 16.0 / (2**23 - 1)
        for one, other in zip(secure, plain, strict=True):
            self.assertAllClose(one, other, rtol=0, atol=1.5 * step / 21 + 1e-6)


class FederatedAveragingTest(cases.TagAwareTestCase, parameterized.TestCase):
    @parameterized.named_parameters(("fed_avg", 0.0), ("fed_prox", 20.0))
    def test_three_silos_equal_plain_tensorflow(self, proximal):
        """Two rounds with dropout, network and penalties; µ = 0 is FedAvg to 1e-6."""
        model = cases.model()
        training = silos.SiloTraining(2, 0.01, proximal)
        process = silos.build_silo_tag_aware(model, training, cases.sgd())
        federated = cases.trained(process, [datasets(silo_data(seed)) for seed in (1, 2)])
        weights = cases.values(model)
        for seed in (1, 2):
            data = silo_data(seed)
            after = [trained_plainly(model, weights, blocks, cases.sgd(0.01), 2, proximal) for blocks in data]
            changes = [[new - old for new, old in zip(each, weights, strict=True)] for each in after]
            weights = [old + change for old, change in zip(weights, mean_plainly(changes, data), strict=True)]
        self.assert_same(federated, weights, 1e-6)

    def test_server_adam_is_fed_adam(self):
        model = cases.model()
        process = silos.build_silo_tag_aware(model, silos.SiloTraining(1, 0.01), cases.adam())
        federated = cases.trained(process, [datasets(silo_data(seed)) for seed in (1, 2)])
        weights, optimizer = cases.values(model), cases.adam()
        state = optimizer.initialize([tf.TensorSpec(value.shape) for value in weights])
        for seed in (1, 2):
            data = silo_data(seed)
            after = [trained_plainly(model, weights, blocks, cases.sgd(0.01), 1) for blocks in data]
            changes = [[old - new for new, old in zip(each, weights, strict=True)] for each in after]
            state, weights = optimizer.next(state, list(map(tf.constant, weights)), mean_plainly(changes, data))
            weights = [value.numpy() for value in weights]
        self.assert_same(federated, weights)

    def test_clipping_bounds_every_silo(self):
        """Alone each silo of the three moves by the bound, or as freely as without where that is less."""
        data = silo_data()
        moved = {}
        for norm in (None, 0.05):
            process = silos.build_silo_tag_aware(
                cases.model(), silos.SiloTraining(1, 0.01, clip_norm=norm), cases.sgd()
            )
            start = process.initialize().global_model_weights.trainable
            after = [cases.trained(process, [datasets([blocks])]) for blocks in data]
            moved[norm] = [
                np.sqrt(sum(np.sum((new - old) ** 2) for new, old in zip(each, start, strict=True))) for each in after
            ]
        self.assertGreater(max(moved[None]), 0.06)
        self.assertAllClose(moved[0.05], np.minimum(moved[None], 0.05), rtol=1e-3)

    @parameterized.parameters(
        {"epochs": 0}, {"learning_rate": 0.0}, {"proximal": -1.0}, {"decay": 0.0}, {"clip_norm": 0.0}
    )
    def test_options_are_checked(self, **options):
        with self.assertRaisesRegex(ValueError, next(iter(options))):
            silos.SiloTraining(**({"epochs": 1, "learning_rate": 0.1} | options))


class CentralTest(cases.TagAwareTestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("sgd", tff.learning.optimizers.build_sgdm, 0.01, 1.0),
        ("sgd_decayed", tff.learning.optimizers.build_sgdm, 0.01, 0.5),
        ("adam", cases.adam, 0.02, 1.0),
    )
    def test_one_silo_is_centralised_training_step_for_step(self, build_optimizer, rate, decay):
        """A round of three epochs over two mini-batches, and another; Adam begins anew in each."""
        model = cases.model()
        training = silos.SiloTraining(3, rate, build_optimizer=build_optimizer, decay=decay)
        process = silos.build_silo_tag_aware(model, training, cases.sgd())
        rounds = [cases.clients(cases.users(seed), [[[0, 1, 2], [3, 4, 5, 6]]]) for seed in (1, 2)]
        federated = cases.trained(process, [datasets(data) for data in rounds])
        weights = cases.values(model)
        for number, [blocks] in enumerate(rounds):
            weights = trained_plainly(model, weights, blocks, build_optimizer(rate * decay**number), 3)
        self.assert_same(federated, weights)


class PersonalisationTest(cases.TagAwareTestCase):
    def test_fine_tuning_is_the_silos_own_training_and_leaves_the_model_alone(self):
        model = cases.model()
        before, blocks = cases.values(model), silo_data()[0]
        start = [value + np.float32(0.1) for value in before]
        training = silos.SiloTraining(2, 0.02, proximal=5.0, build_optimizer=cases.adam)
        local = silos.fine_tune(model, start, blocks, training)
        self.assertAllEqual(cases.values(model)[0], before[0])
        self.assert_same(local, trained_plainly(model, start, blocks, cases.adam(0.02), 2, 5.0))

    def test_fine_tuning_lowers_the_silos_loss(self):
        model = cases.model(dropout=0.0, penalties=cases.tag_aware.Penalties(0.0, 0.0, 0.0, 0.0, 0.0))
        [[block]] = cases.clients(cases.users())
        inputs = {name: tf.constant(value) for name, value in block.items()}
        losses = [float(model.compute_loss(inputs))]
        local = silos.fine_tune(model, cases.values(model), [block], silos.SiloTraining(20, 0.01))
        for variable, value in zip(model.trainable_weights, local, strict=True):
            variable.assign(value)
        losses.append(float(model.compute_loss(inputs)))
        self.assertLess(losses[1], 0.9 * losses[0])

    def test_mixture_by_hand(self):
        mixed = silos.mixture([np.array([1.0, 2.0]), np.array(4.0)], [np.array([3.0, 2.0]), np.array(0.0)], 0.25)
        self.assertAllClose(mixed[0], [1.5, 2.0])
        self.assertAllClose(mixed[1], 3.0)

    def test_a_share_is_a_share(self):
        with self.assertRaisesRegex(ValueError, r"1\.5"):
            silos.mixture([np.zeros(1)], [np.zeros(1)], 1.5)


if __name__ == "__main__":
    tf.test.main()
