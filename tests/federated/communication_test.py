"""Bytes of a round, counted by hand and against the tensors that the process sends."""

from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tff_rec.federated import communication, contributions, split_two_tower, stages, table_codings
from tff_rec.models import objectives, query_towers, two_tower
from tff_rec.models.candidate_tower import CandidateTower

ITEMS, FEATURES, DIMENSION, HIDDEN = 5, 4, 2, 3


def _model(expansion=1, **options):
    """17 numbers in the query tower, 18 in the candidate tower.

    Query: kernel 2 × 3, bias 3, kernel 3 × 2, bias 2. Candidate: 5 items × 2 and 4 features × 2; with
    embeddings of 6, 9 × 6 = 54 and a projection of 6 × 2 = 12: 66.
    """
    return two_tower.TwoTower(
        query_towers.BagQueryTower(DIMENSION, half_lives=(0.0,), hidden=HIDDEN, **options),
        CandidateTower(ITEMS, FEATURES, DIMENSION, expansion=expansion),
        np.zeros([ITEMS, 1], np.int32),
        np.ones([ITEMS, 1], np.float32),
        objectives.FullSoftmax(),
    )


def _sent_bytes(model, coding):
    """Query weights, and item vectors as the split process's distributor codes them, from the tensors themselves."""
    training = contributions.LocalTraining(model.query_tower, model.objective, model.weighting)
    transport = split_two_tower.Transport(coding)
    with mock.patch.object(stages, "compose") as compose:
        split_two_tower.build_split_two_tower(model, training, mock.Mock(), transport=transport)
    weights = [tf.convert_to_tensor(weight) for weight in model.trainable_weights]
    sent = compose.call_args.kwargs["what_is_sent"](*stages.split_weights(model, weights))
    return {
        name: sum(part.numpy().size * part.numpy().itemsize for part in tf.nest.flatten(sent[name])) for name in sent
    }


