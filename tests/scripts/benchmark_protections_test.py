"""scripts/benchmark_protections.py on a tiny cohort: a time of each protection, what is compared, and refusals."""

import functools
import importlib.util
import json
import pathlib
import tempfile

import script_cases
from absl.testing import absltest

from tff_rec.simulation.config import TrainingConfig, TwoTowerConfig

_SPEC = importlib.util.spec_from_file_location(
    "benchmark_protections", script_cases.SCRIPTS / "benchmark_protections.py"
)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)

AGGREGATIONS = {"plain": "plain", "clipped": "plain", "secure": "secure", "ring": "ring", "private": "plain"}
CONFIG = """
[data]
source = "synthetic"
[model]
tower = "bag"
dimension = 4
hidden = 3
max_length = 5
[training]
ring_size = 4
"""


run = functools.partial(script_cases.run, "benchmark_protections.py")


class BenchmarkProtectionsTest(absltest.TestCase):
    def test_prints_one_line_of_json(self):
        with tempfile.TemporaryDirectory() as folder:
            rows = pathlib.Path(folder) / "rows.toml"
            rows.write_text(f'{CONFIG}[transport]\nitems = "rows"\n')
            result = run("--config", str(rows), "--cohort", "12", "--rounds", "1", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertLen(result.stdout.splitlines(), 1)
        times = json.loads(result.stdout)
        self.assertCountEqual(times, ["rows"])
        self.assertCountEqual(times["rows"], ["plain", "clipped", "secure", "ring"])
        self.assertGreater(min(times["rows"].values()), 0)

    def test_a_table_is_compared_with_noise_too(self):
        ways = _MODULE.variants(TwoTowerConfig(training=TrainingConfig(aggregation="secure", query_clip_norm=2.0)))
        self.assertEqual({name: way.training.aggregation for name, way in ways.items()}, AGGREGATIONS)
        self.assertEqual([name for name, way in ways.items() if way.privacy.central], ["private"])
        norms = {name: (way.training.query_clip_norm, way.training.item_clip_norm) for name, way in ways.items()}
        self.assertEqual(norms["plain"], (None, None))
        self.assertEqual(norms["clipped"], (2.0, 10.0))
        self.assertEqual(norms["private"], (2.0, 0.5))

    def test_files_of_one_name_are_not_taken_for_one(self):
        with tempfile.TemporaryDirectory() as folder:
            config = pathlib.Path(folder) / "ml-1m-private.toml"
            config.write_text(CONFIG)
            preset = script_cases.SCRIPTS / "presets" / "two_tower" / "ml-1m-private.toml"
            script_cases.assert_refused(self, run("--config", str(config), str(preset)), "files alike")

    def test_a_readme_without_a_place_is_refused_before_anything_is_read(self):
        with tempfile.TemporaryDirectory() as folder:
            readme = pathlib.Path(folder) / "README.md"
            readme.touch()
            result = run("--readme", str(readme))
            script_cases.assert_refused(self, result, "has no place for 'protections'")

    def test_refuses_in_one_sentence(self):
        for arguments, words in (
            (("--cohort", "0"), "--cohort is 0"),
            (("--rounds", "0"), "--rounds is 0"),
            (("--config", "nowhere.toml"), "no configuration file nowhere.toml"),
        ):
            script_cases.assert_refused(self, run(*arguments), words)


if __name__ == "__main__":
    absltest.main()
