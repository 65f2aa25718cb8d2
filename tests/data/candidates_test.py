"""What stands beside the held-out item in LOO+99, drawn and published, and the split of published test items."""

import gzip
import pathlib
import tempfile

import numpy as np
import real_data
from absl.testing import absltest

from tff_rec.data import candidates, features, ncf, sources, splits
from tff_rec.errors import InputError


class DrawnTest(absltest.TestCase):
    def test_never_what_a_user_has(self):
        rng = np.random.default_rng(0)
        order = [rng.permutation(300).astype(np.int32) for _ in range(50)]
        histories, held_out = [items[:150] for items in order], np.array([items[150] for items in order])
        found = candidates.drawn(histories, held_out, 300, seed=3)
        self.assertEqual(found.shape, (50, 99))
        for row, history, item in zip(found, histories, held_out, strict=True):
            self.assertLen(np.unique(row), 99)
            self.assertEmpty(np.intersect1d(row, [*history, item]))
        np.testing.assert_array_equal(found, candidates.drawn(histories, held_out, 300, seed=3))
        self.assertTrue((found != candidates.drawn(histories, held_out, 300, seed=4)).any())

    def test_all_items_are_drawn_alike(self):
        """400 users without history draw 99 of 200 items but their own: 198 each, standard deviation about 10."""
        held_out = np.arange(400) % 200
        found = candidates.drawn([np.empty(0, int)] * 400, held_out, 200, seed=0)
        counts = np.bincount(found.ravel(), minlength=200)
        self.assertEqual(counts.sum(), 400 * 99)
        self.assertBetween(counts.min(), 198 - 50, 198)
        self.assertBetween(counts.max(), 198, 198 + 50)

    def test_fewer_where_there_are_no_more(self):
        found = candidates.drawn([np.array([0, -1])], np.array([-1]), 4, seed=0)
        self.assertCountEqual(found[0, :3], [1, 2, 3])
        self.assertTrue((found[0, 3:] == -1).all())


class PublishedTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = pathlib.Path(directory.name)
        (self.folder / "item_id_map.csv").write_text("ncf_item,movieId\n0,50\n1,7\n2,9\n3,8\n")
        (self.folder / "ml-1m.test.rating").write_text("0\t1\t5\t100\n1\t0\t3\t90\n")
        with gzip.open(self.folder / "ml-1m.test.negative.gz", "wt") as file:
            file.write("(0,1)\t3\t2\n(1,0)\t2\t1\n")

    def test_numbers_become_ids(self):
        found = ncf.read_published_test(self.folder)
        self.assertEqual(found.users.tolist(), ["1", "2"])
        self.assertEqual(found.items.tolist(), ["7", "50"])
        self.assertEqual(found.negatives.tolist(), [["8", "9"], ["9", "7"]])
        vocabulary = features.ItemVocabulary(("50", "7", "9"))
        self.assertEqual(candidates.published(found, ["2", "1"], vocabulary).tolist(), [[2, 1], [-1, 2]])

    def test_a_missing_file_and_a_wrong_one(self):
        (self.folder / "item_id_map.csv").write_text("ncf_item,movieId\n0,50\n")
        with self.assertRaisesRegex(InputError, "does not hold the published test"):
            ncf.read_published_test(self.folder)
        (self.folder / "ml-1m.test.negative.gz").unlink()
        with self.assertRaisesRegex(InputError, "lacks ml-1m.test.negative.gz"):
            ncf.read_published_test(self.folder)


@real_data.needed(ncf.FOLDER)
class PublishedSplitTest(absltest.TestCase):
    def test_of_ml_1m(self):
        data, published = sources.read_source("ml-1m"), ncf.read_published_test()
        split = splits.leave_published_out(data, published)
        self.assertEqual([len(part) for part in (split.train, split.validation, split.test)], [988129, 6040, 6040])
        self.assertEqual(
            dict(zip(split.test["user_id"], split.test["item_id"], strict=True)),
            dict(zip(published.users, published.items, strict=True)),
        )
        ours = splits.leave_one_out(data)
        last = dict(zip(ours.test["user_id"], ours.test["item_id"], strict=True))
        theirs = dict(zip(published.users, published.items, strict=True))
        validation = dict(zip(split.validation["user_id"], split.validation["item_id"], strict=True))
        other = [user for user in last if last[user] != theirs[user]]
        self.assertNotEmpty(other)
        # Where the published item is not the last, the last is validation.
        self.assertEqual([validation[user] for user in other], [last[user] for user in other])

    def test_other_data_is_refused(self):
        with self.assertRaisesRegex(InputError, "lacks rows of the published test"):
            splits.leave_published_out(sources.read_source("synthetic"), ncf.read_published_test())


if __name__ == "__main__":
    absltest.main()
