"""Whole runs, small: trained, judged, exported; resumed to the same metrics; stopped early; refused in one sentence."""

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
from rich.console import Console

from tff_rec.errors import InputError
from tff_rec.simulation import two_tower
from tff_rec.simulation.config import EvaluationConfig, ExportConfig, ModelConfig, TrainingConfig, TwoTowerConfig
from tff_rec.simulation.preparation import prepare
from tff_rec.simulation.run_folder import RunFolder, find_run_folder

SMALL = TwoTowerConfig(
    model=ModelConfig(tower="bag", dimension=8, max_length=20),
    training=TrainingConfig(rounds=6, clients_per_round=50, users_per_block=25, server_learning_rate=0.01),
    evaluation=EvaluationConfig(every=2, patience=0),
    export=ExportConfig(k=5),
    checkpoint_every=3,
)


class _InterruptedError(Exception):
    pass


class SimulationTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def _run(self, config: TwoTowerConfig, name: str, way: Callable[..., Any] = two_tower.simulate) -> RunFolder:
        config = dataclasses.replace(config, output=self.directory / name)
        folder = find_run_folder(config)
        prepared = prepare(config)
        folder.begin(config)
        with (self.directory / "printed").open("a") as printed:
            console = Console(file=printed, width=200)
            way(config, prepared.on_disk(folder.clients), folder, console)
        return folder

    def _printed(self) -> str:
        return (self.directory / "printed").read_text()

    def _check_everything_is_there(self, folder: RunFolder) -> None:
        records = folder.records()
        self.assertEqual([record["round"] for record in records], [1, 2, 3, 4, 5, 6, 6])
        self.assertEqual([record["round"] for record in records if "validation" in record], [2, 4, 6])
        self.assertLess(records[5]["loss"], records[0]["loss"])
        self.assertGreater(records[-1]["oracle"]["ndcg_10"], records[-1]["test"]["ndcg_10"])
        self.assertIn(records[-1]["best_round"], [2, 4, 6])
        # Bag of three half-lives, 8 dimensions: 24x64 + 64 + 64x8 + 8 weights and 600x8 numbers of the table, float32;
        # upwards also the loss and the weight.
        numbers = 24 * 64 + 64 + 64 * 8 + 8 + 600 * 8
        self.assertEqual((records[0]["bytes_down"], records[0]["bytes_up"]), (4 * numbers, 4 * (numbers + 2)))
        for path in (folder.config, folder.plot, folder.export / "saved_model.pb", folder.tensorboard):
            self.assertTrue(path.exists(), path)
        self.assertTrue(list(folder.tensorboard.iterdir()))
        self.assertEqual(folder.plot.read_bytes()[:4], b"\x89PNG")
        printed = self._printed()
        for words in ("popularity", "oracle", "LOO-full", "share of the oracle's NDCG@10", "equals brute force"):
            self.assertIn(words, printed)

    def test_a_run_leaves_everything_it_says_and_a_resumed_one_the_same_metrics(self):
        averaging = dataclasses.replace(SMALL, training=dataclasses.replace(SMALL.training, averaging_rounds=2))
        folder = self._run(averaging, "unbroken")
        self._check_everything_is_there(folder)
        unbroken = folder.records()
        config = dataclasses.replace(averaging, output=self.directory / "broken")
        original = RunFolder.append

        def append_until_round_5(folder, record):
            original(folder, record)
            if record["round"] == 5 and not config_resumed:
                raise _InterruptedError

        config_resumed = False
        with mock.patch.object(RunFolder, "append", append_until_round_5):
            with self.assertRaises(_InterruptedError):
                self._run(config, "broken")
            config_resumed = True
            resumed = self._run(dataclasses.replace(config, resume=True), "broken").records()
        self.assertIn("resuming after round 3", self._printed())
        self.assertEqual([record["round"] for record in resumed], [record["round"] for record in unbroken])
        for one, other in zip(unbroken, resumed, strict=True):
            self.assertNear(one.get("loss", 0.0), other.get("loss", 0.0), 1e-6)
            self.assertEqual(json.dumps(one.get("validation")), json.dumps(other.get("validation")))
        self.assertEqual(unbroken[-1]["test"], resumed[-1]["test"])

    def test_without_a_split_all_rounds_are_trained_and_nothing_is_judged(self):
        training = dataclasses.replace(SMALL.training, rounds=3)
        folder = self._run(dataclasses.replace(SMALL, split="none", training=training), "final")
        records = folder.records()
        self.assertEqual([record["round"] for record in records], [1, 2, 3])
        self.assertFalse(any("test" in record or "validation" in record for record in records))
        self.assertTrue((folder.export / "saved_model.pb").exists())

    def test_early_stopping_keeps_the_best_weights(self):
        # A learning rate that destroys the model: the first look is the best, and the run stops after two worse ones.
        training = dataclasses.replace(SMALL.training, rounds=60, server_learning_rate=0.05)
        evaluation = EvaluationConfig(every=2, patience=2)
        records = self._run(dataclasses.replace(SMALL, training=training, evaluation=evaluation), "early").records()
        looks = [record for record in records if "validation" in record]
        best = max(looks, key=lambda record: record["validation"]["ndcg_10"])
        self.assertEqual(records[-1]["best_round"], best["round"])
        self.assertLess(records[-1]["round"], 60)
        self.assertEqual(records[-1]["round"], best["round"] + 4)

    def test_secure_aggregation_equals_plain_within_quantisation(self):
        training = dataclasses.replace(SMALL.training, rounds=3, query_clip_norm=1.0, item_clip_norm=1.0)
        plain = self._run(dataclasses.replace(SMALL, training=training), "plain", two_tower.train).records()
        training = dataclasses.replace(training, aggregation="secure", secure_bits=32)
        secure = self._run(dataclasses.replace(SMALL, training=training), "secure", two_tower.train).records()
        np.testing.assert_allclose(
            [record["loss"] for record in plain[:3]], [record["loss"] for record in secure[:3]], atol=1e-3
        )
        # 32 bits a value and log2(50) rounded up for the sum.
        numbers = 24 * 64 + 64 + 64 * 8 + 8 + 600 * 8 + 2
        self.assertEqual(secure[0]["bytes_up"], -(-numbers * 38 // 8))


class PreparationTest(tf.test.TestCase):
    def test_k_larger_than_the_catalogue(self):
        with self.assertRaisesRegex(InputError, "--export.k is 601 and the catalogue has 600 items"):
            prepare(dataclasses.replace(SMALL, export=ExportConfig(k=601)))

    def test_fewer_users_than_the_cohort(self):
        training = dataclasses.replace(SMALL.training, clients_per_round=1001)
        with self.assertRaisesRegex(InputError, "cohort of 1001"):
            prepare(dataclasses.replace(SMALL, training=training))

    def test_a_run_is_not_resumed_with_other_data(self):
        with tempfile.TemporaryDirectory() as directory:
            clients = pathlib.Path(directory) / "clients"
            prepare(SMALL).on_disk(clients)
            prepare(SMALL).on_disk(clients)
            other = dataclasses.replace(SMALL, data=dataclasses.replace(SMALL.data, min_item_users=30))
            with self.assertRaisesRegex(InputError, "has other data"):
                prepare(other).on_disk(clients)

    def test_held_out_items_are_not_in_training(self):
        prepared = prepare(SMALL)
        for held_out in (prepared.validation, prepared.test):
            for user, item in zip(held_out.users, held_out.items, strict=True):
                self.assertNotIn(item, prepared.store.history(user))


if __name__ == "__main__":
    tf.test.main()
