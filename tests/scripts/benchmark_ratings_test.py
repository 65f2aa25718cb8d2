"""What the benchmark of ratings refuses; `.ci/run` runs it, and it compares gradients before it times them."""

import os
import pathlib
import subprocess
import sys

from absl.testing import absltest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "benchmark_ratings.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=240, env=environment
    )


class BenchmarkRatingsTest(absltest.TestCase):
    def test_refuses_in_one_sentence(self):
        for arguments, words in ((("--cohort", "0"), "--cohort is 0"), (("--config", "nope.toml"), "nope.toml")):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2)
            self.assertIn(words, result.stderr)
            self.assertLen(result.stderr.splitlines(), 1)


if __name__ == "__main__":
    absltest.main()
