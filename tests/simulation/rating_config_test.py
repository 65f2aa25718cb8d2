"""Options of the tag-aware simulation, their presets and errors; no TensorFlow."""

import pathlib
import tempfile
import unittest

from absl.testing import parameterized

from tff_rec import cli
from tff_rec.errors import InputError
from tff_rec.simulation import config as configs
from tff_rec.simulation import rating_config, toml_file

PRESETS = pathlib.Path(__file__).parents[2] / "scripts" / "presets" / "tag_aware"


def _parse(*arguments):
    options = rating_config.TagAwareConfig
    return cli.parse(options, arguments, None, lambda words: configs.read_defaults(words, PRESETS, options))


class OptionsTest(parameterized.TestCase):
    @parameterized.parameters("ml-latest-small", "ml-1m")
    def test_presets_name_their_source(self, source):
        run = _parse("--data.source", source)
        self.assertEqual(run.data.source, source)
        self.assertNotEqual(run.training, rating_config.DeviceTrainingConfig())

    def test_clients_are_users_or_silos(self):
        users, silos = _parse(), _parse("--clients", "4", "--silo.rounds", "7")
        self.assertEqual((users.num_silos, silos.num_silos), (0, 4))
        self.assertEqual((users.server.rounds, silos.server.rounds), (users.training.rounds, 7))

    @parameterized.named_parameters(
        ("no clients", ("--clients", "some"), "--clients is 'some'"),
        ("one silo", ("--clients", "1"), "number of silos from 2"),
        ("negative mu", ("--silo.proximal", "-1"), "--silo.proximal is -1.0"),
        ("bits", ("--training.secure-bits", "33"), "--training.secure-bits is 33"),
        ("infinite penalty", ("--penalties.vectors", "inf"), "--penalties.vectors is inf"),
        ("whole history", ("--evaluation.history-share", "1"), "--evaluation.history-share is 1.0"),
        ("too many held out", ("--evaluation.held-out-share", "0.5"), "--evaluation.held-out-share is 0.5"),
        ("dropout", ("--model.dropout", "1"), "--model.dropout is 1.0"),
        ("no steps", ("--training.local-steps", "0"), "--training.local-steps is 0"),
        ("negative popularity", ("--model.popularity-scale", "-1"), "--model.popularity-scale is -1.0"),
        ("ring of silos", ("--clients", "4", "--silo.aggregation", "ring"), "--silo.aggregation ring .* secure"),
        ("one share", ("--training.ring-shares", "1"), "--training.ring-shares is 1"),
        ("small cohort", ("--training.aggregation", "ring", "--training.ring-size", "101"), "below --training.ring-s"),
        ("resume nothing", ("--resume",), "--resume needs --output"),
        ("unknown source", ("--data.source", "netflix"), "netflix"),
    )
    def test_wrong_options_are_named(self, arguments, message):
        with self.assertRaisesRegex(InputError, message):
            _parse(*arguments)

    def test_a_configuration_survives_its_file(self):
        run = _parse("--clients", "3", "--silos", "taste", "--silo.clip-norm", "2", "--model.features", "untagged")
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "config.toml"
            path.write_text(toml_file.to_toml(run))
            self.assertEqual(toml_file.read_toml(path, rating_config.TagAwareConfig), run)


if __name__ == "__main__":
    unittest.main()
