"""scripts/attack.py on a tiny set as a person runs it, and its refusals."""

import json
import pathlib
import subprocess
import sys
import tempfile

import pandas as pd
from absl.testing import absltest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "attack.py"


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=600
    )


class AttackTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.output = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "attacks"

    def test_tiny_grid(self):
        options = ("--users", 20, "--cohort", 10, "--rounds", 3, "--max-length", 8, "--dimension", 4)
        result = run("--output", self.output, *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("persistent decoys", result.stdout)
        self.assertEqual((self.output / "attacks.png").read_bytes()[:4], b"\x89PNG")
        record = json.loads((self.output / "attacks.json").read_text())
        self.assertEqual(record["protocol"]["users attacked"], 20)
        self.assertLen(record["grid"], 11)
        table = pd.read_csv(self.output / "attacks.csv")
        self.assertCountEqual(table["protection"].unique(), record["grid"])
        self.assertTrue(((table["auc_low"] <= table["auc"]) & (table["auc"] <= table["auc_high"])).all())
        self.assertIn("| plain: own rows only | 1.00", (self.output / "attacks.md").read_text())

    def test_refuses_in_one_sentence(self):
        for arguments, words in (
            (("--cohort", 3), "--cohort is 3; give 10 or more"),
            (("--users", 5), "--users is 5, fewer than the --cohort of 40"),
            (("--data.source", "x"), "no data source 'x'"),
        ):
            result = run("--output", self.output, *arguments)
            self.assertEqual((result.returncode, result.stderr.count("\n")), (2, 1), result.stderr)
            self.assertIn(words, result.stderr)
        self.assertFalse(self.output.exists())


if __name__ == "__main__":
    absltest.main()
