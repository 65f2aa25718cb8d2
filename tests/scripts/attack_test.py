"""What scripts/attack.py refuses; `.ci/run` runs it, and `attack_grid_test` tests the grid."""

import functools
import pathlib
import tempfile

import script_cases
from absl.testing import absltest

run = functools.partial(script_cases.run, "attack.py")


class AttackTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.output = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "attacks"

    def test_refuses_in_one_sentence(self):
        for arguments, words in (
            (("--cohort", 3), "--cohort is 3; give 10 or more"),
            (("--users", 5), "--users is 5, fewer than the --cohort of 40"),
            (
                ("--ring-sizes", 10, 41),
                "--ring-sizes has 41; give 3 or more, and no more than the --cohort of 40, or 0 for all of it",
            ),
            (("--data.source", "x"), "no data source 'x'"),
        ):
            script_cases.assert_refused(self, run("--output", self.output, *arguments), words)
        self.assertFalse(self.output.exists())

    def test_refuses_an_output_that_cannot_be_made(self):
        self.output.touch()
        for output, words in ((self.output, "is a file; give a folder"), (self.output / "folder", "cannot be made")):
            script_cases.assert_refused(self, run("--output", output), words)


if __name__ == "__main__":
    absltest.main()
