"""The served tag-aware model: equal to NumPy, at home without this package, and never lost for an answer."""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from rating_export_cases import (
    DIMENSION,
    HIGHEST_RATING,
    ITEMS,
    LENGTH,
    LOWEST_RATING,
    POPULARITY,
    VOCABULARY,
    K,
    export,
    small_model,
)

from tff_rec.models import rating_towers
from tff_rec.models.layers import own_weights
from tff_rec.serving import folder, rating_export, reader

LOWEST = np.finfo(np.float32).min


def _strings(items):
    return [VOCABULARY.item_ids[item] for item in items]


def _padded(rows, padding):
    length = max(map(len, rows))
    return [[*row, *[padding] * (length - len(row))] for row in rows]


def _specs(specs):
    return {name: (spec.dtype, spec.shape.as_list()) for name, spec in specs.items()}


def _brute_force(model, items, ratings):
    """Ratings of all items in float64, not clipped, of a model without network; None for ratings: all are liked."""
    weights = {name: value.numpy().astype(np.float64) for name, value in own_weights(model.rating_tower).items()}
    table = model.item_table().numpy().astype(np.float64)
    biases, vectors, choices = table[:, 0], table[:, 1 : 1 + DIMENSION], table[:, 1 + DIMENSION :]
    designs = np.concatenate([np.broadcast_to(weights["user_bias"], [ITEMS, 1]), vectors], axis=1)
    items = items[-LENGTH:]
    if ratings is None:
        residuals = np.ones(len(items))
    else:
        ratings = np.array(ratings[-LENGTH:])
        residuals = np.where(ratings > 0, ratings - biases[items] - weights["intercept"], 0)
    prior = choices[items].sum(axis=0) / max(1, len(items)) ** 0.5
    gram = np.eye(1 + DIMENSION) + designs[items].T @ designs[items]
    return weights["intercept"] + biases + designs @ np.linalg.solve(gram, prior + residuals @ designs[items])


def _clipped(ratings):
    return np.clip(ratings, LOWEST_RATING, HIGHEST_RATING)


def _histories(lengths, seed=0):
    draw = np.random.default_rng(seed)
    return [(draw.permutation(ITEMS)[:n].tolist(), (draw.integers(1, 11, n) / 2).tolist()) for n in lengths]


