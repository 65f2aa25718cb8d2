"""Whole runs with differential privacy, small: what they print is what was accounted, and grouping changes nothing."""

import dataclasses
import math
import pathlib
import tempfile

import dp_accounting
import numpy as np
import tensorflow as tf
from dp_accounting import pld
from rich.console import Console

from tff_rec.errors import InputError
from tff_rec.simulation import rating_preparation, tag_aware, two_tower
from tff_rec.simulation.config import EvaluationConfig, ExportConfig, ModelConfig, TrainingConfig, TwoTowerConfig
from tff_rec.simulation.preparation import prepare
from tff_rec.simulation.privacy_config import PrivacyConfig
from tff_rec.simulation.rating_config import (
    DeviceTrainingConfig,
    RatingEvaluationConfig,
    RatingModelConfig,
    SiloTrainingConfig,
    TagAwareConfig,
)
from tff_rec.simulation.run_folder import RunFolder, find_run_folder

NOISE = PrivacyConfig("gaussian", noise_multiplier=2.0)
TWO_TOWER = TwoTowerConfig(
    model=ModelConfig(tower="bag", dimension=8, max_length=20),
    training=TrainingConfig(
        rounds=3,
        clients_per_round=40,
        users_per_block=25,
        weighting="equal",
        query_clip_norm=1.0,
        item_clip_norm=1.0,
    ),
    privacy=NOISE,
    evaluation=EvaluationConfig(every=2, patience=0),
    export=ExportConfig(k=5),
)
RATINGS = TagAwareConfig(
    model=RatingModelConfig(dimension=4, max_tags=20),
    training=DeviceTrainingConfig(
        rounds=2, clients_per_round=20, weighting="equal", row_clip_norm=1.0, tower_clip_norm=1.0
    ),
    privacy=NOISE,
    evaluation=RatingEvaluationConfig(every=1, patience=0, resamples=20),
    export=ExportConfig(k=5),
)


def _epsilon(users: int, expected: int, sums: int) -> float:
    event = dp_accounting.PoissonSampledDpEvent(expected / users, dp_accounting.GaussianDpEvent(2.0))
    account = pld.PLDAccountant().compose(dp_accounting.SelfComposedDpEvent(event, sums))
    return account.get_epsilon(users**-1.1)


class PrivateSimulationTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def _train(self, config) -> RunFolder:
        return self._run(config, (two_tower.train, tag_aware.train))

    def _run(self, config, ways=(two_tower.simulate, tag_aware.simulate)) -> RunFolder:
        config = dataclasses.replace(config, output=self.directory / "run")
        folder = find_run_folder(config)
        tags = isinstance(config, TagAwareConfig)
        prepared = (rating_preparation.prepare if tags else prepare)(config)
        folder.begin(config)
        with (self.directory / "printed").open("a") as printed:
            console = Console(file=printed, width=300)
            ways[tags](config, prepared.on_disk(folder.clients), folder, console)
        self.users = len(prepared.training_users if tags else prepared.trainable_users)
        return folder

    def _expected(self, clients_per_round: int, rounds: int) -> float:
        return _epsilon(self.users, clients_per_round, rounds)

    def test_two_tower(self):
        training = dataclasses.replace(TWO_TOWER.training, aggregation="ring", clients_per_round=60)
        privacy = dataclasses.replace(NOISE, shrinkage=0.3)
        records = self._run(dataclasses.replace(TWO_TOWER, training=training, privacy=privacy)).records()
        for record in records:
            if "epsilon" in record:
                self.assertAlmostEqual(record["epsilon"], self._expected(60, record["round"]), delta=1e-6)
        self.assertEqual([record["round"] for record in records if "epsilon" in record], [1, 2, 3, 3])
        printed = (self.directory / "printed").read_text()
        self.assertIn(f"user-level ε {self._expected(60, 3):.6g}", printed)
        self.assertIn("Poisson cohorts", printed)

    def test_tree(self):
        privacy = PrivacyConfig("tree", target_epsilon=8.0)
        records = self._train(dataclasses.replace(TWO_TOWER, privacy=privacy)).records()
        self.assertBetween(records[-1]["epsilon"], 7.9, 8.0)

    def test_local_laplace(self):
        privacy = PrivacyConfig("local-laplace", target_epsilon=1.0)
        records = self._train(dataclasses.replace(TWO_TOWER, privacy=privacy)).records()
        self.assertEqual(records[-1]["epsilon_per_upload"], 1.0)
        self.assertIn("not user-level", (self.directory / "printed").read_text())

    def test_clip_norms_that_move_are_shown(self):
        privacy = dataclasses.replace(NOISE, clipping="adaptive", clip_quantile=0.9)
        records = self._train(dataclasses.replace(TWO_TOWER, privacy=privacy)).records()
        norms = [record["clip_norms"] for record in records if "clip_norms" in record]
        self.assertLen(norms, 3)
        self.assertEqual(norms[0], {"query": 1.0, "items": 1.0})
        self.assertNotEqual(norms[1], norms[0])
        self.assertIn(f"clip norms {norms[2]['query']:.4g} (query)", (self.directory / "printed").read_text())
        self.assertAlmostEqual(records[-1]["epsilon"], self._expected(40, 3), delta=1e-6)

    def test_tag_aware_with_clip_norms_that_move_under_secure_sum(self):
        privacy = dataclasses.replace(NOISE, clipping="adaptive")
        training = dataclasses.replace(RATINGS.training, aggregation="secure")
        records = self._train(dataclasses.replace(RATINGS, privacy=privacy, training=training)).records()
        self.assertNotEqual(records[0]["clip_norms"], records[1]["clip_norms"])
        self.assertAlmostEqual(records[-1]["epsilon"], self._expected(20, 2), delta=1e-6)

    def test_silos_add_their_own_noise(self):
        """Each of three silos has a third of the users and two passes in steps of 20; the worst silo's ε is printed."""
        silo = SiloTrainingConfig(
            rounds=2, users_per_batch=20, local_epochs=2, row_clip_norm=1.0, tower_clip_norm=1.0, aggregation="secure"
        )
        records = self._train(dataclasses.replace(RATINGS, silo=silo, clients="3")).records()
        sizes = {len(part) for part in np.array_split(np.arange(self.users), 3)}
        for rounds in (1, 2):
            expected = max(_epsilon(size, 20, rounds * 2 * math.ceil(size / 20)) for size in sizes)
            self.assertAlmostEqual(records[rounds - 1]["epsilon"], expected, delta=1e-6)
        self.assertIn(f"user-level ε {expected:.6g} (δ", (self.directory / "printed").read_text())
        self.assertIn("worst of 3 silos", (self.directory / "printed").read_text())

    def test_another_noise_does_not_resume(self):
        folder = self._train(TWO_TOWER)
        text = folder.config.read_text().replace("noise_multiplier = 2.0", "noise_multiplier = 1.0")
        folder.config.write_text(text)
        less = PrivacyConfig("gaussian", noise_multiplier=1.0)
        changed = dataclasses.replace(TWO_TOWER, privacy=less, resume=True, output=folder.path)
        with self.assertRaisesRegex(InputError, "noise multiplier of 2"):
            self._train(changed)


if __name__ == "__main__":
    tf.test.main()
