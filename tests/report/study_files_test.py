"""What a study's files may hold, and the sentence for what they may not."""

import json
import math
import pathlib
import tempfile

import study_cases
from absl.testing import absltest, parameterized

from tff_rec.errors import InputError
from tff_rec.report import study
from tff_rec.simulation import study_config, study_folder

PRESETS = pathlib.Path(__file__).parents[2] / "scripts" / "presets"


class StudyTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.plan, self.records = study_cases.small(self.folder)

    def test_states_of_cells(self):
        found = study.read_study(self.folder)
        states = {cell.key: found.status(cell) for cell in found.cells}
        self.assertEqual(
            [state.split(":")[0] for state in states.values()], ["done", "done", "done", "failed", "not run", "not run"]
        )
        self.assertIn("failed: the grid holds no number", list(states.values())[3])

    def test_traffic_and_epsilon(self):
        found = study.read_study(self.folder)
        federated = found.results[found.cells[2].key]
        self.assertEqual((federated.bytes_per_round, federated.epsilon), (760_000 + 100_000, 2.0))
        self.assertIsNone(found.results[found.cells[0].key].bytes_per_round)

    def test_results_of_a_cell_that_is_not_planned_are_left_out(self):
        self.plan["cells"] = self.plan["cells"][1:]
        (self.folder / "plan.json").write_text(json.dumps(self.plan))
        self.assertNotIn(self.records[0][0]["key"], study.read_study(self.folder).results)

    def test_a_result_of_other_options_is_not_the_cells(self):
        self.plan["cells"][0]["config_hash"] = self.records[0][0]["config_hash"]
        self.plan["cells"][1]["config_hash"] = "of other options"
        (self.folder / "plan.json").write_text(json.dumps(self.plan))
        found = study.read_study(self.folder)
        self.assertEqual([found.status(cell) for cell in found.cells[:2]], ["done", "not run"])
        self.assertIsNone(found.result(found.cells[1]))

    def test_numbers_that_are_not_there(self):
        line = self.records[0][0]
        line["metrics"] = {"a": {"value": None, "low": None, "high": None}, "b": {"value": 1, "low": None, "high": 2}}
        study_cases.write(self.folder, self.plan, self.records)
        metrics = study.read_study(self.folder).results[line["key"]].metrics
        self.assertEqual((list(metrics), metrics["b"].value, math.isnan(metrics["b"].low)), (["b"], 1, True))

    def test_without_results_nothing_is_run(self):
        (self.folder / "results.jsonl").unlink()
        self.assertEqual(study.read_study(self.folder).results, {})

    def test_plan_of_the_runner(self):
        runners = study_config.read_study(PRESETS / "studies" / "tiny.toml", PRESETS)
        study_folder.StudyFolder(self.folder).begin(runners)
        found = study.read_study(self.folder)
        self.assertEqual([table.id for table in found.tables], [table.id for table in runners.tables])
        told = [(cell.key, cell.label, cell.seed, cell.config_hash) for cell in found.cells]
        self.assertEqual(told, [(cell.key, cell.label, cell.seed, cell.config_hash) for cell in runners.cells])

    @parameterized.parameters(
        ("results.jsonl", "{\n", r"results.jsonl, line 1 is no valid JSON"),
        ("results.jsonl", '{"key": "a", "status": "done"}\n', r"line 1 is not what .* no metrics"),
        ("results.jsonl", '{"key": "a", "status": "gone"}\n', r"status is 'gone', not done or failed"),
        ("results.jsonl", '{"status": "failed"}\n', r"KeyError: 'key'"),
        ("results.jsonl", '{"key": "a", "status": "failed"}\n' * 2, r"line 2: cell 'a' is there twice"),
        ("plan.json", "[]", r"plan.json is not what a study writes"),
        ("plan.json", '{"name": "a", "title": "b", "cells": [{}], "tables": []}', r"KeyError: 'key'"),
    )
    def test_bad_files_are_refused_in_a_sentence(self, name, text, words):
        (self.folder / name).write_text(text)
        with self.assertRaisesRegex(InputError, words):
            study.read_study(self.folder)

    def test_a_cell_of_no_table_is_refused(self):
        self.plan["cells"][0]["table"] = "other"
        (self.folder / "plan.json").write_text(json.dumps(self.plan))
        with self.assertRaisesRegex(InputError, "belongs to no table"):
            study.read_study(self.folder)

    def test_a_folder_without_a_study(self):
        with self.assertRaisesRegex(InputError, "run scripts/compare.py first"):
            study.read_study(self.folder / "ranks")


if __name__ == "__main__":
    absltest.main()
