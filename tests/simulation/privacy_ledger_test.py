"""Budgets of runs, and which options go together; no TensorFlow."""

import dataclasses
import pathlib
import tempfile
import unittest

import dp_accounting
from absl.testing import parameterized
from dp_accounting import pld

from tff_rec.errors import InputError
from tff_rec.simulation import privacy_ledger
from tff_rec.simulation.config import TrainingConfig, TwoTowerConfig
from tff_rec.simulation.privacy_config import PrivacyConfig
from tff_rec.simulation.rating_config import DeviceTrainingConfig, SiloTrainingConfig, TagAwareConfig
from tff_rec.simulation.run_folder import RunFolder, find_run_folder
from tff_rec.simulation.transport_config import TransportConfig

GAUSSIAN = PrivacyConfig("gaussian", noise_multiplier=3.0)
BOUNDED = TrainingConfig(query_clip_norm=1.0, item_clip_norm=1.0, weighting="equal", clients_per_round=60)


class LedgerTest(parameterized.TestCase):
    def test_what_is_printed_is_what_dp_accounting_says(self):
        ledger = privacy_ledger.open_ledger(GAUSSIAN, 1000, 100, 20)
        event = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(3.0))
        account = pld.PLDAccountant().compose(dp_accounting.SelfComposedDpEvent(event, 7))
        expected = account.get_epsilon(1000**-1.1)
        self.assertAlmostEqual(ledger.epsilon(7), expected, delta=1e-6)
        self.assertAlmostEqual(ledger.record(7)["epsilon"], expected, delta=1e-6)
        self.assertEqual(ledger.describe(7), f"user-level ε {expected:.6g} (δ {1000**-1.1:.3g})")

    @parameterized.parameters("gaussian", "tree")
    def test_a_target_is_solved_for_all_rounds(self, mechanism):
        ledger = privacy_ledger.open_ledger(PrivacyConfig(mechanism, target_epsilon=1.0), 1000, 100, 12)
        self.assertLessEqual(ledger.epsilon(12), 1.0)
        self.assertGreater(ledger.epsilon(12), 0.98)
        self.assertLess(ledger.epsilon(6), ledger.epsilon(12))

    def test_of_silos_the_worst_counts(self):
        """Silos of 100 and 150 users, two passes in steps of 30: probabilities 0.3 and 0.2, 8 and 10 steps a round."""
        ledger = privacy_ledger.open_silo_ledger(GAUSSIAN, [100, 150, 100], 30, 2, 5)
        expected = []
        for users, steps in ((100, 8), (150, 10)):
            event = dp_accounting.PoissonSampledDpEvent(30 / users, dp_accounting.GaussianDpEvent(3.0))
            account = pld.PLDAccountant().compose(dp_accounting.SelfComposedDpEvent(event, 4 * steps))
            expected.append(account.get_epsilon(users**-1.1))
        self.assertAlmostEqual(ledger.epsilon(4), max(expected), delta=1e-6)
        self.assertEqual(ledger.record(4)["delta"], (100 if expected[0] > expected[1] else 150) ** -1.1)
        self.assertIn("worst of 3 silos", ledger.describe(4))
        self.assertIn("at most 10 steps a round", ledger.announcement())

    def test_a_target_is_solved_for_the_worst_silo(self):
        ledger = privacy_ledger.open_silo_ledger(PrivacyConfig("gaussian", target_epsilon=1.0), [60, 90], 30, 1, 3)
        self.assertLessEqual(ledger.epsilon(3), 1.0)
        self.assertGreater(ledger.epsilon(3), 0.98)
        with self.assertRaisesRegex(InputError, "there are 20"):
            privacy_ledger.open_silo_ledger(GAUSSIAN, [60, 20], 30, 1, 3)

    def test_refuses_rounds_past_the_budget(self):
        privacy = PrivacyConfig("gaussian", target_epsilon=0.2, noise_multiplier=3.0)
        with self.assertRaisesRegex(InputError, "past --privacy.target-epsilon 0.2"):
            privacy_ledger.open_ledger(privacy, 1000, 100, 20)
        ledger = privacy_ledger.open_ledger(GAUSSIAN, 1000, 100, 20)
        ledger.check(20)
        with self.assertRaisesRegex(InputError, "Round 21"):
            ledger.check(21)

    def test_refuses_another_noise_than_that_of_the_rounds_before(self):
        ledger = privacy_ledger.open_ledger(GAUSSIAN, 1000, 100, 20)
        ledger.check_state({"own": {"noise_multiplier": 3.0}})
        with self.assertRaisesRegex(InputError, "begin anew"):
            ledger.check_state({"own": {"noise_multiplier": 2.5}})
        with self.assertRaisesRegex(InputError, "begin anew"):  # As where shrinkage stands around the noise.
            ledger.check_state({"noised": {"own": {"noise_multiplier": 2.5}}, "own": {"variance": 0.1}})

    def test_a_resumed_run_takes_no_more_rounds(self):
        with tempfile.TemporaryDirectory() as directory:
            output = pathlib.Path(directory) / "run"
            config = TwoTowerConfig(output=output, training=BOUNDED, privacy=GAUSSIAN)
            RunFolder(output).begin(config)
            longer = dataclasses.replace(BOUNDED, rounds=BOUNDED.rounds + 1)
            find_run_folder(dataclasses.replace(config, resume=True))
            with self.assertRaisesRegex(InputError, "training.rounds"):
                find_run_folder(dataclasses.replace(config, training=longer, resume=True))

    def test_local_noise_is_called_what_it_is(self):
        ledger = privacy_ledger.open_ledger(PrivacyConfig("local-laplace", target_epsilon=0.5), 1000, 100, 20)
        self.assertEqual(ledger.noise_multiplier, 4.0)
        self.assertIn("not user-level", ledger.describe(20))
        self.assertEqual(ledger.record(20), {"epsilon_per_upload": 0.5})

    def test_no_ledger_without_privacy(self):
        self.assertIsNone(privacy_ledger.open_ledger(PrivacyConfig(), 10, 5, 1))


