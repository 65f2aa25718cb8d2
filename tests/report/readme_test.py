"""The README's numbers are those that are committed, and come from nowhere else."""

import pathlib
import shutil
import tempfile

import study_cases
from absl.testing import absltest

from tff_rec.errors import InputError
from tff_rec.report import readme, report

ROOT = pathlib.Path(__file__).parents[2]
PLACE = "before\n<!-- results small -->\nold 99.99\n<!-- end of results -->\nafter\n"


class ReadmeTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.made = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        _, cls.records = study_cases.small(cls.made)
        report.make(cls.made)

    def setUp(self):
        super().setUp()
        root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.study, self.readme = root / "runs" / "small", root / "README.md"
        shutil.copytree(self.made, self.study)
        self.readme.write_text(PLACE)

    def test_tables_come_from_the_committed_numbers(self):
        changed = readme.publish(self.study, self.readme)
        kept = self.readme.parent / readme.RESULTS / "small"
        self.assertCountEqual(changed, [self.readme, *(kept / name for name in readme.COMMITTED)])
        text = self.readme.read_text()
        self.assertTrue(
            text.startswith("before\n<!-- results small -->\n\nWhat federation costs. Protocol: made-up, LOO-full")
        )
        self.assertTrue(text.endswith("\n\n<!-- end of results -->\nafter\n"))
        self.assertNotIn("99.99", text)
        self.assertIn(f"{self.records[2][0]['metrics']['ndcg_10']['value']:.2f} (", text)
        self.assertIn(", p = ", text)
        shutil.rmtree(self.study)
        self.assertEqual(readme.filled(self.readme), text)

    def test_a_second_time_changes_nothing(self):
        readme.publish(self.study, self.readme)
        self.assertEqual(readme.publish(self.study, self.readme), [])

    def test_a_result_that_is_deleted_is_not_run(self):
        readme.publish(self.study, self.readme)
        results = self.readme.parent / readme.RESULTS / "small" / "results.jsonl"
        lines = results.read_text().splitlines(keepends=True)
        results.write_text("".join(lines[:2]))
        row = next(line for line in readme.filled(self.readme).splitlines() if line.startswith("| federated"))
        self.assertEqual(row, "| federated | *not run* | *not run* | *0 of 2; seeds 0, 1 not run* |")

    def test_a_study_that_is_deleted_is_not_run(self):
        readme.publish(self.study, self.readme)
        shutil.rmtree(self.readme.parent / readme.RESULTS / "small")
        self.assertEqual(readme.filled(self.readme).count("*not run*"), 1)
        self.assertNotIn("federated", readme.filled(self.readme))

    def test_one_table(self):
        self.readme.write_text(PLACE.replace("small", "small/main"))
        readme.publish(self.study, self.readme)
        self.assertIn("What federation costs", self.readme.read_text())
        self.readme.write_text(PLACE.replace("small", "small/other"))
        with self.assertRaisesRegex(InputError, "has no table 'other'; it has main"):
            readme.publish(self.study, self.readme)

    def test_no_place(self):
        self.readme.write_text("nothing\n")
        with self.assertRaisesRegex(InputError, "has no place for study 'small'; put <!-- results small -->"):
            readme.publish(self.study, self.readme)
        self.assertFalse((self.readme.parent / readme.RESULTS).exists())

    def test_the_pages_of_this_repository_equal_the_committed_numbers(self):
        pages = [ROOT / "README.md", ROOT / "RESULTS.md"]
        for page in pages:
            self.assertEqual(readme.filled(page), page.read_text(encoding="utf-8"))
        committed = {folder.name for folder in (ROOT / readme.RESULTS).glob("*/")}
        self.assertEqual(set.union(*map(readme.places, pages)), committed)


if __name__ == "__main__":
    absltest.main()
