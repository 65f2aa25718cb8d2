"""Small models, cohorts and groupings that the tests of the federated package share."""

import collections
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import contributions, stages
from tff_rec.models import objectives, query_towers, requested_softmax, two_tower
from tff_rec.models.candidate_tower import CandidateTower

NUM_ITEMS = 12
DIMENSION = 4
FULL = objectives.FullSoftmax(0.5)
SAMPLED = objectives.SampledSoftmax(0.2, 3)
OWN_ITEMS = objectives.SampledSoftmax(0.5, 2, pairs=objectives.own_items)
CORRECTED = objectives.SampledSoftmax(1.0, 3, np.arange(1, NUM_ITEMS + 1, dtype=np.float32) / 78.0)
REQUESTED = requested_softmax.RequestedSoftmax(
    0.5, NUM_ITEMS, np.arange(1, NUM_ITEMS + 1, dtype=np.float32) / 78.0, fresh_rows=4
)
LENGTHS = (6, 1, 4, 0, 2, 5, 3)
GROUPINGS = {
    "one_user_a_client": [[[0]], [[1]], [[2]], [[3]], [[4]], [[5]], [[6]]],
    "one_user_a_block": [[[0], [1], [2], [3], [4], [5], [6]]],
    "two_clients_of_blocks": [[[4, 6], [3]], [[5, 1, 2], [0]]],
}
ALL_IN_ONE = [[[0, 1, 2, 3, 4, 5, 6]]]


def bag(dropout: float = 0.0) -> query_towers.QueryTower:
    return query_towers.BagQueryTower(DIMENSION, (2.0, 0.0), hidden=5, dropout=dropout, se_ratio=2, seed=3)


def attention(dropout: float = 0.0) -> query_towers.QueryTower:
    """One that scores by cosine; see `model`."""
    return query_towers.AttentionQueryTower(
        DIMENSION, max_length=8, num_blocks=1, num_heads=2, dropout=dropout, unit_norm=True, seed=3
    )


def model(objective: objectives.Objective, query_tower: query_towers.QueryTower | None = None) -> two_tower.TwoTower:
    """Both towers with every optional part, weights far from zero; item vectors have length 1 if queries do."""
    query_tower = query_tower or bag()
    candidate_tower = CandidateTower(
        NUM_ITEMS, 5, DIMENSION, expansion=2, hidden=3, se_ratio=2, unit_norm=query_tower.unit_norm, stddev=0.5, seed=4
    )
    return _with_random_weights(5, query_tower, candidate_tower, objective)


def small_model(objective: objectives.Objective) -> two_tower.TwoTower:
    """Both towers without any optional part: a process of them is built in two thirds of the time."""
    query_tower = query_towers.BagQueryTower(DIMENSION, (0.0,), hidden=5, seed=3)
    return _with_random_weights(6, query_tower, CandidateTower(NUM_ITEMS, 5, DIMENSION, stddev=0.5, seed=4), objective)


def _with_random_weights(
    seed: int, query_tower: query_towers.QueryTower, candidate_tower: CandidateTower, objective: objectives.Objective
) -> two_tower.TwoTower:
    generator = np.random.default_rng(seed)
    built = two_tower.TwoTower(
        query_tower,
        candidate_tower,
        generator.integers(0, 5, [NUM_ITEMS, 3]),
        generator.uniform(0.0, 1.0, [NUM_ITEMS, 3]),
        objective,
    )
    for weight in built.trainable_weights:
        weight.assign_add(0.1 * generator.standard_normal(weight.shape).astype(np.float32))
    return built


def training(built: two_tower.TwoTower, **options: Any) -> contributions.LocalTraining:
    return contributions.LocalTraining(built.query_tower, built.objective, built.weighting, **options)


def sgd(learning_rate: float = 1.0) -> stages.ServerOptimizers:
    optimizer = tff.learning.optimizers.build_sgdm(learning_rate)
    return stages.ServerOptimizers(optimizer, optimizer)


def adam(learning_rate: float = 0.1) -> stages.ServerOptimizers:
    # A large epsilon: Adam's first step is otherwise the sign of a gradient, and signs of zeros are noise.
    optimizer = tff.learning.optimizers.build_adam(learning_rate, beta_2=0.98, epsilon=1e-2)
    return stages.ServerOptimizers(optimizer, optimizer)


def histories(seed: int = 0, lengths: Sequence[int] = LENGTHS) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.permutation(NUM_ITEMS)[:length].astype(np.int32) for length in lengths]


def block(
    users: Sequence[np.ndarray], seeds: Sequence[int], objective: objectives.Objective = FULL
) -> collections.OrderedDict[str, np.ndarray]:
    """Pads to the longest history of this block alone; a user has as many decoys as items, or all others."""
    parts = collections.OrderedDict(history=_pad(users), seed=np.array(seeds, np.int32))
    if requested_softmax.DECOYS in objective.block_keys:
        others = [np.setdiff1d(np.arange(NUM_ITEMS), user)[: len(user)] for user in users]
        parts[requested_softmax.DECOYS] = _pad(others)
    return parts


def _pad(rows: Sequence[np.ndarray]) -> np.ndarray:
    padded = np.full([len(rows), max(1, *[len(row) for row in rows])], -1, np.int32)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def clients(
    users: Sequence[np.ndarray],
    grouping: Sequence[Sequence[Sequence[int]]] = ALL_IN_ONE,
    objective: objectives.Objective = FULL,
) -> list[Any]:
    """One list of blocks a TFF client."""
    seeds = [1_000_003 * (user + 1) for user in range(len(users))]
    return [
        [block([users[user] for user in members], [seeds[user] for user in members], objective) for members in blocks]
        for blocks in grouping
    ]


def datasets(
    users: Sequence[np.ndarray],
    grouping: Sequence[Sequence[Sequence[int]]] = ALL_IN_ONE,
    objective: objectives.Objective = FULL,
) -> list[Any]:
    """The same as TFF takes them: one dataset a client, whose blocks may have different lengths."""
    return [
        functools.reduce(lambda one, other: one.concatenate(other), map(tf.data.Dataset.from_tensors, blocks))
        for blocks in clients(users, grouping, objective)
    ]


def trained(process: tff.learning.templates.LearningProcess, rounds: Sequence[Any]) -> list[np.ndarray]:
    """All weights after rounds."""
    state = process.initialize()
    for data in rounds:
        state = process.next(state, data).state
    return list(state.global_model_weights.trainable)


class TwoTowerTestCase(tf.test.TestCase):
    def assert_same(self, first: Any, second: Any, tolerance: float = 1e-5) -> None:
        """Compares nests of arrays; the tolerance is a share of an array's largest value, or absolute below 1."""
        tf.nest.assert_same_structure(first, second)
        for one, other in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
            largest = max(1.0, float(np.max(np.abs(other))))
            self.assertAllClose(one, other, rtol=tolerance, atol=tolerance * largest)
