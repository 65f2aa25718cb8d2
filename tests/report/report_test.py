"""The report says what the results say, no more; and does nothing where nothing has changed."""

import json
import pathlib
import re
import shutil
import tempfile

import study_cases
from absl.testing import absltest

from tff_rec.report import files, report


class ReportTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.made = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.plan, cls.records = study_cases.small(cls.made)
        report.make(cls.made)

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "study"
        shutil.copytree(self.made, self.folder)

    def rows(self):
        """The first table of the Markdown: rows by their first column."""
        lines = (self.folder / "report.md").read_text().splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("| method | NDCG@10 (%) |"))
        found = {}
        for line in lines[start + 2 :]:
            if not line.startswith("|"):
                return found
            label, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
            found[label] = cells
        return found

    def write(self, records):
        study_cases.write(self.folder, self.plan, records)

    def test_numbers_are_those_of_the_results(self):
        ndcg = [record["metrics"]["ndcg_10"]["value"] for record, _ in self.records[:3]]
        rows = self.rows()
        self.assertStartsWith(rows["centralised"][0].replace("*", ""), f"{(ndcg[0] + ndcg[1]) / 2:.2f} (")
        self.assertStartsWith(rows["federated"][0].replace("*", ""), f"{ndcg[2]:.2f} (")
        change = 100 * (ndcg[2] / ((ndcg[0] + ndcg[1]) / 2) - 1)
        self.assertStartsWith(rows["federated"][1], f"{change:+.1f} % (".replace("-", "−"))
        self.assertEqual(rows["federated"][2:4], ["860 kB", "2"])
        self.assertEqual(rows["each device alone"][:2], ["*not run*", "*not run*"])
        self.assertEqual(rows["published: SASRec (nobody)"], ["18.25", *"––––"])
        self.assertIn("1 of 2; seed 1 failed: the grid holds no number", rows["federated"][4])

    def test_page_and_markdown_have_the_same_numbers(self):
        page = (self.folder / "report.html").read_text()
        for cells in self.rows().values():
            for number in re.findall(r"\d+\.\d+", " ".join(cells)):
                self.assertIn(number, page)

    def test_a_result_that_is_deleted_is_not_run(self):
        number = self.rows()["federated"][0].replace("*", "")
        self.write(self.records[:2])
        report.make(self.folder)
        self.assertEqual(self.rows()["federated"], ["*not run*", "*not run*", "*0 of 2; seeds 0, 1 not run*"])
        for name in ("report.html", "report.md", "paired.json"):
            self.assertNotIn(number.split(" ")[0], (self.folder / name).read_text())
        pictures = {path.name for path in (self.folder / "pictures").iterdir()}
        self.assertEmpty([name for name in pictures if "curves" in name])

    def test_nothing_is_written_where_nothing_has_changed(self):
        self.assertTrue(files.is_current(self.folder))
        before = {path: path.stat().st_mtime_ns for path in self.folder.rglob("*.*")}
        self.assertEqual(report.make(self.folder), [])
        after = {path: path.stat().st_mtime_ns for path in self.folder.rglob("*.*")}
        del before[self.folder / "report.json"], after[self.folder / "report.json"]
        self.assertEqual(before, after)

    def test_one_more_result_leaves_other_pictures_alone(self):
        record, ranks = study_cases.line(self.plan["cells"][4], 1.0)
        self.write([*self.records, (record, ranks)])
        self.assertFalse(files.is_current(self.folder))
        changed = report.make(self.folder)
        self.assertContainsSubset({"report.html", "report.md", "paired.json"}, changed)
        self.assertEmpty([name for name in changed if "curves" in name])

    def test_a_report_that_was_touched_is_made_anew(self):
        names = ["report.html", "pictures/main.made-up.loo-full.intervals.png"]
        for name in names:
            content = (self.folder / name).read_bytes()
            (self.folder / name).write_text("7")
            self.assertFalse(files.is_current(self.folder))
            (self.folder / name).write_bytes(content)
            self.assertTrue(files.is_current(self.folder))
        for name in names:
            (self.folder / name).unlink()
        self.assertCountEqual(report.make(self.folder), names)

    def test_what_a_leak_gives_is_neither_best_nor_in_pictures(self):
        method = "never-drawn-as-published"
        cells = [cell | {"method": method} if cell["method"] == "central" else cell for cell in self.plan["cells"]]
        (self.folder / "plan.json").write_text(json.dumps(self.plan | {"cells": cells}))
        changed = report.make(self.folder)
        self.assertNotIn("**", self.rows()["centralised"][0])
        self.assertIn("pictures/main.made-up.loo-full.intervals.png", changed)
        _, who_pays = (self.folder / "report.md").read_text().split("## Who pays for federation?")
        self.assertNotIn("| centralised |", who_pays.split("## Hyper-parameters")[0])

    def test_the_page_needs_nothing_else(self):
        page = (self.folder / "report.html").read_text()
        self.assertEmpty(re.findall(r'(?:src|href)="(?!data:|#)', page))
        self.assertNotIn("<script", page)

    def test_texts_are_escaped(self):
        (self.folder / "plan.json").write_text(json.dumps(self.plan | {"title": "<b>|bold|</b>"}))
        report.make(self.folder)
        self.assertIn("<h1>&lt;b&gt;|bold|&lt;/b&gt;</h1>", (self.folder / "report.html").read_text())


if __name__ == "__main__":
    absltest.main()
