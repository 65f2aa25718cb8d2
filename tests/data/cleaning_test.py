"""Dropping rare users and items, by hand and as a property; printing the counts."""

import hypothesis
import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from tff_rec.data import cleaning
from tff_rec.data.schema import CleaningStep, InteractionData, empty_genome, empty_tags
from tff_rec.errors import InputError


def interaction_data(pairs: list[tuple[str, str]]) -> InteractionData:
    """Interactions of the given (user, item) pairs, with a tag and a user row each."""
    table = pd.DataFrame(pairs, columns=["user_id", "item_id"], dtype=object)
    interactions = table.assign(rating=np.float32(1), timestamp=np.arange(len(table)))
    ids = table["item_id"].unique()
    return InteractionData(
        name="hand",
        interactions=interactions,
        items=pd.DataFrame({"item_id": ids, "title": ids}),
        tags=pd.concat([empty_tags(), table.assign(tag="t", timestamp=0)]),
        genome=empty_genome(),
        users=pd.DataFrame({"user_id": table["user_id"].unique()}),
    )


class FilterRareTest(parameterized.TestCase):
    def test_by_hand(self):
        """min_user_items=2, min_item_users=2.

        Item w has one user (d) and goes; then d has only z and goes; then z has only c and goes; then c has only y and
        goes. Items x and y keep the users a and b, who have both.
        """
        pairs = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "y"), ("c", "z"), ("d", "z"), ("d", "w")]
        data = cleaning.filter_rare(interaction_data(pairs), 2, 2)
        kept = data.interactions[["user_id", "item_id"]].to_numpy().tolist()
        self.assertEqual(kept, [["a", "x"], ["a", "y"], ["b", "x"], ["b", "y"]])
        self.assertEqual(data.users["user_id"].tolist(), ["a", "b"])
        self.assertEqual(data.tags["user_id"].tolist(), ["a", "a", "b", "b"])
        self.assertEqual(
            data.cleaning,
            (
                CleaningStep("items dropped: fewer than 2 users", 2),
                CleaningStep("users dropped: fewer than 2 items", 2),
                CleaningStep("interactions dropped with them", 4),
            ),
        )

    def test_nothing_to_drop_leaves_the_data_as_it_is(self):
        data = interaction_data([("a", "x"), ("b", "x")])
        self.assertIs(cleaning.filter_rare(data, 1, 2), data)

    def test_nothing_left(self):
        with self.assertRaisesRegex(InputError, "no interactions left after cleaning; check the file or lower"):
            cleaning.filter_rare(interaction_data([("a", "x"), ("b", "y")]), 2, 2)

    @hypothesis.settings(max_examples=60, deadline=None)
    @hypothesis.given(
        pairs=st.sets(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), min_size=1),
        min_user_items=st.integers(0, 3),
        min_item_users=st.integers(0, 3),
    )
    def test_is_the_largest_part_that_meets_both(self, pairs, min_user_items, min_item_users):
        rest = set(pairs)
        while True:  # Drop one row at a time, in any order: the result is the same.
            users, items = [u for u, _ in rest], [i for _, i in rest]
            bad = {(u, i) for u, i in rest if users.count(u) < min_user_items or items.count(i) < min_item_users}
            if not bad:
                break
            rest.remove(min(bad))
        data = interaction_data(sorted(pairs))
        if not rest:
            with self.assertRaises(InputError):
                cleaning.filter_rare(data, min_user_items, min_item_users)
            return
        kept = cleaning.filter_rare(data, min_user_items, min_item_users).interactions
        self.assertEqual(set(zip(kept["user_id"], kept["item_id"], strict=True)), rest)


class DescribeTest(absltest.TestCase):
    def test_adds_up_and_shows_three_places(self):
        steps = [CleaningStep("a", 1000, ("1", "2")), CleaningStep("a", 2, ("3", "4")), CleaningStep("x", 1)]
        self.assertEqual(cleaning.describe(steps), "1,002 a (1; 2; 3)\n1 x")


class SchemaTest(parameterized.TestCase):
    @parameterized.parameters(
        ({"rating": np.float32("nan")}, "ratings that are not finite"),
        ({"timestamp": -1}, "negative timestamps"),
        ({"user_id": "a", "item_id": "x"}, "same user and item twice"),
    )
    def test_checks_values(self, changed, message):
        data = interaction_data([("a", "x"), ("b", "y")])
        with self.assertRaisesRegex(InputError, message):
            InteractionData("bad", data.interactions.assign(**changed), data.items, data.tags, data.genome, data.users)

    def test_checks_columns(self):
        data = interaction_data([("a", "x")])
        with self.assertRaisesRegex(InputError, "the items table lacks the column title"):
            InteractionData("bad", data.interactions, data.items[["item_id"]], data.tags, data.genome, data.users)


if __name__ == "__main__":
    absltest.main()
