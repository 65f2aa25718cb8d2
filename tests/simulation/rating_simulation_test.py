"""Whole runs on ratings, small: trained, judged, exported; resumed to the same metrics; users, silos and splits."""

import dataclasses
import io
import pathlib
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from rich.console import Console

from tff_rec.data.ratings import HeldOutRatings, RatingStore
from tff_rec.models.rating_towers import ItemTower, RatingTower
from tff_rec.models.tag_aware import Penalties, TagAware
from tff_rec.simulation import (
    rating_assembly,
    rating_predictions,
    tag_aware,
)
from tff_rec.simulation.config import ExportConfig
from tff_rec.simulation.rating_config import (
    DeviceTrainingConfig,
    PenaltyConfig,
    RatingEvaluationConfig,
    RatingModelConfig,
    SiloTrainingConfig,
    TagAwareConfig,
)
from tff_rec.simulation.rating_preparation import prepare
from tff_rec.simulation.run_folder import RunFolder, find_run_folder

PARTS = {
    "model": RatingModelConfig(dimension=2, dropout=0.1),
    "penalties": PenaltyConfig(vectors=10.0, choices=100.0, features=10.0),
    "training": DeviceTrainingConfig(rounds=6, clients_per_round=100, users_per_block=50, server_learning_rate=0.05),
    "silo": SiloTrainingConfig(rounds=2, users_per_batch=50, learning_rate=0.05),
    "evaluation": RatingEvaluationConfig(every=2, patience=0, resamples=20),
    "export": ExportConfig(k=3),
    "checkpoint_every": 3,
}
SMALL = TagAwareConfig(**PARTS)


class _InterruptedError(Exception):
    pass


def _model(items: int, mean: float = 3.0) -> TagAware:
    """One feature that weighs nothing; begins as mean + 0, whatever the history."""
    towers = ItemTower(items, 1, 2), RatingTower(2, mean, 1.0, 5.0)
    nothing = np.zeros([items, 1], np.float32)
    return TagAware(*towers, nothing.astype(np.int32), nothing, Penalties(), 10)


class PredictionsTest(tf.test.TestCase):
    def test_in_the_order_of_the_held_out_ratings(self):
        """Vectors are 0, c = 1: a user's bias is (sum of residuals) / (1 + number), the intercept 3.

        User 0 rated items 0 and 1 with 5: residuals 2 - (0.5 + 0) = 1.5 and 2, bias 3.5 / 3. User 1 rated item 2 with
        1: bias -1. An unknown user has none, an unknown item no bias of its own.
        """
        model = _model(3)
        model.item_tower.tensors["items/vectors"].assign(tf.zeros([3, 2]))
        model.item_tower.tensors["items/biases"].assign([[0.5], [0.0], [0.0]])
        model.rating_tower.tensors["user_bias"].assign([1.0])
        offsets, items = np.array([0, 2, 3]), np.array([0, 1, 2], np.int32)
        store = RatingStore(np.array(["a", "b"], object), offsets, items, np.array([5, 5, 1], np.float32))
        users, targets = np.array([1, -1, 0, 1, 0]), np.array([0, 0, 2, 1, -1], np.int32)
        held_out = HeldOutRatings(users, targets, np.zeros(5, np.float32))
        expected = [3 - 1 + 0.5, 3.5, 3 + 3.5 / 3, 2.0, 3 + 3.5 / 3]
        self.assertAllClose(rating_predictions.build_predict(model)(store, held_out), expected, atol=1e-5)

    def test_ranks_go_beyond_the_end_of_the_scale(self):
        """Items 1 and 2 of 0..3 would both be cut off at 5; the history's item 3, the best, is passed over."""
        model = _model(4)
        model.item_tower.tensors["items/biases"].assign([[0.0], [4.0], [3.0], [9.0]])
        store = RatingStore(np.array(["a"], object), np.array([0, 1]), np.array([3], np.int32), np.array([5.0]))
        store = dataclasses.replace(store, ratings=store.ratings.astype(np.float32))
        for item, rank in ((1, 1), (2, 2), (0, 3)):
            held_out = HeldOutRatings(np.array([0]), np.array([item], np.int32), np.array([4.0], np.float32))
            self.assertAllEqual(rating_predictions.ranks(model, store, held_out), [rank])


class TrafficTest(tf.test.TestCase):
    def test_bytes_of_a_device_and_of_a_silo(self):
        """A table of 7 x 6 numbers and 2 of the tower; the item tower has 6 columns for 7 ids and 1 feature."""
        model = _model(7)
        device = rating_assembly.traffic(SMALL, model)
        self.assertEqual((sum(device.down.values()), sum(device.up.values())), (4 * 44, 4 * 46))
        silo = rating_assembly.traffic(dataclasses.replace(SMALL, clients="4"), model)
        self.assertEqual((sum(silo.down.values()), sum(silo.up.values())), (4 * 50, 4 * 52))

    def test_bytes_of_a_secure_sum(self):
        """24 bits a number, and 7 more for the sum over 100: 31 bits."""
        training = dataclasses.replace(SMALL.training, aggregation="secure")
        traffic = rating_assembly.traffic(dataclasses.replace(SMALL, training=training), _model(7))
        self.assertEqual(traffic.up, {"rating tower": 8, "item table": 163, "loss and weight": 8})

    def test_bytes_of_a_ring(self):
        """Words of 32 bits, once up and twice to neighbours."""
        training = dataclasses.replace(SMALL.training, aggregation="ring", ring_shares=3)
        traffic = rating_assembly.traffic(dataclasses.replace(SMALL, training=training), _model(7))
        self.assertEqual((sum(traffic.up.values()), traffic.peers), (4 * 46, {"shares": 2 * 4 * 46}))