class RatingExportTest(tf.test.TestCase, parameterized.TestCase):
    """Exports of a model without and one with a network, made once."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.models = {"plain": small_model(), "network": small_model(hidden=3)}
        cls.served = {}
        for name, model in cls.models.items():
            export(model, cls.folder / name, titles={"item 01": "Tiger, tiger\n(1956)"})
            cls.served[name] = tf.saved_model.load(str(cls.folder / name)).signatures
        cls.model = cls.models["plain"]

    def _predict(self, rows, ratings, items, name="plain"):
        return self.served[name]["predict_rating"](
            history=tf.constant(rows, tf.string, [len(items), len(rows[0])]),
            history_ratings=tf.constant(ratings, tf.float32, [len(items), len(rows[0])]),
            item_id=tf.constant(items),
        )["rating"].numpy()

    def _best(self, signature, **inputs):
        answer = self.served["plain"][signature](**inputs)
        return [[item_id.decode() for item_id in row] for row in answer["item_ids"].numpy()], answer["scores"].numpy()

    def _recommend(self, rows):
        return self._best("recommend", history=tf.constant(rows, tf.string))

    def _recommend_rated(self, rows, ratings):
        return self._best(
            "recommend_rated", history=tf.constant(rows), history_ratings=tf.constant(ratings, tf.float32)
        )

    def _similar(self, items):
        return self._best("similar_items", item_id=tf.constant(items, tf.string))

    def test_signatures(self):
        history = {"history": (tf.string, [None, None])}
        rated, item = history | {"history_ratings": (tf.float32, [None, None])}, {"item_id": (tf.string, [None])}
        best = {"item_ids": (tf.string, [None, K]), "scores": (tf.float32, [None, K])}
        expected = {
            "predict_rating": (rated | item, {"rating": (tf.float32, [None])}),
            "recommend": (history, best),
            "recommend_rated": (rated, best),
            "similar_items": (item, best),
        }
        for signatures in self.served.values():
            self.assertCountEqual(signatures, expected)
            for name, (inputs, outputs) in expected.items():
                self.assertEqual(_specs(signatures[name].structured_input_signature[1]), inputs)
                self.assertEqual(_specs(signatures[name].structured_outputs), outputs)

    @parameterized.parameters("plain", "network")
    def test_check_export_compares_all_signatures(self, name):
        histories = [*_histories((1, 2, 6, 7, 24)), ([], []), ([-1, 3, -1], [0, 4.5, 0])]
        items, ratings = ([np.array(row) for row in rows] for rows in zip(*histories, strict=True))
        model = self.models[name]
        self.assertEqual(rating_export.check_export(self.folder / name, model, VOCABULARY, items, ratings), 6)

    @parameterized.parameters("intercept", "items/vectors", "items/choices")
    def test_check_export_sees_another_model(self, moved):
        other = small_model()
        weights = {weight.name: weight for weight in other.trainable_weights}
        weights[f"{moved}:0"].assign_add(0.5 * np.random.default_rng(0).normal(size=weights[f"{moved}:0"].shape))
        with self.assertRaisesRegex(RuntimeError, "does not answer as the model does"):
            rating_export.check_export(
                self.folder / "plain", other, VOCABULARY, [np.arange(4)], [np.array([5.0, 1.0, 3.0, 4.0])]
            )

    def test_predicted_ratings_of_a_batch_of_unequal_histories(self):
        """By NumPy for each row alone; rows are padded with empty strings and zeros."""
        histories = _histories((1, 3, 6, 9))
        targets = [29, 4, 0, 11]
        rows = _padded([_strings(items) for items, _ in histories], "")
        ratings = _padded([values for _, values in histories], 0.0)
        expected = [
            _brute_force(self.model, *history)[target] for history, target in zip(histories, targets, strict=True)
        ]
        self.assertAllClose(self._predict(rows, ratings, _strings(targets)), _clipped(expected), rtol=1e-4)

    def test_every_prediction_equals_the_models_with_network(self):
        (items, ratings), every = _histories((5,))[0], np.arange(ITEMS)
        model = self.models["network"]
        expected = model.predict_ratings(tf.constant([items]), tf.constant([ratings]), every[np.newaxis])[0]
        found = self._predict([_strings(items)] * ITEMS, [ratings] * ITEMS, _strings(every), "network")
        self.assertAllClose(found, expected, rtol=1e-4)
        self.assertNotAllClose(
            found, self._predict([_strings(items)] * ITEMS, [ratings] * ITEMS, _strings(every)), rtol=1e-2
        )

    def test_predictions_stay_on_the_scale(self):
        items, ratings = _histories((6,))[0]
        expected = _brute_force(self.model, items, ratings)
        low, high = int(np.argmin(expected)), int(np.argmax(expected))
        self.assertLess(expected[low], LOWEST_RATING)
        self.assertGreater(expected[high], HIGHEST_RATING)
        found = self._predict([_strings(items)] * 2, [ratings] * 2, _strings([low, high]))
        self.assertAllEqual(found, [LOWEST_RATING, HIGHEST_RATING])

    def test_without_what_is_unknown(self):
        """No history: mean + item bias. Unknown item: mean + user bias. Neither: the mean."""
        weights = {name: value.numpy()[0] for name, value in own_weights(self.model.rating_tower).items()}
        table = self.model.item_table()
        user = self.model.rating_tower.user_part(
            own_weights(self.model.rating_tower), table, tf.constant([[4, 9]]), tf.constant([[5.0, 4.0]])
        )
        known, unknown = ([_strings([4, 9]), [5.0, 4.0]]), (["", "nobody's"], [0.0, 5.0])
        rows, ratings = zip(unknown, known, unknown, strict=True)
        found = self._predict(rows, ratings, ["item 07", "unknown", "unknown"])
        intercept = weights["intercept"]
        expected = [intercept + table[7, 0], intercept + weights["user_bias"] * user[0, 0], intercept]
        self.assertAllClose(found, _clipped(np.array(expected)), rtol=1e-4)
        self.assertAllClose(self._predict([[]], [], ["item 07"]), found[:1])

    def test_unknown_and_empty_ids_are_as_if_never_there(self):
        """Anywhere in the history, also where they would push known items out of the last LENGTH."""
        plain, ratings = _strings([4, 9, 2]), [5.0, 1.0, 3.5]
        mixed = ["", plain[0], "unknown", "", plain[1], plain[2], *["none", ""] * 5]
        given = [4.0, 5.0, 1.0, 0.0, 1.0, 3.5, *[5.0, 2.0] * 5]
        self.assertAllClose(
            self._predict([mixed], [given], ["item 07"]), self._predict([plain], [ratings], ["item 07"])
        )
        expected, found = self._recommend_rated([plain], [ratings]), self._recommend_rated([mixed], [given])
        self.assertEqual(found[0], expected[0])
        self.assertAllClose(found[1], expected[1])

    def test_only_the_newest_items_form_the_user_part_and_all_are_left_out(self):
        items, ratings = _histories((20,))[0]
        newest = _strings(items[-LENGTH:]), ratings[-LENGTH:]
        self.assertAllClose(
            self._predict([_strings(items)], [ratings], ["item 07"]),
            self._predict([newest[0]], [newest[1]], ["item 07"]),
        )
        ids, scores = self._recommend_rated([_strings(items)], [ratings])
        expected = _brute_force(self.model, items, ratings)
        expected[items] = LOWEST
        self.assertEqual(ids[0], _strings(np.argsort(-expected)[:K]))
        self.assertAllClose(scores[0], np.sort(expected)[::-1][:K], rtol=1e-4)

    def test_recommendations_to_a_batch_of_unequal_histories(self):
        """Ids and scores by NumPy, with ratings and without; some scores lie beyond the scale."""
        histories = _histories((1, 3, 9))
        rows = _padded([_strings(items) for items, _ in histories], "")
        ratings = _padded([values for _, values in histories], 0.0)
        rated, unrated = self._recommend_rated(rows, ratings), self._recommend(rows)
        for place, (items, values) in enumerate(histories):
            for (ids, scores), given in ((rated, values), (unrated, None)):
                expected = _brute_force(self.model, items, given)
                expected[items] = LOWEST
                self.assertEqual(ids[place], _strings(np.argsort(-expected)[:K]))
                self.assertAllClose(scores[place], np.sort(expected)[::-1][:K], rtol=1e-4)
        self.assertGreater(rated[1].max(), HIGHEST_RATING)

    def test_a_rating_of_zero_is_none(self):
        """The item counts as rated by its mean: neither left out, nor hated."""
        rows = [_strings([4, 9, 2])]
        expected = float(own_weights(self.model.rating_tower)["intercept"][0] + self.model.item_table()[9, 0])
        found = self._predict(rows, [[5.0, 0.0, 1.0]], ["item 07"])
        self.assertAllClose(found, self._predict(rows, [[5.0, expected, 1.0]], ["item 07"]))
        self.assertAllClose(found, _clipped(_brute_force(self.model, [4, 9, 2], [5.0, 0.0, 1.0])[7:8]), rtol=1e-4)
        without = self._predict([_strings([4, 2])], [[5.0, 1.0]], ["item 07"])
        self.assertNotAllClose(found, without)

    def test_without_a_history_popularity_decides(self):
        best = np.argsort(-POPULARITY)[:K]
        for row in ([], [""], ["unknown"], ["", "unknown", ""]):
            ids, scores = self._recommend(np.array([row], dtype=object).reshape(1, -1))
            self.assertEqual(ids, [_strings(best)])
            self.assertAllEqual(scores[0], POPULARITY[best])
        beside, _ = self._recommend([["", ""], _strings([4, 9])])
        self.assertEqual(beside, [_strings(best), self._recommend([_strings([4, 9])])[0][0]])

    def test_nearly_the_whole_catalogue(self):
        """Two items are left; then none."""
        ids, scores = self._recommend([_strings(range(2, ITEMS))])
        self.assertCountEqual(ids[0][:2], _strings([0, 1]))
        self.assertEqual(ids[0][2:], [""] * 3)
        self.assertAllEqual(scores[0, 2:], [LOWEST] * 3)
        ids, scores = self._recommend([_strings(range(ITEMS))])
        self.assertEqual(ids[0], [""] * K)
        self.assertAllEqual(scores[0], [LOWEST] * K)

    def test_similar_items_by_the_cosine_of_vectors(self):
        vectors = rating_towers.item_part(self.model.item_table()).vectors.numpy()
        directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        ids, scores = self._similar([*_strings([7, 0]), "unknown", ""])
        for place, item in enumerate((7, 0)):
            cosines = directions @ directions[item]
            cosines[item] = LOWEST
            self.assertEqual(ids[place], _strings(np.argsort(-cosines)[:K]))
            self.assertAllClose(scores[place], np.sort(cosines)[::-1][:K], rtol=1e-4)
        self.assertEqual(ids[2:], [[""] * K] * 2)
        self.assertAllEqual(scores[2:], np.full([2, K], LOWEST))

    def test_no_rows(self):
        self.assertEqual(self._recommend(np.empty((0, 3), object))[1].shape, (0, K))
        self.assertEqual(self._similar([])[1].shape, (0, K))
        empty = np.empty((0, 3), object)
        predicted = self.served["plain"]["predict_rating"](
            history=tf.constant(empty, tf.string), history_ratings=tf.zeros([0, 3]), item_id=tf.constant([], tf.string)
        )
        self.assertEqual(predicted["rating"].shape, [0])

    def test_ratings_of_another_shape_are_refused(self):
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "differ in shape; give a rating an item"):
            self._recommend_rated([_strings([4, 9])], [[5.0]])

    def test_description_titles_and_reader(self):
        """What reads the two-tower export reads this one."""
        directory = self.folder / "network"
        expected = folder.Description(K, LENGTH, ITEMS, "ItemTower and RatingTower, 4 dimensions")
        self.assertEqual(folder.read_description(directory), expected)
        titles = folder.read_titles(directory)
        self.assertEqual(list(titles), list(VOCABULARY.item_ids))
        self.assertEqual([titles["item 01"], titles["item 02"]], ["Tiger, tiger\n(1956)", ""])
        found = reader.recommend(self.folder / "plain", [*_strings([4, 9]), "unknown"], 3)
        self.assertEqual(found.known, 2)
        self.assertEqual([item.item_id for item in found.items], self._recommend([_strings([4, 9])])[0][0][:3])

    def test_served_by_tensorflow_alone(self):
        """In a process of its own, which then becomes `saved_model_cli show --all`."""
        directory = self.folder / "network"
        program = f"""
