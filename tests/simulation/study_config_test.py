"""What a study's file makes of itself: cells, their options and names, and what is wrong in one sentence."""

import dataclasses
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from tff_rec.errors import InputError
from tff_rec.evaluation import grids
from tff_rec.simulation import study_config, toml_file
from tff_rec.simulation.config import TwoTowerConfig

PRESETS = pathlib.Path(__file__).parents[2] / "scripts" / "presets"

STUDY = """
title = "A study"
[sources.ml-100k]
training = {rounds = 7}
[[tables]]
id = "one"
title = "One"
protocol = "loo-full"
metrics = ["ndcg_10"]
data = ["ml-100k", "synthetic"]
seeds = [3, 4]
options = {model = {dimension = 8}}
[[tables.rows]]
method = "popularity"
[[tables.rows]]
method = "bag"
way = "federated"
label = "the bag"
options.model = {tower = "bag"}
grid = {"training.server_learning_rate" = [0.1, 0.2]}
[[tables]]
id = "two"
title = "Two"
protocol = "loo-99"
data = ["ml-100k"]
seeds = [3]
options = {model = {dimension = 8}}
rows = [{method = "popularity"}, {method = "ease", grid = {penalty = [1.0]}}]
[[tables]]
id = "three"
title = "Three"
protocol = "held-out-users"
group = "items with tags"
data = ["ml-1m"]
rows = [{method = "bias"}]
"""


class _StudyTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = pathlib.Path(directory.name) / "mine.toml"

    def _read(self, text):
        self.path.write_text(text)
        return study_config.read_study(self.path, PRESETS)


class CellsTest(_StudyTest):
    def setUp(self):
        super().setUp()
        self.study = self._read(STUDY)
        self.cells = {cell.key: cell for cell in self.study.cells}

    def test_keys_in_the_order_of_the_file(self):
        keys = [
            f"{data}.loo-full.{method}.{seed}"
            for data in ("ml-100k", "synthetic")
            for method in ("popularity", "bag")
            for seed in (3, 4)
        ]
        keys += ["ml-100k.loo-99.popularity.3", "ml-100k.loo-99.ease.3"]
        keys.append("ml-1m.held-out-users.items-with-tags.bias.0")
        self.assertEqual(list(self.cells), keys)
        self.assertEqual(self.study.name, "mine")

    def test_options_are_the_presets_then_the_sources_then_the_tables_then_the_rows(self):
        run = self.cells["ml-100k.loo-full.bag.4"].run
        preset = toml_file.read_toml(PRESETS / "two_tower" / "ml-100k.toml", TwoTowerConfig)
        self.assertEqual(run.training.clients_per_round, preset.training.clients_per_round)
        self.assertEqual(run.training.rounds, 7)
        self.assertEqual((run.model.dimension, run.model.tower, run.seed), (8, "bag", 4))
        self.assertEqual(run.data.source, "ml-100k")
        other = self.cells["synthetic.loo-full.bag.4"].run
        self.assertEqual(other.training.rounds, TwoTowerConfig().training.rounds)

    def test_a_grid_gives_a_run_each(self):
        cell = self.cells["ml-100k.loo-full.bag.3"]
        rates = [run.training.server_learning_rate for _, run in cell.choices]
        self.assertEqual(rates, [0.1, 0.2])
        self.assertEqual([settings for settings, _ in cell.choices][1], {"training.server_learning_rate": 0.2})
        # A baseline's settings are no options.
        self.assertLen(self.cells["ml-100k.loo-99.ease.3"].choices, 1)

    def test_cells_of_one_model_share_its_hash_and_not_their_own(self):
        full, among = (self.cells[f"ml-100k.{protocol}.popularity.3"] for protocol in ("loo-full", "loo-99"))
        self.assertEqual(full.fit_hash, among.fit_hash)
        self.assertNotEqual(full.config_hash, among.config_hash)
        for other in ("ml-100k.loo-full.popularity.4", "ml-100k.loo-full.bag.3", "ml-100k.loo-99.ease.3"):
            self.assertNotEqual(full.fit_hash, self.cells[other].fit_hash)

    def test_a_baseline_tried_over_another_grid_is_another(self):
        key = "ml-100k.loo-99.ease.3"
        before = self.cells[key].fit_hash
        with mock.patch.dict(grids.GRIDS, {"ease": {"penalty": (1.0,), "another": (1.0,)}}):
            self.assertNotEqual(self.cells[key].fit_hash, before)
        self.assertEqual(self.cells[key].fit_hash, before)

    def test_training_is_none_of_a_baselines_options(self):
        other = {cell.key: cell for cell in self._read(STUDY.replace("rounds = 7", "rounds = 8")).cells}
        for method, same in (("popularity", True), ("bag", False)):
            key = f"ml-100k.loo-full.{method}.3"
            self.assertEqual(self.cells[key].config_hash == other[key].config_hash, same)

    def test_an_option_that_came_later_counts_where_it_changes_something(self):
        key = "ml-100k.loo-full.bag.3"
        run = self.cells[key].run
        for catalogue, fresh_sampling in (("all", "uniform"), ("training", "popularity")):
            transport = dataclasses.replace(run.transport, fresh_sampling=fresh_sampling)
            other = dataclasses.replace(run, catalogue=catalogue, transport=transport)
            hashes = {dataclasses.replace(self.cells[key], choices=(({}, one),)).config_hash for one in (run, other)}
            self.assertLen(hashes, 2)
            defaults = {"catalogue": run.catalogue, "transport.fresh_sampling": run.transport.fresh_sampling}
            with mock.patch.object(study_config, "_ADDED", {type(run): {}}):
                self.assertNotIn(dataclasses.replace(self.cells[key], choices=(({}, run),)).config_hash, hashes)
            self.assertEqual(study_config._ADDED[type(run)], defaults)

    def test_labels_and_split(self):
        self.assertEqual(self.cells["ml-100k.loo-full.bag.3"].label, "the bag")
        self.assertEqual(self.cells["ml-100k.loo-99.ease.3"].label, "EASE")
        self.assertEqual(self.cells["ml-1m.held-out-users.items-with-tags.bias.0"].run.split, "held-out-users")


