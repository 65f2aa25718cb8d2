"""Run folders: never overwritten, resumed only with the same configuration."""

import dataclasses
import pathlib
import tempfile
import unittest

from tff_rec.errors import InputError
from tff_rec.simulation import run_folder
from tff_rec.simulation.config import ModelConfig, TwoTowerConfig


class RunFolderTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.config = TwoTowerConfig(output=pathlib.Path(directory.name) / "run")

    def _begun(self):
        folder = run_folder.find_run_folder(self.config)
        folder.begin(self.config)
        return folder

    def test_finding_writes_nothing(self):
        folder = run_folder.find_run_folder(self.config)
        self.assertFalse(folder.path.exists())

    def test_an_existing_folder_is_refused(self):
        self._begun()
        with self.assertRaisesRegex(InputError, "exists; add --resume"):
            run_folder.find_run_folder(self.config)

    def test_a_run_is_resumed_with_the_same_options(self):
        folder = self._begun()
        again = dataclasses.replace(self.config, resume=True, checkpoint_every=7)
        self.assertEqual(run_folder.find_run_folder(again).path, folder.path)

    def test_another_configuration_is_refused_by_name(self):
        self._begun()
        other = dataclasses.replace(self.config, resume=True, model=ModelConfig(dimension=16))
        with self.assertRaisesRegex(InputError, "model.dimension is 32 there and 16 here"):
            run_folder.find_run_folder(other)

    def test_nothing_to_resume(self):
        with self.assertRaisesRegex(InputError, "no run to resume"):
            run_folder.find_run_folder(dataclasses.replace(self.config, resume=True))

    def test_a_folder_that_cannot_be_made(self):
        self._begun()
        inside_a_file = dataclasses.replace(self.config, output=self.config.output / "config.toml" / "run")
        with self.assertRaisesRegex(InputError, "cannot be made"):
            run_folder.find_run_folder(inside_a_file).begin(inside_a_file)

    def test_without_output_each_run_has_a_name_of_its_own(self):
        path = run_folder.find_run_folder(TwoTowerConfig()).path
        self.assertRegex(str(path), r"^runs/synthetic-\d{8}-\d{6}$")

    def test_metrics_after_a_checkpoint_are_forgotten(self):
        folder = self._begun()
        for number in range(1, 6):
            folder.append({"round": number, "loss": 1.0 / number})
        folder.append({"round": 5, "test": {}})
        with folder.metrics.open("a") as file:
            file.write('{"round": 6, "lo')
        folder.forget_after(3)
        self.assertEqual([record["round"] for record in folder.records()], [1, 2, 3])
        folder.forget_after(5)
        self.assertFalse(any("test" in record for record in folder.records()))


if __name__ == "__main__":
    unittest.main()
