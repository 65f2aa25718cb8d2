import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf

from tff_rec.data.features import ItemVocabulary
from tff_rec.errors import InputError
from tff_rec.models import candidate_tower, objectives, query_towers, two_tower
from tff_rec.serving import export, folder

ITEMS, LENGTH, K = 30, 6, 5
VOCABULARY = ItemVocabulary(tuple(f"item {i:02}" for i in range(ITEMS)))
POPULARITY = np.random.default_rng(3).permutation(ITEMS).astype(np.float32)
LOWEST = np.finfo(np.float32).min


def _model(tower, temperature, seed=0):
    rng = np.random.default_rng(seed)
    candidates = candidate_tower.CandidateTower(ITEMS, 4, 8, unit_norm=tower.unit_norm, stddev=1.0, seed=seed)
    features = (rng.integers(0, 4, (ITEMS, 2)), rng.random((ITEMS, 2)))
    return two_tower.TwoTower(tower, candidates, *features, objectives.FullSoftmax(temperature))


def _bag(seed=0):
    return _model(query_towers.BagQueryTower(8, se_ratio=2, dropout=0.3), 0.5, seed)


def _attention():
    return _model(query_towers.AttentionQueryTower(8, LENGTH, num_heads=2, unit_norm=True), 0.1)


def _export(model, directory, **changes):
    arguments = {"titles": {}, "directory": directory, "max_length": LENGTH, "k": K} | changes
    export.export_two_tower(model, VOCABULARY, POPULARITY, **arguments)


def _strings(items):
    return [VOCABULARY.item_ids[item] for item in items]


def _specs(specs):
    return {name: (spec.dtype, spec.shape.as_list()) for name, spec in specs.items()}


def _expected(model, items):
    """Scores of all items after the last LENGTH of a non-empty history."""
    table = model.candidate_embeddings()
    queries = model.query_embeddings(tf.constant([items[-LENGTH:]], tf.int32), table)
    return (queries.numpy() @ table.numpy().T)[0] / model.objective.temperature


