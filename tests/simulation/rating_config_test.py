"""Options of the tag-aware simulation and of the comparison, their presets and errors; no TensorFlow."""

import dataclasses
import pathlib
import tempfile
import unittest

from absl.testing import parameterized

from tff_rec import cli
from tff_rec.errors import InputError
from tff_rec.simulation import comparison_config, rating_config, toml_file
from tff_rec.simulation import config as configs

PRESETS = pathlib.Path(__file__).parents[2] / "scripts" / "presets" / "tag_aware"


def _parse(*arguments, options=rating_config.TagAwareConfig):
    return cli.parse(options, arguments, None, lambda words: configs.read_defaults(words, PRESETS, options))


class OptionsTest(parameterized.TestCase):
    @parameterized.parameters("ml-latest-small", "ml-1m")
    def test_presets_name_their_source_and_serve_the_comparison_too(self, source):
        run = _parse("--data.source", source)
        self.assertEqual(run.data.source, source)
        self.assertNotEqual(run.training, rating_config.DeviceTrainingConfig())
        compared = _parse("--data.source", source, options=comparison_config.CompareConfig)
        self.assertEqual((compared.training, compared.model), (run.training, run.model))

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


class CompareTest(parameterized.TestCase):
    def test_runs_of_the_methods_differ_in_clients_and_server_alone(self):
        whole = _parse("--fedprox-mu", "0.5", "--clients", "3", options=comparison_config.CompareConfig)
        averaging, proximal, adaptive = whole.of_silos(5), whole.of_fedprox(5), whole.of_fedopt(5)
        self.assertEqual((averaging.clients, averaging.seed), ("3", 5))
        self.assertEqual((averaging.silo.server_optimizer, averaging.silo.server_learning_rate), ("sgd", 1.0))
        self.assertEqual(proximal.silo, dataclasses.replace(averaging.silo, proximal=0.5))
        self.assertEqual(adaptive.silo.server_optimizer, "adam")
        self.assertEqual(dataclasses.replace(whole.of_users(5), clients="3"), averaging)

    def test_four_silos_where_none_are_named(self):
        self.assertEqual(comparison_config.CompareConfig().of_silos(0).num_silos, 4)

    @parameterized.named_parameters(
        ("no seeds", ("--seeds", "0"), "--seeds is 0"),
        ("no methods", ("--methods",), "--methods is empty"),
        ("another split", ("--split", "loo"), "--split is loo"),
    )
    def test_wrong_options_are_named(self, arguments, message):
        with self.assertRaisesRegex(InputError, message):
            _parse(*arguments, options=comparison_config.CompareConfig)


if __name__ == "__main__":
    unittest.main()
