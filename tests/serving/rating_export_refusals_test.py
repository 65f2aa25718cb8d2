"""What no export is made of, and how an export replaces another."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from rating_export_cases import ITEMS, POPULARITY, VOCABULARY, K, export, small_model

from tff_rec.data.features import ItemVocabulary
from tff_rec.errors import InputError
from tff_rec.serving import folder, rating_export


class RefusalsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "export"

    def test_k_and_max_length(self):
        for k in (0, ITEMS + 1):
            with self.assertRaisesRegex(InputError, f"{k} recommendations of 30 items"):
                export(small_model(), self.directory, k=k)
        with self.assertRaisesRegex(InputError, "made of 1 item or more, not 0"):
            export(small_model(), self.directory, max_length=0)
        self.assertFalse(self.directory.exists())

    def test_another_catalogue(self):
        with self.assertRaisesRegex(InputError, "knows 30 items, the vocabulary 30 and the popularity 29"):
            export(small_model(), self.directory, popularity=POPULARITY[1:])
        with self.assertRaisesRegex(InputError, "knows 30 items, the vocabulary 29 and the popularity 29"):
            vocabulary = ItemVocabulary(VOCABULARY.item_ids[1:])
            export(small_model(), self.directory, vocabulary=vocabulary, popularity=POPULARITY[1:])

    def test_a_scale_that_holds_zero(self):
        with self.assertRaisesRegex(InputError, "begins at 0.0, but a rating of 0 stands for none"):
            export(small_model(lowest=0.0), self.directory)

    def test_numbers_that_are_not_finite(self):
        for name in ("items/choices", "intercept"):
            model = small_model()
            weights = {weight.name: weight for weight in model.trainable_weights}
            weights[f"{name}:0"].assign(np.full(weights[f"{name}:0"].shape, np.nan))
            with self.assertRaisesRegex(InputError, "not finite"):
                export(model, self.directory)

    def test_a_folder_of_something_else(self):
        self.directory.mkdir()
        (self.directory / "thesis.txt").touch()
        with self.assertRaisesRegex(InputError, "something that is not an export"):
            export(small_model(), self.directory)

    def test_an_export_is_replaced(self):
        export(small_model(), self.directory, titles=[f"Title {i}" for i in range(ITEMS)])
        self.assertEqual(folder.read_titles(self.directory)["item 07"], "Title 7")
        newer, sample = small_model(seed=1), ([np.arange(4)], [np.arange(1.0, 5.0)])
        export(newer, self.directory, k=3)
        self.assertEqual(folder.read_description(self.directory).k, 3)
        self.assertEqual(rating_export.check_export(self.directory, newer, VOCABULARY, *sample), 1)
        self.assertEqual([entry.name for entry in self.directory.parent.iterdir()], ["export"])

    def test_a_failed_export_leaves_the_old_one(self):
        export(small_model(), self.directory)
        with self.assertRaises(ValueError):
            export(small_model(), self.directory, titles=["too few"], k=3)
        self.assertEqual(folder.read_description(self.directory).k, K)
        self.assertEqual([entry.name for entry in self.directory.parent.iterdir()], ["export"])


if __name__ == "__main__":
    tf.test.main()
