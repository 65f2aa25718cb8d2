"""A split round equals an unsplit one: the pull-back is linear, wherever it is computed."""

import pytest
import tensorflow as tf
import two_tower_cases as cases
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_rec.federated import aggregators, split_two_tower, unsplit_two_tower

pytestmark = pytest.mark.usefixtures("execution_context")


class UnsplitTest(cases.TwoTowerTestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("full_three_steps_adam", cases.FULL, cases.bag, cases.adam(), {"local_steps": 3, "learning_rate": 0.1}),
        ("sampled_one_step", cases.CORRECTED, cases.attention, cases.sgd(0.5), {"query_clip_norm": 0.3}),
    )
    def test_a_split_round_equals_an_unsplit_one(self, objective, tower, optimizers, options):
        model = cases.model(objective, tower(dropout=0.2))
        arguments = (model, cases.training(model, **options), optimizers)
        split = split_two_tower.build_split_two_tower(*arguments)
        unsplit = unsplit_two_tower.build_unsplit_two_tower(*arguments)

        @settings(max_examples=3, deadline=None, derandomize=True)
        @given(
            st.integers(0, 2**31),
            st.lists(st.integers(0, 8), min_size=7, max_size=7),
            st.sampled_from(list(cases.GROUPINGS.values())),
        )
        def check(seed, lengths, grouping):
            users = cases.histories(seed, lengths)
            after = cases.trained(unsplit, [cases.datasets(users, grouping)])
            self.assert_same(cases.trained(split, [cases.datasets(users)]), after)
            if max(lengths) > 2:
                for part in ("items", "features"):
                    place = [weight.name for weight in model.trainable_weights].index(f"{part}:0")
                    self.assertNotAllClose(after[place], model.trainable_weights[place], atol=1e-4)

        check()

    def test_takes_and_gives_what_the_split_process_does(self):
        model = cases.model(cases.FULL)
        arguments = (model, cases.training(model), cases.adam())
        split = split_two_tower.build_split_two_tower(*arguments).next.type_signature
        unsplit = unsplit_two_tower.build_unsplit_two_tower(*arguments).next.type_signature
        self.assertEqual(unsplit.parameter, split.parameter)
        self.assertEqual(unsplit.result.state, split.result.state)
        self.assertEqual(unsplit.result.metrics.member.finalizer, split.result.metrics.member.finalizer)

    def test_bounds_that_would_mean_something_else_are_refused(self):
        model = cases.model(cases.FULL)
        with self.assertRaisesRegex(ValueError, "item_clip_norm"):
            unsplit_two_tower.build_unsplit_two_tower(model, cases.training(model, item_clip_norm=1.0), cases.sgd())
        with self.assertRaisesRegex(ValueError, "does not encode"):
            unsplit_two_tower.build_unsplit_two_tower(
                model, cases.training(model), cases.sgd(), aggregators.secure_mean(1.0, 1.0, 8.0)
            )


if __name__ == "__main__":
    tf.test.main()
