"""Rounds for studies of attacks: the devices' and the server's arithmetic of `split_two_tower`, without TFF around it.

Tests hold the two to each other. What differs is who sees what, and that is `attack_views`' matter.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.evaluation.attack_sums import add_noise
from tff_rec.evaluation.attack_views import Decoys, Device, Subject, Total, add
from tff_rec.federated import stages

Combine = Callable[[Sequence[Total]], Total]
"""From the sums of blocks to a mean over users: `items` and `query`."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        rounds: Number of rounds.
        cohort: Users of a round; with noise, their expected number, drawn at random each by itself.
        learning_rate: Of the server's Adam, for both towers.
        users_at_once: Users of a block.
    """

    rounds: int = 200
    cohort: int = 128
    learning_rate: float = 0.01
    users_at_once: int = 32


class Server:
    """The weights of both towers and the optimizer's state; a round brings them up to date in the model."""

    def __init__(self, subject: Subject, learning_rate: float) -> None:
        self._model = subject.model
        self._adam = tff.learning.optimizers.build_adam(learning_rate, beta_2=0.98)
        weights = self._model.trainable_weights
        self._state = self._adam.initialize([tf.TensorSpec(weight.shape, weight.dtype) for weight in weights])

    def sent(self) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Item vectors and query tower of a round."""
        query, _ = stages.split_weights(self._model, [tf.convert_to_tensor(w) for w in self._model.trainable_weights])
        return self._model.candidate_embeddings(), query

    def step(self, mean: Total) -> None:
        """Applies a mean over users: `query`, the updates; `items`, [items, d], the gradients."""
        weights = [tf.convert_to_tensor(weight) for weight in self._model.trainable_weights]
        query, candidate = stages.split_weights(self._model, weights)
        items = tf.constant(np.asarray(mean["items"], np.float32))
        gradients = [tf.constant(-np.asarray(mean["query"][name], np.float32)) for name in query]
        gradients += stages.pull_back(self._model, list(candidate.values()), items)
        self._state, updated = self._adam.next(self._state, weights, gradients)
        for variable, value in zip(self._model.trainable_weights, updated, strict=True):
            variable.assign(value)


def train(
    subject: Subject,
    recipe: Recipe,
    users: np.ndarray,
    *,
    decoys: Decoys | None = None,
    noise_multiplier: float | None = None,
) -> Subject:
    """Trains the subject's model in place on the histories of some users.

    Args:
        subject: Its model begins as it stands.
        recipe: How.
        users: int64, who takes part.
        decoys: How devices ask for rows; None for the whole table.
        noise_multiplier: Clips, and adds noise of so many times the largest norm to the sum; None does neither.

    Returns:
        The subject with the trained model.
    """
    device = Device(subject, decoys, clipped=noise_multiplier is not None)
    server, rng = Server(subject, recipe.learning_rate), np.random.default_rng(subject.seed)
    for number in range(recipe.rounds):
        if noise_multiplier is None:
            cohort = rng.choice(users, min(recipe.cohort, len(users)), replace=False)
        else:
            cohort = users[rng.random(len(users)) < recipe.cohort / len(users)]
        totals = block_totals(device, server, cohort, number, recipe.users_at_once)
        if not totals:
            continue
        if noise_multiplier is None:
            server.step(mean_of(totals))
        else:
            noised = add_noise(add(totals), subject, noise_multiplier, rng)
            server.step(tf.nest.map_structure(lambda value: value / recipe.cohort, noised))
    return dataclasses.replace(subject)


def block_totals(
    device: Device, server: Server, cohort: np.ndarray, round_number: int, users_at_once: int
) -> list[Total]:
    """Sums of the blocks of a cohort, users of like length together."""
    table, query = server.sent()
    lengths = np.array([len(device.subject.histories[user]) for user in cohort])
    cohort = cohort[np.argsort(lengths, kind="stable")]
    starts = range(0, len(cohort), users_at_once)
    return [
        device.sum_of(cohort[start : start + users_at_once], round_number, table=table, query=query) for start in starts
    ]


def mean_of(totals: Sequence[Total]) -> Total:
    """The mean over all users of some blocks."""
    total = add(totals)
    weight = max(float(total["weight"]), 1e-12)
    return {name: tf.nest.map_structure(lambda value: value / weight, total[name]) for name in ("items", "query")}


def clip_norms(subject: Subject, users: np.ndarray) -> tuple[float, float]:
    """Medians of the norms of users' query updates and item gradients: what a study bounds them by.

    They are taken from the data, and no ε counts them.
    """
    device, norms = Device(subject), []
    for user in users:
        total = device.sum_of(np.array([user]), 0)
        query = np.concatenate([value.ravel() for value in total["query"].values()])
        norms.append((np.linalg.norm(query), np.linalg.norm(total["items"])))
    query_norm, item_norm = np.maximum(np.median(norms, axis=0), 1e-6)
    return float(query_norm), float(item_norm)
