"""The item-tag matrix of four items, by hand; nothing of held-out pairs in it."""

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_rec.data import features, item_tags, ratings
from tff_rec.data.schema import InteractionData, empty_genome, empty_tags
from tff_rec.errors import InputError

ROWS = [("u", "a"), ("u", "b"), ("v", "a"), ("v", "b"), ("w", "c"), ("w", "d")]
ITEMS = pd.DataFrame(
    {"item_id": ["d", "c", "b", "a", "?"], "title": "", "genres": ["", "War", "War|Drama", "Drama", "Western"]}
)
TAGS = [
    ("u", "a", "Dark"), ("v", "a", " dark"), ("u", "a", "dark "), ("u", "b", "DARK"), ("u", "a", "heist"),
    ("v", "b", "heist"), ("w", "c", "odd"), ("v", "b", "strange"), ("w", "b", "held out"), ("u", "b", " "),
]  # fmt: skip
GENOME = [("a", "Dark", 0.9), ("a", "heist", 0.4), ("b", "heist", 0.5), ("b", "dark", 0.6), ("?", "dark", 1.0)]


def _data(tags=TAGS, genome=(), items=ITEMS):
    interactions = pd.DataFrame(ROWS, columns=["user_id", "item_id"]).assign(rating=np.float32(1), timestamp=0)
    tag_table = pd.DataFrame(tags, columns=["user_id", "item_id", "tag"]).assign(timestamp=0) if tags else empty_tags()
    genome = pd.DataFrame(genome, columns=["item_id", "tag", "relevance"]) if genome else empty_genome()
    return InteractionData("hand", interactions, items, tag_table, genome, interactions[["user_id"]].drop_duplicates())


def _build(data, train=None, **options):
    train = data.interactions if train is None else train
    vocabulary = features.ItemVocabulary(("a", "b", "c", "d"))
    return item_tags.build_item_tags(data, vocabulary, train, **options)


def _unit(*row):
    return np.array(row) / np.linalg.norm(row)


class ItemTagsTest(tf.test.TestCase):
    def test_by_hand(self):
        """Three items have tags. dark: a (2 users), b; heist: a, b; odd (c) and strange (b) are rare, folded.

        "Dark", " dark" and "dark " of u and v on a are one tag of two users: 1 + ln 2. All three columns are on two
        items, idf = 1 + ln(4 / 3), which scales whole rows and so goes: a (0, 1 + ln 2, 1), b (1, 1, 1), c (1, 0, 0).
        """
        result = _build(_data())
        self.assertEqual(result.tag_names, (item_tags.OTHER_TAGS, "dark", "heist"))
        expected = [_unit(0, 1 + np.log(2), 1), _unit(1, 1, 1), [1, 0, 0], [0, 0, 0]]
        self.assertAllClose(result.tags.toarray(), expected)
        self.assertEqual(result.tags.dtype, np.float32)
        self.assertEqual(result.folded, 2)

    def test_rare_tags_weigh_more(self):
        """Unfolded, b has dark (on 2 of 3 items), heist (2), strange (1): idf 1 + ln(4/3), 1 + ln(4/3), 1 + ln(4/2)."""
        result = _build(_data(), min_item_count=1)
        self.assertEqual(result.tag_names, ("dark", "heist", "odd", "strange"))
        common, rare = 1 + np.log(4 / 3), 1 + np.log(2)
        self.assertAllClose(result.tags.toarray()[1], _unit(common, common, 0, rare))
        self.assertEqual(result.folded, 0)

    def test_tags_beyond_the_limit_are_folded(self):
        result = _build(_data(), max_tags=1)
        self.assertEqual(result.tag_names, (item_tags.OTHER_TAGS, "dark"))
        self.assertEqual(result.folded, 3)

    def test_tags_of_held_out_pairs_are_not_seen(self):
        """Without the pair (v, b) in training, `strange` is unknown and heist is on a alone."""
        data = _data()
        result = _build(data, data.interactions.drop(index=3), min_item_count=1)
        self.assertEqual(result.tag_names, ("dark", "heist", "odd"))
        self.assertAllEqual(result.tags.getnnz(axis=0), [2, 1, 1])
        changed = [*TAGS, ("v", "b", "another"), ("v", "b", "dark")]
        again = _build(_data(changed), data.interactions.drop(index=3), min_item_count=1)
        self.assertAllEqual(again.tags.toarray(), result.tags.toarray())

    def test_genres(self):
        result = _build(_data())
        self.assertEqual(result.genre_names, ("Drama", "War"))
        self.assertAllClose(result.genres.toarray(), [[1, 0], _unit(1, 1), [0, 1], [0, 0]])
        self.assertEqual(result.genres.dtype, np.float32)

    def test_no_tags_and_no_genres(self):
        result = _build(_data(tags=[], items=ITEMS[["item_id", "title"]]))
        self.assertEqual((result.tags.shape, result.genres.shape), ((4, 0), (4, 0)))
        self.assertEqual((result.tag_names, result.genre_names), ((), ()))

    def test_the_genome_stands_in_for_the_tags_of_its_items(self):
        """a: dark 0.9 (heist is below a half); b: dark 0.6, heist 0.5; c is not in the genome and keeps odd, 1."""
        result = _build(_data(genome=GENOME), strengths=item_tags.genome_or_user_tags, min_item_count=1)
        self.assertEqual(result.tag_names, ("dark", "heist", "odd"))
        dark, rare = 1 + np.log(4 / 3), 1 + np.log(2)
        self.assertAllClose(result.tags.toarray(), [[1, 0, 0], _unit(0.6 * dark, 0.5 * rare, 0), [0, 0, 1], [0, 0, 0]])
        self.assertAllClose(_build(_data(genome=GENOME)).tags.toarray(), _build(_data()).tags.toarray())

    def test_refusals(self):
        with self.assertRaisesRegex(InputError, "hand has no tag genome"):
            _build(_data(), strengths=item_tags.genome_or_user_tags)
        for options in ({"max_tags": -1}, {"min_item_count": -1}):
            with self.assertRaisesRegex(InputError, "give limits of 0 or more"):
                _build(_data(), **options)


class ProfilesTest(tf.test.TestCase):
    def test_mean_of_rows_weighted_by_ratings(self):
        """u: a with 4 stars (dark, heist), d with 1 (no tags): 4/5 of a's row. v: nothing."""
        train = _data().interactions.iloc[[0, 1, 2]].assign(item_id=["a", "d", "?"], rating=[4.0, 1.0, 5.0])
        tags = _build(_data())
        store = ratings.build_rating_store(train, features.ItemVocabulary(("a", "b", "c", "d")))
        profiles = item_tags.tag_profiles(store, np.array([1, 0]), tags.tags)
        self.assertAllClose(profiles, [np.zeros(3), 0.8 * tags.tags.toarray()[0]])
        self.assertEqual(profiles.dtype, np.float32)

    def test_a_profile_needs_nobody_else(self):
        tags = _build(_data())
        train = _data().interactions
        vocabulary = features.ItemVocabulary(("a", "b", "c", "d"))
        together = ratings.build_rating_store(train, vocabulary)
        alone = ratings.build_rating_store(train[train["user_id"] == "v"], vocabulary)
        profile = item_tags.tag_profiles(alone, np.array([0]), tags.tags)
        self.assertAllClose(item_tags.tag_profiles(together, np.array([1]), tags.tags), profile)


if __name__ == "__main__":
    tf.test.main()