class _RunsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def _run_without_export(self, config: TagAwareConfig, name: str) -> tuple[RunFolder, str]:
        with mock.patch.object(tag_aware, "_export"):
            return self._run(config, name)

    def _run(self, config: TagAwareConfig, name: str) -> tuple[RunFolder, str]:
        config = dataclasses.replace(config, output=self.directory / name)
        folder = find_run_folder(config)
        prepared = prepare(config)
        folder.begin(config)
        printed = io.StringIO()
        tag_aware.simulate(config, prepared.on_disk(folder.clients), folder, Console(file=printed, width=250))
        return folder, printed.getvalue()


class SimulationTest(_RunsTest):
    def _check_everything_is_there(self, folder: RunFolder, printed: str) -> None:
        records = folder.records()
        self.assertEqual([record["round"] for record in records], [1, 2, 3, 4, 5, 6, 6])
        self.assertEqual([record["round"] for record in records if "validation_rmse" in record], [2, 4, 6])
        test = records[-1]["test"]
        ours = test["all"]["federated, each user a client"]
        self.assertLess(ours["rmse"]["value"], test["all"]["global mean"]["rmse"]["value"])
        self.assertAlmostEqual(ours["rmse"]["value"] ** 2, ours["mse"]["value"])
        self.assertLess(ours["rmse"]["low"], ours["rmse"]["value"])
        self.assertEqual(
            sum(test[f"items with{out} tags"]["global mean"]["ratings"] for out in ("", "out")),
            test["all"]["global mean"]["ratings"],
        )
        for path in (folder.config, folder.export / "saved_model.pb", folder.tensorboard):
            self.assertTrue(path.exists(), path)
        self.assertEqual(folder.plot.read_bytes()[:4], b"\x89PNG")
        for words in ("random 80/10/10 per rating", "biased matrix factorisation", "validation RMSE", "ms/user"):
            self.assertIn(words, printed)

    def test_a_run_leaves_everything_it_says_and_a_resumed_one_the_same_metrics(self):
        unbroken, printed = self._run(SMALL, "unbroken")
        self._check_everything_is_there(unbroken, printed)
        append = RunFolder.append

        def append_until_round_5(folder, record):
            append(folder, record)
            if record["round"] == 5:
                raise _InterruptedError

        with mock.patch.object(RunFolder, "append", append_until_round_5), self.assertRaises(_InterruptedError):
            self._run(SMALL, "broken")
        resuming = dataclasses.replace(SMALL, resume=True, output=self.directory / "broken")
        resumed, printed = self._run_without_export(resuming, "broken")
        self.assertIn("resuming after round 3", printed)
        self.assertEqual(_without_times(unbroken.records()), _without_times(resumed.records()))

    @parameterized.named_parameters(
        ("fedprox_and_yogi", {"proximal": 0.1, "server_optimizer": "yogi", "server_learning_rate": 0.02}, {}),
        ("secure_by_taste", {"aggregation": "secure", "secure_bits": 30}, {"silos": "taste"}),
    )
    def test_silos_learn(self, silo, more):
        run = dataclasses.replace(SMALL, clients="3", silo=dataclasses.replace(SMALL.silo, **silo), **more)
        folder, printed = self._run_without_export(run, "silos")
        records = folder.records()
        self.assertLess(records[1]["loss"], records[0]["loss"])
        test = records[-1]["test"]
        (method,) = (name for name in test["all"] if name.startswith("federated, 3 silos"))
        self.assertLess(test["all"][method]["rmse"]["value"], test["all"]["global mean"]["rmse"]["value"])
        self.assertEqual(
            sum(test[f"silo {number}"][method]["ratings"] for number in (1, 2, 3)), test["all"][method]["ratings"]
        )
        self.assertIn("silo 3", printed)

    def test_users_of_no_round_are_served(self):
        folder, printed = self._run_without_export(dataclasses.replace(SMALL, split="held-out-users"), "held-out")
        test = folder.records()[-1]["test"]["all"]
        self.assertLess(test["federated, each user a client"]["rmse"]["value"], test["global mean"]["rmse"]["value"])
        self.assertIn("were in no round", printed)

    def test_ranking_by_predicted_rating(self):
        folder, printed = self._run_without_export(dataclasses.replace(SMALL, split="loo"), "loo")
        record = folder.records()[-1]
        self.assertEqual(record["ranking"]["users"], record["test"]["all"]["global mean"]["ratings"])
        self.assertIn("by predicted rating: HR@10", printed)

    def test_without_a_split_all_rounds_are_trained_and_nothing_is_judged(self):
        training = dataclasses.replace(
            SMALL.training, rounds=2, local_steps=2, proximal=0.1, aggregation="ring", tower_clip_norm=5.0
        )
        folder, _ = self._run(dataclasses.replace(SMALL, split="none", training=training), "final")
        records = folder.records()
        self.assertEqual([record["round"] for record in records], [1, 2])
        self.assertFalse(any("test" in record or "validation_rmse" in record for record in records))
        self.assertTrue((folder.export / "saved_model.pb").exists())


def _without_times(records):
    return [{name: value for name, value in record.items() if name != "ms_per_user"} for record in records]


if __name__ == "__main__":
    tf.test.main()
