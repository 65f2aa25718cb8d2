"""Paired tests: by hand where all draws agree, and never of results that have changed."""

import pathlib
import tempfile

import numpy as np
import study_cases
from absl.testing import absltest

from tff_rec.evaluation import bootstrap
from tff_rec.report import groups, pairs
from tff_rec.report.study import read_study

NAME = "main.made-up.loo-full: federated"


class PairsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.plan, self.records = study_cases.small(self.folder)

    def compare(self):
        return pairs.compare(groups.all_of(read_study(self.folder)), self.folder)

    def set_ranks(self, *ranks):
        for (record, _), of_cell in zip(self.records, ranks, strict=False):
            np.save(self.folder / "ranks" / f"{record['key']}.npy", np.asarray(of_cell, np.int32))

    def test_every_user_loses_as_much(self):
        """Rank 1 is worth 1, rank 3 is worth 1 / log2(4) = 1/2: −50 points, −50 %, whoever is drawn: p = 2 / 1001."""
        self.set_ranks(np.ones(50), np.ones(50), np.full(50, 3))
        found = self.compare()
        self.assertEqual(list(found), [NAME])
        pair = found[NAME]
        np.testing.assert_allclose([pair.value, pair.low, pair.high], -50)
        np.testing.assert_allclose(pair.relative, -0.5)
        self.assertAlmostEqual(pair.p_value, 2 / (1 + bootstrap.RESAMPLES))
        self.assertEqual(pair.number, 50)

    def test_no_difference(self):
        ranks = np.arange(1, 51)
        self.set_ranks(ranks, ranks, ranks)
        pair = self.compare()[NAME]
        self.assertEqual((pair.value, pair.low, pair.high, pair.p_value), (0.0, 0.0, 0.0, 1.0))

    def test_seeds_are_averaged_user_by_user(self):
        """First method: ranks 1 and 3 give each user 3/4; the other one's rank 3 gives 1/2: a third less."""
        self.set_ranks(np.ones(50), np.full(50, 3), np.full(50, 3))
        np.testing.assert_allclose(self.compare()[NAME].relative, -1 / 3)

    def test_other_users_are_not_paired(self):
        self.set_ranks(np.ones(50), np.ones(50), np.ones(49))
        self.assertEqual(self.compare(), {})

    def test_a_first_method_of_nothing_has_no_relative_difference(self):
        self.set_ranks(np.full(50, 11), np.full(50, 11), np.full(50, 1))
        self.assertIsNone(self.compare()[NAME].relative)
        self.assertEqual(self.compare()[NAME].value, 100)

    def test_kept_without_ranks_until_results_change(self):
        (self.folder / pairs.PAIRS_FILE).write_text(pairs.as_json(self.compare()))
        before = self.compare()
        for path in self.folder.glob("ranks/*"):
            path.unlink()
        self.assertEqual(self.compare(), before)
        self.records[2][0]["metrics"]["ndcg_10"]["value"] += 1
        study_cases.write(self.folder, self.plan, [(record, None) for record, _ in self.records])
        self.assertEqual(self.compare(), {})

    def test_errors_of_ratings(self):
        """Squared errors 4 against 1, of the seed that both have: RMSE 2 and 1, half of it less."""
        _, records = study_cases.small(self.folder, metric="rmse")
        for path in self.folder.glob("ranks/*"):
            path.unlink()
        for (record, _), error in zip(records, (4.0, 100.0, 1.0), strict=False):
            for name, values in (("errors", np.full(30, error)), ("owners", np.append(np.arange(28) // 7, [-1, -1]))):
                (self.folder / name).mkdir(exist_ok=True)
                np.save(self.folder / name / f"{record['key']}.npy", values)
        pair = self.compare()[NAME]
        np.testing.assert_allclose([pair.value, *pair.relative], [-1, -0.5, -0.5, -0.5])
        self.assertEqual(pair.number, 4 + 2)


if __name__ == "__main__":
    absltest.main()
