"""What the benchmark of ratings refuses; `.ci/run` runs it, and it compares gradients before it times them."""

import functools

import script_cases
from absl.testing import absltest

run = functools.partial(script_cases.run, "benchmark_ratings.py")


class BenchmarkRatingsTest(absltest.TestCase):
    def test_refuses_in_one_sentence(self):
        for arguments, words in ((("--cohort", "0"), "--cohort is 0"), (("--config", "nope.toml"), "nope.toml")):
            script_cases.assert_refused(self, run(*arguments), words)


if __name__ == "__main__":
    absltest.main()