class ExportTest(tf.test.TestCase):
    """Exports of a bag tower with dot products and an attention tower with cosines, made once."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.models = {"bag": _bag(), "attention": _attention()}
        cls.served = {}
        for name, model in cls.models.items():
            _export(model, cls.folder / name, titles={"item 01": "Tiger, tiger\n(1956)"})
            cls.served[name] = tf.saved_model.load(str(cls.folder / name)).signatures

    def _recommend(self, name, rows):
        answer = self.served[name]["recommend"](history=tf.constant(rows, tf.string))
        ids = [[item_id.decode() for item_id in row] for row in answer["item_ids"].numpy()]
        return ids, answer["scores"].numpy()

    def _score(self, name, rows, items):
        return self.served[name]["score"](history=tf.constant(rows, tf.string), item_ids=tf.constant(items, tf.string))[
            "scores"
        ].numpy()

    def test_signatures(self):
        text, number = (tf.string, [None, None]), (tf.float32, [None, None])
        expected = {
            "recommend": ({"history": text}, {"item_ids": (tf.string, [None, K]), "scores": (tf.float32, [None, K])}),
            "score": ({"history": text, "item_ids": text}, {"scores": number}),
            "item_vectors": ({"item_ids": (tf.string, [None])}, {"vectors": (tf.float32, [None, 8])}),
            "score_vectors": (
                {"history_vectors": number, "candidate_vectors": number},
                {"scores": (tf.float32, [None])},
            ),
        }
        for signatures in self.served.values():
            self.assertCountEqual(signatures, expected)
            for name, (inputs, outputs) in expected.items():
                self.assertEqual(_specs(signatures[name].structured_input_signature[1]), inputs)
                self.assertEqual(_specs(signatures[name].structured_outputs), outputs)

    def test_equals_brute_force(self):
        rng = np.random.default_rng(0)
        histories = [rng.permutation(ITEMS)[:n].astype(np.int32) for n in (1, 2, 5, 6, 7, 12, 24, 0)]
        for name, model in self.models.items():
            with self.subTest(name):
                self.assertEqual(export.check_export(self.folder / name, model, VOCABULARY, histories), 7)

    def test_check_export_sees_another_model(self):
        with self.assertRaisesRegex(RuntimeError, "does not recommend what the model does"):
            export.check_export(self.folder / "bag", _bag(seed=1), VOCABULARY, [np.arange(4)])

    def test_a_batch_of_unequal_histories(self):
        """Ids by numpy for each row alone; rows are padded with empty strings."""
        histories = [[3], [4, 9, 2], [0, 1, 2, 3, 4, 5, 6, 7, 8]]
        rows = [_strings(items) + [""] * (9 - len(items)) for items in histories]
        for name, model in self.models.items():
            ids, scores = self._recommend(name, rows)
            for items, found, values in zip(histories, ids, scores, strict=True):
                expected = _expected(model, items)
                expected[items] = LOWEST
                best = np.argsort(-expected)[:K]
                self.assertEqual(found, _strings(best))
                self.assertAllClose(values, expected[best], rtol=1e-4, atol=1e-5)

    def test_score_equals_the_model(self):
        items = [0, 3, 29, 4]
        for name, model in self.models.items():
            scores = self._score(name, [_strings([4, 9, 2])], [[*_strings(items), "unknown", ""]])
            self.assertAllClose(scores[0, :4], _expected(model, [4, 9, 2])[items], rtol=1e-4, atol=1e-5)
            self.assertAllEqual(scores[0, 4:], [LOWEST, LOWEST])

    def test_unknown_and_empty_ids_are_as_if_never_there(self):
        """Anywhere in the history, also where they would push known items out of the last LENGTH."""
        plain = _strings([4, 9, 2])
        mixed = ["", plain[0], "unknown", "", plain[1], plain[2], *["none", ""] * 5]
        for name in self.models:
            ids, scores = self._recommend(name, [plain])
            self.assertEqual(self._recommend(name, [mixed])[0], ids)
            self.assertAllClose(self._recommend(name, [mixed])[1], scores, rtol=1e-6)
            self.assertAllClose(self._score(name, [mixed], [plain]), self._score(name, [plain], [plain]), rtol=1e-6)

    def test_only_the_newest_items_form_the_query_and_all_are_left_out(self):
        long = list(range(20))
        for name in self.models:
            every = [list(VOCABULARY.item_ids)]
            newest = _strings(long[-LENGTH:])
            self.assertAllClose(
                self._score(name, [_strings(long)], every), self._score(name, [newest], every), rtol=1e-6
            )
            ids, _ = self._recommend(name, [_strings(long)])
            self.assertEmpty(set(ids[0]) & set(_strings(long)))

    def test_a_repeated_item_counts_twice_in_the_query(self):
        model = self.models["bag"]
        ids, scores = self._recommend("bag", [_strings([1, 7, 1])])
        expected = _expected(model, [1, 7, 1])
        expected[[1, 7]] = LOWEST
        self.assertEqual(ids[0], _strings(np.argsort(-expected)[:K]))
        self.assertAllClose(scores[0], np.sort(expected)[::-1][:K], rtol=1e-4, atol=1e-5)

    def test_without_a_history_popularity_decides(self):
        best = np.argsort(-POPULARITY)[:K]
        for name in self.models:
            for row in ([], [""], ["unknown"], ["", "unknown", ""]):
                ids, scores = self._recommend(name, np.array([row], dtype=object).reshape(1, -1))
                self.assertEqual(ids, [_strings(best)])
                self.assertAllEqual(scores[0], POPULARITY[best])
            self.assertAllEqual(self._score(name, [[""]], [[*_strings([3, 5]), "unknown"]])[0, :2], POPULARITY[[3, 5]])

    def test_a_user_without_a_history_beside_one_with(self):
        ids, _ = self._recommend("bag", [["", ""], _strings([4, 9])])
        self.assertEqual(ids, [self._recommend("bag", [[""]])[0][0], self._recommend("bag", [_strings([4, 9])])[0][0]])

    def test_nearly_the_whole_catalogue(self):
        """Two items are left; then none."""
        for name in self.models:
            ids, scores = self._recommend(name, [_strings(range(2, ITEMS))])
            self.assertCountEqual(ids[0][:2], _strings([0, 1]))
            self.assertEqual(ids[0][2:], [""] * 3)
            self.assertAllEqual(scores[0, 2:], [LOWEST] * 3)
            ids, scores = self._recommend(name, [_strings(range(ITEMS))])
            self.assertEqual(ids[0], [""] * K)
            self.assertAllEqual(scores[0], [LOWEST] * K)

    def test_no_rows_and_no_items(self):
        self.assertEqual(self._recommend("bag", np.empty((0, 3), object))[1].shape, (0, K))
        self.assertEqual(self._score("bag", [["item 01"]], np.empty((1, 0), object)).shape, (1, 0))

    def test_description_and_titles(self):
        directory = self.folder / "attention"
        expected = folder.Description(K, LENGTH, ITEMS, "AttentionQueryTower and CandidateTower, 8 dimensions")
        self.assertEqual(folder.read_description(directory), expected)
        titles = folder.read_titles(directory)
        self.assertEqual(list(titles), list(VOCABULARY.item_ids))
        self.assertEqual([titles["item 01"], titles["item 02"]], ["Tiger, tiger\n(1956)", ""])

    def test_served_by_tensorflow_alone(self):
        """In a process of its own, which then becomes `saved_model_cli show --all`."""
        directory = self.folder / "attention"
        program = f"""
