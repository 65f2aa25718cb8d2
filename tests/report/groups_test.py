"""Means over seeds and their intervals, by hand."""

import dataclasses
import pathlib
import tempfile

import study_cases
from absl.testing import absltest

from tff_rec.evaluation.bootstrap import Interval
from tff_rec.report import groups
from tff_rec.report.study import read_study


class MeanOverSeedsTest(absltest.TestCase):
    def test_one_seed_keeps_its_interval(self):
        self.assertEqual(groups.mean_over_seeds([Interval(10.0, 9.0, 12.0)]), Interval(10.0, 9.0, 12.0))

    def test_seeds_that_agree_keep_the_users_interval(self):
        found = groups.mean_over_seeds([Interval(10.0, 9.0, 12.0)] * 3)
        self.assertEqual(found, Interval(10.0, 9.0, 12.0))

    def test_spread_of_seeds_is_added_in_quadrature(self):
        """9, 10 and 11 have deviation 1; Student's 97.5 % point of 2 degrees is 4.3027: 4.3027 / √3 = 2.4842.

        Users: 3 below and 4 above on average. √(9 + 6.1712) = 3.8950, √(16 + 6.1712) = 4.7086.
        """
        found = groups.mean_over_seeds([Interval(9.0, 6.0, 13.0), Interval(10.0, 7.0, 14.0), Interval(11.0, 8.0, 15.0)])
        self.assertAlmostEqual(found.value, 10.0)
        self.assertAlmostEqual(found.low, 10 - 3.8950, places=4)
        self.assertAlmostEqual(found.high, 10 + 4.7086, places=4)


class GroupsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        study_cases.small(folder)
        self.study = read_study(folder)

    def test_rows_join_seeds_and_tell_what_is_missing(self):
        (group,) = groups.groups_of(self.study, self.study.tables[0])
        self.assertEqual([len(row.cells) for row in group.rows], [2, 2, 2])
        self.assertEqual(group.rows[0].runs, "2")
        self.assertStartsWith(group.rows[1].runs, "1 of 2; seed 1 failed: the grid")
        self.assertEqual(group.rows[2].runs, "0 of 2; seeds 0, 1 not run")
        self.assertEqual(group.rows[2].state, "not run")
        self.assertIsNone(group.rows[2].mean("ndcg_10"))
        self.assertEqual([one.label for one in group.published], ["SASRec"])

    def test_methods_of_one_label_are_told_apart(self):
        cells = tuple(dataclasses.replace(cell, label="federated") for cell in self.study.cells)
        (group,) = groups.groups_of(dataclasses.replace(self.study, cells=cells), self.study.tables[0])
        self.assertEqual(
            [row.label for row in group.rows], ["federated (central)", "federated (federated)", "federated (alone)"]
        )

    def test_protocols_are_apart(self):
        with tempfile.TemporaryDirectory() as name:
            study_cases.whole(pathlib.Path(name))
            study = read_study(pathlib.Path(name))
        found = groups.groups_of(study, study.tables[0])
        self.assertEqual([(group.protocol, len(group.published)) for group in found], [("loo-full", 1), ("loo-99", 0)])


if __name__ == "__main__":
    absltest.main()
