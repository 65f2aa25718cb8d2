"""The benchmark of ratings, tiny: gradients agree with and without TFF, keys are as promised."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "benchmark_ratings.py"
CONFIG = """
[data]
source = "synthetic"

[model]
dimension = 4
"""
SIZES = "--cohort 40 --users-per-block 15 --local-steps 2 --single-users 3 --stock-users 2 --rounds 1 --json"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=240, env=environment
    )


class BenchmarkRatingsTest(absltest.TestCase):
    def test_prints_one_line_of_json(self):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
            config.write(CONFIG)
            config.flush()
            result = run("--config", config.name, *SIZES.split())
        self.assertEqual(result.returncode, 0, result.stderr)
        times = json.loads(result.stdout)
        self.assertCountEqual(times, ["blocks", "one_user_per_client", "plain_tf", "stock_fed_recon"])
        self.assertGreater(min(times.values()), 0)

    def test_refuses_in_one_sentence(self):
        for arguments, words in ((("--cohort", "0"), "--cohort is 0"), (("--config", "nope.toml"), "nope.toml")):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2)
            self.assertIn(words, result.stderr)
            self.assertLen(result.stderr.splitlines(), 1)


if __name__ == "__main__":
    absltest.main()