class WrongStudiesTest(_StudyTest):
    @parameterized.named_parameters(
        ("no title", 'title = "A study"', "", "'title' is missing"),
        ("metric", '["ndcg_10"]', '["rmse"]', "table one has no metric 'rmse'"),
        ("source", '["ml-1m"]', '["netflix"]', "no data source 'netflix'"),
        ("way", '{method = "bias"}', '{method = "ease"}', "table three has no way 'ease'"),
        ("option", 'tower = "bag"', "depth = 3", "row bag: there is no option 'model.depth'"),
        ("value", "dimension = 8", "dimension = 0", "--model.dimension is 0"),
        ("grid", "[0.1, 0.2]", "[-1.0]", "--training.server-learning-rate is -1.0"),
        ("no rows", 'rows = [{method = "bias"}]', "rows = []", "table three has no rows"),
        ("group of items", 'protocol = "held-out-users"', 'protocol = "loo-full"', "group is of ratings"),
        ("protocol", '"held-out-users"', '"guess"', "'tables.protocol' is 'guess'"),
        ("repeated", '"loo-99"', '"loo-full"', "two cells are ml-100k.loo-full.popularity.3"),
    )
    def test_are_refused(self, words, others, message):
        self.assertIn(words, STUDY)
        with self.assertRaisesRegex(InputError, message):
            self._read(STUDY.replace(words, others))

    def test_a_missing_file(self):
        with self.assertRaisesRegex(InputError, "quick.toml"):
            study_config.read_study(PRESETS / "studies" / "none.toml", PRESETS)


class PresetsTest(parameterized.TestCase):
    @parameterized.parameters(*((path.name,) for path in sorted((PRESETS / "studies").glob("*.toml"))))
    def test_are_studies(self, name):
        study = study_config.read_study(PRESETS / "studies" / name, PRESETS)
        for table in study.tables:
            self.assertNotEmpty(table.metrics)
            for figure in table.published:
                self.assertIn(figure.data, table.data)
                self.assertContainsSubset(figure.values, table.metrics)
            self.assertEqual([row.x is not None for row in table.rows], [table.axis is not None] * len(table.rows))


if __name__ == "__main__":
    absltest.main()
