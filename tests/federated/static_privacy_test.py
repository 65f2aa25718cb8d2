"""Static proof, by types and structure alone: which builds sum securely, and what no process gives to its server."""

import collections

import numpy as np
import tag_aware_cases
import tensorflow as tf
import tensorflow_federated as tff
import two_tower_cases as cases
from absl.testing import parameterized

from tff_rec.federated import (
    adaptive_clipping,
    aggregators,
    contributions,
    privacy,
    private_silos,
    ring_aggregator,
    select_two_tower,
    silos,
    split_two_tower,
    tag_aware,
    unsplit_two_tower,
)
from tff_rec.models.two_tower import equally

SECURE = aggregators.secure_mean(query_bound=1.0, item_bound=1.0, weight_bound=8.0)
RING = ring_aggregator.ring_mean(1.0, 1.0, 8.0, group_size=5)
MINIMUM = split_two_tower.Transport(minimum_requesters=3)
GAUSSIAN, TREE = privacy.independent_noise, privacy.tree_noise(4)
CLIPPING = adaptive_clipping.AdaptiveClipping(0.5, 0.5)
RAW_NAMES = ("history", "rating", "tag", "decoys", "user")


def two_tower(objective=cases.FULL, aggregator=None, transport=split_two_tower.WHOLE_TABLE):
    model = cases.small_model(objective)
    return split_two_tower.build_split_two_tower(model, cases.training(model), cases.sgd(), aggregator, transport)


def selecting(aggregator=None, transport=split_two_tower.WHOLE_TABLE):
    model = cases.small_model(cases.REQUESTED)
    return select_two_tower.build_select_two_tower(
        model, cases.training(model), cases.sgd(), aggregator, transport, max_rows=cases.NUM_ITEMS
    )


def rating_users(aggregator=None):
    model = tag_aware_cases.model(hidden=0, dropout=0.0)
    return tag_aware.build_tag_aware(model, tag_aware.LocalRatings(model.rating_tower), cases.sgd(), aggregator)


def rating_silos(aggregator=None):
    model = tag_aware_cases.model(hidden=0, dropout=0.0)
    return silos.build_silo_tag_aware(model, silos.SiloTraining(1, 0.1), tag_aware_cases.sgd(), aggregator)


def noised(inner, noise=GAUSSIAN, adaptive=False):
    """An aggregation with noise on bounded parts."""
    shares = {"query": 0.4, "items": 0.4, "loss": 0.1} | ({"below": 0.1} if adaptive else {"loss": 0.2})
    parts = {name: privacy.Part(1.0, share) for name, share in shares.items()}
    return privacy.NoisedMeanFactory(inner, parts, 1.0, 5.0, seed=1, noise=noise)


def private_two_tower(inner, noise=GAUSSIAN, clipping=None):
    model = cases.small_model(cases.FULL)
    local = contributions.LocalTraining(
        model.query_tower, model.objective, equally, query_clip_norm=1.0, item_clip_norm=1.0, loss_bound=1.0
    )
    aggregator = noised(inner, noise, clipping is not None)
    return split_two_tower.build_split_two_tower(model, local, cases.sgd(), aggregator, clipping=clipping)


def private_local(model):
    return tag_aware.LocalRatings(
        model.rating_tower, row_clip_norm=1.0, tower_clip_norm=1.0, loss_bound=1.0, weighting=equally
    )


def private_rating_users(inner, noise=GAUSSIAN, clipping=None):
    model = tag_aware_cases.model(hidden=0, dropout=0.0)
    aggregator = noised(inner, noise, clipping is not None)
    return tag_aware.build_tag_aware(model, private_local(model), cases.sgd(), aggregator, clipping)


def private_rating_silos(aggregator=None):
    model = tag_aware_cases.model(hidden=0, dropout=0.0)
    parts = {name: privacy.Part(1.0, 1.0 / 3.0) for name in private_silos.PARTS}
    batches = private_silos.private_batches(model, private_local(model), parts, 1.0, 5.0)
    training = silos.SiloTraining(1, 0.1)
    return silos.build_silo_tag_aware(model, training, tag_aware_cases.sgd(), aggregator, batches)


def unsplit():
    model = cases.small_model(cases.FULL)
    return unsplit_two_tower.build_unsplit_two_tower(model, cases.training(model), cases.sgd())