class OptionsTest(parameterized.TestCase):
    @parameterized.parameters(
        ({"target_epsilon": 1.0}, "need a mechanism"),
        ({"mechanism": "gaussian"}, "how much noise"),
        ({"mechanism": "tree", "target_epsilon": 0.0}, "--privacy.target-epsilon is 0.0"),
        ({"mechanism": "tree", "target_epsilon": 1.0, "delta": 1.0}, "--privacy.delta is 1.0"),
        ({"mechanism": "local-laplace", "target_epsilon": 1.0, "delta": 0.1}, "no δ"),
        ({"clipping": "adaptive"}, "add --privacy.mechanism gaussian or tree"),
        ({"mechanism": "local-laplace", "target_epsilon": 1.0, "clipping": "adaptive"}, "from noised counts"),
        ({"mechanism": "gaussian", "target_epsilon": 1.0, "clip_quantile": 1.0}, "--privacy.clip-quantile is 1.0"),
        (
            {"mechanism": "gaussian", "target_epsilon": 1.0, "clipping": "adaptive", "clip_share": 0.99},
            "leave nothing to the model",
        ),
        ({"mechanism": "gaussian", "target_epsilon": 1.0, "shrinkage": -0.1}, "--privacy.shrinkage is -0.1"),
        ({"mechanism": "gaussian", "target_epsilon": 1.0, "shrinkage_momentum": 1.0}, "--privacy.shrinkage-momentum"),
        ({"mechanism": "tree", "target_epsilon": 1.0, "shrinkage": 0.3}, "needs noise that is new each round"),
        (
            {"mechanism": "gaussian", "target_epsilon": 1.0, "clipping": "adaptive", "shrinkage": 0.3},
            "needs noise that is new each round",
        ),
    )
    def test_refuses(self, options, message):
        with self.assertRaisesRegex(InputError, message):
            PrivacyConfig(**options)

    def test_shares_add_up(self):
        adaptive = dataclasses.replace(GAUSSIAN, clipping="adaptive")
        for options, parts in ((GAUSSIAN, 3), (adaptive, 4)):
            self.assertAlmostEqual(sum(options.shares.values()), 1.0)
            self.assertLen(options.shares, parts)

    @parameterized.parameters(
        ({"item_clip_norm": None}, {}, "--training.item-clip-norm"),
        ({"weighting": "positives"}, {}, "--training.weighting equal"),
        ({}, {"items": "rows"}, "--transport.items table"),
        ({"aggregation": "ring", "clients_per_round": 20}, {}, "--training.clients-per-round 50"),
    )
    def test_two_tower_refuses(self, training, transport, message):
        training = dataclasses.replace(BOUNDED, **training)
        with self.assertRaisesRegex(InputError, message):
            TwoTowerConfig(training=training, transport=TransportConfig(**transport), privacy=GAUSSIAN)

    def test_tag_aware_refuses(self):
        with self.assertRaisesRegex(InputError, "--training.row-clip-norm"):
            TagAwareConfig(privacy=GAUSSIAN)
        bounded = DeviceTrainingConfig(row_clip_norm=1.0, tower_clip_norm=1.0, weighting="equal")
        with self.assertRaisesRegex(InputError, "--training.weighting equal"):
            TagAwareConfig(privacy=GAUSSIAN, training=dataclasses.replace(bounded, weighting="positives"))
        TagAwareConfig(privacy=GAUSSIAN, training=bounded)
        with self.assertRaisesRegex(InputError, "--silo.row-clip-norm"):
            TagAwareConfig(privacy=GAUSSIAN, training=bounded, clients="4")
        silo = SiloTrainingConfig(row_clip_norm=1.0, tower_clip_norm=1.0)
        TagAwareConfig(privacy=GAUSSIAN, silo=silo, clients="4")
        with self.assertRaisesRegex(InputError, "choose gaussian"):
            TagAwareConfig(privacy=PrivacyConfig("tree", noise_multiplier=1.0), silo=silo, clients="4")
        with self.assertRaisesRegex(InputError, "leave it at fixed"):
            TagAwareConfig(privacy=dataclasses.replace(GAUSSIAN, clipping="adaptive"), silo=silo, clients="4")
        with self.assertRaisesRegex(InputError, "aggregation at plain"):
            TagAwareConfig(
                privacy=PrivacyConfig("local-laplace", noise_multiplier=1.0),
                training=dataclasses.replace(bounded, aggregation="secure"),
            )


if __name__ == "__main__":
    unittest.main()
