"""Which items a two-tower run ranks: those of the training part, or all that the data describes."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tff_rec.simulation.config import DataConfig, TwoTowerConfig
from tff_rec.simulation.preparation import Prepared, prepare

RUN = TwoTowerConfig(data=DataConfig(min_item_users=60))


@functools.cache
def _prepared(catalogue: str) -> Prepared:
    return prepare(dataclasses.replace(RUN, catalogue=catalogue))


class CatalogueTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.training, self.whole = _prepared("training"), _prepared("all")

    def test_items(self):
        train = set(self.training.split.train["item_id"])
        self.assertEqual(set(self.training.vocabulary.item_ids), train)
        self.assertEqual(set(self.whole.vocabulary.item_ids), train.union(self.whole.data.items["item_id"]))
        self.assertLess(len(train), 600)
        self.assertLen(self.whole.vocabulary, 600)
        self.assertLen(self.whole.item_features.indices, 600)

    def test_histories_and_held_out_items_are_the_same_under_other_indices(self):
        names = []
        for prepared in (self.training, self.whole):
            ids = np.array(prepared.vocabulary.item_ids)
            known = prepared.test.items[prepared.test.items >= 0]
            names.append((ids[prepared.store.items].tolist(), ids[known].tolist()))
        self.assertEqual(*names)
        self.assertAllEqual(self.training.store.offsets, self.whole.store.offsets)

    def test_what_nobody_has_in_training_has_no_popularity(self):
        ids = np.array(self.whole.vocabulary.item_ids)
        known = np.isin(ids, self.training.vocabulary.item_ids)
        self.assertAllEqual(self.whole.popularity[known], self.training.popularity)
        self.assertAllEqual(self.whole.popularity[~known], np.zeros(np.sum(~known)))


if __name__ == "__main__":
    tf.test.main()