import json, runpy, sys
import tensorflow as tf
served = tf.saved_model.load({str(directory)!r}).signatures
rated = dict(history=tf.constant([["item 04", "item 09"], ["", ""]]), history_ratings=tf.constant([[5., 1.], [0., 0.]]))
rating = served["predict_rating"](**rated, item_id=tf.constant(["item 07", "unknown"]))["rating"].numpy().tolist()
answers = [
    served["recommend_rated"](**rated),
    served["recommend"](history=rated["history"]),
    served["similar_items"](item_id=tf.constant(["item 07"])),
]
loaded = {{name.split(".")[0] for name in sys.modules}}
assert not loaded & {{"tff_rec", "tensorflow_federated", "tensorflow_recommenders"}}
ids = [[item.decode() for item in answer["item_ids"].numpy()[0]] for answer in answers]
print(json.dumps([rating, ids]), flush=True)
sys.argv = ["saved_model_cli", "show", "--dir", {str(directory)!r}, "--all"]
runpy.run_module("tensorflow.python.tools.saved_model_cli", run_name="__main__")
"""
        result = subprocess.run(
            [sys.executable, "-c", program], cwd=self.folder, capture_output=True, text=True, timeout=240
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        answer, *shown = result.stdout.splitlines()
        rating, ids = json.loads(answer)
        history, ratings = [_strings([4, 9]), ["", ""]], [[5.0, 1.0], [0.0, 0.0]]
        self.assertAllClose(rating, self._predict(history, ratings, ["item 07", "unknown"], "network"), rtol=1e-4)
        served = self.served["network"]
        expected = (
            served["recommend_rated"](history=tf.constant(history), history_ratings=tf.constant(ratings)),
            served["recommend"](history=tf.constant(history)),
            served["similar_items"](item_id=tf.constant(["item 07"])),
        )
        self.assertEqual(ids, [[item.decode() for item in answer["item_ids"].numpy()[0]] for answer in expected])
        for signature in served:
            self.assertIn(f"signature_def['{signature}']:", shown)


class ByHandTest(tf.test.TestCase):
    def test_a_rating_from_one_rating(self):
        """Item 0: bias 0.5, vector (1, 0, 0, 0); c = 1, intercept 3, rating 5. No choices, all else 0.

        The residual is 1.5 and x = (1, 1, 0, 0, 0), so p = x · 1.5 / (1 + 2) = (0.5, 0.5, 0, 0, 0). Item 1 of bias -0.2
        and vector (0.4, 0, 0, 0) gets 3 - 0.2 + 0.5 + 0.2 = 3.5, without the history 2.8; an unknown item 3 + 0.5.
        """
        model = small_model(scale=0.0)
        values = {"intercept": [3.0], "user_bias": [1.0]}
        for weight in model.trainable_weights:
            weight.assign(np.broadcast_to(values.get(weight.name.removesuffix(":0"), 0.0), weight.shape))
        biases, vectors = np.zeros([ITEMS, 1]), np.zeros([ITEMS, DIMENSION])
        biases[:2, 0], vectors[:2, 0] = [0.5, -0.2], [1.0, 0.4]
        model.item_tower.tensors["items/biases"].assign(biases)
        model.item_tower.tensors["items/vectors"].assign(vectors)
        directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "export"
        export(model, directory)
        served = tf.saved_model.load(str(directory)).signatures["predict_rating"]
        answer = served(
            history=tf.constant([["item 00"], [""], ["item 00"]]),
            history_ratings=tf.constant([[5.0], [0.0], [5.0]]),
            item_id=tf.constant(["item 01", "item 01", "unknown"]),
        )
        self.assertAllClose(answer["rating"], [3.5, 2.8, 3.5])


if __name__ == "__main__":
    tf.test.main()
