"""Vocabulary, popularity and item features of a few items, by hand."""

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from tff_rec.data import features
from tff_rec.data.schema import InteractionData, empty_genome, empty_tags

ROWS = [("u", "a"), ("u", "b"), ("v", "a"), ("v", "c"), ("w", "d"), ("u", "e")]
ITEMS = pd.DataFrame(
    {
        "item_id": ["e", "a", "b", "c", "d", "unseen"],
        "title": ["E", "A", "B", "C", "D", "U"],
        "genres": ["Drama", "Drama|Comedy", "Comedy | Drama|Drama", "", "Western", "Western"],
        "colour": ["red", "red", None, "red", "blue", "blue"],
    },
    dtype=object,
)


def interaction_data(items: pd.DataFrame = ITEMS, tags: pd.DataFrame | None = None) -> InteractionData:
    interactions = pd.DataFrame(ROWS, columns=["user_id", "item_id"]).assign(rating=np.float32(1), timestamp=0)
    users = pd.DataFrame({"user_id": ["u", "v", "w"]})
    return InteractionData("hand", interactions, items, empty_tags() if tags is None else tags, empty_genome(), users)


def tag_table(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "tag"]).assign(timestamp=0)


def as_dicts(result: features.ItemFeatures) -> list[dict[str, float]]:
    """Each item's features by name, without padding."""
    return [
        {result.names[i]: round(float(w), 4) for i, w in zip(indices, weights, strict=True) if w > 0}
        for indices, weights in zip(result.indices, result.weights, strict=True)
    ]


class VocabularyTest(absltest.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.train = interaction_data().interactions.iloc[:4]  # Items a, b, c; d and e are held out.
        self.vocabulary = features.build_item_vocabulary(self.train)

    def test_only_items_of_the_training_part_sorted(self):
        self.assertEqual(self.vocabulary.item_ids, ("a", "b", "c"))
        self.assertLen(self.vocabulary, 3)

    def test_index(self):
        for ids in (["c", "d", "a"], pd.Series(["c", "d", "a"]), np.array(["c", "d", "a"]), iter(["c", "d", "a"])):
            index = self.vocabulary.index(ids)
            self.assertEqual(index.tolist(), [2, -1, 0])
            self.assertEqual(index.dtype, np.int32)
        self.assertEqual(self.vocabulary.index([]).shape, (0,))

    def test_popularity_counts_rows_of_known_items(self):
        counts = features.popularity(interaction_data().interactions, self.vocabulary)
        self.assertEqual(counts.tolist(), [2.0, 1.0, 1.0])
        self.assertEqual(counts.dtype, np.float32)


class FeaturesTest(parameterized.TestCase):
    def build(self, data: InteractionData, train: pd.DataFrame | None = None, **limits: int) -> features.ItemFeatures:
        train = data.interactions if train is None else train
        return features.build_item_features(data, features.build_item_vocabulary(train), train, **limits)

    def test_by_hand(self):
        """Items a..e. Drama: a, b, e; Comedy: a, b; red: a, c, e. Western and blue: d alone (`unseen` is unknown).

        a and b have two genres each: 1/sqrt(2) = 0.7071; b says Drama twice, which counts once.
        """
        result = self.build(interaction_data())
        self.assertEqual(result.names, ("genres=Comedy", "genres=Drama", "colour=red"))
        both = {"genres=Comedy": 0.7071, "genres=Drama": 0.7071}
        self.assertEqual(
            as_dicts(result),
            [{**both, "colour=red": 1.0}, both, {"colour=red": 1.0}, {}, {"genres=Drama": 1.0, "colour=red": 1.0}],
        )
        self.assertEqual(result.indices.shape, (5, 3))
        self.assertEqual((result.indices.dtype, result.weights.dtype), (np.int32, np.float32))
        self.assertEqual(result.num_features, 3)
        self.assertEqual(result.indices[result.weights == 0].sum(), 0)

    def test_counts_and_vocabulary_come_from_training_only(self):
        result = self.build(interaction_data(), interaction_data().interactions.iloc[1:4])  # b, a, c
        self.assertEqual(result.names, ("genres=Comedy", "genres=Drama", "colour=red"))
        result = self.build(interaction_data(), interaction_data().interactions.iloc[2:4])  # a, c
        self.assertEqual(as_dicts(result), [{"colour=red": 1.0}, {"colour=red": 1.0}])

    def test_min_item_count_one_keeps_all_values(self):
        names = self.build(interaction_data(), min_item_count=1).names
        self.assertEqual(names, ("genres=Comedy", "genres=Drama", "genres=Western", "colour=blue", "colour=red"))

    def test_tags_are_normalised_and_those_on_held_out_pairs_dropped(self):
        """u tags a and b "Very funny" in two spellings; v's tag on b is on no pair, w's tag on d is held out."""
        tags = tag_table(
            ("u", "a", "Very  FUNNY "), ("u", "b", "very ｆunny"), ("v", "a", "very funny"), ("v", "b", "secret"),
            ("u", "a", "secret"), ("w", "d", "very funny"), ("u", "a", "  "),
        )  # fmt: skip
        data = interaction_data(ITEMS[["item_id", "title"]], tags)
        result = self.build(data, data.interactions.drop(index=4))  # a, b, c, e
        self.assertEqual(result.names, ("tag=very funny",))
        self.assertEqual(as_dicts(result), [{"tag=very funny": 1.0}, {"tag=very funny": 1.0}, {}, {}])

    def test_max_tags_keeps_those_on_most_items_then_the_first_in_the_alphabet(self):
        tags = tag_table(
            ("u", "a", "z"), ("u", "b", "z"), ("u", "e", "z"),
            ("u", "a", "y"), ("u", "b", "y"), ("u", "a", "x"), ("u", "b", "x"),
        )  # fmt: skip
        data = interaction_data(ITEMS[["item_id", "title"]], tags)
        self.assertEqual(self.build(data, max_tags=2).names, ("tag=x", "tag=z"))
        self.assertEqual(self.build(data, max_tags=0).names, ("none",))

    def test_no_features(self):
        result = self.build(interaction_data(ITEMS[["item_id", "title"]]))
        self.assertEqual(result.names, ("none",))
        self.assertEqual(result.indices.tolist(), [[0]] * 5)
        self.assertEqual(result.weights.tolist(), [[0.0]] * 5)
        self.assertEqual((result.indices.dtype, result.weights.dtype), (np.int32, np.float32))

    def test_items_missing_from_the_item_table_have_none(self):
        result = self.build(interaction_data(ITEMS[ITEMS["item_id"] != "a"]))
        self.assertEqual(as_dicts(result)[0], {})

    @parameterized.parameters(("Straße ", "strasse"), ("ＡＢ\u00a0c", "ab c"), ("\t", ""))
    def test_normalise_tag(self, tag, expected):
        self.assertEqual(features.normalise_tag(tag), expected)


if __name__ == "__main__":
    absltest.main()