import json, runpy, sys
import tensorflow as tf
served = tf.saved_model.load({str(directory)!r})
answer = served.signatures["recommend"](history=tf.constant([["item 04", "item 09"], ["", ""]]))
scores = served.signatures["score"](history=tf.constant([["item 04", ""]]), item_ids=tf.constant([["item 07"]]))
loaded = {{name.split(".")[0] for name in sys.modules}}
assert not loaded & {{"tff_rec", "tensorflow_federated", "tensorflow_recommenders"}}
print(json.dumps([[item.decode() for item in row] for row in answer["item_ids"].numpy()]))
print(scores["scores"].numpy()[0, 0], flush=True)
sys.argv = ["saved_model_cli", "show", "--dir", {str(directory)!r}, "--all"]
runpy.run_module("tensorflow.python.tools.saved_model_cli", run_name="__main__")
"""
        result = subprocess.run(
            [sys.executable, "-c", program], cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        ids, score, *shown = result.stdout.splitlines()
        rows = [["item 04", "item 09"], ["", ""]]
        self.assertEqual(json.loads(ids), self._recommend("attention", rows)[0])
        self.assertAllClose(float(score), self._score("attention", [["item 04"]], [["item 07"]])[0, 0], rtol=1e-4)
        self.assertIn("signature_def['recommend']:", shown)
        self.assertIn("signature_def['score']:", shown)


class RefusalsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "export"

    def test_k(self):
        for k in (0, ITEMS + 1):
            with self.assertRaisesRegex(InputError, f"{k} recommendations of 30 items"):
                _export(_bag(), self.directory, k=k)
        self.assertFalse(self.directory.exists())

    def test_k_of_the_whole_catalogue(self):
        _export(_bag(), self.directory, k=ITEMS)
        answer = tf.saved_model.load(str(self.directory)).signatures["recommend"](history=tf.constant([["item 00"]]))
        ids = [item_id.decode() for item_id in answer["item_ids"].numpy()[0]]
        self.assertCountEqual(ids, ["", *VOCABULARY.item_ids[1:]])

    def test_max_length(self):
        for max_length in (0, LENGTH + 1):
            with self.assertRaisesRegex(InputError, "reads 1 to 6 items, not"):
                _export(_attention(), self.directory, max_length=max_length)

    def test_numbers_that_are_not_finite(self):
        model = _bag()
        model.query_tower.tensors["output/bias"].assign(np.full(8, np.nan, np.float32))
        with self.assertRaisesRegex(InputError, "not finite"):
            _export(model, self.directory)

    def test_an_export_is_replaced(self):
        _export(_bag(), self.directory, titles=[f"Title {i}" for i in range(ITEMS)])
        self.assertEqual(folder.read_titles(self.directory)["item 07"], "Title 7")
        newer = _bag(seed=1)
        _export(newer, self.directory, k=3)
        self.assertEqual(folder.read_description(self.directory).k, 3)
        self.assertEqual(export.check_export(self.directory, newer, VOCABULARY, [np.arange(4)]), 1)
        self.assertEqual([entry.name for entry in self.directory.parent.iterdir()], ["export"])

    def test_a_failed_export_leaves_the_old_one(self):
        _export(_bag(), self.directory)
        with self.assertRaises(ValueError):
            _export(_bag(), self.directory, titles=["too few"], k=3)
        self.assertEqual(folder.read_description(self.directory).k, K)
        self.assertEqual([entry.name for entry in self.directory.parent.iterdir()], ["export"])


if __name__ == "__main__":
    tf.test.main()
