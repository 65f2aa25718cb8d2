"""Options, presets and their errors; no TensorFlow."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

from absl.testing import parameterized

from tff_rec import cli
from tff_rec.errors import InputError
from tff_rec.simulation import config, toml_file

PRESETS = pathlib.Path(__file__).parents[2] / "scripts" / "presets" / "two_tower"


def _parse(*arguments, presets=PRESETS):
    return cli.parse(
        config.TwoTowerConfig,
        arguments,
        None,
        lambda words: config.read_defaults(words, presets, config.TwoTowerConfig),
    )


class OptionsTest(parameterized.TestCase):
    def test_options_override_the_preset_of_the_source(self):
        parsed = _parse("--data.source", "ml-1m", "--model.dimension", "8", "--seed", "3")
        preset = toml_file.read_toml(PRESETS / "ml-1m.toml", config.TwoTowerConfig)
        self.assertEqual(parsed.model.dimension, 8)
        self.assertEqual(parsed.seed, 3)
        self.assertEqual(parsed.training, preset.training)

    def test_a_named_file_comes_before_the_preset(self):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "mine.toml"
            path.write_text('[data]\nsource = "hm"\n[training]\nrounds = 7\n')
            parsed = _parse("--config", str(path))
        self.assertEqual((parsed.data.source, parsed.training.rounds), ("hm", 7))

    def test_a_resumed_run_brings_its_own_options(self):
        with tempfile.TemporaryDirectory() as directory:
            (pathlib.Path(directory) / "config.toml").write_text('[data]\nsource = "hm"\n[training]\nrounds = 7\n')
            parsed = _parse("--resume", "--output", directory)
            self.assertEqual((parsed.data.source, parsed.training.rounds), ("hm", 7))
            self.assertTrue(parsed.resume)

    def test_without_options_the_embedded_default(self):
        self.assertEqual(_parse(), config.TwoTowerConfig())

    @parameterized.named_parameters(
        ("unknown option", ["--model.depth", "3"], "--model.depth"),
        ("no number", ["--seed", "x"], "--seed"),
        ("no choice", ["--split", "half"], "--split"),
        ("unknown source", ["--data.source", "netflix"], "netflix"),
        ("missing file", ["--config", "nowhere.toml"], "nowhere.toml"),
        ("unknown preset", ["--config", str(PRESETS / "ml-9m.toml")], "ml-1m.toml"),
        ("no rounds", ["--training.rounds", "0"], "--training.rounds is 0"),
        ("dropout of one", ["--model.dropout", "1"], "--model.dropout"),
        ("no share", ["--training.random-window", "1.5"], "--training.random-window"),
        ("negative rate", ["--training.server-learning-rate", "-1"], "--training.server-learning-rate"),
        ("heads", ["--model.num-heads", "3"], "--model.num-heads 3"),
        ("half-lives", ["--model.half-lives", "-1"], "--model.half-lives"),
        ("bits", ["--training.secure-bits", "40"], "--training.secure-bits"),
        ("resume of nothing", ["--resume"], "--output"),
        (
            "ring below its shares",
            ["--training.aggregation", "ring", "--training.ring-size", "3", "--training.ring-shares", "4"],
            "--training.ring-size 3 is below --training.ring-shares 4",
        ),
        (
            "cohort below a ring",
            ["--training.aggregation", "ring", "--training.clients-per-round", "9", "--training.ring-size", "10"],
            "--training.clients-per-round 9 is below --training.ring-size 10",
        ),
        (
            "minimum above the ring",
            ["--training.aggregation", "ring", "--transport.items", "rows", "--transport.minimum-requesters", "11"],
            "--transport.minimum-requesters 11 is above --training.ring-size 10",
        ),
        (
            "minimum above the cohort",
            ["--transport.items", "rows", "--transport.minimum-requesters", "9", "--training.clients-per-round", "8"],
            "--transport.minimum-requesters 9 is above --training.clients-per-round 8",
        ),
        ("minimum without requests", ["--transport.minimum-requesters", "2"], "--transport.minimum-requesters counts"),
        (
            "rows with negatives",
            ["--transport.items", "rows", "--training.objective", "sampled-softmax"],
            "--transport.items rows .* --training.objective",
        ),
        (
            "selected rows with negatives",
            ["--transport.items", "select", "--training.objective", "sampled-softmax"],
            "--transport.items select .* --training.objective",
        ),
        ("no minimum", ["--transport.minimum-requesters", "0"], "--transport.minimum-requesters is 0"),
        ("one share", ["--training.ring-shares", "1"], "--training.ring-shares is 1"),
    )
    def test_wrong_options_are_named_in_one_sentence(self, arguments, named):
        with self.assertRaisesRegex(InputError, named) as caught:
            _parse(*arguments)
        self.assertNotIn("\n", str(caught.exception))

    @parameterized.named_parameters(
        ("syntax", "seed = ", "no valid TOML"),
        ("unknown key", "[model]\ndepth = 3\n", "model.depth"),
        ("wrong type", '[training]\nrounds = "many"\n', "training.rounds"),
        ("wrong choice", '[model]\ntower = "leaning"\n', "'bag' or 'attention'"),
        ("wrong value", "[training]\nrounds = 0\n", "--training.rounds is 0"),
    )
    def test_wrong_files_are_named_in_one_sentence(self, text, named):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "x.toml"
            path.write_text(text)
            with self.assertRaisesRegex(InputError, named) as caught:
                toml_file.read_toml(path, config.TwoTowerConfig)
            self.assertIn("x.toml", str(caught.exception))

    def test_rings_and_minima_at_their_limits_are_allowed(self):
        ring = ("--training.aggregation", "ring", "--training.ring-size", "4", "--training.ring-shares", "4")
        rows = ("--transport.items", "rows", "--transport.minimum-requesters", "4")
        self.assertEqual(_parse(*ring, *rows, "--training.clients-per-round", "4").training.ring_size, 4)

    def test_toml_round_trip(self):
        original = _parse("--data.source", "ml-1m", "--data.path", 'odd "name"', "--training.item-clip-norm", "0.5")
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "x.toml"
            path.write_text(toml_file.to_toml(original))
            self.assertEqual(toml_file.read_toml(path, config.TwoTowerConfig), original)

    @parameterized.parameters(*((path.name,) for path in sorted(PRESETS.glob("*.toml"))))
    def test_presets_are_valid_and_of_their_source(self, name):
        preset = toml_file.read_toml(PRESETS / name, config.TwoTowerConfig)
        self.assertTrue(name.startswith(preset.data.source))

    def test_help_needs_no_tensorflow(self):
        program = (
            "import sys; from tff_rec import cli; from tff_rec.simulation import config, preparation, run_folder; "
            "sys.exit('tensorflow' in sys.modules)"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", program], check=False).returncode, 0)


if __name__ == "__main__":
    unittest.main()
