"""Inference on the device: the server's answer without its knowledge."""

import pathlib
import tempfile

import numpy as np
import pandas as pd
import tensorflow as tf
from absl.testing import parameterized

from tff_rec.data.clients import ClientStore
from tff_rec.data.features import ItemVocabulary
from tff_rec.errors import InputError
from tff_rec.evaluation import request_attacks
from tff_rec.federated import requests
from tff_rec.models import candidate_tower, objectives, query_towers, two_tower
from tff_rec.serving import device, export, reader
from tff_rec.simulation import decoys
from tff_rec.simulation.transport_config import TransportConfig

ITEMS, LENGTH = 40, 5
VOCABULARY = ItemVocabulary(tuple(f"item {i:02}" for i in range(ITEMS)))
POPULARITY = np.random.default_rng(3).permutation(ITEMS).astype(np.float32)
ROWS = np.eye(ITEMS, dtype=bool)
HISTORY = [f"item {i:02}" for i in (3, 17, 8, 30, 2, 11, 25)]


class DeviceTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory())) / "export"
        model = two_tower.TwoTower(
            query_towers.AttentionQueryTower(8, LENGTH, num_heads=2, unit_norm=True),
            candidate_tower.CandidateTower(ITEMS, 1, 8, unit_norm=True, stddev=1.0),
            np.zeros([ITEMS, 1], np.int32),
            np.zeros([ITEMS, 1], np.float32),
            objectives.FullSoftmax(0.1),
        )
        export.export_two_tower(model, VOCABULARY, POPULARITY, {}, cls.folder, LENGTH, 20)

    def setUp(self):
        super().setUp()
        self.server = device.ItemServer(self.folder)

    def _asking(self, history=HISTORY, shortlist=ITEMS, decoys=2, secret=b"s" * 32, decoy_sampling="popularity"):
        return device.recommend_asking(self.server, history, 10, shortlist, decoys, secret, decoy_sampling)

    def _requested(self, histories, secrets, sampling):
        """What the server is asked for by some devices: bool [devices, items]."""
        seen = []
        for history, secret in zip(histories, secrets, strict=True):
            self.server.requested = []
            self._asking([VOCABULARY.item_ids[item] for item in history], secret=secret, decoy_sampling=sampling)
            seen.append(ROWS[VOCABULARY.index(pd.Series(self.server.requested))].any(axis=0))
        return np.stack(seen)

    def _assert_same(self, found, expected):
        self.assertEqual([item.item_id for item in found.items], [item.item_id for item in expected.items])
        self.assertAllClose([item.score for item in found.items], [item.score for item in expected.items], rtol=1e-4)
        self.assertEqual(found.known, expected.known)

    def test_holding_the_catalogue_equals_the_server_and_asks_for_nothing(self):
        for history in (HISTORY, HISTORY[:2], ["unknown", *HISTORY[:1]], []):
            expected = reader.recommend(self.folder, history, 10)
            self._assert_same(device.recommend_holding(self.server, history, 10), expected)
        self.assertEqual(self.server.requested, [])

    def test_asking_with_a_full_shortlist_equals_the_server(self):
        self._assert_same(self._asking(), reader.recommend(self.folder, HISTORY, 10))

    def test_the_server_sees_each_item_of_the_history_among_its_decoys_once(self):
        self._asking()
        self.assertLen(self.server.requested, 3 * len(HISTORY))
        self.assertLen(set(self.server.requested), 3 * len(HISTORY))
        self.assertContainsSubset(HISTORY, self.server.requested)

    def test_the_same_secret_asks_for_the_same_items(self):
        self._asking()
        first, self.server.requested = set(self.server.requested), []
        self._asking()
        self.assertEqual(set(self.server.requested), first)
        self.server.requested = []
        self._asking(secret=b"t" * 32)
        self.assertNotEqual(set(self.server.requested), first)

    @parameterized.parameters("popularity", "uniform")
    def test_a_device_goes_on_with_the_decoys_of_training(self, sampling):
        """30 devices train on 6 items. A server that sees them asked for again counts both, and so does an attack."""
        histories = np.stack([np.random.default_rng(user).permutation(ITEMS)[:7] for user in range(30)]).astype("int32")
        trained = histories[:, :6]
        store = ClientStore(np.arange(30), 6 * np.arange(31), trained.ravel(), np.zeros(180, np.int64))
        transport = TransportConfig("rows", decoys=2, decoy_sampling=sampling)
        beside = decoys.decoys_of_rounds(transport, store, VOCABULARY.item_ids, POPULARITY, seed=5)(np.arange(30), 0)
        is_positive = ROWS[trained].any(axis=1)
        in_training = is_positive | ROWS[beside.reshape(30, 12)].any(axis=1)
        own = [decoys.device_secret(5, user) for user in range(30)]
        others = [requests.secret_of(f"another {user}") for user in range(30)]
        again, otherwise = (self._requested(trained, secrets, sampling) for secrets in (own, others))
        self.assertAllEqual(again, in_training)
        self.assertFalse(np.any(in_training & ~self._requested(histories, own, sampling)))
        same, different = (
            request_attacks.intersection_attack(in_training + 1 * seen, is_positive, 2).auc
            for seen in (again, otherwise)
        )
        self.assertEqual(same, 0.5)
        self.assertGreater(different, 0.7)

    def test_a_shortlist_bounds_what_is_recommended(self):
        popular = {VOCABULARY.item_ids[item] for item in np.argsort(-POPULARITY)[:12]}
        found = self._asking(shortlist=12)
        self.assertNotEmpty(found.items)
        self.assertContainsSubset({item.item_id for item in found.items}, popular - set(HISTORY))

    def test_an_empty_history_asks_for_nothing_and_gets_popular_items(self):
        found = self._asking(history=[])
        self.assertEqual(self.server.requested, [])
        self.assertEqual(found.items[0].item_id, VOCABULARY.item_ids[int(np.argmax(POPULARITY))])

    def test_no_export_is_one_sentence(self):
        with self.assertRaisesRegex(InputError, "not"):
            device.ItemServer(self.folder.parent / "nothing")


if __name__ == "__main__":
    tf.test.main()
