"""Whole studies, small: all ways in tables; what is done stays, what failed or is deleted is done again."""

import io
import json
import pathlib
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
from rich.console import Console

from tff_rec.errors import InputError
from tff_rec.evaluation import ranking
from tff_rec.report import groups, pairs
from tff_rec.report.study import read_study
from tff_rec.report.summary import summary
from tff_rec.simulation import study, study_config, study_folder, study_ranking, study_tables
from tff_rec.simulation.run_folder import RunFolder

PRESETS = pathlib.Path(__file__).parents[2] / "scripts" / "presets"

TABLES = """
title = "A small study"
[[tables]]
id = "ranking"
title = "Ranking"
protocol = "loo-full"
metrics = ["ndcg_10", "hit_rate_10"]
data = ["csv"]
options.data = {{path = "{path}"}}
options.export = {{k = 3}}
options.training = {{clients_per_round = 30, rounds = 2}}
options.evaluation = {{every = 1}}
options.model = {{tower = "bag", dimension = 4}}
rows = [{rows}]
"""
AMONG = """
[[tables]]
id = "among"
title = "Among 99"
protocol = "loo-99"
metrics = ["ndcg_10"]
data = ["csv"]
options.data = {{path = "{path}"}}
options.export = {{k = 3}}
options.training = {{clients_per_round = 30, rounds = 2}}
options.evaluation = {{every = 1}}
options.model = {{tower = "bag", dimension = 4}}
rows = [{{method = "popularity"}}, {{method = "never-drawn"}}]
"""
RATINGS = """
[[tables]]
id = "ratings"
title = "Ratings"
protocol = "ratings"
{group}
metrics = ["rmse", "mae"]
data = ["csv"]
options.clients = "2"
options.data = {{path = "{path}"}}
options.export = {{k = 3}}
options.model = {{dimension = 2}}
options.training = {{clients_per_round = 30, rounds = 2}}
options.silo = {{rounds = 1}}
options.evaluation = {{every = 1, resamples = 50}}
rows = [{rows}]
"""


class StudyTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.path = self.directory / "ratings.csv"
        rng = np.random.default_rng(0)
        lines = [
            f"{user},{item},{(user + item) % 5 + 1},{time}\n"
            for user in range(60)
            for time, item in enumerate(rng.permutation(40)[:12])
        ]
        self.path.write_text("user,item,rating,timestamp\n" + "".join(lines))

    def _run(self, text):
        """The study, its folder, how many cells failed, and what was printed."""
        file = self.directory / "small.toml"
        file.write_text(text)
        read = study_config.read_study(file, PRESETS)
        folder = study_folder.StudyFolder(self.directory / "out")
        folder.begin(read)
        printed = io.StringIO()
        failed = study.run(read.cells, folder, Console(file=printed, width=250))
        return read, folder, failed, printed.getvalue()

    def _ranking(self, *rows):
        return TABLES.format(path=self.path, rows=", ".join(rows))

    def test_every_way_to_rank(self):
        ways = [way for way in study_tables.RANKING_WAYS if way not in ("bpr", "item-knn", "federated")]
        small = '{method = "ials", grid = {factors = [2], penalty = [1.0], weight = [1.0, 2.0]}}'
        rows = [small if way == "ials" else f'{{method = "{way}"}}' for way in ways]
        read, folder, failed, _ = self._run(self._ranking(*rows) + AMONG.format(path=self.path))
        self.assertEqual(failed, 0)
        plan = json.loads((folder.path / "plan.json").read_text())
        self.assertCountEqual([cell["key"] for cell in plan["cells"]], folder.records())
        for cell in read.cells:
            record = folder.records()[cell.key]
            ranks = np.load(folder.path / "ranks" / f"{cell.key}.npy")
            self.assertEqual((record["status"], record["users"], ranks.dtype), ("done", 60, np.int32))
            expected = 100 * ranking.metrics_from_ranks(ranks.astype(np.int64)).ndcg_10
            self.assertAllClose(record["metrics"]["ndcg_10"]["value"], expected)
            self.assertBetween(record["coverage"], 0.01, 1.0)
            self.assertBetween(record["popularity_bias"], 0.0, 100.0)
            for parts in record["buckets"].values():
                self.assertEqual(sum(part["users"] for part in parts), 60)
        tuned = folder.records()["csv.loo-full.ials.0"]
        self.assertEqual([tried["hyperparameters"]["weight"] for tried in tuned["grid"]], [1.0, 2.0])
        best = max(tried["validation"]["ndcg_10"] for tried in tuned["grid"])
        self.assertEqual(tuned["validation"]["ndcg_10"], best)
        curve = folder.records()["csv.loo-full.centralised.0"]["curve"]
        self.assertEqual([look["round"] for look in curve], [1, 2])

    def test_ratings_and_a_group_of_them(self):
        ways = ("global-mean", "bias", "matrix-factorisation", "centralised", "silos-alone")
        rows = ", ".join(f'{{method = "{way}"}}' for way in ways)
        whole = RATINGS.format(path=self.path, rows=rows, group="")
        part = RATINGS.format(
            path=self.path, rows='{method = "bias"}, {method = "global-mean"}', group='group = "items without tags"'
        ).replace('id = "ratings"', 'id = "part"')
        read, folder, failed, _ = self._run('title = "t"\n' + whole + part)
        # The data has no tags, and so no such group.
        self.assertEqual(failed, 2)
        errors = [record["error"] for record in folder.records().values() if record["status"] == "failed"]
        self.assertStartsWith(errors[0], "There is no test rating of 'items without tags'; choose of")
        for cell in read.cells[: len(ways)]:
            record = folder.records()[cell.key]
            squares = np.load(folder.path / "errors" / f"{cell.key}.npy")
            self.assertAllClose(record["metrics"]["rmse"]["value"], np.sqrt(squares.mean()))
            self.assertEqual(sum(group["ratings"] for group in record["buckets"]["silos"]), len(squares))
        self.assertIn("failed: There is no test rating", summary(folder.path))
        tested = pairs.compare(groups.all_of(read_study(folder.path)), folder.path)
        difference = tested["ratings.csv.ratings: bias"]
        values = [folder.records()[cell.key]["metrics"]["rmse"]["value"] for cell in read.cells[:2]]
        self.assertAllClose(difference.value, values[1] - values[0])

    def test_ratings_of_users_with_noise(self):
        options = [
            'clients = "users"',
            'training = {weighting = "equal", row_clip_norm = 0.1, tower_clip_norm = 0.1, rounds = 1}',
            'privacy = {mechanism = "gaussian", target_epsilon = 8.0}',
        ]
        row = f'{{method = "private", way = "federated", options = {{{", ".join(options)}}}}}'
        _, folder, failed, printed = self._run('title = "t"\n' + RATINGS.format(path=self.path, rows=row, group=""))
        self.assertEqual(failed, 0, printed)
        [record] = folder.records().values()
        self.assertBetween(record["epsilon"]["epsilon"], 7.9, 8.0)

    def test_what_is_done_stays_and_what_failed_or_is_deleted_is_done_again(self):
        text = self._ranking('{method = "popularity"}', '{method = "ease"}', '{method = "device-alone"}')
        with mock.patch.object(study_ranking.item_baselines, "candidates", side_effect=ValueError("no\nluck")):
            _, folder, failed, printed = self._run(text)
        self.assertEqual(failed, 1)
        self.assertIn("csv.loo-full.ease.0 failed: ValueError: no luck", printed)
        self.assertEqual(folder.records()["csv.loo-full.ease.0"]["error"], "ValueError: no luck")
        before = folder.records()
        _, _, failed, printed = self._run(text)
        self.assertEqual((failed, printed.count("loo-full")), (0, 2))
        again = folder.records()
        self.assertEqual(again["csv.loo-full.ease.0"]["status"], "done")
        self.assertEqual(again["csv.loo-full.popularity.0"], before["csv.loo-full.popularity.0"])
        lines = folder.results.read_text().splitlines(keepends=True)
        folder.results.write_text("".join(lines) + '{"key": "cut sh')
        with self.assertRaisesRegex(InputError, "has a line that is no result"):
            folder.records()
        folder.results.write_text("".join(lines[1:]))
        with mock.patch.object(study_ranking, "fit", wraps=study_ranking.fit) as fits:
            self._run(text)
            self._run(text)
        self.assertEqual([call.args[0].key for call in fits.mock_calls], ["csv.loo-full.popularity.0"])
        # Other options make another cell of the same name.
        with mock.patch.object(study_ranking, "fit", wraps=study_ranking.fit) as fits:
            self._run(text.replace('{method = "ease"}', '{method = "ease", grid = {penalty = [5.0]}}'))
        self.assertEqual([call.args[0].key for call in fits.mock_calls], ["csv.loo-full.ease.0"])
        self.assertRegex(summary(folder.path), r"\| popularity \| [\d.]+ \(")

    def test_a_federated_cell_goes_on_where_it_was(self):
        text = self._ranking('{method = "federated"}').replace("rounds = 2", "rounds = 3")
        text = text.replace("options.export", "options.checkpoint_every = 1\noptions.export")
        original = RunFolder.append

        def until_round_2(folder, record):
            original(folder, record)
            if record["round"] == 2:
                raise KeyboardInterrupt

        with mock.patch.object(RunFolder, "append", until_round_2), self.assertRaises(KeyboardInterrupt):
            self._run(text)
        _, folder, failed, printed = self._run(text)
        self.assertEqual(failed, 0)
        self.assertIn("resuming after round 1", printed)
        record = folder.records()["csv.loo-full.federated.0"]
        self.assertEqual([look["round"] for look in record["curve"]], [1, 2, 3])
        # Half of 60 users take part in a round, with all bytes of three rounds in the end.
        total = sum(record["traffic"].values())
        self.assertAllClose(record["curve"][-1]["bytes_per_device"], 3 * total / 2)
        self.assertGreater(record["traffic"]["up"], 0)
        self.assertIsNone(record["epsilon"])


if __name__ == "__main__":
    tf.test.main()
