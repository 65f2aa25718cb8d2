"""Silos that add noise to their own steps: every user is bounded alone, and the noise is as claimed."""

import collections

import numpy as np
import pytest
import tag_aware_cases as cases
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import aggregators, privacy, private_silos, silos, tag_aware
from tff_rec.models.tag_aware import Penalties
from tff_rec.models.two_tower import equally

pytestmark = pytest.mark.usefixtures("execution_context")

FREE = Penalties(0.0, 0.0, 0.0, 0.0, 0.0)
SHARES = {"query": 0.3, "items": 0.6, "loss": 0.1}
WIDE = {"query": 1e6, "items": 1e6, "loss": 1e6}
NARROW = {"query": 0.5, "items": 0.2, "loss": 0.7}


def mini_batches(model, norms, noise=0.0, expected_users=1.0, **options):
    local = tag_aware.LocalRatings(
        model.rating_tower,
        tower_clip_norm=norms["query"],
        row_clip_norm=norms["items"],
        loss_bound=norms["loss"],
        weighting=equally,
        **options,
    )
    parts = {name: privacy.Part(norm, SHARES[name]) for name, norm in norms.items()}
    return private_silos.private_batches(model, local, parts, noise, expected_users)


def step(users, seeds, key=(1, 2)):
    """A step of a silo as arrays."""
    return collections.OrderedDict(cases.block(users, seeds), noise=np.array(key, np.int32))


def differentiate(model, batches):
    """A compiled step under the model's own weights: from a block to loss, weight and gradients."""
    weights = [tf.constant(value) for value in cases.values(model)]
    spec = {
        "items": tf.TensorSpec([None, None], tf.int32),
        "ratings": tf.TensorSpec([None, None]),
        "seed": tf.TensorSpec([None], tf.int32),
        "noise": tf.TensorSpec([2], tf.int32),
    }

    @tf.function(input_signature=[spec])
    def run(block):
        found = batches.differentiate(weights, block, tf.constant(0))
        return found.loss, found.weight, found.gradients

    return lambda block: run({name: tf.constant(value) for name, value in block.items()})