SECURE_BUILDS = {
    "two_tower_table": lambda: two_tower(aggregator=SECURE),
    "two_tower_sampled": lambda: two_tower(cases.SAMPLED, SECURE),
    "two_tower_requested_rows": lambda: two_tower(cases.REQUESTED, SECURE),
    "two_tower_minimum_of_requesters": lambda: two_tower(cases.REQUESTED, SECURE, MINIMUM),
    "two_tower_select": lambda: selecting(SECURE),
    "two_tower_select_minimum": lambda: selecting(SECURE, MINIMUM),
    "tag_aware_users": lambda: rating_users(SECURE),
    "tag_aware_silos": lambda: rating_silos(SECURE),
    "two_tower_gaussian": lambda: private_two_tower(SECURE),
    "two_tower_tree": lambda: private_two_tower(SECURE, TREE),
    "two_tower_adaptive": lambda: private_two_tower(SECURE, clipping=CLIPPING),
    "tag_aware_users_gaussian": lambda: private_rating_users(SECURE),
    "tag_aware_users_tree": lambda: private_rating_users(SECURE, TREE),
    "tag_aware_users_adaptive": lambda: private_rating_users(SECURE, clipping=CLIPPING),
    "tag_aware_silos_gaussian": lambda: private_rating_silos(SECURE),
}
OPEN_BUILDS = {
    "two_tower_plain": two_tower,
    "select_plain": selecting,
    "tag_aware_plain": rating_users,
    "silos_plain": rating_silos,
    "unsplit": unsplit,
    "two_tower_ring": lambda: two_tower(aggregator=RING),
    "two_tower_ring_gaussian": lambda: private_two_tower(RING),
    "tag_aware_silos_plain_gaussian": private_rating_silos,
}


BUILDS = SECURE_BUILDS | OPEN_BUILDS


def leaves(value_type, path=()):
    """Tensor types of a type, each with the names on the way to it."""
    if isinstance(value_type, tff.FederatedType):
        yield from leaves(value_type.member, path)
    elif isinstance(value_type, tff.StructType):
        for name, member in tff.structure.to_elements(value_type):
            yield from leaves(member, (*path, name or ""))
    else:
        yield path, value_type


class BuildTest(tf.test.TestCase, parameterized.TestCase):
    """Of each build, once built: how it sums, and that what a round leaves at the server holds no raw data."""

    @parameterized.parameters(*SECURE_BUILDS)
    def test_secure(self, name):
        built = BUILDS[name]().next
        tff.test.assert_not_contains_unsecure_aggregation(built)
        self.assert_nothing_raw(built.type_signature.result)

    @parameterized.parameters(*OPEN_BUILDS)
    def test_open(self, name):
        """The assertion tells; and by it the ring, whose masks are the devices' matter, is a plain sum of ring sums."""
        built = BUILDS[name]().next
        with self.assertRaisesRegex(AssertionError, "(?i)unsecure|not secure"):
            tff.test.assert_not_contains_unsecure_aggregation(built)
        self.assert_nothing_raw(built.type_signature.result)

    def test_unsplit_has_no_secure_form(self):
        model = cases.small_model(cases.FULL)
        with self.assertRaisesRegex(ValueError, "does not encode"):
            unsplit_two_tower.build_unsplit_two_tower(model, cases.training(model), cases.sgd(), SECURE)

    def assert_nothing_raw(self, result):
        """By type, name and shape, of state and metrics."""
        self.assert_known_shapes_at_the_server(result)
        self.assert_metrics_are_scalars_and_state_is_shaped_like_weights(result)

    def assert_known_shapes_at_the_server(self, result):
        """Histories, ratings and requests are sequences, or have as many entries as a block happens to have."""
        for _, part in tff.structure.to_elements(result):
            self.assertIsInstance(part, tff.FederatedType)
            self.assertIs(part.placement, tff.SERVER)
        for path, leaf in leaves(result):
            self.assertIsInstance(leaf, tff.TensorType, path)
            self.assertNotIn(None, tuple(leaf.shape), path)
            self.assertEmpty([word for word in RAW_NAMES if word in "/".join(path)], path)

    def assert_metrics_are_scalars_and_state_is_shaped_like_weights(self, result):
        """Weights, optimizer slots of their shapes and scalars: no table of users, and none of counts or requests.

        Beside them there is the seed of the server's noise, [2].
        """
        for path, leaf in leaves(result.metrics):
            self.assertEqual(tuple(leaf.shape), (), path)
        weights = {tuple(leaf.shape) for _, leaf in leaves(result.state.member.global_model_weights)}
        for path, leaf in leaves(result.state):
            seed = {(2,)} if path == ("aggregator", "own", "seed") else set()
            self.assertIn(tuple(leaf.shape), weights | {()} | seed, path)


class ControlTest(tf.test.TestCase):
    def test_leaves_see_what_a_process_would_leak(self):
        leak = collections.OrderedDict(history=tff.TensorType(np.int32, [None]), loss=np.float32)
        found = dict(leaves(tff.FederatedType(tff.to_type(leak), tff.SERVER)))
        self.assertEqual(list(found), [("history",), ("loss",)])
        self.assertEqual(tuple(found[("history",)].shape), (None,))


if __name__ == "__main__":
    tf.test.main()