class SplitTrafficTest(tf.test.TestCase, parameterized.TestCase):
    def test_whole_table_in_floats(self):
        """Down: 17 × 4 = 68 and 5 × 2 × 4 = 40. Up: 68, 10 × 4 = 40, loss and weight 8. In all 108 + 116 = 224."""
        traffic = communication.split_traffic(_model())
        self.assertEqual(traffic.down, {"query tower": 68, "item vectors": 40})
        self.assertEqual(traffic.up, {"query tower": 68, "item gradients": 40, "loss and weight": 8})
        self.assertEqual(traffic.peers, {})
        self.assertEqual(traffic.total, 224)
        self.assertEqual(traffic.describe(), "0.000108 MB down, 0.000116 MB up")

    @parameterized.named_parameters(
        ("float32", table_codings.FLOAT32, 40), ("float16", table_codings.FLOAT16, 20), ("int8", table_codings.INT8, 30)
    )
    def test_codings(self, coding, vectors):
        """Rows of 2 numbers, times 5: 4 bytes each, 2 each, or 1 each and a scale of 4. Up as in floats: 116."""
        traffic = communication.split_traffic(_model(), coding)
        self.assertEqual(traffic.down, {"query tower": 68, "item vectors": vectors})
        self.assertEqual(traffic.total, 68 + vectors + 116)

    def test_moving_clip_norms_under_a_ring(self):
        """Two norms of 4 bytes down, two counts of 18 bits up, and as much to a peer, who gets one of two shares."""
        traffic = communication.split_traffic(_model(), number_bits=18, shares=2)
        moving = communication.with_moving_norms(traffic, number_bits=18, shares=2)
        self.assertEqual(moving.down, {**traffic.down, "clip norms": 8})
        self.assertEqual(moving.up, {**traffic.up, "below clip norms": 5})
        self.assertEqual(moving.peers, {"shares": traffic.peers["shares"] + 5})

    def test_requested_rows_under_secure_sum(self):
        """3 rows in int8: 3 × 6 = 18 down. Up in 18 bits, each part in whole bytes, and 3 ids of 4 bytes.

        17 × 18 = 306 bits are 39 bytes; 3 × 2 × 18 = 108 bits are 14; 2 × 18 = 36 bits are 5.
        """
        traffic = communication.split_traffic(_model(), table_codings.INT8, requested_rows=3, number_bits=18)
        self.assertEqual(traffic.down, {"query tower": 68, "item vectors": 18})
        self.assertEqual(traffic.up, {"query tower": 39, "item gradients": 14, "loss and weight": 5, "requests": 12})
        self.assertEqual(traffic.peers, {})
        self.assertEqual(traffic.total, 86 + 70)

    def test_whole_tables_of_gradients_under_secure_sum(self):
        """Of 3 rows asked for, the 5 × 2 gradients of a table go up: 18 bits each, 180 bits are 23 bytes."""
        traffic = communication.split_traffic(_model(), requested_rows=3, number_bits=18, sent_rows=ITEMS)
        self.assertEqual(traffic.up["item gradients"], 23)
        asked = communication.split_traffic(_model(), requested_rows=3, number_bits=18)
        self.assertEqual(traffic.down, asked.down)
        self.assertEqual(traffic.total - asked.total, 23 - 14)

    def test_released_rows(self):
        """A bit a row: 9 rows are 2 bytes."""
        asked = communication.split_traffic(_model(), requested_rows=9)
        traffic = communication.with_released_rows(asked, 9)
        self.assertEqual((traffic.down["released rows"], traffic.up), (2, asked.up))
        self.assertEqual(traffic.total, asked.total + 2)

    def test_ring(self):
        """One of 3 shares is uploaded, two go to peers, each as large: 39 + 23 + 5 = 67 up, 134 to peers.

        10 gradients × 18 = 180 bits are 23 bytes; the rest as under secure sum.
        """
        traffic = communication.split_traffic(_model(), number_bits=18, shares=3)
        self.assertEqual(traffic.up, {"query tower": 39, "item gradients": 23, "loss and weight": 5})
        self.assertEqual(traffic.peers, {"shares": 134})
        self.assertEqual(traffic.total, 108 + 67 + 134)
        self.assertEqual(traffic.describe(), "0.000108 MB down, 6.7e-05 MB up, 0.000134 MB to peers")

    def test_ids_of_requested_rows_are_no_share(self):
        """2 rows: 2 × 2 × 18 = 72 bits are 9 bytes; 39 + 9 + 5 = 53 up and 2 × 53 to peers; 8 bytes of ids once."""
        traffic = communication.split_traffic(_model(), requested_rows=2, number_bits=18, shares=3)
        self.assertEqual(traffic.peers, {"shares": 106})
        self.assertEqual(sum(traffic.up.values()), 53 + 8)

    def test_the_width_of_embeddings_is_the_servers_matter(self):
        self.assertEqual(communication.split_traffic(_model(expansion=3)), communication.split_traffic(_model()))

    @parameterized.parameters(table_codings.FLOAT32, table_codings.FLOAT16, table_codings.INT8)
    def test_down_is_what_the_distributor_sends(self, coding):
        """Also with a squeeze-and-excitation block: 2 × 1 and 1 × 2 numbers more."""
        for model in (_model(), _model(se_ratio=2)):
            sent = _sent_bytes(model, coding)
            down = communication.split_traffic(model, coding).down
            self.assertEqual(down, {"query tower": sent["query"], "item vectors": sent["items"]})
        self.assertEqual(down["query tower"], 68 + 16)


class UnsplitTrafficTest(tf.test.TestCase):
    def test_in_floats(self):
        """Down and up both towers, 68 and 18 × 4 = 72; up also loss and weight, 8: 140 + 148 = 288."""
        traffic = communication.unsplit_traffic(_model())
        self.assertEqual(traffic.down, {"query tower": 68, "item tower": 72})
        self.assertEqual(traffic.up, {"query tower": 68, "item tower": 72, "loss and weight": 8})
        self.assertEqual((traffic.peers, traffic.total), ({}, 288))

    def test_wide_embeddings(self):
        """66 numbers of the candidate tower, 264 bytes: 68 + 264 down, 8 more up."""
        traffic = communication.unsplit_traffic(_model(expansion=3))
        self.assertEqual(traffic.down, {"query tower": 68, "item tower": 264})
        self.assertEqual(traffic.total, 2 * 332 + 8)

    def test_under_secure_sum(self):
        """18 bits: 39 bytes of the query tower as above; 18 × 18 = 324 bits are 41 bytes; 5: 140 + 85 = 225."""
        traffic = communication.unsplit_traffic(_model(), number_bits=18)
        self.assertEqual(traffic.down, {"query tower": 68, "item tower": 72})
        self.assertEqual(traffic.up, {"query tower": 39, "item tower": 41, "loss and weight": 5})
        self.assertEqual(traffic.total, 225)


if __name__ == "__main__":
    tf.test.main()
