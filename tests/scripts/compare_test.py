"""scripts/compare.py as a person runs it: wrong input gets one sentence and exit code 2, and leaves nothing."""

import contextlib
import io
import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "compare.py"
STUDY = """
title = "A study"
[[tables]]
id = "one"
title = "One"
protocol = "loo-full"
metrics = ["ndcg_10"]
data = ["csv"]
options.data = {path = "nowhere.csv"}
rows = [{method = "popularity"}]
"""


class CompareTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.study = self.directory / "study.toml"
        self.study.write_text(STUDY)
        self.output = self.directory / "out"

    def _run(self, *arguments):
        """Exit code, what was printed, and standard error of the script, run in this process."""
        names = {"__name__": "__main__", "__file__": str(SCRIPT), "__doc__": "The script."}
        printed, errors = io.StringIO(), io.StringIO()
        with (
            mock.patch.object(sys, "argv", [str(SCRIPT), "--output", str(self.output), *arguments]),
            contextlib.redirect_stderr(errors),
            contextlib.redirect_stdout(printed),
        ):
            try:
                exec(compile(SCRIPT.read_text(), str(SCRIPT), "exec"), names)
            except SystemExit as stop:
                return int(stop.code or 0), printed.getvalue(), errors.getvalue()
        return 0, printed.getvalue(), errors.getvalue()

    def _refused(self, message, *arguments):
        code, _, errors = self._run(*arguments)
        self.assertEqual((code, errors.count("\n")), (2, 1), errors)
        self.assertStartsWith(errors, "error: ")
        self.assertIn(message, errors)

    def test_wrong_input(self):
        self._refused("nowhere.toml", "--config", str(self.directory / "nowhere.toml"))
        self._refused("--model.depth", "--model.depth", "2")
        unknown = ("--config", str(self.study), "--only", "popularity", "popular")
        self._refused("study 'study' has no method 'popular'; choose of popularity.", *unknown)
        self.study.write_text(STUDY.replace("popularity", "guessing"))
        self._refused("table one has no way 'guessing'", "--config", str(self.study))
        self.study.write_text(STUDY.replace("data =", "dat ="))
        self._refused("there is no option 'tables.dat'", "--config", str(self.study))
        self.study.write_text("title = ")
        self._refused("is no valid TOML", "--config", str(self.study))
        self.assertFalse(self.output.exists())

    def test_a_folder_of_something_else(self):
        self.output.mkdir()
        (self.output / "letter").write_text("Dear Ada")
        self._refused("holds no study", "--config", str(self.study))
        self.assertEqual([path.name for path in self.output.iterdir()], ["letter"])

    def test_a_cell_without_data_fails_in_one_sentence_and_the_study_ends(self):
        code, printed, _ = self._run("--config", str(self.study))
        self.assertEqual(code, 0)
        self.assertIn("1 of 1 cells failed", printed)
        self.assertIn("csv.loo-full.popularity.0 failed: ", printed)
        self.assertIn("nowhere.csv", printed)
        self.assertNotIn("Traceback", printed)

    def test_only_some_methods(self):
        self.study.write_text(STUDY.replace('"popularity"}', '"popularity"}, {method = "ease"}'))
        _, printed, _ = self._run("--config", str(self.study), "--only", "ease")
        self.assertIn("A study: 1 cells, of which 0 are done", printed)
        self.assertIn("csv.loo-full.ease.0 failed: ", printed)
        self.assertNotIn("popularity.0", printed)


if __name__ == "__main__":
    absltest.main()
