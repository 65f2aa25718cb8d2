"""What scripts/report.py prints and refuses."""

import functools
import pathlib
import sys
import tempfile

import script_cases
from absl.testing import absltest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "report"))
import study_cases

run = functools.partial(script_cases.run, "report.py")


class ReportScriptTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_a_second_call_does_nothing(self):
        study_cases.small(self.folder)
        first, second = run(self.folder), run(self.folder)
        self.assertIn("report.html", first.stdout, first.stderr)
        self.assertEqual(second.stdout, f"nothing has changed since {self.folder / 'report.html'} was made\n")

    def test_refuses_in_one_sentence(self):
        for arguments, words in (
            ((), "required"),
            ((self.folder,), "There is no study in"),
        ):
            script_cases.assert_refused(self, run(*arguments), words)
        self.assertEmpty(list(self.folder.iterdir()))


if __name__ == "__main__":
    absltest.main()
