"""Small models, ratings of seven users and their groupings, that the tests of the tag-aware processes share."""

import collections
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.models import rating_towers, tag_aware

NUM_ITEMS, NUM_FEATURES, DIMENSION = 12, 3, 4
LENGTHS = (6, 1, 4, 0, 2, 5, 3)
ALL_IN_ONE = [[[0, 1, 2, 3, 4, 5, 6]]]
GROUPINGS = {
    "one_user_a_client": [[[0]], [[1]], [[2]], [[3]], [[4]], [[5]], [[6]]],
    "one_user_a_block": [[[0], [1], [2], [3], [4], [5], [6]]],
    "two_clients_of_blocks": [[[4, 6], [3]], [[5, 1, 2], [0]]],
}
PENALTIES = tag_aware.Penalties(biases=1.0, vectors=2.0, choices=3.0, features=4.0, network=5.0)
User = tuple[np.ndarray, np.ndarray]


def model(hidden: int = 3, dropout: float = 0.3, penalties: tag_aware.Penalties = PENALTIES) -> tag_aware.TagAware:
    """Both towers with every optional part, weights far from zero."""
    draw = np.random.default_rng(5)
    built = tag_aware.TagAware(
        rating_towers.ItemTower(NUM_ITEMS, NUM_FEATURES, DIMENSION, seed=4),
        rating_towers.RatingTower(DIMENSION, 3.0, 0.5, 5.0, hidden, dropout, seed=3),
        draw.integers(0, NUM_FEATURES, [NUM_ITEMS, 2]),
        draw.uniform(-1.0, 1.0, [NUM_ITEMS, 2]).astype(np.float32),
        penalties,
        num_ratings=100,
    )
    for weight in built.trainable_weights:
        weight.assign_add(0.2 * draw.standard_normal(weight.shape).astype(np.float32))
    return built


def hand_model() -> tag_aware.TagAware:
    """Three items, one feature of weights 2, 0, 1, and one component, all 0 but each item's choice of it, which is 1.

    The intercept is 3 and c is 1. Choices have the factor 2.5 in the penalty, for 10 ratings.
    """
    built = tag_aware.TagAware(
        rating_towers.ItemTower(3, 1, 1),
        rating_towers.RatingTower(1, 3.0, 0.5, 5.0, user_bias=1.0),
        np.zeros([3, 1], np.int32),
        np.array([[2.0], [0.0], [1.0]], np.float32),
        tag_aware.Penalties(0.0, 0.0, 2.5, 0.0, 0.0),
        num_ratings=10,
    )
    for name, weight in built.item_tower.tensors.items():
        weight.assign(tf.zeros_like(weight))
        if name == "items/choices":
            weight.assign([[0.0, 1.0]] * 3)
    return built


def hand_clients() -> list[list[collections.OrderedDict[str, np.ndarray]]]:
    """Three clients of one user: (item 0: 4, item 1: 2), (item 1: 5), (item 2: 3, item 0: 5)."""
    users = [([0, 1], [4.0, 2.0]), ([1], [5.0]), ([2, 0], [3.0, 5.0])]
    return [[block([(np.array(items), np.array(ratings))], [0])] for items, ratings in users]


def sgd(learning_rate: float = 1.0) -> tff.learning.optimizers.Optimizer:
    return tff.learning.optimizers.build_sgdm(learning_rate)


def adam(learning_rate: float = 0.05) -> tff.learning.optimizers.Optimizer:
    # A large epsilon: Adam's first step is otherwise the sign of a gradient, and signs of zeros are noise.
    return tff.learning.optimizers.build_adam(learning_rate, beta_2=0.98, epsilon=1e-2)


def users(seed: int = 0, lengths: Sequence[int] = LENGTHS) -> list[User]:
    """Items, each at most once, and ratings."""
    draw = np.random.default_rng(seed)
    return [(draw.permutation(NUM_ITEMS)[:length], draw.integers(1, 11, length) / 2) for length in lengths]


def block(members: Sequence[User], seeds: Sequence[int]) -> collections.OrderedDict[str, np.ndarray]:
    """Pads to the longest of this block alone."""
    shape = [len(members), max([1, *(len(items) for items, _ in members)])]
    padded = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
    for place, member in enumerate(members):
        for array, values in zip(padded, member, strict=True):
            array[place, : len(values)] = values
    return collections.OrderedDict(items=padded[0], ratings=padded[1], seed=np.array(seeds, np.int32))


def clients(
    population: Sequence[User], grouping: Sequence[Sequence[Sequence[int]]] = ALL_IN_ONE
) -> list[list[collections.OrderedDict[str, np.ndarray]]]:
    """One list of blocks a TFF client."""
    return [
        [
            block([population[user] for user in members], [1_000_003 * (user + 1) for user in members])
            for members in hand
        ]
        for hand in grouping
    ]


def dataset(blocks: Sequence[collections.OrderedDict[str, np.ndarray]]) -> tf.data.Dataset:
    """Blocks of different lengths as TFF takes them."""
    return functools.reduce(lambda one, other: one.concatenate(other), map(tf.data.Dataset.from_tensors, blocks))


def trained(process: tff.learning.templates.LearningProcess, rounds: Sequence[Any]) -> list[np.ndarray]:
    """All weights after rounds."""
    state = process.initialize()
    for data in rounds:
        state = process.next(state, data).state
    return list(state.global_model_weights.trainable)


def values(built: tag_aware.TagAware) -> list[np.ndarray]:
    """The model's present weights."""
    return [weight.numpy() for weight in built.trainable_weights]


def central_gradients(built: tag_aware.TagAware, one: collections.OrderedDict[str, np.ndarray]) -> list[tf.Tensor]:
    """Gradients of `compute_loss` in training, on one block."""
    inputs = {name: tf.constant(value) for name, value in one.items()}
    with tf.GradientTape() as tape:
        loss = built.compute_loss(inputs, training=True)
    gradients = tape.gradient(loss, built.trainable_weights, unconnected_gradients="zero")
    return [tf.convert_to_tensor(value) for value in gradients]


class TagAwareTestCase(tf.test.TestCase):
    def assert_same(self, first: Any, second: Any, tolerance: float = 1e-5) -> None:
        """Compares nests of arrays; the tolerance is a share of an array's largest value, or absolute below 1."""
        tf.nest.assert_same_structure(first, second)
        for one, other in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
            largest = max(1.0, float(np.max(np.abs(other))))
            self.assertAllClose(one, other, rtol=tolerance, atol=tolerance * largest)

    def assert_type(self, computation: tff.Computation, parameter: Any, result: Any) -> None:
        expected = tff.FunctionType(parameter, result)
        self.assertTrue(
            computation.type_signature.is_equivalent_to(expected), f"{computation.type_signature}\nis not\n{expected}"
        )
