"""Multiply-adds of graphs, by hand, and those of a device with and without the item tower."""

import dataclasses

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tff_rec.federated import contributions
from tff_rec.models import layers, objectives, query_towers, requested_softmax, two_tower
from tff_rec.models.candidate_tower import CandidateTower
from tff_rec.simulation import device_compute

ITEMS, FEATURES, DIMENSION, HIDDEN = 6, 4, 3, 5
FULL = objectives.FullSoftmax()
SAMPLED = objectives.SampledSoftmax(1.0, 2, pairs=objectives.own_items)


def _count(function, *shapes):
    specs = [tf.TensorSpec(shape) for shape in shapes]
    return device_compute.multiply_adds(tf.function(function, autograph=False).get_concrete_function(*specs).graph)


def _sparse(rows, columns, entries):
    """A matrix with a 1 in each of its first cells."""
    cells = [[cell // columns, cell % columns] for cell in range(entries)]
    return tf.sparse.SparseTensor(np.array(cells, np.int64), np.ones(entries, np.float32), [rows, columns])


def _model(objective):
    """Each of the six items has two features, their weights positive: 12 entries."""
    generator = np.random.default_rng(1)
    return two_tower.TwoTower(
        query_towers.BagQueryTower(DIMENSION, half_lives=(0.0,), hidden=2),
        CandidateTower(ITEMS, FEATURES, DIMENSION, hidden=HIDDEN),
        np.array([[item % FEATURES, (item + 1) % FEATURES] for item in range(ITEMS)]),
        generator.uniform(0.5, 1.0, [ITEMS, 2]),
        objective,
    )


def _training(model):
    return contributions.LocalTraining(model.query_tower, model.objective, model.weighting)


def _block(history):
    return {"history": tf.constant([history], tf.int32), "seed": tf.constant([7], tf.int32)}


class MultiplyAddsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("plain", {}, (2, 3), (3, 5)),
        ("first transposed", {"transpose_a": True}, (3, 2), (3, 5)),
        ("second transposed", {"transpose_b": True}, (2, 3), (5, 3)),
        ("both transposed", {"transpose_a": True, "transpose_b": True}, (3, 2), (5, 3)),
    )
    def test_products(self, options, first, second):
        """[2, 3] by [3, 5]: 2 · 3 · 5 = 30; four at once 120, also where one of them is the same for all four."""
        product = lambda one, other: tf.matmul(one, other, **options)  # noqa: E731
        self.assertEqual(_count(product, first, second), 30)
        self.assertEqual(_count(product, (4, *first), (4, *second)), 120)
        self.assertEqual(_count(product, (4, *first), (1, *second)), 120)

    def test_sparse_products(self):
        """7 entries by a matrix of 3 columns: 21, whatever the sizes; transposed as well."""
        product = lambda dense: tf.sparse.sparse_dense_matmul(_sparse(5, 4, 7), dense)  # noqa: E731
        self.assertEqual(_count(product, (4, 3)), 21)
        turned = lambda dense: tf.sparse.sparse_dense_matmul(_sparse(5, 4, 7), dense, adjoint_a=True)  # noqa: E731
        self.assertEqual(_count(turned, (5, 3)), 21)

    def test_gradients_are_counted(self):
        """[2, 3] by [3, 5], and for the gradients [2, 5] by [5, 3] and [3, 2] by [2, 5]: 3 · 30."""

        def both(one, other):
            return tf.gradients(tf.nn.relu(tf.matmul(one, other)) * 2.0, [one, other])

        self.assertEqual(_count(both, (2, 3), (3, 5)), 90)
        self.assertEqual(_count(lambda one: one + tf.reduce_sum(one * one), (2, 3)), 0)

    def test_what_no_output_needs_is_not_counted(self):
        """A product that is thrown away, and the gradient of the second factor when that of the first is wanted."""

        def first_alone(one, other):
            tf.matmul(other, one)
            return tf.gradients(tf.matmul(one, other), one, grad_ys=tf.ones([2, 2]))

        self.assertEqual(_count(first_alone, (2, 3), (3, 2)), 12)

    def test_unknown_shapes_are_refused(self):
        for first, second in (((None, 3), (3, 5)), ((2, None), (None, 5)), (None, (3, 5))):
            with self.assertRaisesRegex(ValueError, "MatMul are not known"):
                _count(tf.matmul, first, second)
        with self.assertRaisesRegex(ValueError, "are not known"):
            _count(lambda dense: tf.sparse.sparse_dense_matmul(_sparse(5, 4, 7), dense), (4, None))


class DeviceTest(tf.test.TestCase):
    def test_unsplit_is_split_and_the_item_tower(self):
        """Beside the same training, the item tower forward and back.

        Features: 12 entries × 3 = 36, and as many for their gradient. Layers: 6 · 3 · 5 = 90 each, and 90 for each of
        the gradients of their inputs and kernels. In all 2 · 36 + 6 · 90 = 612.
        """
        model = _model(FULL)
        parts = model, _training(model), _block([3, 1, 5])
        split, unsplit = device_compute.split_compute(*parts), device_compute.unsplit_compute(*parts)
        self.assertEqual(unsplit.multiply_adds - split.multiply_adds, 612)
        for compute in (split, unsplit):
            self.assertGreater(compute.milliseconds, 0.0)

    def test_split_by_hand(self):
        """Three items predict two: bag [2, 2] by [2, 3]; layers [2, 3] by [3, 2] and back; scores [2, 3] by [3, 6].

        Forward: 12 + 12 + 12 + 36 = 72. Backward: scores by queries and by items, 2 · 36, both layers by their inputs
        and kernels and the bag by its items, 5 · 12: 132. In all 204.
        """
        model = _model(FULL)
        compute = device_compute.split_compute(model, _training(model), _block([3, 1, 5]))
        self.assertEqual(compute.multiply_adds, 204)

    def test_rows_of_its_own_are_all_a_device_needs(self):
        """Trained on the rows it asked for, numbered from 0, a device sends what it does of rows of a whole table."""
        objective = requested_softmax.RequestedSoftmax(1.0, ITEMS, fresh_rows=2)
        model = _model(objective)
        training = dataclasses.replace(_training(model), item_clip_norm=0.01)
        block = _block([3, 1, -1]) | {"decoys": tf.constant([[5, -1]])}
        own, received = device_compute.received_items(model, training, block)
        weights = dict(layers.own_weights(model.query_tower))
        sums = contributions.block_sum(own, None, weights, received, block)
        table = contributions.ReceivedItems(ITEMS, model.candidate_embeddings())
        expected = contributions.block_sum(training, None, weights, table, block)
        ids = np.unique(objective.rows(block, ITEMS))
        ids = ids[ids >= 0]
        self.assertBetween(len(ids), 3, ITEMS - 1)
        self.assertAllClose(sums["items"], tf.gather(expected["items"], ids))
        self.assertGreater(np.linalg.norm(sums["items"]), 0.009)
        self.assertAllClose(sums["query"], expected["query"])
        self.assertAllClose(sums["loss"], expected["loss"])

    def test_a_device_that_asks_for_rows_does_not_score_the_table(self):
        """In a catalogue ten times as large rows cost what they did; the three products with the table ten times that.

        They are those of 36 of `test_split_by_hand`: 3 · 9 · 36 more.
        """
        counts = {}
        for objective in (FULL, SAMPLED):
            small = _model(objective)
            large = two_tower.TwoTower(
                small.query_tower,
                CandidateTower(10 * ITEMS, FEATURES, DIMENSION),
                np.zeros([10 * ITEMS, 1], np.int32),
                np.ones([10 * ITEMS, 1], np.float32),
                objective,
            )
            counts[objective] = [
                device_compute.split_compute(model, _training(model), _block([3, 1, 5])).multiply_adds
                for model in (small, large)
            ]
        self.assertEqual(counts[SAMPLED][0], counts[SAMPLED][1])
        self.assertEqual(counts[FULL][1] - counts[FULL][0], 3 * 9 * 36)


if __name__ == "__main__":
    tf.test.main()