class StepTest(cases.TagAwareTestCase):
    def test_clipping_holds_for_every_user(self):
        """A step of all is the sum of the steps of each alone, and alone each is within the norms; some are cut."""
        model = cases.model(penalties=FREE)
        run, users = differentiate(model, mini_batches(model, NARROW)), cases.users()
        everybody, cut = run(step(users, range(7))), collections.Counter()
        alone = [run(step([user], [seed])) for seed, user in enumerate(users)]
        self.assert_same(everybody[2], [tf.add_n(parts) for parts in zip(*(one[2] for one in alone), strict=True)])
        self.assertAllClose(everybody[0], sum(one[0] for one in alone))
        count = len(model.item_tower.weight_specs())
        for loss, weight, gradients in alone:
            tower = float(tf.linalg.global_norm(gradients[count:]))
            # The gradients of ids are those of the table.
            ids = [gradient for gradient in gradients[:count] if gradient.shape[0] == cases.NUM_ITEMS]
            table = float(tf.linalg.global_norm(ids))
            self.assertLessEqual(tower, 0.5 + 1e-5)
            self.assertLessEqual(table, 0.2 + 1e-5)
            self.assertBetween(float(loss), 0.0, 0.7 + 1e-5)
            self.assertEqual(weight, 1.0)
            cut.update(tower=tower > 0.499, table=table > 0.199, loss=float(loss) > 0.699)
        self.assertTrue(all(cut[name] for name in ("tower", "table", "loss")), cut)

    def test_noise_has_the_claimed_deviation(self):
        """Of nobody: z · C / √share over 4 users: tower 2 · 0.5 / √0.3, table 2 · 0.2 / √0.6, loss 2 · 0.7 / √0.1."""
        model = cases.model(penalties=FREE)
        run, count = differentiate(model, mini_batches(model, NARROW, 2.0, 4.0)), len(model.item_tower.weight_specs())
        nobody = [(np.zeros(0, np.int32), np.zeros(0, np.float32))]
        found = {"tower": [], "table": [], "loss": []}
        for number in range(400):
            loss, _, gradients = run(step(nobody, [0], (number, 5)))
            ids = [gradient for gradient in gradients[:count] if gradient.shape[0] == cases.NUM_ITEMS]
            found["loss"].append(np.ravel(loss))
            found["table"].append(np.concatenate([np.ravel(value) for value in ids]))
            found["tower"].append(np.concatenate([np.ravel(value) for value in gradients[count:]]))
        for name, expected in (("tower", 0.456435), ("table", 0.129099), ("loss", 1.106797)):
            numbers = np.stack(found[name])
            self.assertAllClose(numbers.std(), expected, rtol=5 / np.sqrt(2 * numbers.size))
            self.assertAllClose(numbers.mean(), 0.0, atol=5 * expected / np.sqrt(numbers.size))
            self.assertLess(abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]), 0.25)

    def test_noise_is_of_the_key(self):
        model = cases.model()
        run, users = differentiate(model, mini_batches(model, NARROW, 1.0)), cases.users()
        one, same, other = (run(step(users, range(7), key))[2] for key in ((3, 4), (3, 4), (3, 5)))
        self.assert_same(one, same, 0.0)
        self.assertNotAllClose(one[0], other[0])

    def test_refuses(self):
        model = cases.model()
        with self.assertRaisesRegex(ValueError, "one step"):
            mini_batches(model, NARROW, local_steps=2)
        local = tag_aware.LocalRatings(model.rating_tower)
        with self.assertRaisesRegex(ValueError, "bounded by the parts' clip norms"):
            private_silos.private_batches(
                model, local, {name: privacy.Part(1.0, share) for name, share in SHARES.items()}, 1.0, 1.0
            )
        with self.assertRaisesRegex(ValueError, "query, items, loss, not query"):
            private_silos.private_batches(model, local, {"query": privacy.Part(1.0, 1.0)}, 1.0, 1.0)


class ProcessTest(cases.TagAwareTestCase):
    def test_one_silo_of_one_batch_without_noise_is_the_open_step(self):
        """Users have four ratings each, so that the mean over users is that over ratings; dropout and penalties too."""
        users, seeds = cases.users(lengths=[4] * 5), range(5)
        found = {}
        for name in ("open", "private"):
            model = cases.model()
            batches = silos.open_batches(model) if name == "open" else mini_batches(model, WIDE, expected_users=5.0)
            process = silos.build_silo_tag_aware(
                model, silos.SiloTraining(1, 0.1, proximal=0.5), cases.sgd(), None, batches
            )
            block = cases.block(users, seeds) if name == "open" else step(users, seeds)
            output = process.next(process.initialize(), [cases.dataset([block])])
            found[name] = [list(output.state.global_model_weights.trainable), output.metrics["finalizer"]["loss"]]
        self.assert_same(found["private"], found["open"])

    def test_types(self):
        """Silos get their steps' keys, and send what open ones send; securely where the aggregation is secure."""
        model = cases.model()
        secure = aggregators.secure_mean(query_bound=1.0, item_bound=1.0, weight_bound=8.0)
        process = silos.build_silo_tag_aware(
            model, silos.SiloTraining(1, 0.1), cases.sgd(), secure, mini_batches(model, NARROW, 1.0)
        )
        element = process.next.type_signature.parameter[1].member.element
        expected = collections.OrderedDict(
            items=tff.TensorType(np.int32, [None, None]),
            ratings=tff.TensorType(np.float32, [None, None]),
            seed=tff.TensorType(np.int32, [None]),
            noise=tff.TensorType(np.int32, [2]),
        )
        self.assertTrue(element.is_equivalent_to(tff.to_type(expected)))
        tff.test.assert_not_contains_unsecure_aggregation(process.next)


if __name__ == "__main__":
    tf.test.main()
