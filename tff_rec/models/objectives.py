"""What a device trains: which queries meet which positives, and the softmax that tells them from negatives.

An objective asks for item vectors in one of two forms. `FullSoftmax` scores the whole table. `SampledSoftmax` names the
rows it needs, the user's positives and negatives drawn on the device, and sees those alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf

from tff_rec.models import layers, randomness
from tff_rec.models.query_towers import QueryTower

PADDING = -1
_MASKED = -1e9


@dataclasses.dataclass(frozen=True)
class Similarity:
    """Score of a query and an item vector: their product after `normalise`, over the temperature."""

    normalise: Callable[[tf.Tensor], tf.Tensor]
    temperature: float = 1.0

    def prepare(self, vectors: tf.Tensor) -> tf.Tensor:
        """Item vectors ready to be multiplied with queries: any shape [..., dimension]."""
        return self.normalise(vectors) / self.temperature

    def scores(self, queries: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        """All scores: [users, n, d] and a table [items, d] or [users, items, d] → [users, n, items]."""
        return layers.dense(self.normalise(queries), tf.linalg.matrix_transpose(self.prepare(vectors)))


def dot_similarity(temperature: float = 1.0) -> Similarity:
    """Inner product over the temperature."""
    return Similarity(tf.identity, temperature)


def cosine_similarity(temperature: float = 0.1) -> Similarity:
    """Cosine of the angle over the temperature."""
    return Similarity(lambda vectors: tf.math.l2_normalize(vectors, axis=-1, epsilon=1e-12), temperature)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Queries and the positives they should find.

    Attributes:
        queries: float32 [users, n, d], or [users, 1, d] where one query serves all positives.
        positives: int32 [users, n], positions in the history, PADDING where there is none.
    """

    queries: tf.Tensor
    positives: tf.Tensor


PairsFn = Callable[[QueryTower, layers.Weights, tf.Tensor, tf.Tensor, tf.Tensor | None], Pairs]


def next_items(
    tower: QueryTower, weights: layers.Weights, vectors: tf.Tensor, mask: tf.Tensor, seeds: tf.Tensor | None
) -> Pairs:
    """Every position predicts the item after it."""
    queries = tower.encode(weights, vectors[:, :-1], mask[:, :-1], seeds)
    return Pairs(queries, _positions(mask)[:, 1:])


def own_items(
    tower: QueryTower, weights: layers.Weights, vectors: tf.Tensor, mask: tf.Tensor, seeds: tf.Tensor | None
) -> Pairs:
    """One query from the whole history predicts every item of it: the classic two-tower task."""
    return Pairs(tower.query(weights, vectors, mask, seeds)[:, tf.newaxis, :], _positions(mask))


class Objective(Protocol):
    """What client work and central training call."""

    similarity: Similarity

    def rows(self, history: tf.Tensor, seeds: tf.Tensor, num_items: int) -> tf.Tensor | None:
        """Ids of the item vectors that the device needs, int32 [users, rows]; None for the whole table."""
        ...

    def loss(
        self,
        tower: QueryTower,
        weights: layers.Weights,
        vectors: tf.Tensor,
        history: tf.Tensor,
        rows: tf.Tensor | None,
        seeds: tf.Tensor | None,
    ) -> tf.Tensor:
        """Mean loss of each user over its positives, float32 [users]; 0 for a user without any."""
        ...

    def num_positives(self, history: tf.Tensor) -> tf.Tensor:
        """Number of predictions each user trains on, float32 [users]."""
        ...


@dataclasses.dataclass(frozen=True)
class FullSoftmax:
    """Cross-entropy over the whole catalogue, for tables that every device can hold."""

    similarity: Similarity
    pairs: PairsFn = next_items

    def rows(self, history: tf.Tensor, seeds: tf.Tensor, num_items: int) -> tf.Tensor | None:
        """None: the whole table."""
        del history, seeds, num_items
        return None

    def loss(
        self,
        tower: QueryTower,
        weights: layers.Weights,
        vectors: tf.Tensor,
        history: tf.Tensor,
        rows: tf.Tensor | None,
        seeds: tf.Tensor | None,
    ) -> tf.Tensor:
        """As `Objective.loss`; `vectors` is the table, float32 [items, d] or one a user."""
        del rows
        mask = history_mask(history)
        shared = vectors.shape.rank == 2
        items = tf.maximum(history, 0)
        own = tf.gather(vectors, items) if shared else tf.gather(vectors, items, batch_dims=1)
        pairs = self.pairs(tower, weights, own * mask[:, :, tf.newaxis], mask, seeds)
        logits = self.similarity.scores(pairs.queries, vectors)
        valid = pairs.positives >= 0
        labels = tf.gather(items, tf.maximum(pairs.positives, 0), batch_dims=1)
        if pairs.queries.shape[1] == 1:
            logits = tf.repeat(logits, tf.shape(labels)[1], axis=1)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return _mean_over_positives(losses, valid)

    def num_positives(self, history: tf.Tensor) -> tf.Tensor:
        """As `Objective.num_positives`."""
        return _num_positives(self.pairs, history)


