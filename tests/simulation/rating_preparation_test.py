"""What is known before training: who trains on what, what is held out, and which features the model has."""

import dataclasses
import pathlib
import tempfile
import unittest

import numpy as np
from absl.testing import parameterized

from tff_rec.errors import InputError
from tff_rec.simulation.config import DataConfig, ExportConfig
from tff_rec.simulation.rating_config import DeviceTrainingConfig, RatingModelConfig, TagAwareConfig
from tff_rec.simulation.rating_preparation import prepare

RUN = TagAwareConfig(export=ExportConfig(k=5))


def _csv(directory: str, ratings: str, users: int = 40) -> DataConfig:
    """Users 1 to n who rated items 1 to 10, each by the given function of both, as an expression."""
    path = pathlib.Path(directory) / "ratings.csv"
    rows = [f"{user},{item},{eval(ratings)}" for user in range(1, users + 1) for item in range(1, 11)]
    path.write_text("\n".join(["user_id,item_id,rating", *rows, ""]))
    return DataConfig(source="csv", path=path)


class PrepareTest(parameterized.TestCase):
    def test_parts_of_a_random_split_are_disjoint_and_whole(self):
        prepared = prepare(RUN)
        parts = [(prepared.store.owners(), prepared.store.items)]
        parts += [(part.users, part.items) for part in (prepared.validation, prepared.test)]
        pairs = [set(zip(users.tolist(), items.tolist(), strict=True)) for users, items in parts]
        total = sum(map(len, pairs))
        self.assertLen(set().union(*pairs), total)
        self.assertEqual(total, len(prepared.data.interactions))
        self.assertEqual(prepared.popularity.sum(), len(prepared.store.items))

    def test_items_without_training_ratings_are_in_the_catalogue_with_features(self):
        prepared = prepare(RUN)
        self.assertEqual(set(prepared.vocabulary.item_ids), set(prepared.data.items["item_id"]))
        self.assertTrue((prepared.item_features.weights != 0).any(axis=1).all())

    def test_held_out_users_train_nothing_and_are_judged_on_half_of_their_ratings(self):
        """40 users of 10 ratings: 4 of validation and 4 of test, 5 ratings of each as history, 5 to judge."""
        with tempfile.TemporaryDirectory() as directory:
            data = _csv(directory, "1 + (user * item) % 5")
            training = DeviceTrainingConfig(clients_per_round=32)
            prepared = prepare(dataclasses.replace(RUN, data=data, split="held-out-users", training=training))
        self.assertLen(prepared.training_users, 32)
        self.assertEqual(prepared.popularity.sum(), 320)
        self.assertLen(prepared.training_ratings, 320)
        for part in (prepared.validation, prepared.test):
            users, counts = np.unique(part.users, return_counts=True)
            self.assertEqual(counts.tolist(), [5] * 4)
            self.assertEmpty(np.intersect1d(users, prepared.training_users))
            self.assertEqual(prepared.store.lengths()[users].tolist(), [5] * 4)
            for user in users:
                history = prepared.store.items[prepared.store.offsets[user] : prepared.store.offsets[user + 1]]
                self.assertEmpty(np.intersect1d(history, part.items[part.users == user]))
        self.assertIn("50 % of a held-out user's ratings", prepared.protocol)

    def test_features_are_what_the_options_ask_for(self):
        names = {}
        for features in ("all", "untagged", "none"):
            model = RatingModelConfig(features=features)
            names[features] = set(prepare(dataclasses.replace(RUN, model=model)).item_features.names)
        self.assertEqual({name.split("=")[0] for name in names["all"]}, {"genres", "year", "tag"})
        self.assertEqual(names["untagged"], {name for name in names["all"] if not name.startswith("tag=")})
        self.assertEqual(names["none"], {"none"})

    def test_popularity_is_a_standardised_feature(self):
        model = RatingModelConfig(features="none", popularity_scale=2.0)
        prepared = prepare(dataclasses.replace(RUN, model=model))
        self.assertEqual(prepared.item_features.names[-1], "popularity")
        column = prepared.item_features.weights[:, -1]
        self.assertAlmostEqual(float(column.mean()), 0.0, places=5)
        self.assertAlmostEqual(float(column.std()), 2.0, places=5)
        self.assertEqual(np.argmax(column), np.argmax(prepared.popularity))

    @parameterized.parameters("random", "activity", "taste")
    def test_every_user_is_in_one_silo(self, silos):
        prepared = prepare(dataclasses.replace(RUN, clients="3", silos=silos))
        self.assertEqual(np.sort(np.concatenate(prepared.silos)).tolist(), list(range(prepared.store.num_users)))
        self.assertIn("silos: ", prepared.describe())

    def test_leave_one_out_holds_out_one_rating_a_user(self):
        prepared = prepare(dataclasses.replace(RUN, split="loo"))
        self.assertLen(np.unique(prepared.test.users), len(prepared.test.users))
        self.assertIn("LOO-full", prepared.describe())

    def test_nothing_is_held_out_without_a_split(self):
        prepared = prepare(dataclasses.replace(RUN, split="none"))
        self.assertLen(prepared.store.items, len(prepared.data.interactions))
        self.assertEmpty(prepared.test.ratings)

    def test_too_large_a_k(self):
        with self.assertRaisesRegex(InputError, "--export.k is 601 and the catalogue has 600 items"):
            prepare(dataclasses.replace(RUN, export=ExportConfig(k=601)))

    def test_fewer_users_than_the_cohort(self):
        with self.assertRaisesRegex(InputError, "cohort of 1001"):
            prepare(dataclasses.replace(RUN, training=DeviceTrainingConfig(clients_per_round=1001)))

    def test_one_rating_for_everything(self):
        message = "All training ratings of csv are 4; give ratings that differ"
        with tempfile.TemporaryDirectory() as directory, self.assertRaisesRegex(InputError, message):
            prepare(dataclasses.replace(RUN, data=_csv(directory, "4")))

    def test_a_run_is_not_resumed_with_other_data(self):
        with tempfile.TemporaryDirectory() as directory:
            clients = pathlib.Path(directory) / "clients"
            prepare(RUN).on_disk(clients)
            prepare(RUN).on_disk(clients)
            with self.assertRaisesRegex(InputError, "has other data"):
                prepare(dataclasses.replace(RUN, model=RatingModelConfig(features="none"))).on_disk(clients)


if __name__ == "__main__":
    unittest.main()
