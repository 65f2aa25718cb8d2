"""The TFRS model: trains through `fit`, weighs users as told, and forms queries for anybody's history."""

import numpy as np
import tensorflow as tf

from tff_rec.models import layers, objectives, query_towers, two_tower
from tff_rec.models.candidate_tower import CandidateTower

ITEMS = 20


def model(objective=None, weighting=two_tower.by_positives, dropout=0.0):
    return two_tower.TwoTower(
        query_towers.BagQueryTower(8, dropout=dropout),
        CandidateTower(ITEMS, 2, 8, stddev=0.3),
        np.arange(ITEMS)[:, np.newaxis] % 2,
        np.ones([ITEMS, 1], np.float32),
        objective or objectives.SampledSoftmax(1.0, 4),
        weighting,
    )


def blocks():
    """Users who go round the catalogue, so that the next item is known."""
    history = (np.arange(30)[:, np.newaxis] + np.arange(6)).astype(np.int32) % ITEMS
    return {"history": history, "seed": np.arange(30, dtype=np.int32)}


class TwoTowerTest(tf.test.TestCase):
    def test_trains_centrally_through_compile_and_fit(self):
        for objective in (None, objectives.FullSoftmax(0.2)):
            trained = model(objective, dropout=0.1)
            trained.compile(optimizer=tf.keras.optimizers.Adam(0.05))
            data = tf.data.Dataset.from_tensor_slices(blocks()).batch(10).repeat(15)
            losses = trained.fit(data, epochs=2, verbose=0).history["loss"]
            self.assertLess(losses[-1], 0.7 * losses[0])

    def test_weighting(self):
        """Users with 2 and 1 predictions of losses a and b: (2a + b) / 3, or (a + b) / 2; the third has none."""
        history = tf.constant([[1, 2, 3], [4, 5, -1], [6, -1, -1]])
        full = objectives.FullSoftmax()
        by_positives = model(full)
        table, weights = by_positives.candidate_embeddings(), layers.own_weights(by_positives.query_tower)
        a, b, nothing = objectives.mean_losses(
            full, by_positives.query_tower, weights, table, {"history": history}, None, None
        ).numpy()
        self.assertEqual(nothing, 0.0)
        inputs = {"history": history, "seed": tf.range(3)}
        self.assertAllClose(by_positives.compute_loss(inputs), (2 * a + b) / 3)
        self.assertAllClose(model(full, two_tower.equally).compute_loss(inputs), (a + b) / 2)

    def test_dropout_is_for_training_alone(self):
        built = model(dropout=0.5)
        inputs = {name: tf.constant(value) for name, value in blocks().items()}
        self.assertAllEqual(built.compute_loss(inputs), built.compute_loss(inputs))
        self.assertNotAllEqual(built.compute_loss(inputs), built.compute_loss(inputs, training=True))

    def test_query_embeddings_take_any_history(self):
        built = model()
        table = built.candidate_embeddings()
        queries = built.query_embeddings(tf.constant([[3, 5, -1], [-1, -1, -1]]), table)
        vectors = tf.gather(table, [[3, 5]])
        expected = built.query_tower.query(layers.own_weights(built.query_tower), vectors, tf.ones([1, 2]))
        self.assertAllClose(queries[:1], expected)
        self.assertAllInRange(queries, -10.0, 10.0)

    def test_weights_are_the_query_towers_then_the_candidate_towers(self):
        built = model()
        names = [weight.name for weight in built.trainable_weights]
        expected = [*built.query_tower.weight_specs(), *built.candidate_tower.weight_specs()]
        self.assertEqual(names, [f"{name}:0" for name in expected])


if __name__ == "__main__":
    tf.test.main()