@dataclasses.dataclass(frozen=True)
class SampledSoftmax:
    """Cross-entropy of each positive against negatives of its own, drawn on the device.

    A negative that stands in the user's training history is masked: the sampler knows that history and nothing of what
    is held out. With `probabilities` the negatives follow them and every score is corrected by the logarithm of the
    expected count (logQ; Bengio and Senécal 2008, Yi et al. 2019), so that the loss estimates the full softmax.

    Attributes:
        similarity: Of queries and item vectors.
        num_negatives: Negatives a positive.
        probabilities: float32 [items], sums to 1; None for uniform negatives.
        pairs: Which queries meet which positives.
    """

    similarity: Similarity
    num_negatives: int
    probabilities: np.ndarray | None = None
    pairs: PairsFn = next_items

    def rows(self, history: tf.Tensor, seeds: tf.Tensor, num_items: int) -> tf.Tensor | None:
        """The history, then `num_negatives` draws for each of its places; PADDING where nothing is needed."""
        shape = tf.shape(history)
        count = shape[1] * self.num_negatives
        if self.probabilities is None:
            negatives = randomness.integers(seeds, count, num_items, "negatives")
        else:
            cumulative = tf.constant(np.cumsum(self.probabilities, dtype=np.float64).astype(np.float32))
            draws = randomness.uniform(seeds, count, "negatives") * cumulative[-1]
            negatives = tf.minimum(tf.searchsorted(cumulative, tf.reshape(draws, [-1]), side="right"), num_items - 1)
            negatives = tf.reshape(negatives, tf.shape(draws))
        unused = _contains(history, negatives)
        unused |= tf.repeat(history < 0, self.num_negatives, axis=1)
        return tf.concat([history, tf.where(unused, PADDING, negatives)], axis=1)

    def loss(
        self,
        tower: QueryTower,
        weights: layers.Weights,
        vectors: tf.Tensor,
        history: tf.Tensor,
        rows: tf.Tensor | None,
        seeds: tf.Tensor | None,
    ) -> tf.Tensor:
        """As `Objective.loss`; `vectors` are those of `rows`, float32 [users, rows, d]."""
        assert rows is not None, "SampledSoftmax.loss needs the rows it named."
        users, length = tf.shape(history)[0], tf.shape(history)[1]
        mask = history_mask(history)
        own = vectors[:, :length] * mask[:, :, tf.newaxis]
        pairs = self.pairs(tower, weights, own, mask, seeds)
        queries = self.similarity.normalise(pairs.queries)
        prepared = self.similarity.prepare(vectors)
        shape = [users, length, self.num_negatives]
        first = length - tf.shape(pairs.positives)[1]
        positives = prepared[:, first:length]
        negatives = tf.reshape(prepared[:, length:], [*shape, vectors.shape[-1]])[:, first:]
        negative_ids = tf.reshape(rows[:, length:], shape)[:, first:]
        positive_scores = tf.reduce_sum(queries * positives, axis=-1, keepdims=True)
        negative_scores = tf.reduce_sum(queries[:, :, tf.newaxis, :] * negatives, axis=-1)
        scores = tf.concat([positive_scores, negative_scores], axis=-1)
        ids = tf.concat([history[:, first:, tf.newaxis], negative_ids], axis=-1)
        scores = tf.where(ids >= 0, scores - self._log_expected_count(ids), _MASKED)
        losses = tf.reduce_logsumexp(scores, axis=-1) - scores[:, :, 0]
        return _mean_over_positives(losses, pairs.positives >= 0)

    def num_positives(self, history: tf.Tensor) -> tf.Tensor:
        """As `Objective.num_positives`."""
        return _num_positives(self.pairs, history)

    def _log_expected_count(self, ids: tf.Tensor) -> tf.Tensor | float:
        if self.probabilities is None:
            return 0.0
        expected = np.log(np.maximum(self.probabilities * self.num_negatives, 1e-12)).astype(np.float32)
        return tf.gather(tf.constant(expected), tf.maximum(ids, 0))


def history_mask(history: tf.Tensor) -> tf.Tensor:
    """float32 1 where the history, int32 [users, n], holds an item and 0 where it is padded."""
    return tf.cast(history >= 0, tf.float32)


def _positions(mask: tf.Tensor) -> tf.Tensor:
    places = tf.range(tf.shape(mask)[1])[tf.newaxis, :]
    return tf.where(mask > 0, places, PADDING)


def _num_positives(pairs: PairsFn, history: tf.Tensor) -> tf.Tensor:
    items = tf.reduce_sum(history_mask(history), axis=1)
    return tf.maximum(items - 1.0, 0.0) if pairs is next_items else items


def _mean_over_positives(losses: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    mask = tf.cast(valid, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * mask, axis=1), tf.reduce_sum(mask, axis=1))


def _contains(history: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    ordered = tf.sort(history, axis=1)
    places = tf.minimum(tf.searchsorted(ordered, items), tf.shape(history)[1] - 1)
    return tf.equal(tf.gather(ordered, places, batch_dims=1), items)
