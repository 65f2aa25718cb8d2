"""scripts/recommend.py: as a person runs it, and, since every start of TensorFlow takes seconds, its `main`."""

import contextlib
import importlib.util
import io
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf

from tff_rec.data import features, splits
from tff_rec.data.sources import read_source
from tff_rec.errors import InputError
from tff_rec.models import candidate_tower, objectives, query_towers, two_tower
from tff_rec.serving import export, reader

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "recommend.py"
_SPEC = importlib.util.spec_from_file_location("recommend", SCRIPT)
script = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(script)


def _run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def _print(**options):
    """What `main` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        script.main(script.RecommendOptions(**options))
    return printed.getvalue()


class RecommendTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = read_source("synthetic")
        train = splits.no_split(cls.data).train
        cls.vocabulary = features.build_item_vocabulary(train)
        described = features.build_item_features(cls.data, cls.vocabulary, train)
        cls.model = two_tower.TwoTower(
            query_towers.BagQueryTower(8, unit_norm=True),
            candidate_tower.CandidateTower(len(cls.vocabulary), described.num_features, 8, unit_norm=True, stddev=1.0),
            described.indices,
            described.weights,
            objectives.FullSoftmax(0.1),
        )
        cls.popularity = features.popularity(train, cls.vocabulary)
        cls.titles = dict(zip(cls.data.items["item_id"], cls.data.items["title"], strict=True))
        cls.export = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory())) / "export"
        export.export_two_tower(cls.model, cls.vocabulary, cls.popularity, cls.titles, cls.export, 50, 20)

    def test_a_history(self):
        history = ["3", "77", "400"]
        result = _run("--export", self.export, "--history", "3, 77,400,none", "--top", 4)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("From 3 of 4 items of the history", result.stdout)
        expected = reader.recommend(self.export, history, 4)
        self.assertLen(expected.items, 4)
        for rank, item in enumerate(expected.items, 1):
            self.assertRegex(result.stdout, rf"(?m)^ *{rank} +{item.item_id} ")
            self.assertIn(self.titles[item.item_id], result.stdout)
            self.assertIn(f"{item.score:.4f}", result.stdout)

    def test_a_user_of_a_data_set(self):
        printed = _print(export=self.export, user="12", data=script.DataOptions("synthetic"), top=1)
        rows = splits.order_by_user_and_time(self.data.interactions)
        history = rows.loc[rows["user_id"] == "12", "item_id"].tolist()
        self.assertIn(f"From {len(history)} of {len(history)} items", printed)
        best = reader.recommend(self.export, history, 1).items[0]
        self.assertRegex(printed, rf"(?m)^ *1 +{best.item_id} ")

    def test_nothing_known_is_popular_items(self):
        best = self.vocabulary.item_ids[int(np.argmax(self.popularity))]
        reasons = {"none,nothing": "none of the history's items is in the catalogue", " , ": "the history is empty"}
        for history, reason in reasons.items():
            printed = _print(export=self.export, history=history, top=1)
            self.assertIn(f"Popular items, since {reason}", printed)
            self.assertRegex(printed, rf"(?m)^ *1 +{best} ")

    def _check_device(self, **options):
        """The device ranks as the server does; the last line says how many items the server was asked for."""
        history = ["3", "77", "400"]
        printed = _print(export=self.export, history="3,77,400,none", top=4, **options)
        self.assertIn("From 3 of 4 items of the history", printed)
        for rank, item in enumerate(reader.recommend(self.export, history, 4).items, 1):
            self.assertRegex(printed, rf"(?m)^ *{rank} +{item.item_id} ")
        return printed.splitlines()[-1]

    def test_a_device_that_holds_the_catalogue_asks_for_nothing(self):
        self.assertEqual(self._check_device(path="device-holds"), "The server saw requests for 0 items.")

    def test_a_device_asks_for_its_history_among_decoys(self):
        """3 items of the history with 2 decoys each: 9. With the whole catalogue for a shortlist nothing is lost."""
        asked = self._check_device(path="device-asks", secret="mine", decoys=2, shortlist=len(self.vocabulary))
        self.assertEqual(asked, "The server saw requests for 9 items.")

    def test_a_device_that_asks_needs_a_secret(self):
        result = _run("--export", self.export, "--history", "1", "--path", "device-asks")
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertRegex(result.stderr, r"^error: --path device-asks needs --secret, [^\n]*\.\n$")

    def test_refusals(self):
        given = {"export": self.export}
        synthetic = script.DataOptions("synthetic")
        for sentence, options in (
            ("Give either --history .* or --user", given),
            ("Give either --history .* or --user", given | {"history": "1", "user": "1"}),
            ("give --data.source", given | {"user": "1"}),
            ("no user 'x' in synthetic", given | {"user": "x", "data": synthetic}),
            ("no data source 'x'", given | {"user": "1", "data": script.DataOptions("x")}),
            ("1 to 20 recommendations, not 21", given | {"history": "1", "top": 21}),
            ("1 to 20 recommendations, not 0", given | {"history": "1", "top": 0}),
            ("--shortlist must be 1 or more", given | {"history": "1", "shortlist": 0}),
            ("--decoys 0 or more", given | {"history": "1", "decoys": -1}),
            ("does not exist", {"export": self.export / "x", "history": "1"}),
            ("is not an export", {"export": self.export.parent, "history": "1"}),
        ):
            with self.assertRaisesRegex(InputError, sentence):
                script.main(script.RecommendOptions(**options))

    def test_a_refusal_is_one_sentence(self):
        result = _run("--export", self.export / "x", "--history", "1")
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertRegex(result.stderr, r"^error: .* does not exist; give the folder of an export\.\n$")

    def test_a_damaged_export(self):
        damaged = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "damaged"
        shutil.copytree(self.export, damaged)
        with self.assertRaisesRegex(InputError, "gives 20 items, not 21"):
            reader.recommend(damaged, ["1"], 21)
        (damaged / "saved_model.pb").write_bytes(b"no model")
        with self.assertRaisesRegex(InputError, "cannot be read; export the model again"):
            reader.recommend(damaged, ["1"], 2)
        (damaged / "saved_model.pb").unlink()
        with self.assertRaisesRegex(InputError, "cannot be read; export the model again"):
            reader.recommend(damaged, ["1"], 2)


if __name__ == "__main__":
    tf.test.main()
