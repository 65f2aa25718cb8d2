"""The benchmark, tiny: gradients agree, keys are as promised."""

import functools
import json

import script_cases
from absl.testing import absltest

run = functools.partial(script_cases.run, "benchmark.py")


class BenchmarkTest(absltest.TestCase):
    def test_prints_one_line_of_json(self):
        sizes = (
            "--cohort",
            "64",
            "--users-per-block",
            "20",
            "--rounds",
            "1",
            "--single-users",
            "4",
            "--stock-users",
            "2",
        )
        result = run(*sizes, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        times = json.loads(result.stdout)
        self.assertCountEqual(times, ["blocks", "one_user_per_client", "plain_tf", "stock_fed_recon"])
        self.assertGreater(min(times.values()), 0)

    def test_refuses_in_one_sentence(self):
        for arguments, words in ((("--cohort", "0"), "--cohort is 0"), (("--data.source", "nope"), "'nope'")):
            script_cases.assert_refused(self, run(*arguments), words)


if __name__ == "__main__":
    absltest.main()
