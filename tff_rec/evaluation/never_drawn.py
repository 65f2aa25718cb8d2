"""The leak test of LOO+99: "was it never drawn as my negative?", with no model and no communication.

A sampler that spares held-out items gives them away: on ML-100K this rule alone then has HR@10 = 1. The samplers of
PFedRec, FedRAP and others do so. With a sampler that knows the training history alone the rule guesses.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tff_rec.evaluation import ranking
from tff_rec.evaluation.recommenders import Recommender
from tff_rec.models import objectives

NEGATIVES = 4
ROUNDS = 100
_LONGEST = 100
_SEEDS = 13


@dataclasses.dataclass(frozen=True)
class SparingSampler(objectives.SampledSoftmax):
    """What published samplers do: a negative that is held out is not drawn.

    Attributes:
        held_out: int32 [users, n], -1 for none.
    """

    held_out: np.ndarray | None = None

    def rows(self, block: objectives.Block, num_items: int) -> tf.Tensor | None:
        """As `SampledSoftmax.rows`, without the held-out items."""
        rows = super().rows(block, num_items)
        assert rows is not None and self.held_out is not None
        spared = tf.reduce_any(tf.equal(rows[:, :, tf.newaxis], self.held_out[:, tf.newaxis]), axis=2)
        return tf.where(spared, objectives.PADDING, rows)


SamplerOf = Callable[[np.ndarray], objectives.Objective]
"""From users, int64, to the sampler on their devices."""


def ours() -> SamplerOf:
    """The sampler of training: it knows a device's training history."""
    sampler = objectives.SampledSoftmax(1.0, NEGATIVES)
    return lambda users: sampler


def as_published(held_out: np.ndarray) -> SamplerOf:
    """A sampler that spares what is held out of each user: int32 [users of the store, n], -1 for none."""
    return lambda users: SparingSampler(1.0, NEGATIVES, held_out=held_out[users])


def build(
    sampler_of: SamplerOf, training_histories: Callable[[np.ndarray], Sequence[np.ndarray]], num_items: int, seed: int
) -> Recommender:
    """The rule as a recommender: the less often an item was drawn, the better; equals in random order.

    Args:
        sampler_of: What devices draw their negatives with.
        training_histories: Of users; a device draws `NEGATIVES` for each of its latest items in each round.
        num_items: Size of the catalogue.
        seed: Of draws and of the order of equals.
    """

    def recommend(users: np.ndarray, histories: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        del histories
        rng = np.random.default_rng([seed, _SEEDS])
        for start in range(0, len(users), ranking.BATCH_USERS):
            places = np.arange(start, min(start + ranking.BATCH_USERS, len(users)))
            block = ranking.pad_histories(training_histories(users[places]), _LONGEST)
            seeds = (rng.integers(-(2**31), 2**31, len(places)).astype(np.int32) for _ in range(ROUNDS))
            counts = count_negatives(sampler_of(users[places]), block, seeds, num_items)
            yield places, -(counts + rng.random(counts.shape)).astype(np.float32)

    return recommend


def count_negatives(
    sampler: objectives.Objective, history: np.ndarray, seeds_of_rounds: Iterable[np.ndarray], num_items: int
) -> np.ndarray:
    """How often each item was drawn as a negative of each user.

    Args:
        sampler: Its `rows` name the history and then the negatives.
        history: int32 [users, n], padded at the end with -1.
        seeds_of_rounds: int32 [users] a round.
        num_items: Size of the catalogue.

    Returns:
        int64 [users, num_items].
    """
    counts = np.zeros(len(history) * num_items, np.int64)
    users = np.arange(len(history))[:, np.newaxis]
    for seeds in seeds_of_rounds:
        rows = sampler.rows({"history": tf.constant(history), "seed": tf.constant(seeds)}, num_items)
        assert rows is not None, "An objective over the whole table draws no negatives."
        negatives = rows.numpy()[:, history.shape[1] :]
        valid = negatives >= 0
        counts += np.bincount((users * num_items + negatives)[valid], minlength=len(counts))
    return counts.reshape(len(history), num_items)
