"""ε and noise multipliers against independent computations with dp-accounting; no TensorFlow."""

import math

import dp_accounting
from absl.testing import absltest, parameterized
from dp_accounting import pld, rdp

from tff_rec.errors import InputError
from tff_rec.federated import privacy_accounting

ADD_OR_REMOVE = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE


def gaussian(noise, rounds, probability):
    sampled = dp_accounting.PoissonSampledDpEvent(probability, dp_accounting.GaussianDpEvent(noise))
    return dp_accounting.SelfComposedDpEvent(sampled, rounds)


class GaussianTest(parameterized.TestCase):
    @parameterized.parameters((2.0, 20, 0.1, 1e-5), (5.0, 3, 1.0, 1e-6), (3.0, 1, 0.02, 1e-4))
    def test_equals_the_accountants(self, noise, rounds, probability, delta):
        for name, accountant in (("pld", pld.PLDAccountant(ADD_OR_REMOVE)), ("rdp", rdp.RdpAccountant())):
            expected = accountant.compose(gaussian(noise, rounds, probability)).get_epsilon(delta)
            found = privacy_accounting.epsilon(noise, rounds, probability, delta, name)
            self.assertAlmostEqual(found, expected, delta=1e-6)

    def test_one_gaussian_mechanism_is_the_analytic_one(self):
        """Of sensitivity 1 and deviation σ: δ(ε) = Φ(1/2σ - εσ) - e^ε Φ(-1/2σ - εσ) (Balle and Wang 2018)."""

        def phi(value):
            return (1 + math.erf(value / math.sqrt(2))) / 2

        noise, delta = 2.0, 1e-5
        found = privacy_accounting.epsilon(noise, 1, 1.0, delta)
        back = phi(0.5 / noise - found * noise) - math.exp(found) * phi(-0.5 / noise - found * noise)
        self.assertAlmostEqual(back, delta, delta=1e-7)

    @parameterized.parameters((3.0, 20, 0.2, 1e-4), (8.0, 4, 0.5, 1e-3))
    def test_calibrated_noise_spends_the_budget_and_no_more(self, target, rounds, probability, delta):
        noise = privacy_accounting.noise_multiplier(target, rounds, probability, delta)
        spent = privacy_accounting.epsilon(noise, rounds, probability, delta)
        self.assertLessEqual(spent, target)
        self.assertGreater(spent, 0.98 * target)

    def test_nothing_spent_before_the_first_round(self):
        self.assertEqual(privacy_accounting.epsilon(1.0, 0, 0.1, 1e-5), 0.0)
        self.assertEqual(privacy_accounting.tree_epsilon(1.0, 0, 4, 1e-5), 0.0)


class TreeTest(parameterized.TestCase):
    @parameterized.parameters((1, 1, 1), (7, 7, 3), (8, 8, 4), (5, 8, 3))
    def test_a_tree_is_a_gaussian_of_as_many_nodes_as_levels(self, rounds, rounds_per_epoch, levels):
        account = rdp.RdpAccountant().compose(dp_accounting.GaussianDpEvent(6.0 / math.sqrt(levels)))
        found = privacy_accounting.tree_epsilon(6.0, rounds, rounds_per_epoch, 1e-5)
        self.assertAlmostEqual(found, account.get_epsilon(1e-5), delta=1e-6)

    def test_epochs_add_up(self):
        """Two whole trees of 3 levels, and the first round of a third: 7 nodes."""
        account = rdp.RdpAccountant().compose(dp_accounting.GaussianDpEvent(9.0 / math.sqrt(7)))
        found = privacy_accounting.tree_epsilon(9.0, 11, 5, 1e-5)
        self.assertAlmostEqual(found, account.get_epsilon(1e-5), delta=1e-6)

    def test_calibrated_noise_spends_the_budget_and_no_more(self):
        noise = privacy_accounting.tree_noise_multiplier(2.0, 30, 12, 1e-4)
        spent = privacy_accounting.tree_epsilon(noise, 30, 12, 1e-4)
        self.assertLessEqual(spent, 2.0)
        self.assertGreater(spent, 1.98)


class RefusalTest(parameterized.TestCase):
    def test_default_delta(self):
        self.assertAlmostEqual(privacy_accounting.default_delta(6040), 6040**-1.1)
        with self.assertRaisesRegex(InputError, "two users"):
            privacy_accounting.default_delta(1)

    @parameterized.parameters((0.0, 1, 0.1, 1e-5), (1.0, -1, 0.1, 1e-5), (1.0, 1, 1.1, 1e-5), (1.0, 1, 0.1, 1.0))
    def test_refuses(self, noise, rounds, probability, delta):
        with self.assertRaises(InputError):
            privacy_accounting.epsilon(noise, rounds, probability, delta)

    def test_refuses_a_budget_of_nothing(self):
        with self.assertRaisesRegex(InputError, "target"):
            privacy_accounting.noise_multiplier(0.0, 1, 0.1, 1e-5)


if __name__ == "__main__":
    absltest.main()
