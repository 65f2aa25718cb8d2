"""Cohorts in which each user takes part independently of all others."""

import numpy as np
from absl.testing import absltest

from tff_rec.data import clients
from tff_rec.errors import InputError

USERS = np.arange(100, 500)


class PoissonCohortTest(absltest.TestCase):
    def test_counts_are_those_of_independent_draws(self):
        """Of 400 users with probability 1/10 in 2,000 rounds: sizes 40 ± √36, and each user in 200 ± √180 rounds."""
        taken = np.zeros([2000, len(USERS)], bool)
        for number in range(len(taken)):
            taken[number, clients.poisson_cohort(USERS, 40, 7, number) - USERS[0]] = True
        sizes, rounds = taken.sum(axis=1), taken.sum(axis=0)
        self.assertAlmostEqual(sizes.mean(), 40.0, delta=5 * 6 / 2000**0.5)
        self.assertAlmostEqual(sizes.var(), 36.0, delta=5)
        self.assertAlmostEqual(rounds.var(), 180.0, delta=50)
        together = np.corrcoef(taken[:, 0], taken[:, 1])[0, 1], np.corrcoef(taken[:-1, 0], taken[1:, 0])[0, 1]
        self.assertLess(max(map(abs, together)), 0.1)

    def test_one_user_changes_nobody_else(self):
        all_of_them = clients.poisson_cohort(USERS, 40, 3, 5)
        others = clients.poisson_cohort(np.delete(USERS, 17), 40, 3, 5)
        self.assertLessEqual(len(np.setxor1d(all_of_them, others)), 3)

    def test_repeats_by_seed_and_round(self):
        first = clients.poisson_cohort(USERS, 40, 3, 5)
        np.testing.assert_array_equal(first, clients.poisson_cohort(USERS, 40, 3, 5))
        self.assertFalse(np.array_equal(first, clients.poisson_cohort(USERS, 40, 3, 6)))
        self.assertFalse(np.array_equal(first, clients.poisson_cohort(USERS, 40, 4, 5)))

    def test_everybody_and_sometimes_nobody(self):
        np.testing.assert_array_equal(clients.poisson_cohort(USERS, len(USERS), 0, 0), USERS)
        sizes = [len(clients.poisson_cohort(USERS, 1, 0, number)) for number in range(30)]
        self.assertIn(0, sizes)
        with self.assertRaisesRegex(InputError, "401"):
            clients.poisson_cohort(USERS, 401, 0, 0)


if __name__ == "__main__":
    absltest.main()
